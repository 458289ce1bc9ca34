"""Argon2id hashes of passwords (RFC 9106), and the bound on how many are made at a time."""

import base64
import hmac
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from flask import Flask, current_app

from apps.errors import Overloaded

_QUEUE_TIMEOUT = 2.0  # seconds that a request waits for its turn


@dataclass
class HashSlots:
    """Turns at the processor: without them a login flood takes every thread and 19 MiB for each."""

    admitted: threading.BoundedSemaphore
    running: threading.BoundedSemaphore


def init_app(app: Flask) -> None:
    """Give `app` its slots."""
    running = app.config["PASSWORD_HASH_CONCURRENCY"]
    queue = app.config["PASSWORD_HASH_QUEUE"]
    app.extensions["hash_slots"] = HashSlots(
        threading.BoundedSemaphore(running + queue), threading.BoundedSemaphore(running)
    )
    with app.app_context():
        _dummy_hash(_hasher())  # now, or the first unknown user would take twice as long


def make(password: str) -> str:
    """Return the PHC string of a new salted hash; raise `Overloaded` when too many are being made."""
    with _slot():
        return _hasher().hash(_prepare(password))


def matches(password: str, password_hash: str | None) -> bool:
    """Whether `password` is the one behind `password_hash`; for None (no such user) False, after the same work."""
    with _slot():
        try:
            _hasher().verify(password_hash or _dummy_hash(_hasher()), _prepare(password))
        except (VerificationError, InvalidHashError):
            return False
    return password_hash is not None


def is_outdated(password_hash: str) -> bool:
    """Whether the hash was made with other parameters than are configured now."""
    return _hasher().check_needs_rehash(password_hash)


@contextmanager
def _slot() -> Iterator[None]:
    slots: HashSlots = current_app.extensions["hash_slots"]
    if not slots.admitted.acquire(blocking=False):
        raise Overloaded
    try:
        if not slots.running.acquire(timeout=_QUEUE_TIMEOUT):
            raise Overloaded
        try:
            yield
        finally:
            slots.running.release()
    finally:
        slots.admitted.release()


def _prepare(password: str) -> bytes:
    """Return the bytes to hash: nothing trimmed, nothing cut, peppered.

    NFC makes one keyboard's é another's (RFC 8265, 4.2).
    """
    text = unicodedata.normalize("NFC", password).encode()
    pepper: str = current_app.config["PASSWORD_PEPPER"]
    return base64.b64encode(hmac.digest(pepper.encode(), text, "sha256")) if pepper else text


def _hasher() -> PasswordHasher:
    config = current_app.config
    return _make_hasher(config["PASSWORD_TIME_COST"], config["PASSWORD_MEMORY_COST"], config["PASSWORD_PARALLELISM"])


@lru_cache(maxsize=8)
def _make_hasher(time_cost: int, memory_cost: int, parallelism: int) -> PasswordHasher:
    return PasswordHasher(time_cost=time_cost, memory_cost=memory_cost, parallelism=parallelism)


@lru_cache(maxsize=8)
def _dummy_hash(hasher: PasswordHasher) -> str:
    return hasher.hash(b"the password of nobody")
