"""Transactions: one service call is one transaction, and its changes reach the cache after the commit."""

import functools
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any, Literal, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Session as OrmSession
from sqlalchemy.orm import SessionTransaction
from sqlalchemy.orm.exc import StaleDataError

from apps.database.bulkhead import at_the_database
from apps.errors import ConcurrentUpdate
from apps.extensions import db

P = ParamSpec("P")
T = TypeVar("T")

Marks = dict[Any, Literal["new", "changed", "deleted"]]  # {row: what happened to it in this transaction}
Publish = Callable[[bool], None]  # called after the commit, or with False if the commit failed without a clear result

_MAX_TRIES = 5
_PAUSE = 0.01  # mean seconds before the second try; the jitter separates transactions that collided
_SERIALIZATION_FAILURE = "40001"  # SQLSTATE of PostgreSQL
_DEADLOCKS = {"40P01", 1213}  # PostgreSQL; MariaDB and MySQL

# Keys of `Session.info`, which holds only what belongs to the current transaction.
_IS_ACTIVE = "apps.database.transaction is active"
_MARKS = "apps.database.transaction marks"
_SAVEPOINTS = "apps.database.transaction savepoints"  # {savepoint: what this dict held when it began}

_hooks: list[Callable[[Marks], Publish]] = []


def publish_with(hook: Callable[[Marks], Publish]) -> Callable[[Marks], Publish]:
    """Register a function that gets the marked rows before the commit and returns one that publishes them after it.

    Usable as a decorator.
    """
    _hooks.append(hook)
    return hook


def in_transaction(session: OrmSession) -> bool:
    """Return True if `session` runs a function that is decorated with `@reading` or `@transactional`."""
    return bool(session.info.get(_IS_ACTIVE))


def marks() -> Marks:
    """Return the marks of the current transaction, a dict to add to. Raises `RuntimeError` outside of one."""
    if not in_transaction(db.session()):
        raise RuntimeError("cached rows marked outside of a transaction")
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
        prepared: list[Publish] = []
        is_committed = False
        try:
            result = _with_retries(lambda: act(*args, **kwargs), prepared)
            is_committed = True
        finally:
            for publish in prepared:  # outside of the bulkhead: publishing needs no connection
                publish(is_committed)
        return result

    return run


def _with_retries(act: Callable[[], T], prepared: list[Publish]) -> T:
    for number in range(1, _MAX_TRIES + 1):
        try:
            with at_the_database(), _not_nested():
                return _commit(act, prepared)
        except OperationalError as error:
            if number == _MAX_TRIES or not _is_retryable(error):
                raise
            time.sleep(random.uniform(0, _PAUSE * 2**number))  # noqa: S311 (no secret)
    raise AssertionError("unreachable")


def _commit(act: Callable[[], T], prepared: list[Publish]) -> T:
    prepared.clear()
    try:
        db.session.connection(execution_options={"is_write": True})
        result = act()
        _prepare(prepared)
        db.session.commit()
    except StaleDataError as error:
        db.session.rollback()
        raise ConcurrentUpdate from error
    except BaseException:
        db.session.rollback()
        raise
    return result


def _prepare(prepared: list[Publish]) -> None:
    """Call the hooks within the transaction: after the commit, reading an expired row would begin another one."""
    db.session.flush()
    prepared += [hook(marks()) for hook in _hooks]
    db.session.info[_IS_ACTIVE] = False  # `_refuse_commit` accepts the commit


@contextmanager
def _not_nested() -> Iterator[None]:
    """Raise `RuntimeError` for a nested transaction: it would commit or close the outer one."""
    if in_transaction(db.session()):
        raise RuntimeError("a transaction within a transaction: call the undecorated function instead")
    info = db.session.info
    info[_IS_ACTIVE] = True
    try:
        yield
    finally:
        info.clear()


@event.listens_for(OrmSession, "before_commit")
def _refuse_commit(session: OrmSession) -> None:
    """Raise `RuntimeError` if a service commits: an error after that would lose the marks of the committed rows."""
    if in_transaction(session) and not session.in_nested_transaction():
        raise RuntimeError("a commit within a transaction: `@transactional` commits when the function returns")


@event.listens_for(OrmSession, "after_transaction_create")
def _save_info(session: OrmSession, transaction: SessionTransaction) -> None:
    if transaction.nested:
        saved = {key: copy(value) for key, value in session.info.items()}
        session.info.setdefault(_SAVEPOINTS, WeakKeyDictionary())[transaction] = saved


@event.listens_for(OrmSession, "after_soft_rollback")
def _restore_info(session: OrmSession, transaction: SessionTransaction) -> None:
    """Remove the marks that were made since the savepoint, when it is rolled back."""
    if transaction.nested:
        saved = session.info[_SAVEPOINTS][transaction]
        session.info.clear()
        session.info.update(saved)


@event.listens_for(OrmSession, "after_transaction_end")
def _forget_info(session: OrmSession, transaction: SessionTransaction) -> None:
    """Remove all marks after a rollback, also after one by the service itself, which may continue."""
    if transaction.parent is None:
        is_active = in_transaction(session)
        session.info.clear()
        session.info[_IS_ACTIVE] = is_active


def _is_retryable(error: OperationalError) -> bool:
    code = error_code(error)
    return code == _SERIALIZATION_FAILURE or code in _DEADLOCKS


def error_code(error: DBAPIError) -> object:
    """Return the SQLSTATE (psycopg), the error number (PyMySQL) or the text (SQLite) of a driver's error, or None."""
    original = error.orig
    return getattr(original, "sqlstate", None) or (original.args[0] if original and original.args else None)


def violates(error: IntegrityError, constraint: str, column: str) -> bool:
    """Return True if `error` is about `constraint`. SQLite names the column ("table.column") instead."""
    diagnosis = getattr(error.orig, "diag", None)
    if diagnosis is not None:
        return bool(diagnosis.constraint_name == constraint)
    return constraint in str(error.orig) or column in str(error.orig)
