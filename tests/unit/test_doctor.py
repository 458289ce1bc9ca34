"""`manage.py doctor`: it names what is wrong, shows no secret and changes nothing."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from flask import Flask

from apps.commands.doctor import doctor
from apps.config import BaseConfig, settings
from apps.database.revision import needed_revision
from apps.settings.reader import declared
from apps.utils import clock
from tests.api_v1.test_health import migrated, set_revision  # noqa: F401 (a fixture)
from tests.support import live, stores
from tests.unit.test_settings import GOOD

PRODUCTION = {
    "GATEHOUSE_PROFILE": "production",
    "GATEHOUSE_JWT_SECRET_KEY": GOOD["JWT_SECRET_KEY"],
    "GATEHOUSE_FIELD_ENCRYPTION_KEYS": f'["{GOOD["FIELD_ENCRYPTION_KEYS"][0]}"]',
    "GATEHOUSE_FIELD_INDEX_KEY": GOOD["FIELD_INDEX_KEY"],
}


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return {path: (mode, content)} of a folder, without compiled modules and without links."""
    paths = [path for path in folder.rglob("*") if "__pycache__" not in path.parts and not path.is_symlink()]
    return {
        str(path): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in paths
        if not {"apps", "migrations"} & set(path.relative_to(folder).parts)
    }


def examine(folder: Path, **environment: str) -> tuple[int, str]:
    """Run doctor in a folder; check that it changes nothing there and prints no traceback."""
    live.checkout(folder)
    before = contents(folder)
    done = subprocess.run(
        [sys.executable, "manage.py", "doctor"],
        cwd=folder, env=live.unconfigured() | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert contents(folder) == before
    assert done.stderr == ""
    return done.returncode, done.stdout


def wrong(text: str) -> list[str]:
    return [line.split(maxsplit=2)[1] for line in text.splitlines() if line.startswith("wrong ")]


def test_a_fresh_checkout_is_well_and_stays_untouched(tmp_path: Path) -> None:
    status, said = examine(tmp_path)
    assert (status, wrong(said)) == (0, [])
    listed = [line.split()[0] for line in said.splitlines() if line.endswith(")")]
    assert set(declared(BaseConfig)) <= set(listed)
    assert not (tmp_path / "instance").exists()


def test_a_used_checkout_is_well_and_stays_untouched(tmp_path: Path) -> None:
    """Also while the service runs."""
    with live.live_server(tmp_path):
        assert examine_running(tmp_path) == (0, [])
    assert examine(tmp_path)[0] == 0
    stored = (tmp_path / "instance" / "secrets.json").read_text()
    assert not [secret for secret in stored.split('"')[3::4] if secret in examine(tmp_path)[1]]


def examine_running(folder: Path) -> tuple[int, list[str]]:
    command = [sys.executable, "manage.py", "doctor"]
    done = subprocess.run(command, cwd=folder, env=live.unconfigured(), capture_output=True, text=True, check=False)
    return done.returncode, wrong(done.stdout)


@pytest.mark.parametrize("mode", [0o644, 0o604])
def test_secrets_that_others_can_read_are_wrong(tmp_path: Path, mode: int) -> None:
    (tmp_path / "instance").mkdir(mode=0o700)
    (tmp_path / "instance" / "secrets.json").write_text("{}")
    (tmp_path / "instance" / "secrets.json").chmod(mode)
    status, said = examine(tmp_path, **PRODUCTION, DATABASE_URL="sqlite://")
    assert (status, wrong(said)) == (1, ["files"])


def test_every_wrong_setting_is_named_beside_the_others(tmp_path: Path) -> None:
    """S1: no value of a secret is shown."""
    environment = PRODUCTION | {
        "GATEHOUSE_CACHE_TTL": "0",
        "GATEHOUSE_JWT_SECRET_KEY": "canary",
        "GATEHOUSE_X": "canary",
    }
    status, said = examine(tmp_path, **environment, DATABASE_URL="postgresql://u:can@ry@h/d", REDIS_URL="redis://h?x=1")
    assert status == 1
    named = [line.split()[2].rstrip(":") for line in said.splitlines() if line.startswith("wrong  settings")]
    assert set(named) == {"CACHE_TTL", "JWT_SECRET_KEY", "X", "DATABASE_URL", "REDIS_URL"}
    assert "canary" not in said
    assert "ry@h" not in said
    assert "SESSION_LIFETIME" in said


def test_the_source_of_a_setting_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("CACHE_TTL = 7\nLOGIN_LIMIT = '5/minute'\n")
    (tmp_path / "config.py").chmod(0o600)
    url = "postgresql://u:S3cretTail@127.0.0.1:1/d?connect_timeout=9"
    _, said = examine(tmp_path, GATEHOUSE_LOGIN_LIMIT="6/minute", DATABASE_URL=url)
    lines = {line.split()[0]: line for line in said.splitlines() if line.endswith(")")}
    assert lines["CACHE_TTL"].endswith("7  (config.py)")
    assert lines["LOGIN_LIMIT"].endswith("6/minute  (environment)")
    assert lines["DATABASE_TIMEOUT"].endswith("0:00:09  (the URL)")
    assert lines["LOG_LEVEL"].endswith("(default)")
    assert "S3cretTail" not in said


def test_a_store_that_is_away_is_wrong_and_no_password_is_shown(tmp_path: Path) -> None:
    """L1."""
    urls = {"DATABASE_URL": "mysql://u:S3cretTail@127.0.0.1:1/d", "REDIS_URL": "redis://:S3cretTail@127.0.0.1:1"}
    status, said = examine(tmp_path, **PRODUCTION, **urls)
    assert (status, wrong(said)) == (1, ["database", "redis"])
    assert "S3cretTail" not in said


def test_a_short_password_does_not_blank_other_words(tmp_path: Path) -> None:
    """`e***ist` would be unreadable, and would show what the password is."""
    _, said = examine(tmp_path, DATABASE_URL="postgresql://u:x@127.0.0.1:1/d", REDIS_URL="redis://:m@127.0.0.1:1")
    assert "does not exist; the service creates it" in said
    assert "behind a proxy, all clients" in said
    assert "postgresql+psycopg://u:***@127.0.0.1:1/d" in said


def test_a_damaged_file_of_secrets_is_named(tmp_path: Path) -> None:
    (tmp_path / "instance").mkdir()
    (tmp_path / "instance" / "secrets.json").write_text("{")
    status, said = examine(tmp_path)
    assert (status, wrong(said)) == (1, ["settings"])
    assert "instance/secrets.json: is damaged" in said


def test_a_link_to_nothing_is_wrong(tmp_path: Path) -> None:
    """The service cannot start with it."""
    (tmp_path / "instance").mkdir()
    (tmp_path / "instance" / "secrets.json").symlink_to(tmp_path / "nothing")
    status, said = examine(tmp_path)
    assert (status, wrong(said)) == (1, ["files"])
    assert "is a link to a file that does not exist" in said


def test_a_folder_that_cannot_be_created_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This user may be root, who may write everywhere."""
    monkeypatch.setattr(sys.modules["apps.commands.doctor"], "ROOT", tmp_path)
    monkeypatch.setattr("os.environ", live.unconfigured())
    monkeypatch.setattr("os.access", lambda path, _mode: Path(path) != tmp_path)
    result = CliRunner().invoke(doctor)
    assert (result.exit_code, wrong(result.output)) == (1, ["files"])
    assert "instance does not exist, and this user cannot create it" in result.output


def test_a_file_in_the_place_of_the_folder_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "instance").write_text("")
    status, said = examine(tmp_path)
    assert (status, wrong(said)) == (1, ["files"])
    assert "instance is not a folder" in said


@pytest.fixture(autouse=True)
def _own_folder(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Give an application in this process an instance folder of its own."""
    if "app" in request.fixturenames:
        request.getfixturevalue("app").instance_path = str(tmp_path / "instance")


def ask(app: Flask) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=["doctor"])
    return result.exit_code, result.output


def test_the_stores_are_measured(app: Flask) -> None:
    status, said = ask(app)
    assert (status, wrong(said)) == (0, [])
    assert "answers in" in said
    assert f"Is at {needed_revision()}." in said
    assert said.count("clock ") == (2 if app.config["SQLALCHEMY_DATABASE_URI"].startswith(("post", "my")) else 0)


def test_an_old_migration_is_wrong_and_a_newer_one_is_not(migrated: Flask) -> None:  # noqa: F811
    set_revision(migrated, "0001")
    assert wrong(ask(migrated)[1]) == ["migration"]
    assert "Run `manage.py db upgrade`" in ask(migrated)[1]
    set_revision(migrated, "9999")
    assert ask(migrated)[0] == 0


@pytest.mark.stores("postgresql", "mariadb")
def test_a_difference_of_clocks_is_wrong(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    now = clock.now
    monkeypatch.setattr(clock, "now", lambda: now() + timedelta(seconds=5))
    status, said = ask(app)
    assert (status, wrong(said)) == (1, ["clock", "clock"])
    assert "differs by -5.0" in said


@pytest.mark.settings(PROCESSES=10_000)
@pytest.mark.stores("postgresql", "mariadb")
def test_more_connections_than_the_database_allows_are_wrong(app: Flask) -> None:
    """F17."""
    status, said = ask(app)
    assert (status, wrong(said)) == (1, ["database"])
    assert "may open 60000 connections" in said


@pytest.mark.settings(JWT_ALGORITHM="EdDSA")
@pytest.mark.stores("sqlite", "mariadb")
def test_a_missing_signing_key_is_wrong(app: Flask) -> None:
    assert wrong(ask(app)[1]) == ["keys"]
    assert app.test_cli_runner().invoke(args=["keys", "rotate"]).exit_code == 0
    assert ask(app)[0] == 0


@pytest.mark.settings(JWT_ALGORITHM="EdDSA")
@pytest.mark.stores("sqlite", "mariadb")
def test_a_key_of_the_previous_algorithm_signs_until_the_next_one_does(app: Flask, database_url: str) -> None:
    """T12: a pending change of JWT_ALGORITHM is not wrong."""
    assert app.test_cli_runner().invoke(args=["keys", "rotate"]).exit_code == 0
    with stores.application(database_url, settings(app).REDIS_URL, JWT_ALGORITHM="ES256") as other:
        other.instance_path = app.instance_path
        assert wrong(ask(other)[1]) == ["keys"]
        assert other.test_cli_runner().invoke(args=["keys", "rotate"]).exit_code == 0
        status, said = ask(other)
    assert (status, wrong(said)) == (0, [])
    assert "signs tokens with EdDSA" in said
