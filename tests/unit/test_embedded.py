"""The embedded default: what the service creates when nothing is configured."""

import json
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
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
from apps.database.sqlite_file import problem_of
from apps.extensions import db
from apps.settings.embedded import fill_secrets
from apps.settings.reader import InvalidSettings
from tests.support import live
from tests.unit.test_settings import GOOD

NAMES = ["JWT_SECRET_KEY", "FIELD_ENCRYPTION_KEYS", "FIELD_INDEX_KEY"]


def fill(folder: Path, **given: Any) -> dict[str, Any]:
    """Return the secrets of a service that is configured with `given` only."""
    app = Flask("embedded", instance_path=str(folder / "instance"))
    filled = fill_secrets(app, BaseConfig(**given), NAMES)
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


DAMAGED = {
    "empty": b"",
    "half": b'{"JWT_SECRET_KEY": "canary-canary-cana',
    "no object": b'["canary"]',
    "no string": b'{"JWT_SECRET_KEY": 5, "FIELD_INDEX_KEY": "canary"}',
    "a list": b'{"JWT_SECRET_KEY": ["canary"]}',
    "one secret": b'{"JWT_SECRET_KEY": "canary-canary-canary-canary-canary"}',
    "no secret": b'{"JWT_SECRET_KEY": "", "FIELD_ENCRYPTION_KEYS": "canary", "FIELD_INDEX_KEY": "canary"}',
    "no text": b"\xff\xfe\x00c\x00a",
    "null": b"null",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_of_secrets_stops_the_start_and_stays(tmp_path: Path, content: bytes) -> None:
    """S1: new secrets would not decrypt the data of the old ones. The message shows no part of the file."""
    (tmp_path / "instance").mkdir()
    file = tmp_path / "instance" / "secrets.json"
    file.write_bytes(content)
    with pytest.raises(InvalidSettings, match=r"instance/secrets.json: .*restore the file from a backup") as raised:
        fill(tmp_path)
    assert "canary" not in str(raised.value)
    assert file.read_bytes() == content


def test_a_folder_that_cannot_hold_the_secrets_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "instance").write_text("a file")
    with pytest.raises(InvalidSettings, match="instance/: cannot create the folder"):
        fill(tmp_path)
    (tmp_path / "other" / "instance" / "secrets.json").mkdir(parents=True)
    with pytest.raises(InvalidSettings, match=r"instance/secrets.json: cannot create or read .*directory"):
        fill(tmp_path / "other")
    (tmp_path / "third" / "instance").mkdir(parents=True)
    (tmp_path / "third" / "instance" / "secrets.json").symlink_to(tmp_path / "nothing")
    with pytest.raises(InvalidSettings, match=r"instance/secrets.json: cannot create or read .*No such file"):
        fill(tmp_path / "third")


def test_configured_secrets_need_no_folder(tmp_path: Path) -> None:
    (tmp_path / "instance").write_text("a file")
    given = {"JWT_SECRET_KEY": "a", "FIELD_INDEX_KEY": "b", "FIELD_ENCRYPTION_KEYS": ("c",)}
    assert fill(tmp_path, **given) == given


def unusable(folder: Path) -> dict[str, tuple[Path, str]]:
    """Return {what is wrong: (file, a word of the problem)}."""
    (folder / "file").write_text("a long text that is not a database")
    (folder / "users.db-wal").mkdir()
    return {
        "no folder": (folder / "nothing" / "users.db", "does not exist"),
        "a file as the folder": (folder / "file" / "users.db", "does not exist"),
        "a folder": (folder, "is not a file"),
        "no database": (folder / "file", "is not a SQLite database"),
        "below /proc": (Path("/proc/nothing/here.db"), "does not exist"),
        "a long name": (folder / ("x" * 300), "name too long"),
        "no UTF-8": (folder / "\udcff" / "users.db", "not UTF-8"),
    }


def test_a_sqlite_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    for file, problem in unusable(tmp_path).values():
        assert problem in str(problem_of(file))
    assert problem_of(tmp_path / "new.db") is None
    (tmp_path / "empty.db").touch()
    assert problem_of(tmp_path / "empty.db") is None


def test_a_sqlite_file_of_another_user_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This user may be root, who may write everything."""
    for name in ("users.db", "users.db-wal", "users.db.lock", "migrate.lock"):
        (tmp_path / name).touch()
        monkeypatch.setattr("os.access", lambda path, mode, name=name: Path(path).name != name)
        assert "users.db is not" in str(problem_of(tmp_path / "users.db")) or "not writable" in str(
            problem_of(tmp_path / "users.db", tmp_path / "migrate.lock")
        )
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    assert "is not writable for this user" in str(problem_of(tmp_path / "users.db"))


@pytest.mark.parametrize("profile", ["development", "production"])
def test_a_database_that_cannot_be_opened_stops_the_start(tmp_path: Path, profile: str) -> None:
    """A server that is away does not: it may start later."""
    for file, _ in unusable(tmp_path).values():
        with pytest.raises(InvalidSettings) as raised:
            create_app(profile, **(GOOD | {"DATABASE_URL": f"sqlite:///{file}"}))
        assert [problem.partition(":")[0] for problem in raised.value.problems] == ["DATABASE_URL"]
    assert create_app(profile, **(GOOD | {"DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d"}))
    assert create_app(profile, **(GOOD | {"DATABASE_URL": f"sqlite:///{tmp_path}/new.db"}))
    assert not (tmp_path / "new.db").exists()


def test_every_character_of_a_path_works(tmp_path: Path) -> None:
    """The folder of a checkout: for the database, the migrations, the lock and a backup."""
    folder = tmp_path / "a%2Fb%s?c=d#e f'g\"h:i@j[k]\\l;m&n\to\np值{q}$HOME%"
    folder.mkdir()
    live.checkout(folder)
    with live.live_server(folder) as server:
        assert server.send("GET", "/readyz")[0] == 200
    command = [sys.executable, "manage.py", "backup", "copy"]
    done = subprocess.run(command, cwd=folder, env=live.unconfigured(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"gatehouse.sqlite3", "secrets.json"} <= {path.name for path in (folder / "instance").iterdir()}


@pytest.mark.parametrize("damage", ["folder", "secrets", "database"])
@pytest.mark.parametrize("command", ["run", "openapi", "db"])
def test_a_command_says_plainly_which_file_is_wrong(tmp_path: Path, damage: str, command: str) -> None:
    live.checkout(tmp_path)
    instance = tmp_path / "instance"
    if damage == "folder":
        instance.write_text("")
    else:
        instance.mkdir()
        file, content = {"secrets": ("secrets.json", "{"), "database": ("gatehouse.sqlite3", "no database here")}[
            damage
        ]
        (instance / file).write_text(content)
    command_line = [sys.executable, "manage.py", *([command, "upgrade"] if command == "db" else [command])]
    done = subprocess.run(
        command_line, cwd=tmp_path, env=live.unconfigured(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "the service cannot start:\n  instance/" in done.stderr


def test_a_database_of_a_newer_release_is_served_as_it_is(tmp_path: Path) -> None:
    """After a checkout of an older branch, Alembic does not know the migration of the database."""
    live.checkout(tmp_path)
    command = [sys.executable, "manage.py"]
    environment: dict[str, Any] = {"cwd": tmp_path, "env": live.unconfigured()}
    subprocess.run([*command, "db", "upgrade"], **environment, capture_output=True, check=True)
    with closing(sqlite3.connect(tmp_path / "instance" / "gatehouse.sqlite3")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    with live.live_server(tmp_path) as url:
        assert url
    with closing(sqlite3.connect(tmp_path / "instance" / "gatehouse.sqlite3")) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]


@pytest.mark.parametrize("name", ["users.db-wal", "users.db.lock", "migrate.lock"])
def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    problem = problem_of(tmp_path / "users.db", tmp_path / "migrate.lock")
    assert problem == f"{tmp_path / name} is not a file"


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
