"""The embedded default: what the service creates when nothing is configured."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from stat import S_IMODE
from threading import Barrier
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import inspect, text

from apps import create_app
from apps.about import ROOT
from apps.cache.single_process import SingleProcess
from apps.config import BaseConfig
from apps.database.migrations import migrate_embedded
from apps.extensions import db
from apps.settings.embedded import fill_secrets
from tests.support import live

NAMES = ["JWT_SECRET_KEY", "FIELD_ENCRYPTION_KEYS", "FIELD_INDEX_KEY"]


def fill(folder: Path, **given: str) -> dict[str, Any]:
    """Return the secrets of a service that is configured with `given` only."""
    app = Flask("embedded", instance_path=str(folder / "instance"))
    filled = fill_secrets(app, BaseConfig(**given), NAMES)  # type: ignore[arg-type]
    return {name: getattr(filled, name) for name in NAMES}


def test_secrets_are_long_different_and_for_the_owner_alone(tmp_path: Path) -> None:
    """S1, S2."""
    filled = fill(tmp_path)
    secrets = [filled["JWT_SECRET_KEY"], *filled["FIELD_ENCRYPTION_KEYS"], filled["FIELD_INDEX_KEY"]]
    assert len(set(secrets)) == 3
    assert min(len(str(secret)) for secret in secrets) >= 43  # 256 random bits
    assert S_IMODE((tmp_path / "instance" / "secrets.json").stat().st_mode) == 0o600
    assert S_IMODE((tmp_path / "instance").stat().st_mode) == 0o700
    assert [path.name for path in (tmp_path / "instance").iterdir()] == ["secrets.json"]


def test_secrets_are_made_once(tmp_path: Path) -> None:
    """Otherwise a restart would invalidate every token and make every mobile number unreadable."""
    assert fill(tmp_path) == fill(tmp_path)


def test_a_configured_secret_is_left_alone(tmp_path: Path) -> None:
    filled = fill(tmp_path, JWT_SECRET_KEY="configured")
    assert filled["JWT_SECRET_KEY"] == "configured"
    assert filled["FIELD_INDEX_KEY"]


def test_who_starts_at_once_has_the_same_secrets(tmp_path: Path) -> None:
    for number in range(20):
        start = Barrier(4)

        def race(_: int, folder: Path = tmp_path / str(number), start: Barrier = start) -> str:
            start.wait()
            return json.dumps(fill(folder))

        with ThreadPoolExecutor(4) as threads:
            assert len(set(threads.map(race, range(4)))) == 1
        assert len(list((tmp_path / str(number) / "instance").iterdir())) == 1


def test_two_processes_that_start_at_once_share_secrets_and_tables(tmp_path: Path) -> None:
    live.checkout(tmp_path)
    code = (
        "from apps.config import settings; from wsgi import app; answer = app.test_client().get('/readyz').get_json();"
        "print(settings(app).JWT_SECRET_KEY, 'database' in answer.get('error', {}).get('fields', {}))"
    )
    command = [sys.executable, "-c", code]
    processes = [
        subprocess.Popen(command, cwd=tmp_path, env=live.unconfigured(), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[0].splitlines()[-1] for process in processes]
    assert said[0] == said[1]
    assert said[0].endswith(" False")  # both reach the database; only one of them gets the in-memory cache


def test_a_configured_database_is_migrated_by_hand_alone(tmp_path: Path) -> None:
    """With many processes, none may change the tables that the others use."""
    app = create_app("testing", DATABASE_URL=f"sqlite:///{tmp_path / 'test.sqlite3'}")
    migrate_embedded(app)
    with app.app_context():
        assert inspect(db.engine).get_table_names() == []
        db.engine.dispose()


@pytest.mark.stores("sqlite")
@pytest.mark.parametrize(("pragma", "value"), [("journal_mode", "wal"), ("foreign_keys", 1), ("synchronous", 1)])
def test_every_connection_to_sqlite_is_prepared(app: Flask, pragma: str, value: object) -> None:
    """Readers can run beside one writer, and foreign keys are enforced."""
    with app.app_context(), db.engine.connect() as first, db.engine.connect() as second:
        answers = [connection.execute(text(f"PRAGMA {pragma}")).scalar() for connection in (first, second)]
    assert answers == [value, value]


def is_free(folder: Path, url: str) -> bool:
    """Return True if another process, with its own TMPDIR, can take the lock of the database."""
    (folder / "tmp").mkdir(exist_ok=True)
    code = (
        "import sys; from apps.cache.single_process import SingleProcess; print(SingleProcess(*sys.argv[1:]).is_ours())"
    )
    command = [sys.executable, "-c", code, url, str(folder)]
    return subprocess.check_output(command, cwd=ROOT, env=os.environ | {"TMPDIR": str(folder / "tmp")}) == b"True\n"


def test_a_sqlite_file_is_one_processs_whatever_its_name_and_its_tmpdir(tmp_path: Path) -> None:
    """R6: the lock is beside the file, so every process that opens the file finds it."""
    (tmp_path / "link.db").symlink_to(tmp_path / "users.db")
    urls = [f"sqlite:///{name}" for name in ("users.db", f"{tmp_path}/users.db", "link.db", "file:users.db?uri=true")]
    assert is_free(tmp_path, urls[0])  # that process ends at once and releases the lock
    assert SingleProcess(urls[0], str(tmp_path)).is_ours()
    assert (tmp_path / "users.db.lock").exists()
    assert [url for url in urls if is_free(tmp_path, url)] == []
    assert [url for url in urls if not SingleProcess(url, str(tmp_path)).is_ours()] == []
    assert is_free(tmp_path, "sqlite:///others.db")


def test_a_lock_is_taken_only_while_another_process_holds_it(tmp_path: Path) -> None:
    """R6: the question takes no lock, so it keeps no other process from serving."""
    url, folder = f"sqlite:///{tmp_path}/users.db", str(tmp_path)
    assert not SingleProcess(url, folder).is_taken()
    code = "import sys; from apps.cache.single_process import SingleProcess as S; print(S(*sys.argv[1:]).is_ours())"
    code += "; sys.stdout.flush(); sys.stdin.read()"
    command = [sys.executable, "-c", code, url, folder]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "True\n"
        assert SingleProcess(url, folder).is_taken()
        other.communicate()
    assert not SingleProcess(url, folder).is_taken()
    assert is_free(tmp_path, url)
    assert SingleProcess(url, folder).is_ours()
    assert not SingleProcess(url, folder).is_taken()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_a_database_in_memory_needs_no_lock(tmp_path: Path, url: str) -> None:
    assert SingleProcess(url, str(tmp_path)).is_ours()
    assert is_free(tmp_path, url)
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]


def test_where_no_lock_can_be_made_no_process_is_the_one(tmp_path: Path) -> None:
    """V2: the database could not be created there either."""
    assert not SingleProcess("sqlite:///no/such/folder/users.db", str(tmp_path)).is_ours()
