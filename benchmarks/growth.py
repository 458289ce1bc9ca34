"""The cost of queries with a thousand, a hundred thousand and a million users, measured alternately."""

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask

from apps import create_app
from apps.extensions import db
from apps.models import Session, User
from apps.models.user import mobile_context
from apps.security import field_encryption
from apps.services import admin, identity_cache, login
from apps.utils import clock
from benchmarks.measure import in_turn, ratio
from benchmarks.stores import Stores, migrate

SIZES = (1_000, 100_000, 1_000_000)
_BATCH = 20_000
_PAGE = 20


def measure(stores: Stores, *, is_quick: bool) -> dict[str, Any]:
    """Return the microseconds of each act per database and size, and the bytes per row in PostgreSQL."""
    sizes = SIZES[:2] if is_quick else SIZES
    with ExitStack() as stack:
        urls = {size: stack.enter_context(stores.empty_database(f"gatehouse_bench_{size}")) for size in sizes}
        postgresql = _grow(urls)
        row_bytes = _row_bytes(urls[sizes[-1]], sizes[-1])
    with tempfile.TemporaryDirectory() as folder:
        sqlite = _grow({size: f"sqlite:///{Path(folder) / f'{size}.sqlite3'}" for size in sizes})
    return {
        "sizes": list(sizes),
        "microseconds": {"PostgreSQL": postgresql, "SQLite": sqlite},
        "bytes_a_row": row_bytes,
    }


def _grow(urls: dict[int, str]) -> dict[str, dict[str, Any]]:
    """Return the median of each act at each size, and the ratio of the largest to the smallest size."""
    apps = {size: _make(url, size) for size, url in urls.items()}
    times: dict[str, dict[int, list[float]]] = {}
    acts = {}
    for size, app in apps.items():
        with app.app_context():
            acts[size] = _acts(size)
    for _ in range(15):
        for size, app in apps.items():
            with app.app_context():
                for name, figures in in_turn(acts[size], rounds=1, calls=40).items():
                    times.setdefault(name, {}).setdefault(size, []).extend(figures)
    for app in apps.values():
        with app.app_context():
            db.engine.dispose()
    return {name: _summary(by_size) for name, by_size in times.items()}


def _summary(by_size: dict[int, list[float]]) -> dict[str, Any]:
    medians = {f"{size:,}": round(statistics.median(figures), 1) for size, figures in by_size.items()}
    return {"medians": medians, "ratio": round(ratio(by_size[max(by_size)], by_size[min(by_size)]), 2)}


def _make(url: str, size: int) -> Flask:
    """Return an application on a new database with `size` users."""
    migrate(url)
    app = create_app("testing", DATABASE_URL=url, LOG_LEVEL="WARNING")
    started = time.perf_counter()
    with app.app_context():
        load(range(1, size + 1))
        print(f"  {db.engine.dialect.name}: {size:,} users, {time.perf_counter() - started:.0f} s", flush=True)
    return app


def load(ids: range) -> None:
    """Insert users with one session each, as after a sign-up."""
    for first in range(ids.start, ids.stop, _BATCH):
        batch = range(first, min(first + _BATCH, ids.stop))
        _copy(User.__table__, [_user(number) for number in batch])  # type: ignore[arg-type]
        _copy(Session.__table__, [_session(number) for number in batch])  # type: ignore[arg-type]
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE" if connection.dialect.name == "sqlite" else "VACUUM ANALYZE")


def _user(number: int) -> dict[str, Any]:
    mobile = f"+86132{number:08d}"
    name = username(number)
    return {
        "id": number, "username": name, "username_key": name, "password_hash": "$argon2id$" + "x" * 87,
        "mobile_ciphertext": field_encryption.encrypt(mobile, mobile_context(number)),
        "mobile_index": field_encryption.blind_index(mobile),
        "age": 20, "birth": datetime(2000, 1, 31, tzinfo=clock.now().tzinfo), "photo": None, "role": "user",
        "block_time": None, "version": 1, "create_time": clock.now(), "update_time": clock.now(),
    }  # fmt: skip


def _session(number: int) -> dict[str, Any]:
    now = clock.now()
    return {
        "id": f"{number:032x}", "user_id": number, "address": "127.0.0.1", "user_agent": "benchmark",
        "refresh_generation": 0, "rotate_time": None, "create_time": now, "last_used_time": now,
        "expire_time": now + timedelta(days=14), "end_time": now + timedelta(days=30),
        "revoke_time": None, "revoke_reason": None, "version": 1,
    }  # fmt: skip


def username(number: int) -> str:
    """Return the name of a user. The digits are reversed, so that consecutive users are not adjacent by name."""
    return f"user-{str(number)[::-1]:0<8}"


def _copy(table: sa.Table, rows: list[dict[str, Any]]) -> None:
    if db.engine.dialect.name != "postgresql":
        with db.engine.begin() as connection:
            connection.execute(table.insert(), rows)
        return
    processors = [column.type.dialect_impl(db.engine.dialect).bind_processor(db.engine.dialect) for column in table.c]
    names = ", ".join(column.name for column in table.c)
    statement = f"COPY {table.name} ({names}) FROM STDIN"
    with (
        db.engine.begin() as connection,
        connection.connection.cursor() as cursor,
        cursor.copy(statement) as copy,  # type: ignore[attr-defined]
    ):
        for row in rows:
            values = [row[column.name] for column in table.c]
            copy.write_row([process(v) if process else v for process, v in zip(processors, values, strict=True)])


def _acts(size: int) -> dict[str, Callable[[], object]]:
    numbers = _spread(size)
    pages = min(10_000, size // _PAGE)
    last = {"limit": _PAGE, "cursor": _cursor_of_page(pages)}

    def read() -> None:
        number = next(numbers)
        identity_cache._read(number, f"{number:032x}")

    return {
        "read of user and session, not from the cache": read,
        "login, the look-up by name": lambda: login._find(username(next(numbers))),
        "list, page 1": lambda: admin.list_users({"limit": _PAGE}),
        "list, page 10,000 (or the last)": lambda: admin.list_users(dict(last)),
        "search by the beginning of a name": lambda: admin.list_users({"limit": _PAGE, "username": "user-1"}),
        "search by mobile number": lambda: admin.list_users({"mobile": f"+86132{next(numbers):08d}"}),
    }


def _spread(size: int) -> Iterator[int]:
    """Yield ids from all over the table, endlessly."""
    step = next(step for step in range(int(size * 0.618), size) if math.gcd(step, size) == 1)
    number = 0
    while True:
        number = (number + step) % size
        yield number + 1


def _cursor_of_page(page: int) -> str:
    before = db.session.get_one(User, (page - 1) * _PAGE)
    return admin._make_cursor(before, "id")


def _row_bytes(url: str, rows: int) -> dict[str, int]:
    with create_app("testing", DATABASE_URL=url).app_context(), db.engine.connect() as connection:
        sizes = {
            name: round(connection.scalar(sa.select(sa.func.pg_total_relation_size(name))) / rows)
            for name in ("users", "sessions")
        }
        db.engine.dispose()
        return sizes
