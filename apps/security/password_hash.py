"""Argon2id hashes of passwords (RFC 9106), and the limit on how many are computed at a time."""

import base64
import hmac
import os
import sys
import threading
import time
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

_slot = threading.local()  # `is_held`: the request of this thread holds a slot


class HashObserver:
    """Observes every hash. This one does nothing; metrics replace it with their own."""

    def queued(self) -> None:
        """A hash waits for a thread."""

    def started(self, waited: float) -> None:
        """A hash began after `waited` seconds."""

    def finished(self, took: float) -> None:
        """A hash ended after `took` seconds."""

    def cancelled(self) -> None:
        """A hash was given up while it waited."""


@dataclass
class Hashing:
    """The threads that hash, and the slots for requests that hash or wait to.

    Without the limit a flood of logins would take all processor time, and 19 MiB for each login. Hashing has threads of
    its own because the C library keeps freed memory for the thread that used it.
    """

    slots: threading.BoundedSemaphore
    threads: ThreadPoolExecutor
    observer: HashObserver


def init_app(app: Flask) -> None:
    """Give `app` its threads and slots."""
    concurrency, queue = settings(app).PASSWORD_HASH_CONCURRENCY, settings(app).PASSWORD_HASH_QUEUE
    app.extensions["hashing"] = Hashing(
        threading.BoundedSemaphore(concurrency + queue),
        ThreadPoolExecutor(concurrency, "hashing", initializer=_lower_thread_priority),
        HashObserver(),
    )
    with app.app_context():
        _dummy_hash(_hasher())  # at the start, or the first unknown user would take twice as long


def _lower_thread_priority() -> None:
    """Run below the threads that answer requests: a hash takes as much processor time as a hundred reads."""
    if sys.platform == "linux":  # where each thread has its own priority (setpriority(2))
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def hash_password(password: str) -> str:
    """Return the PHC string of a new salted hash. Raises `Overloaded`."""
    hasher, prepared = _hasher(), _prepare(password)
    return _in_turn(lambda: hasher.hash(prepared))


def verify_password(password: str, password_hash: str | None) -> bool:
    """Return True if `password` matches `password_hash`. Raises `Overloaded`.

    None (no such user) gives False after the same work.
    """
    hasher, prepared = _hasher(), _prepare(password)
    is_right = _in_turn(lambda: _verify(hasher, password_hash or _dummy_hash(hasher), prepared))
    return is_right and password_hash is not None


@contextmanager
def hashing_slot() -> Iterator[None]:
    """Hold one of the slots, or raise `Overloaded`. Nested calls of one thread share a slot.

    A request takes its slot first: when it is refused, it has read and written nothing, and it frees its thread.
    """
    if getattr(_slot, "is_held", False):
        yield
        return
    hashing: Hashing = current_app.extensions["hashing"]
    if not hashing.slots.acquire(blocking=False):
        raise Overloaded
    _slot.is_held = True
    try:
        yield
    finally:
        _slot.is_held = False
        hashing.slots.release()


def is_outdated(password_hash: str) -> bool:
    """Return True if the hash was made with other parameters than those configured now."""
    return _hasher().check_needs_rehash(password_hash)


def _in_turn(act: Callable[[], T]) -> T:
    """Run `act` on a hashing thread, at most `PASSWORD_HASH_TIMEOUT` from now."""
    hashing: Hashing = current_app.extensions["hashing"]
    observer, queued = hashing.observer, time.perf_counter()

    def observed() -> T:
        started = time.perf_counter()
        observer.started(started - queued)
        try:
            return act()
        finally:
            observer.finished(time.perf_counter() - started)

    with hashing_slot():
        observer.queued()
        future = hashing.threads.submit(observed)
        wait([future], timeout=settings().PASSWORD_HASH_TIMEOUT.total_seconds())
        if future.cancel():  # it has not begun
            observer.cancelled()
            raise Overloaded
        return future.result()


def _verify(hasher: PasswordHasher, stored: str, password: bytes) -> bool:
    try:
        return hasher.verify(stored, password)
    except VerifyMismatchError:
        _equalize_timing(stored, hasher, password)
        return False
    except (VerificationError, InvalidHashError):
        return False


def _equalize_timing(stored: str, hasher: PasswordHasher, password: bytes) -> None:
    """Burn the difference in cost between an old hash and a current one.

    Otherwise the time of a refusal would reveal that the user exists (E1).
    """
    before = extract_parameters(stored)
    missing = hasher.memory_cost * hasher.time_cost - before.memory_cost * before.time_cost
    if missing > 0:
        passes = ceil(missing / hasher.memory_cost)  # in no more memory than any other hash
        memory = max(missing // passes, 8 * hasher.parallelism)
        _make_hasher(passes, memory, hasher.parallelism).hash(password)


def _prepare(password: str) -> bytes:
    """Return the bytes to hash: not trimmed, not cut, and peppered.

    NFC makes the é of every keyboard the same (RFC 8265, 4.2).
    """
    text = unicodedata.normalize("NFC", password).encode()
    pepper = settings().PASSWORD_PEPPER
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
