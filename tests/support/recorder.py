"""Records whether a test uses a database or Redis. A test that uses neither need not run on several stores."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import pytest
from redis.connection import AbstractConnection
from sqlalchemy import Engine, event


@dataclass
class Record:
    """The use of stores by one test, in all of its threads."""

    used_a_store: bool = False  # executed SQL, opened a database connection, or sent a Redis command
    started_a_process: bool = False  # the process may use a store


_records: list[Record] = []  # one, or two in the test of this module


@contextmanager
def recording() -> Iterator[Record]:
    """Record the use of stores within the block."""
    record = Record()
    _records.append(record)
    with pytest.MonkeyPatch.context() as patch:
        # Every client of redis-py sends its commands here: the cache, `limits` and the tests' own.
        _call_before(patch, AbstractConnection, "send_packed_command", _note_use)
        _call_before(patch, subprocess.Popen, "__init__", _note_process)
        try:
            yield record
        finally:
            _records.remove(record)


def failure(stores: list[str]) -> str:
    """Return the message for a test that runs on these stores and uses none."""
    return (
        f"This test runs on {len(stores)} stores ({', '.join(stores)}), but executes no SQL and no Redis command. "
        'Run it once: mark it with @pytest.mark.stores("sqlite").'
    )


def _note_use(*_: object) -> None:
    for record in _records:
        record.used_a_store = True


def _note_process() -> None:
    for record in _records:
        record.started_a_process = True


def _call_before(patch: pytest.MonkeyPatch, owner: type, name: str, note: Callable[[], None]) -> None:
    original = getattr(owner, name)

    @wraps(original)
    def noting(*arguments: Any, **options: Any) -> Any:
        note()
        return original(*arguments, **options)

    patch.setattr(owner, name, noting)


# These listeners stay: a listener must not be removed while another thread calls it.
event.listen(Engine, "before_cursor_execute", _note_use)
event.listen(Engine, "do_connect", _note_use)
