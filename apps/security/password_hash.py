"""Argon2id hashes of passwords (RFC 9106), and the limit on how many are computed at a time."""

import base64
import hmac
import os
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from argon2 import Parameters, PasswordHasher, Type, extract_parameters
from argon2.exceptions import VerificationError, VerifyMismatchError
from flask import Flask, current_app

from apps.config import settings
from apps.errors import Overloaded

T = TypeVar("T")
Cost = tuple[int, int, int, Type]  # the parameters of argon2: passes, KiB, lanes, variant

_MAX_COSTS = 4  # parameters that a process remembers

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
    costs: tuple[Cost, ...] = ()  # of the stored hashes that this process has met, without repetition


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
    hashing: Hashing = current_app.extensions["hashing"]
    hasher, prepared = _hasher(), _prepare(password)
    is_right = _in_turn(lambda: _verify(hashing, hasher, password_hash or _dummy_hash(hasher), prepared))
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


def _verify(hashing: Hashing, hasher: PasswordHasher, stored: str, password: bytes) -> bool:
    """Return True if `password` matches. A refusal costs the same whatever the parameters of `stored` are (E1)."""
    try:
        is_right: bool = hasher.verify(stored, password)
    except VerifyMismatchError:
        is_right = False
    except (VerificationError, ValueError):  # `stored` is no hash, so nothing was computed
        _equalize_timing({_cost_of(hasher), *hashing.costs}, password)
        return False
    cost = _cost_of(extract_parameters(stored))
    if cost not in hashing.costs:
        hashing.costs = (cost, *hashing.costs)[:_MAX_COSTS]
    if not is_right:
        _equalize_timing({_cost_of(hasher), *hashing.costs} - {cost}, password)
    return is_right


def _equalize_timing(costs: Iterable[Cost], password: bytes) -> None:
    """Compute a hash for each of `costs`, so that every refusal has computed one with each known cost.

    Otherwise the time of a refusal would reveal that the user exists and has an old hash. One hash of the missing
    memory and passes would not do: a pass over more memory takes longer per KiB.
    """
    for cost in costs:
        _make_hasher(*cost).hash(password)


def _cost_of(source: PasswordHasher | Parameters) -> Cost:
    return source.time_cost, source.memory_cost, source.parallelism, source.type


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
def _make_hasher(time_cost: int, memory_cost: int, parallelism: int, variant: Type = Type.ID) -> PasswordHasher:
    return PasswordHasher(time_cost=time_cost, memory_cost=memory_cost, parallelism=parallelism, type=variant)


@lru_cache(maxsize=8)
def _dummy_hash(hasher: PasswordHasher) -> str:
    return hasher.hash(b"the password of nobody")
