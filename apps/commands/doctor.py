"""`doctor`: one list of the settings, the stores and the files, and of what is wrong with them. It changes nothing."""

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import click
from flask import Flask
from flask.cli import ScriptInfo
from sqlalchemy import URL, Connection, NullPool, create_engine, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from apps.about import ROOT, VERSION
from apps.cache.redis_client import FAILURES, connect, times_of
from apps.cache.single_process import sqlite_path
from apps.config import BaseConfig
from apps.database import revision
from apps.database.engine import engine_settings, max_connections
from apps.database.timeouts import limit_waiting
from apps.models import SigningKey
from apps.models.key import private_key_context
from apps.security import field_encryption
from apps.services.key import signing_kid
from apps.settings import Examined, examine
from apps.settings.embedded import DATABASE_NAME
from apps.settings.reader import InvalidSettings, declared
from apps.settings.urls import redact, secrets_of
from apps.utils import clock

_MAX_DIFFERENCE = 1.0  # seconds between two clocks, beyond which something is wrong
_CLOCK_QUERIES = {
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
    "mysql": "SELECT UNIX_TIMESTAMP(NOW(6))",
}


class Finding(NamedTuple):
    """A line of the list."""

    state: Literal["ok", "note", "wrong"]
    part: str
    fact: str


@click.command()
@click.pass_context
def doctor(context: click.Context) -> None:
    """List every setting and store, and what is wrong.

    It changes nothing: no file is created and no table is migrated. It shows no secret. It exits with 1 if something
    is wrong.
    """
    script = context.find_object(ScriptInfo)
    app = script.load_app() if script else Flask("apps", instance_path=str(ROOT / "instance"))
    try:
        examined = app.extensions.get("examined_settings") or examine(app, None, {}, creates=False)
    except InvalidSettings as error:
        _show([Finding("wrong", "settings", problem) for problem in error.problems])
    app.extensions["settings"] = examined.settings
    click.echo(f"Gatehouse {VERSION}, Python {sys.version.split()[0]}, profile {examined.profile}\n")
    _show_settings(examined)
    with app.app_context():
        _show(list(_examine(app, examined)))


def _show(findings: list[Finding]) -> None:
    for state, part, fact in findings:
        click.echo(f"{state:5}  {part:11}  {fact}")
    wrong = sum(finding.state == "wrong" for finding in findings)
    click.echo(f"\n{wrong or 'nothing'} wrong")
    sys.exit(1 if wrong else 0)


def _show_settings(examined: Examined) -> None:
    secrets = secrets_of(examined.settings)
    for name, (_, setting) in declared(BaseConfig).items():
        value = getattr(examined.settings, name)
        if setting.secret or name == "SENTRY_DSN":
            shown = "set" if value else "not set"
        else:
            shown = (redact(value, secrets) if name.endswith("_URL") else str(value)) or "not set"
        click.echo(f"{name:25}  {shown}  ({examined.sources.get(name, 'default')})")
    click.echo()


def _examine(app: Flask, examined: Examined) -> Iterator[Finding]:
    yield from (Finding("wrong", "settings", problem) for problem in examined.problems)
    if not examined.problems:
        yield Finding("ok", "settings", "no problem")
    is_needed = examined.profile == "development" or not examined.settings.DATABASE_URL
    yield from _files(Path(app.instance_path), is_needed=is_needed)
    is_wrong = {problem.partition(":")[0] for problem in examined.problems}
    if "DATABASE_URL" not in is_wrong:
        yield from _database(app, examined.settings)
    if "REDIS_URL" not in is_wrong:
        yield from _redis(examined.settings)
    yield _proxies(examined)


def _files(instance: Path, *, is_needed: bool) -> Iterator[Finding]:
    """Check who may read and write the files with secrets and data. `is_needed`: the service uses the folder."""
    config = instance.parent / "config.py"
    yield from _folder(instance, is_needed)
    can_enter = instance.is_dir() and instance.stat().st_mode & 0o001
    for file in filter(os.path.lexists, (*sorted(instance.glob("*")), config)):
        others = 0o007 if file.name in ("secrets.json", "config.py") or can_enter else 0
        yield _rights(file, others, os.R_OK if file == config else os.R_OK | os.W_OK)


def _folder(instance: Path, is_needed: bool) -> Iterator[Finding]:
    if instance.is_dir():
        if not os.access(instance, os.W_OK | os.X_OK):
            yield Finding("wrong", "files", f"{instance} is not writable for this user")
    elif os.path.lexists(instance):
        yield Finding("wrong", "files", f"{instance} is not a folder")
    elif is_needed and not os.access(instance.parent, os.W_OK | os.X_OK):
        yield Finding("wrong", "files", f"{instance} does not exist, and this user cannot create it")
    else:
        yield Finding("ok", "files", f"{instance} does not exist; the service creates it if it needs it")


def _rights(file: Path, others: int, needed: int) -> Finding:
    """Check that this user has the `needed` rights, and other users none of the bits `others`."""
    if not file.exists():
        return Finding("wrong", "files", f"{file} is a link to a file that does not exist")
    status = file.stat()
    mode = stat.S_IMODE(status.st_mode)
    owner = "" if status.st_uid == os.geteuid() else ", of another user"
    if not os.access(file, needed):
        return Finding("wrong", "files", f"{file} has mode {mode:04o}{owner}: not usable for this user")
    if mode & others:
        return Finding("wrong", "files", f"{file} has mode {mode:04o}: open to other users of this machine")
    return Finding("ok", "files", f"{file} has mode {mode:04o}{owner}")


def _database(app: Flask, settings: BaseConfig) -> Iterator[Finding]:
    url = make_url(settings.DATABASE_URL) if settings.DATABASE_URL else None
    if url is None:
        yield Finding("note", "database", "not set: SQLite, for one machine")
    if url is None or url.get_backend_name() == "sqlite":
        file = sqlite_path(url, app.instance_path) if url else Path(app.instance_path, DATABASE_NAME)
        if file is None or not file.exists():
            yield _missing(file, is_configured=url is not None)
            return
        url = _read_only(file)
    try:
        with _connected(url, settings) as connection:
            yield from _server(connection)
            yield from _capacity(connection, settings)
            yield from _tables(connection, settings)
    except DBAPIError as error:
        yield _silent("database", str(error.orig).partition("\n")[0], settings)


def _missing(file: Path | None, *, is_configured: bool) -> Finding:
    if file is None:
        return Finding("note", "database", "in memory: it ends with the process")
    if is_configured:
        return Finding("wrong", "database", f"{file} does not exist. Run `manage.py db upgrade`.")
    return Finding("ok", "database", f"{file} does not exist; the first start creates it")


def _read_only(file: Path) -> URL:
    """Return a URL with which SQLite changes nothing. It creates its files beside the database unless told not to."""
    options = {"mode": "ro", "uri": "true"} | ({} if Path(f"{file}-wal").exists() else {"immutable": "1"})
    return URL.create("sqlite", database=f"file:{quote(str(file.resolve()))}", query=options)


@contextmanager
def _connected(url: URL, settings: BaseConfig) -> Iterator[Connection]:
    text_of_url, options = engine_settings(
        url.render_as_string(hide_password=False), 1, settings.DATABASE_TIMEOUT, settings.STATEMENT_TIMEOUT
    )
    chosen = {name: options[name] for name in ("connect_args", "hide_parameters")}
    engine = create_engine(text_of_url, poolclass=NullPool, **chosen)
    limit_waiting(engine, settings.STATEMENT_TIMEOUT.total_seconds() + 1)
    with engine.connect() as connection:
        yield connection


def _server(connection: Connection) -> Iterator[Finding]:
    name = connection.dialect.name
    version = ".".join(map(str, connection.dialect.server_version_info or ()))
    took = _latency(lambda: connection.scalar(text("SELECT 1")))
    yield Finding("ok", "database", f"{name} {version}, answers in {took * 1000:.1f} ms")
    if query := _CLOCK_QUERIES.get(name):
        before = clock.now().timestamp()
        there = float(connection.execute(text(query)).scalar_one())
        yield _difference("the database", there, before)


def _capacity(connection: Connection, settings: BaseConfig) -> Iterator[Finding]:
    allowed = max_connections(connection.engine)
    if allowed is not None:
        wanted = settings.PROCESSES * settings.DATABASE_POOL_SIZE
        fact = f"PROCESSES x DATABASE_POOL_SIZE may open {wanted} connections; the database allows {allowed}"
        yield Finding("wrong" if wanted > allowed else "ok", "database", fact)


def _tables(connection: Connection, settings: BaseConfig) -> Iterator[Finding]:
    found = revision.read_revision(connection.scalar)
    problem = revision.problem_of(found)
    yield Finding("wrong" if problem else "ok", "migration", problem or f"Is at {found}.")
    if not problem:
        yield _signing_key(connection, settings)


def _signing_key(connection: Connection, settings: BaseConfig) -> Finding:
    if settings.JWT_ALGORITHM == "HS256":
        return Finding("ok", "keys", "JWT_SECRET_KEY signs tokens")
    columns = select(SigningKey.kid, SigningKey.algorithm, SigningKey.activate_time, SigningKey.private_key_ciphertext)
    keys: Sequence[Any] = connection.execute(columns.where(SigningKey.retire_time.is_(None))).all()
    kid = signing_kid(keys)
    row = next((key for key in keys if key.kid == kid), None)
    if row is None:
        return Finding("wrong", "keys", f"no key signs with {settings.JWT_ALGORITHM}. Run `manage.py keys rotate`.")
    try:
        field_encryption.decrypt(row.private_key_ciphertext, private_key_context(row.kid))
    except field_encryption.Undecryptable:
        return Finding("wrong", "keys", f"FIELD_ENCRYPTION_KEYS does not decrypt the signing key {row.kid}")
    return Finding("ok", "keys", f"{row.kid} signs tokens with {row.algorithm}")


def _redis(settings: BaseConfig) -> Iterator[Finding]:
    if not settings.REDIS_URL:
        yield Finding("note", "redis", "not set: one process, with its cache and its limits in memory")
        return
    try:
        with closing(connect(settings.REDIS_URL, max(settings.REDIS_TIMEOUT, 1), lambda _connection: None)) as client:
            took = _latency(lambda: times_of(client))
            before = clock.now().timestamp()
            times = times_of(client)
    except FAILURES as error:
        yield _silent("redis", str(error), settings)
        return
    state: Literal["ok", "wrong"] = "wrong" if took > settings.REDIS_TIMEOUT else "ok"
    limit = f"; REDIS_TIMEOUT is {settings.REDIS_TIMEOUT * 1000:.0f} ms"
    yield Finding(state, "redis", f"{len(times)} primary, answers in {took * 1000:.1f} ms{limit}")
    yield from (_difference("Redis", there, before) for there in times)


def _silent(part: str, cause: str, settings: BaseConfig) -> Finding:
    """Only what a driver says may hold a secret. In our own words, `***` for a short one would show what it is."""
    return Finding("wrong", part, f"does not respond: {redact(cause, secrets_of(settings))}")


def _proxies(examined: Examined) -> Finding:
    count = examined.settings.TRUSTED_PROXIES
    if count:
        fact = f"entry {count} from the right of X-Forwarded-For is the client; only proxies may reach the port"
        return Finding("ok", "proxies", f"TRUSTED_PROXIES is {count}: {fact}")
    fact = "TRUSTED_PROXIES is 0: the peer is the client; behind a proxy, all clients would share its limits"
    return Finding("note" if examined.profile == "production" else "ok", "proxies", fact)


def _latency(ask: Callable[[], Any]) -> float:
    """Return the median seconds of five calls."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        ask()
        times.append(time.perf_counter() - started)
    return median(times)


def _difference(name: str, there: float, before: float) -> Finding:
    """Compare the clock of a server with the time before and after it was asked."""
    difference = there - (before + clock.now().timestamp()) / 2
    state: Literal["ok", "wrong"] = "wrong" if abs(difference) > _MAX_DIFFERENCE else "ok"
    return Finding(state, "clock", f"that of {name} differs by {difference:+.3f} s")
