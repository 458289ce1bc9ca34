"""Back up the whole database into one file and restore it, with each database's own tools."""

import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from sqlalchemy import URL, Engine, MetaData, inspect

_TABLES = {"alembic_version", "users"}  # a database without them belongs to another program
_TLS_FILES = ("ssl_ca", "ssl_capath", "ssl_cert", "ssl_key", "ssl_cipher")
_DEFINER = re.compile(rb"^(/\*!50003 CREATE\*/ )/\*!50017 DEFINER=.*?\*/ ")


class BackupError(Exception):
    """The backup or the restore failed; the message tells why."""


def backup(engine: Engine, file: Path) -> None:
    """Write a consistent copy into a new file that only its owner can read. The service can keep running.

    Raises `BackupError`, also if the file exists.
    """
    _make_private(file, os.O_EXCL)
    try:
        _DUMP[engine.dialect.name](engine, file)
    except BaseException:
        file.unlink()  # a partial copy could be mistaken for a backup
        raise


def restore(engine: Engine, file: Path) -> None:
    """Fill an empty database from a copy. After a failure the database is empty again.

    Raises `BackupError`, also if the file is incomplete or the database has tables.
    """
    if not file.is_file():
        raise BackupError(f"{file}: no such file")
    if check := _CHECK.get(engine.dialect.name):
        check(file)
    if engine.dialect.name == "sqlite":
        _make_private(Path(str(engine.url.database)), 0)  # SQLite would create it readable for everyone
    if inspect(engine).get_table_names():
        raise BackupError("the database is not empty; restore into a new one")
    try:
        _LOAD[engine.dialect.name](engine, file)
        _require_tables(file, inspect(engine).get_table_names())
    except BaseException:
        _empty(engine)
        raise


def _make_private(file: Path, flag: int) -> None:
    try:
        os.close(os.open(file, os.O_CREAT | flag, 0o600))
    except OSError as error:
        raise BackupError(f"{file}: {error.strerror}") from None


def _require_tables(file: Path, names: Iterable[str]) -> None:
    if not set(names) >= _TABLES:
        raise BackupError(f"{file}: not a copy of a Gatehouse database")


def _empty(engine: Engine) -> None:
    """Drop the tables that a failed load created: MariaDB commits each statement."""
    tables = MetaData()
    tables.reflect(engine)
    tables.drop_all(engine)


def _dump_sqlite(engine: Engine, file: Path) -> None:
    with closing(sqlite3.connect(str(engine.url.database))) as source, closing(sqlite3.connect(file)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # no files beside it, so it can be read in a read-only folder


def _check_sqlite(file: Path) -> None:
    try:
        with closing(_open_copy(file)) as copy:
            _require_tables(file, (name for (name,) in copy.execute("SELECT name FROM sqlite_master")))
            (page,) = copy.execute("PRAGMA page_size").fetchone()
            (problem,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        raise BackupError(f"{file}: {error}") from None
    if file.stat().st_size % page:  # SQLite reads a truncated last page as if it ended in zeros
        raise BackupError(f"{file}: the file is truncated")
    if problem != "ok":
        raise BackupError(f"{file}: {problem}")


def _load_sqlite(engine: Engine, file: Path) -> None:
    with closing(_open_copy(file)) as copy, closing(sqlite3.connect(str(engine.url.database))) as sink:
        copy.backup(sink)


def _open_copy(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)


def _postgresql(engine: Engine, program: str, *options: str) -> None:
    """Run a program with the connection parameters of the service, such as several hosts and TLS."""
    from psycopg.conninfo import make_conninfo

    parameters = engine.dialect.create_connect_args(engine.url)[1]
    parameters.pop("context", None)  # for the driver only
    if "sslpassword" in parameters:
        raise BackupError(f"{program} would show sslpassword to every user of this machine: use a key without one")
    password = parameters.pop("password", None)  # not an argument: every user of the machine can read those
    environment = {"PGPASSWORD": password} if password else {}
    _run(program, f"--dbname={make_conninfo(**parameters)}", *options, environment=environment)


def _dump_postgresql(engine: Engine, file: Path) -> None:
    _postgresql(engine, "pg_dump", "--format=custom", "--no-owner", f"--file={file}")


def _load_postgresql(engine: Engine, file: Path) -> None:
    _postgresql(engine, "pg_restore", "--no-owner", "--exit-on-error", "--single-transaction", str(file))


def _mariadb(engine: Engine, programs: tuple[str, str], *options: str, lines: Iterable[bytes] = ()) -> None:
    url = engine.url
    program = next((program for program in programs if shutil.which(program)), programs[0])
    socket = url.query.get("unix_socket")
    tcp = ["--protocol=TCP", f"--host={url.host or 'localhost'}", f"--port={url.port or 3306}"]
    address = [f"--socket={socket}"] if socket else tcp
    command = [*address, *_tls(url, program), f"--user={url.username or ''}", *options, url.database or ""]
    _run(program, *command, environment={"MYSQL_PWD": str(url.password or "")}, lines=lines)


def _tls(url: URL, program: str) -> list[str]:
    """Return the TLS options for the URL; none if the URL sets no TLS option.

    They always verify the server's certificate. Otherwise MariaDB's programs continue without TLS if the server has
    none.
    """
    if not {name for name in url.query if name.startswith("ssl_")} - {"ssl_disabled"}:
        return []
    files = [f"--{name.replace('_', '-')}={url.query[name]}" for name in _TLS_FILES if name in url.query]
    return [*files, "--ssl-mode=VERIFY_IDENTITY" if program.startswith("mysql") else "--ssl-verify-server-cert"]


def _dump_mariadb(engine: Engine, file: Path) -> None:
    options = ("--single-transaction", "--triggers", "--hex-blob", "--comments", "--default-character-set=utf8mb4")
    _mariadb(engine, ("mariadb-dump", "mysqldump"), *options, f"--result-file={file}")


def _check_mariadb(file: Path) -> None:
    with file.open("rb") as dump:
        dump.seek(max(0, file.stat().st_size - 100))
        last_line = dump.read().rstrip().rpartition(b"\n")[2]
    if not last_line.startswith(b"-- Dump completed"):
        raise BackupError(f"{file}: truncated, or not a dump of mariadb-dump")


def _load_mariadb(engine: Engine, file: Path) -> None:
    lines = _without_definers(file)
    _mariadb(engine, ("mariadb", "mysql"), "--default-character-set=utf8mb4", lines=lines)


def _without_definers(file: Path) -> Iterator[bytes]:
    """Yield the lines of a dump without trigger definers: only a superuser may restore triggers of another user."""
    with file.open("rb") as dump:
        for line in dump:
            yield _DEFINER.sub(rb"\1", line)


def _run(program: str, *options: str, environment: dict[str, str], lines: Iterable[bytes] = ()) -> None:
    """Run a program with `lines` as its input, and kill it on an exception (SIGTERM raises one)."""
    path = shutil.which(program)
    if path is None:
        raise BackupError(f"the program {program} is required; it comes with the database")
    with tempfile.TemporaryFile() as stderr:
        with subprocess.Popen(  # noqa: S603 (a fixed program)
            [path, *options],
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        ) as process:
            try:
                _feed(process, lines)
                status = process.wait()
            except BaseException:
                process.kill()
                raise
        stderr.seek(0)
        if status != 0:
            messages = stderr.read().decode(errors="replace").strip().splitlines() or ["no message"]
            raise BackupError(f"{program} failed: {messages[-1]}")


def _feed(process: subprocess.Popen[bytes], lines: Iterable[bytes]) -> None:
    assert process.stdin  # noqa: S101 (for the type checker)
    with suppress(BrokenPipeError), process.stdin:  # the program stopped; its exit status and message tell why
        process.stdin.writelines(lines)


_DUMP = {"sqlite": _dump_sqlite, "postgresql": _dump_postgresql, "mysql": _dump_mariadb, "mariadb": _dump_mariadb}
# No check for PostgreSQL: pg_restore detects a truncated file, and loads all or nothing.
_CHECK = {"sqlite": _check_sqlite, "mysql": _check_mariadb, "mariadb": _check_mariadb}
_LOAD = {"sqlite": _load_sqlite, "postgresql": _load_postgresql, "mysql": _load_mariadb, "mariadb": _load_mariadb}
