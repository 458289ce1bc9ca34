"""Settings: their sources and bounds; a wrong value stops the start and is never shown."""

import json
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from apps import create_app
from apps.about import ROOT
from apps.config import BaseConfig, ProdConfig, TestConfig, config, settings
from apps.settings.reader import InvalidSettings, declared, example, from_environment, from_file, read_settings
from tests.support import live

CANARY = "canary"  # part of every bad value, never of a message
GOOD: dict[str, Any] = {
    "JWT_SECRET_KEY": "q3Jv0nW8sYkT5uXr2LhBz7Md1PcAe9Gf",
    "FIELD_ENCRYPTION_KEYS": ["m4Vx9Qp2ZtKc7RwLy6HsNd3FjBg8Ta5U"],
    "FIELD_INDEX_KEY": "e6Cn1XuWb0RzVk4PoJi8SgYqMf2DhLt7",
    "DATABASE_URL": "sqlite://",
}
SECRET = "canary-W8sYkT5uXr2LhBz7Md1PcAe9Gf0n"
BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "no secret": ("JWT_SECRET_KEY", {"JWT_SECRET_KEY": ""}),
    "the placeholder": ("JWT_SECRET_KEY", {"JWT_SECRET_KEY": "change-me: " + SECRET}),
    "a short secret": ("JWT_SECRET_KEY", {"JWT_SECRET_KEY": SECRET[:31]}),
    "few characters": ("FIELD_INDEX_KEY", {"FIELD_INDEX_KEY": CANARY * 8}),
    "a secret of the source": ("JWT_SECRET_KEY", {"JWT_SECRET_KEY": TestConfig.JWT_SECRET_KEY}),
    "keys of the source": ("FIELD_ENCRYPTION_KEYS", {"FIELD_ENCRYPTION_KEYS": TestConfig.FIELD_ENCRYPTION_KEYS}),
    "no keys": ("FIELD_ENCRYPTION_KEYS", {"FIELD_ENCRYPTION_KEYS": []}),
    "an empty key that would encrypt": ("FIELD_ENCRYPTION_KEYS", {"FIELD_ENCRYPTION_KEYS": ["", SECRET]}),
    "a short key of several": ("FIELD_ENCRYPTION_KEYS", {"FIELD_ENCRYPTION_KEYS": [SECRET, CANARY]}),
    "one secret twice": ("FIELD_INDEX_KEY", {"JWT_SECRET_KEY": SECRET, "FIELD_INDEX_KEY": SECRET}),
    "a key that signs as well": (
        "FIELD_ENCRYPTION_KEYS",
        {"JWT_SECRET_KEY": SECRET, "FIELD_ENCRYPTION_KEYS": [SECRET]},
    ),
    "a pepper that signs as well": ("PASSWORD_PEPPER", {"JWT_SECRET_KEY": SECRET, "PASSWORD_PEPPER": SECRET}),
    "a short pepper": ("PASSWORD_PEPPER", {"PASSWORD_PEPPER": CANARY}),
    "any origin": ("CORS_ORIGINS", {"CORS_ORIGINS": ["*"]}),
    "an origin pattern": ("CORS_ORIGINS", {"CORS_ORIGINS": ["https://*.canary.example"]}),
    "an origin without TLS": ("CORS_ORIGINS", {"CORS_ORIGINS": ["http://canary.example"]}),
    "a list that is none": ("CORS_ORIGINS", {"CORS_ORIGINS": CANARY}),
    "no URL": ("DATABASE_URL", {"DATABASE_URL": CANARY}),
    "another database": ("DATABASE_URL", {"DATABASE_URL": "oracle://canary@host/name"}),
    "a port that is none": ("DATABASE_URL", {"DATABASE_URL": "mysql://user:password@host:canary/name"}),
    "no DSN": ("SENTRY_DSN", {"SENTRY_DSN": CANARY}),
    "no Redis URL": ("REDIS_URL", {"REDIS_URL": CANARY}),
    "a Redis port that is none": ("REDIS_URL", {"REDIS_URL": "redis://:secret/canary@host"}),
    "no number": ("CACHE_TTL", {"CACHE_TTL": CANARY}),
    "a fraction": ("CACHE_TTL", {"CACHE_TTL": 1.5}),
    "true for a number": ("CACHE_TTL", {"CACHE_TTL": True}),
    "not a number": ("REDIS_TIMEOUT", {"REDIS_TIMEOUT": "NaN"}),
    "endless": ("JWT_LEEWAY", {"JWT_LEEWAY": "1e400"}),
    "too little": ("CACHE_TTL", {"CACHE_TTL": 0}),
    "too much": ("JWT_LEEWAY", {"JWT_LEEWAY": 31}),
    "neither true nor false": ("PASSWORD_BLOCKLIST", {"PASSWORD_BLOCKLIST": CANARY}),
    "no limit": ("SIGN_UP_LIMIT", {"SIGN_UP_LIMIT": CANARY}),
    "no level": ("LOG_LEVEL", {"LOG_LEVEL": CANARY}),
    "no such setting": ("JWT_SECRET", {"JWT_SECRET": SECRET}),
}
TEXTS = [
    ("CACHE_TTL", "30", 30),
    ("REDIS_TIMEOUT", "1", 1.0),
    ("REDIS_TIMEOUT", "0.5", 0.5),
    ("PASSWORD_BLOCKLIST", "False", False),
    ("PASSWORD_BLOCKLIST", "true", True),
    ("CORS_ORIGINS", '["https://a.example"]', ("https://a.example",)),
    ("JWT_ACCESS_TOKEN_EXPIRES", "90", timedelta(seconds=90)),
    ("CACHE_PREFIX", "123", "123"),
]

SECRETS = ("JWT_SECRET_KEY", "FIELD_ENCRYPTION_KEYS", "FIELD_INDEX_KEY")
OPTIONAL = [
    ("sentry_sdk", {"SENTRY_DSN": f"https://{CANARY}@example.com/1"}),
    ("opentelemetry.sdk.trace", {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{CANARY}.example:4318"}),
]


def faults_of(**settings: Any) -> list[str]:
    with pytest.raises(InvalidSettings) as raised:
        create_app("production", **(GOOD | settings))
    return raised.value.problems


def test_a_good_production_configuration_starts() -> None:
    """S1."""
    app = create_app("production", **GOOD)
    assert settings(app).JWT_ACCESS_TOKEN_EXPIRES == timedelta(minutes=15)  # noqa: SIM300


@pytest.mark.parametrize(("name", "settings"), BAD.values(), ids=BAD)
def test_a_bad_setting_is_named_and_not_shown(name: str, settings: dict[str, Any]) -> None:
    """S1, S2."""
    faults = faults_of(**settings)
    assert [fault.partition(":")[0] for fault in faults] == [name]
    assert CANARY not in faults[0].lower()


def test_all_faults_are_told_at_once() -> None:
    """S1."""
    faults = faults_of(JWT_SECRET_KEY="", CACHE_TTL=0, LOG_LEVEL="loud", UNHEARD_OF=1, DATABASE_URL="x")
    assert {fault.partition(":")[0] for fault in faults} == {
        *("JWT_SECRET_KEY", "CACHE_TTL", "LOG_LEVEL", "UNHEARD_OF", "DATABASE_URL")
    }


def test_production_does_not_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    """S1, ASVS 13.4.2."""
    monkeypatch.setenv("FLASK_DEBUG", "1")
    assert faults_of() == ["FLASK_DEBUG: must not be on in production"]


@pytest.mark.parametrize(
    ("algorithm", "accepted"), [("HS256", ["HS256"]), ("EdDSA", ["EdDSA", "ES256"]), ("ES256", ["EdDSA", "ES256"])]
)
def test_a_secret_and_a_key_are_never_accepted_side_by_side(algorithm: str, accepted: list[str]) -> None:
    """T1, T2, T12: HS256 alone, or both asymmetric algorithms."""
    assert create_app("production", **GOOD, JWT_ALGORITHM=algorithm).config["JWT_DECODE_ALGORITHMS"] == accepted


def test_a_folder_or_a_broken_link_in_the_place_of_config_stops_the_start(tmp_path: Path) -> None:
    """S1: Docker mounts a folder if the file to mount does not exist; the defaults must not replace the settings."""
    path = tmp_path / "config.py"
    path.mkdir()
    with pytest.raises(InvalidSettings) as raised:
        from_file(path)
    assert raised.value.problems == ["config.py: is not a file"]
    path.rmdir()
    path.symlink_to(tmp_path / "nothing")
    with pytest.raises(InvalidSettings, match=r"config\.py: is not a file"):
        from_file(path)


def test_an_unknown_profile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEHOUSE_PROFILE", CANARY)
    with pytest.raises(InvalidSettings, match="GATEHOUSE_PROFILE: must be one of") as raised:
        create_app()
    assert CANARY not in str(raised.value)


@pytest.mark.parametrize(("name", "text", "value"), TEXTS)
def test_a_text_of_the_environment_becomes_the_type_of_its_setting(name: str, text: str, value: Any) -> None:
    """Strings become numbers, booleans, durations and lists."""
    app = create_app("production", **(GOOD | {name: text}))
    assert getattr(settings(app), name) == value
    assert type(getattr(settings(app), name)) is type(value)


def test_the_environment_gives_every_setting_and_two_short_forms() -> None:
    """The long name wins over the short one."""
    environ = {"GATEHOUSE_CACHE_TTL": "7", "DATABASE_URL": "a", "REDIS_URL": "b", "GATEHOUSE_REDIS_URL": "c"}
    others = {"GATEHOUSE_PROFILE": "production", "CACHE_TTL": "9", "HOME": "/"}
    assert from_environment(environ | others) == {"CACHE_TTL": "7", "DATABASE_URL": "a", "REDIS_URL": "c"}


@pytest.mark.parametrize("service", ["", "REDIS_", "REDIS_MASTER_2_", "SERVICE_"])
def test_what_kubernetes_adds_for_a_service_is_no_setting(service: str) -> None:
    """S1: variables of the service named `gatehouse`, or with a name that begins so, stop no pod."""
    address = {"PORT": "tcp://10.0.0.7:6379", "PORT_6379_TCP": "tcp://10.0.0.7:6379", "SERVICE_HOST": "10.0.0.7"}
    ports = {"PORT_6379_TCP_PORT": "6379", "SERVICE_PORT": "6379", "SERVICE_PORT_HTTP": "80", "SERVICE_PORT_A_B": "1"}
    others = {"PORT_6379_TCP_ADDR": "10.0.0.7", "PORT_6379_TCP_PROTO": "tcp", "PORT_53_UDP": "udp://[fd00::7]:53"}
    environ = {f"GATEHOUSE_{service}{name}": value for name, value in (address | ports | others).items()}
    assert from_environment(environ) == {}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "SERVICE",
            "SERVICE_HOSTS",
            "PORTS",
            "PORT",
            "REDIS_PORT",
            "REDIS_HOST",
            "REDIS_SERVICE",
            "REDIS_SERVICE_HOSTS",
        ),
        *("PORT_TCP", "PORT_80_HTTP", "PORT_80_TCP_NAME", "REDIS_URLS", "CACHE_TTLS", "DATABASE_POOL_SIZES"),
    ],
)
def test_a_misspelt_setting_is_refused_beside_the_variables_of_kubernetes(name: str) -> None:
    """S1."""
    given = from_environment({f"GATEHOUSE_{name}": "1", "GATEHOUSE_REDIS_SERVICE_HOST": "10.0.0.1"})
    assert given == {name: "1"}
    assert faults_of(**given) == [f"{name}: no such setting"]


@pytest.mark.parametrize("name", declared(BaseConfig))
def test_no_setting_has_the_name_of_a_variable_of_kubernetes(name: str) -> None:
    assert from_environment({f"GATEHOUSE_{name}": "1"}) == {name: "1"}


def python(folder: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in `folder`, with a checkout of this code and its own config.py."""
    live.checkout(folder)
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=folder, env=live.unconfigured() | environment, capture_output=True, text=True, check=False
    )


def test_the_file_overrides_the_profile_the_environment_the_file_and_arguments_all(tmp_path: Path) -> None:
    """Order: profile, `config.py`, environment, arguments of `create_app`; the later one wins."""
    (tmp_path / "config.py").write_text("CACHE_TTL = 7\nCACHE_PREFIX = 'file'\nREDIS_TIMEOUT = 0.2\nlower = 1\n")
    code = (
        "from apps import create_app; from apps.config import settings; "
        "c = settings(create_app(CACHE_TTL=9)); print([getattr(c, n) for n in %r])"
    )
    names = ["CACHE_TTL", "CACHE_PREFIX", "REDIS_TIMEOUT", "DATABASE_POOL_SIZE"]
    environment = {"GATEHOUSE_CACHE_TTL": "8", "GATEHOUSE_CACHE_PREFIX": "environment"}
    done = python(tmp_path, code % names, **environment)
    assert done.stdout.strip() == "[9, 'environment', 0.2, 6]", done.stderr


@pytest.mark.parametrize(
    "line", [f"JWT_SECRET_KEY = '{SECRET}", f"JWT_SECRET_KEY = {SECRET}", f"JWT_SECRET_KEY = int('{SECRET}')"]
)
def test_a_broken_file_is_named_and_not_shown(tmp_path: Path, line: str) -> None:
    """S1: not in a traceback either, which would show the line."""
    (tmp_path / "config.py").write_text(f"CACHE_TTL = 7\n{line}\n")
    done = python(tmp_path, "import manage; manage.main()")
    assert done.returncode == 1
    assert "config.py: " in done.stderr
    assert CANARY not in done.stdout + done.stderr


def test_the_service_does_not_start_in_production_without_secrets(tmp_path: Path) -> None:
    """S1: the message names the secrets, without a traceback."""
    done = python(tmp_path, "import manage; manage.main()", GATEHOUSE_PROFILE="production")
    assert done.returncode == 1
    assert set(re.findall(r"^  (\w+): is not set$", done.stderr, re.MULTILINE)) == {*GOOD} - {"DATABASE_URL"}
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "instance").exists()


def test_a_name_that_flask_knows_and_the_service_does_not_is_refused(tmp_path: Path) -> None:
    """A setting without effect is an error, in every source."""
    (tmp_path / "config.py").write_text("SECRET_KEY = 'x'\nDEBUG = True\n")
    assert from_file(tmp_path / "config.py") == {"SECRET_KEY": "x", "DEBUG": True}
    assert {*faults_of(**from_file(tmp_path / "config.py"))} == {
        f"{n}: no such setting" for n in ("SECRET_KEY", "DEBUG")
    }


def test_a_missing_file_says_nothing(tmp_path: Path) -> None:
    assert from_file(tmp_path / "config.py") == {}


@pytest.mark.parametrize("profile", config.values(), ids=config)
def test_the_defaults_of_a_profile_keep_their_own_bounds(profile: type[BaseConfig]) -> None:
    _, problems = read_settings(profile, {})
    assert problems == []


@pytest.mark.parametrize("name", declared(BaseConfig))
def test_every_setting_says_what_it_means(name: str) -> None:
    """`config.example.py` is generated from these texts."""
    setting = declared(BaseConfig)[name][1]
    assert re.fullmatch(r"[A-Z\"`].{10,}[.)]", setting.meaning)
    assert (setting.minimum is None) == (setting.maximum is None)


def test_the_example_is_what_the_settings_generate() -> None:
    """When this fails: `python manage.py config-example > config.example.py`."""
    generated = example(ProdConfig, BaseConfig, "python manage.py config-example")
    assert (ROOT / "config.example.py").read_text() == generated


def test_the_example_shows_every_default_of_production() -> None:
    shown: dict[str, Any] = {}
    exec(re.sub(r"^# (?=[A-Z_]+ = )", "", (ROOT / "config.example.py").read_text(), flags=re.MULTILINE), shown)
    for name, (_, setting) in declared(BaseConfig).items():
        is_placeholder = setting.secret and "change-me" in json.dumps(shown[name])
        assert is_placeholder or shown[name] == _shown(getattr(ProdConfig, name))


def _shown(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def test_the_example_starts_once_its_secrets_are_set(tmp_path: Path) -> None:
    """S1: and not before."""
    given = from_file(ROOT / "config.example.py")
    assert {fault.partition(":")[0] for fault in faults_of(**given)} == set(given)
    assert settings(create_app("production", **(given | GOOD))).PASSWORD_BLOCKLIST is True


@pytest.mark.parametrize(("library", "environment"), OPTIONAL, ids=[library for library, _ in OPTIONAL])
def test_an_optional_part_without_its_packages_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, library: str, environment: dict[str, str]
) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # simulates a missing package
    for name in ("sentry", "tracing"):
        monkeypatch.delitem(sys.modules, f"apps.observability.{name}", raising=False)
        monkeypatch.delattr(f"apps.observability.{name}", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings) as raised:
        create_app("development", DATABASE_URL="sqlite://", **{name: GOOD[name] for name in SECRETS})
    assert len(raised.value.problems) == 1
    assert "requirements-observe.txt" in raised.value.problems[0]
    assert CANARY not in str(raised.value)
