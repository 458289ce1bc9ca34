"""One act, one transaction."""

import functools
import random
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm.exc import StaleDataError

from apps.database.bulkhead import at_the_database
from apps.errors import ConcurrentUpdate
from apps.extensions import db

P = ParamSpec("P")
T = TypeVar("T")

_MOST_TRIES = 5
_PAUSE = 0.01  # seconds before the second try, on average; those that met then come apart
_SERIALIZATION_FAILURE = "40001"  # SQLSTATE of PostgreSQL
_DEADLOCKS = {"40P01", 1213}  # PostgreSQL; MariaDB and MySQL


def reading(act: Callable[P, T]) -> Callable[P, T]:
    """Run `act` in a transaction that only reads. Its connection goes back to the pool; the rows stay readable."""

    @functools.wraps(act)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with at_the_database():
            try:
                return act(*args, **kwargs)
            finally:
                db.session.close()  # not rollback(): else a look at a row that was read would ask the database again

    return run


def transactional(act: Callable[P, T]) -> Callable[P, T]:
    """Run `act` in a transaction: commit what it returns, roll back what it raises.

    A transaction that the database ended for a deadlock or a serialization failure is run again, at most five times in
    all; so `act` does nothing but talk to the database. Raises `ConcurrentUpdate` when another request went first.
    """

    @functools.wraps(act)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        for number in range(1, _MOST_TRIES + 1):
            try:
                with at_the_database():
                    return _commit(lambda: act(*args, **kwargs))
            except OperationalError as error:
                if number == _MOST_TRIES or not _may_be_tried_again(error):
                    raise
                time.sleep(random.uniform(0, _PAUSE * 2**number))  # noqa: S311 (no secret)
        raise AssertionError("unreachable")

    return run


def _commit(act: Callable[[], T]) -> T:
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
    return result


def _may_be_tried_again(error: OperationalError) -> bool:
    original = error.orig
    code = getattr(original, "sqlstate", None) or (original.args[0] if original and original.args else None)
    return code == _SERIALIZATION_FAILURE or code in _DEADLOCKS


def violates(error: IntegrityError, constraint: str, column: str) -> bool:
    """Whether `error` is about `constraint`; SQLite names the column ("table.column") instead."""
    diagnosis = getattr(error.orig, "diag", None)
    if diagnosis is not None:
        return bool(diagnosis.constraint_name == constraint)
    return constraint in str(error.orig) or column in str(error.orig)
