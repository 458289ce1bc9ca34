"""A copy of the whole database in one file, and a database from such a file, by each database's own means."""

import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

from sqlalchemy import URL, Engine, inspect


class BackupFault(Exception):
    """The copy was not made, or the database not filled; the message says why."""


def backup(engine: Engine, file: Path) -> None:
    """Write a copy, as of one moment, into a new file that its owner alone can read; the service may go on meanwhile.

    Raises `BackupFault`, also where the file is there already.
    """
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        raise BackupFault(f"{file}: {error.strerror}") from None
    try:
        _DUMP[engine.dialect.name](engine.url, file)
    except BaseException:
        file.unlink()  # half a copy is worse than none
        raise


def restore(engine: Engine, file: Path) -> None:
    """Fill an empty database from a copy. Raises `BackupFault`, also where the database has tables."""
    if not file.is_file():
        raise BackupFault(f"{file}: there is no such file")
    if inspect(engine).get_table_names():
        raise BackupFault("the database is not empty; restore into a new one")
    _LOAD[engine.dialect.name](engine.url, file)


def _copy_sqlite(source: str, sink: str) -> None:
    with sqlite3.connect(source) as connection, sqlite3.connect(sink) as copy:
        connection.backup(copy)
    connection.close()
    copy.close()


def _dump_sqlite(url: URL, file: Path) -> None:
    _copy_sqlite(str(url.database), str(file))


def _load_sqlite(url: URL, file: Path) -> None:
    _copy_sqlite(str(file), str(url.database))


def _postgresql(url: URL, program: str, *options: str) -> None:
    hosts = url.query.get("host", url.host or "")
    place = {
        "PGHOST": hosts if isinstance(hosts, str) else ",".join(hosts),
        "PGPORT": str(url.port or ""),
        "PGUSER": url.username or "",
        "PGPASSWORD": str(url.password or ""),  # not an argument: those everybody on the machine can read
        "PGDATABASE": url.database or "",
    }
    _run(program, *options, environment={name: value for name, value in place.items() if value})


def _dump_postgresql(url: URL, file: Path) -> None:
    _postgresql(url, "pg_dump", "--format=custom", "--no-owner", f"--file={file}")


def _load_postgresql(url: URL, file: Path) -> None:
    options = ("--no-owner", "--exit-on-error", "--single-transaction", f"--dbname={url.database}")
    _postgresql(url, "pg_restore", *options, str(file))


def _mariadb(url: URL, program: str, *options: str, stdin: Path | None = None) -> None:
    socket = url.query.get("unix_socket")
    place = [f"--socket={socket}"] if socket else [f"--host={url.host or 'localhost'}", f"--port={url.port or 3306}"]
    command = [*place, f"--user={url.username or ''}", *options, url.database or ""]
    _run(program, *command, environment={"MYSQL_PWD": str(url.password or "")}, stdin=stdin)


def _dump_mariadb(url: URL, file: Path) -> None:
    options = ("--single-transaction", "--triggers", "--hex-blob", "--default-character-set=utf8mb4")
    _mariadb(url, _either("mariadb-dump", "mysqldump"), *options, f"--result-file={file}")


def _load_mariadb(url: URL, file: Path) -> None:
    _mariadb(url, _either("mariadb", "mysql"), "--default-character-set=utf8mb4", stdin=file)


def _either(*programs: str) -> str:
    return next((program for program in programs if shutil.which(program)), programs[0])


def _run(program: str, *options: str, environment: dict[str, str], stdin: Path | None = None) -> None:
    path = shutil.which(program)
    if path is None:
        raise BackupFault(f"this needs the program {program}, which comes with the database")
    source = stdin.open("rb") if stdin else subprocess.DEVNULL
    try:
        done = subprocess.run(  # noqa: S603 (a fixed program)
            [path, *options], env=os.environ | environment, stdin=source, capture_output=True, check=False
        )
    finally:
        if not isinstance(source, int):
            source.close()
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise BackupFault(f"{program} failed: {lines[-1]}")


_DUMP = {"sqlite": _dump_sqlite, "postgresql": _dump_postgresql, "mysql": _dump_mariadb, "mariadb": _dump_mariadb}
_LOAD = {"sqlite": _load_sqlite, "postgresql": _load_postgresql, "mysql": _load_mariadb, "mariadb": _load_mariadb}
