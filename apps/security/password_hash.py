"""Argon2id hashes of passwords (RFC 9106), and the bound on how many are made at a time."""

import base64
import hmac
import os
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import TypeVar

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError
from flask import Flask, current_app

from apps.config import settings
from apps.errors import Overloaded

T = TypeVar("T")

_place = threading.local()  # `is_held`: this thread's request has been admitted


@dataclass
class Hashing:
    """The threads that hash, and how many requests may wait for them.

    Without a bound a login flood takes the processor, and 19 MiB for each login. On the requests' own threads it would
    take them for good: what a thread frees, the C library keeps for that thread.
    """

    admitted: threading.BoundedSemaphore
    threads: ThreadPoolExecutor


def init_app(app: Flask) -> None:
    """Give `app` its threads."""
    concurrency = settings(app).PASSWORD_HASH_CONCURRENCY
    queue = settings(app).PASSWORD_HASH_QUEUE
    app.extensions["hashing"] = Hashing(
        threading.BoundedSemaphore(concurrency + queue),
        ThreadPoolExecutor(concurrency, "hashing", initializer=_give_way),
    )
    with app.app_context():
        _dummy_hash(_hasher())  # now, or the first unknown user would take twice as long


def _give_way() -> None:
    """Let the threads that answer requests go first: a hash takes a core for as long as a hundred reads do."""
    if sys.platform == "linux":  # where a thread has a priority of its own (setpriority(2))
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def make(password: str) -> str:
    """Return the PHC string of a new salted hash; raise `Overloaded` when too many are being made."""
    hasher, prepared = _hasher(), _prepare(password)
    return _in_turn(lambda: hasher.hash(prepared))


def matches(password: str, password_hash: str | None) -> bool:
    """Whether `password` is the one behind `password_hash`; for None (no such user) False, after the same work."""
    hasher, prepared = _hasher(), _prepare(password)
    is_right = _in_turn(lambda: _verify(hasher, password_hash or _dummy_hash(hasher), prepared))
    return is_right and password_hash is not None


@contextmanager
def admission() -> Iterator[None]:
    """Hold a place among those who hash, or raise `Overloaded`; one who has a place already keeps it.

    Who asks first has read and written nothing in vain, and does not keep a thread of the server from others' reads.
    """
    if getattr(_place, "is_held", False):
        yield
        return
    hashing: Hashing = current_app.extensions["hashing"]
    if not hashing.admitted.acquire(blocking=False):
        raise Overloaded
    _place.is_held = True
    try:
        yield
    finally:
        _place.is_held = False
        hashing.admitted.release()


def is_outdated(password_hash: str) -> bool:
    """Whether the hash was made with other parameters than are configured now."""
    return _hasher().check_needs_rehash(password_hash)


def _in_turn(act: Callable[[], T]) -> T:
    hashing: Hashing = current_app.extensions["hashing"]
    with admission():
        future = hashing.threads.submit(act)
        wait([future], timeout=settings().PASSWORD_HASH_TIMEOUT.total_seconds())
        if future.cancel():  # it has not begun
            raise Overloaded
        return future.result()


def _verify(hasher: PasswordHasher, stored: str, password: bytes) -> bool:
    try:
        return hasher.verify(stored, password)
    except VerifyMismatchError:
        _make_up_for(stored, hasher, password)
        return False
    except (VerificationError, InvalidHashError):
        return False


def _make_up_for(stored: str, hasher: PasswordHasher, password: bytes) -> None:
    """Do the work that a hash of before costs less than one of now: a known name would be refused faster (E1)."""
    before = extract_parameters(stored)
    missing = hasher.memory_cost * hasher.time_cost - before.memory_cost * before.time_cost
    if missing > 0:
        passes = ceil(missing / hasher.memory_cost)  # in no more memory than any other hash
        memory = max(missing // passes, 8 * hasher.parallelism)
        _make_hasher(passes, memory, hasher.parallelism).hash(password)


def _prepare(password: str) -> bytes:
    """Return the bytes to hash: nothing trimmed, nothing cut, peppered.

    NFC makes one keyboard's é another's (RFC 8265, 4.2).
    """
    text = unicodedata.normalize("NFC", password).encode()
    pepper: str = settings().PASSWORD_PEPPER
    return base64.b64encode(hmac.digest(pepper.encode(), text, "sha256")) if pepper else text


def _hasher() -> PasswordHasher:
    config = settings()
    return _make_hasher(config.PASSWORD_TIME_COST, config.PASSWORD_MEMORY_COST, config.PASSWORD_PARALLELISM)


@lru_cache(maxsize=8)
def _make_hasher(time_cost: int, memory_cost: int, parallelism: int) -> PasswordHasher:
    return PasswordHasher(time_cost=time_cost, memory_cost=memory_cost, parallelism=parallelism)


@lru_cache(maxsize=8)
def _dummy_hash(hasher: PasswordHasher) -> str:
    return hasher.hash(b"the password of nobody")
