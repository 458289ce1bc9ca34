"""Transactions: one service call is one transaction, and its changes reach the cache after the commit."""

import functools
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, ParamSpec, TypeVar

from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm.exc import StaleDataError

from apps.database.bulkhead import at_the_database
from apps.errors import ConcurrentUpdate
from apps.extensions import db

P = ParamSpec("P")
T = TypeVar("T")

Marks = dict[Any, Literal["new", "changed", "deleted"]]  # {row: what happened to it in this transaction}

_MAX_TRIES = 5
_PAUSE = 0.01  # mean seconds before the second try; the jitter separates transactions that collided
_SERIALIZATION_FAILURE = "40001"  # SQLSTATE of PostgreSQL
_DEADLOCKS = {"40P01", 1213}  # PostgreSQL; MariaDB and MySQL

# Keys of `Session.info`.
_IS_ACTIVE = "apps.database.transaction is active"
_MARKS = "apps.database.transaction marks"

_hooks: list[Callable[[Marks], None]] = []


def publish_with(hook: Callable[[Marks], None]) -> Callable[[Marks], None]:
    """Register a function that publishes the marked rows of a committed transaction; usable as a decorator."""
    _hooks.append(hook)
    return hook


def in_transaction() -> bool:
    """Return True within a function that is decorated with `@reading` or `@transactional`."""
    return bool(db.session.info.get(_IS_ACTIVE))


def marks() -> Marks:
    """Return the rows of the current transaction that are to be published, to add to them."""
    found: Marks = db.session.info.setdefault(_MARKS, {})
    return found


def reading(act: Callable[P, T]) -> Callable[P, T]:
    """Run `act` in a read-only transaction. Its connection returns to the pool; the rows stay readable."""

    @functools.wraps(act)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with at_the_database(), _not_nested():
            try:
                return act(*args, **kwargs)
            finally:
                db.session.close()  # not rollback(), which expires the rows: reading one would query again

    return run


def transactional(act: Callable[P, T]) -> Callable[P, T]:
    """Run `act` in a transaction: commit when it returns, roll back when it raises, then publish the marked rows.

    A deadlock or a serialization failure is retried, up to five tries in all, so `act` must have no effect outside of
    the database. Raises `ConcurrentUpdate` if another request changed the same row first.
    """

    @functools.wraps(act)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        result, marked = _with_retries(lambda: act(*args, **kwargs))
        if marked:  # outside of the bulkhead: publishing needs no connection
            for hook in _hooks:
                hook(marked)
        return result

    return run


def _with_retries(act: Callable[[], T]) -> tuple[T, Marks]:
    for number in range(1, _MAX_TRIES + 1):
        try:
            with at_the_database(), _not_nested():
                return _commit(act)
        except OperationalError as error:
            if number == _MAX_TRIES or not _is_retryable(error):
                raise
            time.sleep(random.uniform(0, _PAUSE * 2**number))  # noqa: S311 (no secret)
    raise AssertionError("unreachable")


def _commit(act: Callable[[], T]) -> tuple[T, Marks]:
    try:
        db.session.connection(execution_options={"is_write": True})
        result = act()
        db.session.commit()
    except StaleDataError as error:
        db.session.rollback()
        raise ConcurrentUpdate from error
    except BaseException:
        db.session.rollback()
        raise
    else:
        return result, marks()
    finally:
        db.session.info.pop(_MARKS, None)


@contextmanager
def _not_nested() -> Iterator[None]:
    """Refuse a transaction within another one: the inner one would commit or close what the outer one has begun."""
    info = db.session.info
    if info.get(_IS_ACTIVE):
        raise RuntimeError("a transaction within a transaction: call the undecorated function instead")
    info[_IS_ACTIVE] = True
    try:
        yield
    finally:
        info[_IS_ACTIVE] = False


def _is_retryable(error: OperationalError) -> bool:
    original = error.orig
    code = getattr(original, "sqlstate", None) or (original.args[0] if original and original.args else None)
    return code == _SERIALIZATION_FAILURE or code in _DEADLOCKS


def violates(error: IntegrityError, constraint: str, column: str) -> bool:
    """Return True if `error` is about `constraint`. SQLite names the column ("table.column") instead."""
    diagnosis = getattr(error.orig, "diag", None)
    if diagnosis is not None:
        return bool(diagnosis.constraint_name == constraint)
    return constraint in str(error.orig) or column in str(error.orig)
