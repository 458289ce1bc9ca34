"""`manage.py backup` and `restore`: they restore all data, or fail with a clear message and leave nothing behind."""

import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from apps import create_app
from apps.commands import register_commands
from apps.extensions import db
from apps.models import User
from tests.support import live, stores
from tests.support.keys import command, refusal
from tests.support.people import People
from tests.support.proxy import Proxy, through_proxy
from tests.support.servers import create_database

each = pytest.mark.stores("sqlite", "postgresql", "mariadb")
SECRET = "a-password-of-the-database"


@contextmanager
def application(url: str) -> Iterator[Flask]:
    app = create_app("testing", DATABASE_URL=url)
    register_commands(app)
    yield app
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def empty_url(app: Flask, store: str, tmp_path: Path) -> str:
    """The URL of an empty database. For SQLite the file does not exist yet."""
    if store == "sqlite":
        return f"sqlite:///{tmp_path / 'restored.sqlite3'}"
    url = stores.server_url(store)
    assert url
    return create_database(url, f"gatehouse_restored_{stores.worker_number()}")


@pytest.fixture
def file(app: Flask, people: People, tmp_path: Path) -> Path:
    """A backup that contains alice."""
    people.sign_up("alice-liddell")
    command(app, "backup", str(tmp_path / "backup"))
    return tmp_path / "backup"


def tables(url: str) -> list[str]:
    with application(url) as app, app.app_context():
        return sa.inspect(db.engine).get_table_names()


@each
def test_a_backup_under_writes_is_restored_whole(
    app: Flask, people: People, store: str, empty_url: str, tmp_path: Path
) -> None:
    """N7: into a new database. Users can log in, the audit verifies, and no id is assigned twice."""
    alice = people.sign_up("alice-liddell")
    file, stop = tmp_path / "backup", threading.Event()

    def sign_up_many() -> None:
        others = People(FlaskClient(app))
        while not stop.is_set():
            others.sign_up()

    thread = threading.Thread(target=sign_up_many)
    thread.start()
    try:
        (line,) = command(app, "backup", str(file))
    finally:
        stop.set()
        thread.join()
    assert line.startswith(f"wrote {file}, ")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with application(empty_url) as restored:
        (line,) = command(restored, "restore", str(file))
        assert line.endswith("audit events, none changed")
        with restored.app_context():
            ids = set(db.session.scalars(sa.select(User.id)))
            assert alice.id in ids
        again = People(FlaskClient(restored))
        assert again.log_in("alice-liddell").get("/users/").get_json()["data"]["mobile"] == "13200001111"
        assert again.sign_up().id > max(ids)
        assert refusal(restored, "restore", str(file)) == "Error: the database is not empty; restore into a new one"
    if store == "sqlite":
        assert stat.S_IMODE((tmp_path / "restored.sqlite3").stat().st_mode) == 0o600


@pytest.mark.stores("sqlite")
def test_a_backup_overwrites_nothing(app: Flask, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    file.write_text("of yesterday")
    assert "File exists" in refusal(app, "backup", str(file))
    assert file.read_text() == "of yesterday"
    assert "no such file" in refusal(app, "restore", str(tmp_path / "none"))


@pytest.mark.stores("postgresql")
def test_a_backup_that_fails_leaves_nothing(app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the missing program."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "the program pg_dump is required" in refusal(app, "backup", str(tmp_path / "backup"))
    assert list(tmp_path.iterdir()) == []


@each
def test_a_file_that_was_cut_is_refused_and_nothing_loaded(file: Path, empty_url: str, store: str) -> None:
    """N7: truncated anywhere, even between two statements or within the last bytes."""
    whole = file.read_bytes()
    before_users = max(whole.find(b"INSERT INTO `users`"), 0)
    for length in (before_users, 4096, len(whole) // 2, len(whole) - (60 if store == "mariadb" else 1)):
        file.write_bytes(whole[:length])
        with application(empty_url) as restored:
            assert refusal(restored, "restore", str(file)).startswith("Error: ")
        assert store != "sqlite" or not list(file.parent.glob("restored*"))
        assert tables(empty_url) == []
        for leftover in file.parent.glob("restored*"):
            leftover.unlink()  # created by `tables` above
    file.write_bytes(whole)
    with application(empty_url) as restored:
        command(restored, "restore", str(file))


@each
def test_a_copy_of_another_programs_database_is_refused(store: str, empty_url: str, tmp_path: Path) -> None:
    """The loaded tables are removed again."""
    file, url = tmp_path / "backup", sa.make_url(empty_url)
    other_url = f"sqlite:///{tmp_path / 'other.sqlite3'}"
    if store != "sqlite":
        other_url = create_database(empty_url, f"{url.database}_other")
    with application(other_url) as other:
        with other.app_context():
            db.session.execute(sa.text("CREATE TABLE users (id INTEGER PRIMARY KEY)"))
            db.session.commit()
        command(other, "backup", str(file))
    with application(empty_url) as restored:
        assert "not a copy of a Gatehouse database" in refusal(restored, "restore", str(file))
    assert store != "sqlite" or not list(tmp_path.glob("restored*"))
    assert tables(empty_url) == []


@pytest.mark.stores("sqlite")
def test_what_is_no_database_is_refused_and_leaves_no_file(app: Flask, empty_url: str, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    file.write_bytes(b"garbage " * 1000)
    with application(empty_url) as restored:
        assert refusal(restored, "restore", str(file)) == f"Error: {file}: file is not a database"
    assert not list(tmp_path.glob("restored*"))


@pytest.fixture
def ordinary_url(app: Flask, empty_url: str) -> Iterator[str]:
    """The empty database, for a user with all privileges on it and none elsewhere."""
    url = sa.make_url(empty_url)
    with app.app_context():
        for statement in (
            f"CREATE OR REPLACE USER ordinary IDENTIFIED BY '{SECRET}'",
            f"GRANT ALL PRIVILEGES ON {url.database}.* TO ordinary",
        ):
            db.session.execute(sa.text(statement))
    yield url.set(username="ordinary", password=SECRET).render_as_string(hide_password=False)
    with app.app_context():
        db.session.execute(sa.text("DROP USER ordinary"))


@pytest.mark.stores("mariadb")
def test_an_ordinary_user_restores_and_a_failed_load_can_be_tried_again(
    file: Path, ordinary_url: str, tmp_path: Path
) -> None:
    """N7: the user becomes the definer of the triggers. After a failed statement, the loaded tables are dropped."""
    broken = tmp_path / "broken"
    broken.write_bytes(file.read_bytes().replace(b"-- Dump completed", b"NONSENSE;\n-- Dump completed"))
    with application(ordinary_url) as restored:
        assert "NONSENSE" in refusal(restored, "restore", str(broken))
        (line,) = command(restored, "restore", str(file))
        assert line.endswith("audit events, none changed")
        with restored.app_context(), pytest.raises(sa.exc.DBAPIError, match="append-only"):
            db.session.execute(sa.text("DELETE FROM audit_events"))
        command(restored, "backup", str(tmp_path / "again"))


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    """A TCP proxy to the database, without TLS."""
    with through_proxy(database_url) as (proxy, url):
        proxy.url = sa.make_url(url).set(password=SECRET).render_as_string(hide_password=False)
        yield proxy


@pytest.mark.stores("postgresql")
def test_a_backup_is_of_that_host_that_takes_writes(app: Flask, people: People, proxy: Proxy, tmp_path: Path) -> None:
    """A URL with several hosts and a condition, as in docs/scaling.md. The first host is down."""
    alice = people.sign_up()
    hosts = {"host": (f"127.0.0.1:{live.free_port()}", f"127.0.0.1:{proxy.port}")}
    url = sa.make_url(proxy.url).set(host=None, port=None).update_query_dict(hosts)
    url = url.update_query_dict({"target_session_attrs": "read-write"})
    with application(url.render_as_string(hide_password=False)) as other:
        command(other, "backup", str(tmp_path / "backup"))
    assert alice.username in subprocess.run(
        ["pg_restore", "--data-only", "--table=users", "--file=-", str(tmp_path / "backup")],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip


@pytest.mark.stores("postgresql", "mariadb")
def test_a_backup_that_asks_for_tls_is_not_made_without_it(store: str, proxy: Proxy, tmp_path: Path) -> None:
    query = {"postgresql": {"sslmode": "require"}, "mariadb": {"ssl_ca": "/the/ca.pem"}}
    url = sa.make_url(proxy.url).update_query_dict(query[store]).set(password=None)
    with application(url.render_as_string()) as other:
        assert "does not support" in refusal(other, "backup", str(tmp_path / "backup"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.stores("postgresql")
def test_a_secret_that_others_could_see_is_not_passed_on(proxy: Proxy, tmp_path: Path) -> None:
    """libpq has no environment variable for the passphrase of a key, and every user can read arguments."""
    with application(f"{proxy.url}?sslpassword={SECRET}") as other:
        assert "pg_dump would show sslpassword" in refusal(other, "backup", str(tmp_path / "backup"))


@pytest.mark.stores("postgresql")
def test_a_backup_that_is_ended_leaves_no_process_and_no_file(proxy: Proxy, tmp_path: Path) -> None:
    """SIGTERM arrives while pg_dump waits for the database. The password is not in the arguments of pg_dump."""
    live.checkout(tmp_path)
    file, proxy.is_silent = tmp_path / "backup", True
    process = subprocess.Popen(
        [sys.executable, "manage.py", "backup", str(file)],
        cwd=tmp_path, env=live.unconfigured() | {"DATABASE_URL": proxy.url}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not proxy.commands:
            assert process.poll() is None
            time.sleep(0.02)
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert SECRET not in Path(f"/proc/{child}/cmdline").read_text()
        assert file.exists()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
    assert not Path(f"/proc/{child}").exists()
    assert not file.exists()
