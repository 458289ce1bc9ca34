"""Checks of settings that have the right type: what cannot work, and what production forbids."""

import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from apps import create_app
from apps.about import ROOT
from apps.config import BaseConfig, config, settings
from apps.settings import checks, reader
from apps.settings.reader import InvalidSettings
from tests.support import live
from tests.unit.test_settings import GOOD, SECRETS, faults_of

PROFILES = list(config)
BENCHMARK = "a secret of the benchmark, long enough for SHA-256"
FINE = {name: GOOD[name] for name in (*SECRETS, "DATABASE_URL")}

# What no profile allows.
USELESS: dict[str, tuple[str, dict[str, Any]]] = {
    "no first part of a key": ("CACHE_PREFIX", {"CACHE_PREFIX": ""}),
    "no issuer": ("JWT_ISSUER", {"JWT_ISSUER": ""}),
    "no audience": ("JWT_AUDIENCE", {"JWT_AUDIENCE": ""}),
    "no sign-ups": ("SIGN_UP_LIMIT", {"SIGN_UP_LIMIT": "0/minute"}),
    "none a day": ("LOGIN_LIMIT", {"LOGIN_LIMIT": "10/minute;0/day"}),
    "nothing of a region": ("PHONE_REGION", {"PHONE_REGION": ""}),
    "no region": ("PHONE_REGION", {"PHONE_REGION": "ZZ"}),
    "a region in small letters": ("PHONE_REGION", {"PHONE_REGION": "cn"}),
    "the name of a country": ("PHONE_REGION", {"PHONE_REGION": "China"}),
    "less than argon2 needs": (
        "PASSWORD_MEMORY_COST",
        {"PASSWORD_MEMORY_COST": 127, "PASSWORD_PARALLELISM": 16, "PASSWORD_TIME_COST": 3},
    ),
    "a key that signs before the processes have it": (
        "JWT_KEYS_PUBLISH_AHEAD",
        {"JWT_ALGORITHM": "EdDSA", "JWT_KEYS_PUBLISH_AHEAD": 29.9, "JWT_KEYS_RELOAD": 10},
    ),
    "cookies alone": ("JWT_TOKEN_LOCATION", {"JWT_TOKEN_LOCATION": ["cookies"]}),
}
NO_ORIGINS = [
    *("", "*", "null", "app.example.com", "https://", "https:///", "https://*.example.com", "https://app.example.com/"),
    *("https://app.example.com/path", "https://app.example.com?x", "https://app.example.com#x", "//app.example.com"),
    *(
        "https://user@app.example.com",
        "https://app.example.com:",
        "https://app.example.com:x",
        "https://app.example.com ",
    ),
    *(
        "https://a.example,https://b.example",
        "https://[::1",
        "https://a..example",
        "https://.a.example",
        "capacitor:/x",
    ),
    *(
        "capacitor://localhost/",
        "tauri://",
        "chrome-extension://*",
        "file://",
        "data:,x",
        "https:app.example.com",
        "NULL",
    ),
    *(
        "https://app.example.com:0",
        "https://app.example.com:65536",
        "https://app.example.com:443/",
        "https://a:b@c.example",
    ),
    *(
        "https://app.example.com:-1",
        "https://app.example.com:+1",
        "https://app.example.com\n",
        "\thttps://app.example.com",
    ),
    *(
        "https://bücher.example",
        "https://\u212aapp.example",
        "https://app\u3002example",
        "https://app.example.com:\u0664",
    ),
    *(
        "http://127.1",
        "http://0x7f.0.0.1",
        "http://127.0.0.01",
        "http://256.0.0.1",
        "http://[::1%25eth0]",
        "http://[::g]",
    ),
    *("http://[1:2]", "http://[]", "https://%61pp.example", "https://a\\b.example"),
]
# {as listed: as a browser sends it}
ORIGINS = {
    "https://app.example.com": "https://app.example.com",
    "https://app.example.com:8443": "https://app.example.com:8443",
    "https://app.example.com:443": "https://app.example.com",
    "https://app.example.com:0443": "https://app.example.com",
    "https://app.example.com:80": "https://app.example.com:80",
    "HTTPS://App.Example.COM": "https://app.example.com",
    "https://app.example.com.": "https://app.example.com.",
    "https://xn--bcher-kva.example": "https://xn--bcher-kva.example",
    "https://10.0.0.1:8443": "https://10.0.0.1:8443",
    "https://[2001:DB8:0:0:0:0:0:1]": "https://[2001:db8::1]",
    "https://[::ffff:127.0.0.1]": "https://[::ffff:7f00:1]",
    "capacitor://localhost": "capacitor://localhost",
    "Tauri://LocalHost": "tauri://localhost",
    "ionic://localhost": "ionic://localhost",
    "app://obsidian.md": "app://obsidian.md",
    "app://1": "app://1",
    "capacitor://localhost:443": "capacitor://localhost:443",
    "chrome-extension://abcdefghijklmnopabcdefghijklmnop": "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
    "moz-extension://8e1f7c1a-1f0b-4f0e-9a51-5a2f6d0c7e11": "moz-extension://8e1f7c1a-1f0b-4f0e-9a51-5a2f6d0c7e11",
}
WITHOUT_TLS = {
    "http://localhost:3000": "http://localhost:3000",
    "http://[::1]:3000": "http://[::1]:3000",
    "HTTP://localhost:80": "http://localhost",
    "http://localhost:443": "http://localhost:443",
}

# What works, but production forbids.
WEAK: dict[str, tuple[str, dict[str, Any]]] = {
    "an origin without TLS": ("CORS_ORIGINS", {"CORS_ORIGINS": ["https://a.example", "http://a.example"]}),
    "an origin without TLS in capitals": ("CORS_ORIGINS", {"CORS_ORIGINS": ["HTTP://a.example:443"]}),
    "too little memory": ("PASSWORD_MEMORY_COST", {"PASSWORD_MEMORY_COST": 19_455}),
    "too little memory for one pass": ("PASSWORD_MEMORY_COST", {"PASSWORD_TIME_COST": 1}),
    "too little memory for many passes": (
        "PASSWORD_MEMORY_COST",
        {"PASSWORD_MEMORY_COST": 12_287, "PASSWORD_TIME_COST": 100},
    ),
    "a key that signs before the verifiers have it": (
        "JWT_KEYS_PUBLISH_AHEAD",
        {"JWT_ALGORITHM": "ES256", "JWT_KEYS_PUBLISH_AHEAD": 44, "JWT_KEYS_RELOAD": 5},
    ),
    "a secret of the benchmarks": ("JWT_SECRET_KEY", {"JWT_SECRET_KEY": BENCHMARK}),
    "a secret of the suite elsewhere": ("FIELD_INDEX_KEY", {"FIELD_INDEX_KEY": config["testing"].JWT_SECRET_KEY}),
    "a known key behind a good one": (
        "FIELD_ENCRYPTION_KEYS",
        {"FIELD_ENCRYPTION_KEYS": [*GOOD["FIELD_ENCRYPTION_KEYS"], *config["testing"].FIELD_ENCRYPTION_KEYS]},
    ),
    "eight letters four times": ("JWT_SECRET_KEY", {"JWT_SECRET_KEY": "abcdefgh" * 4}),
    "and a bit": ("JWT_SECRET_KEY", {"JWT_SECRET_KEY": "abcdefghijklm" * 3 + "abc"}),
    "twice the same": ("FIELD_ENCRYPTION_KEYS", {"FIELD_ENCRYPTION_KEYS": ["0123456789abcdef" * 2]}),
    "a pepper twice": ("PASSWORD_PEPPER", {"PASSWORD_PEPPER": "A1b2C3d4E5f6G7h8" * 2}),
}
STRONG: list[dict[str, Any]] = [
    {"PASSWORD_MEMORY_COST": 47_104, "PASSWORD_TIME_COST": 1},
    {"PASSWORD_MEMORY_COST": 19_456, "PASSWORD_TIME_COST": 2},
    {"PASSWORD_MEMORY_COST": 12_288, "PASSWORD_TIME_COST": 4},
]


def faults(profile: str, **given: Any) -> list[str]:
    with pytest.raises(InvalidSettings) as raised:
        create_app(profile, **(FINE | given))
    return raised.value.problems


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("name", "given"), USELESS.values(), ids=USELESS)
def test_what_cannot_work_starts_in_no_profile(profile: str, name: str, given: dict[str, Any]) -> None:
    """S1: each is named."""
    (fault,) = [fault for fault in faults(profile, **given) if "in production" not in fault]
    assert fault.startswith(f"{name}: ")


@pytest.mark.parametrize("origin", NO_ORIGINS)
def test_an_origin_is_a_scheme_a_host_and_perhaps_a_port(origin: str) -> None:
    """I7: a browser sends nothing else."""
    (fault,) = faults("development", CORS_ORIGINS=["https://app.example.com", origin])
    assert fault.startswith("CORS_ORIGINS: ")


@pytest.mark.parametrize(("listed", "sent"), (ORIGINS | WITHOUT_TLS).items())
def test_an_origin_is_matched_as_a_browser_sends_it(listed: str, sent: str) -> None:
    """I7: without a default port and in lower case; the match is exact. Apps have schemes of their own."""
    app = create_app("testing", DATABASE_URL="sqlite://", CORS_ORIGINS=[listed])
    for origin in (sent, sent.upper(), f"{sent}.evil", f"{sent}:443", f"x{sent}", "null"):
        allowed = app.test_client().get("/healthz", headers={"Origin": origin}).headers
        assert allowed.get("Access-Control-Allow-Origin") == (sent if origin == sent else None), origin


def test_production_takes_every_origin_with_tls_or_of_an_app() -> None:
    """I7, S1."""
    assert tuple(ORIGINS) == settings(create_app("production", **GOOD, CORS_ORIGINS=[*ORIGINS])).CORS_ORIGINS


@pytest.mark.parametrize(("name", "given"), WEAK.values(), ids=WEAK)
def test_what_is_weak_starts_in_development_alone(name: str, given: dict[str, Any]) -> None:
    """S1, T11, P1: each setting is named, and no secret is shown."""
    (fault,) = faults_of(**given)
    assert fault.startswith(f"{name}: ")
    assert not [value for value in given.values() if not isinstance(value, int) and str(value) in fault]
    assert create_app("development", **(FINE | given))


@pytest.mark.parametrize(("algorithm", "seconds"), [("EdDSA", 45), ("HS256", 1)])
def test_the_shortest_time_ahead_of_a_key_is_taken(algorithm: str, seconds: int) -> None:
    """T12: with HS256 there is no key to publish."""
    assert create_app("production", **GOOD, JWT_ALGORITHM=algorithm, JWT_KEYS_PUBLISH_AHEAD=seconds)


@pytest.mark.parametrize("given", STRONG)
def test_every_cost_that_the_standards_name_is_taken(given: dict[str, Any]) -> None:
    """P1: ASVS 5.0, appendix C."""
    assert create_app("production", **GOOD, **given)


def test_every_secret_of_the_benchmarks_is_known() -> None:
    """S1: a secret that is copied from the benchmarks is refused."""
    folders = (ROOT / "benchmarks", ROOT / "benchmarks" / "peers")  # the installed code of the peers is deeper
    sources = [path.read_text() for folder in folders for path in folder.iterdir() if path.suffix in (".py", ".mjs")]
    secrets = re.findall(r"""(?:secret|SECRET\w*"?\]?)\s*[:=]\s*"([^"]{32,})\"""", "\n".join(sources))
    assert set(secrets) == checks._PUBLISHED == {BENCHMARK}


def test_the_profile_of_the_suite_is_for_code_to_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """S1: its hashes are cheap, and its secrets are published."""
    monkeypatch.setenv("GATEHOUSE_PROFILE", "testing")
    with pytest.raises(InvalidSettings, match=r"GATEHOUSE_PROFILE: must be one of development, production$"):
        create_app()
    assert settings(create_app("testing", DATABASE_URL="sqlite://")).PASSWORD_MEMORY_COST == 8


def test_the_default_region_is_one_and_costs_no_start_the_list_of_all(tmp_path: Path) -> None:
    live.checkout(tmp_path)
    code = "import sys, apps; apps.create_app(PHONE_REGION=sys.argv[1]); print('phonenumbers' in sys.modules)"
    for region, is_loaded in ((BaseConfig.PHONE_REGION, False), ("GB", True)):
        command = [sys.executable, "-c", code, region]
        said = subprocess.check_output(command, cwd=tmp_path, env=live.unconfigured(), text=True)
        assert said.splitlines()[-1] == str(is_loaded)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (timedelta(0), "0 s"),
        (timedelta(minutes=5), "300 s"),
        (timedelta(days=365), "365 d"),
        (timedelta(days=1, seconds=1), "86401 s"),
        (0.01, "0.01"),
    ],
)
def test_a_bound_is_written_as_people_write_it(value: Any, shown: str) -> None:
    assert reader._bound(value) == shown
