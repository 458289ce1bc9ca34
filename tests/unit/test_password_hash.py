"""Password hashing and the parameters of a hash."""

import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Literal
from unicodedata import normalize

import pytest
from argon2 import PasswordHasher, Type, extract_parameters
from flask import Flask

from apps import create_app
from apps.config import BaseConfig, DevConfig, ProdConfig
from apps.errors import Overloaded
from apps.security import password_hash
from tests.support.settings import change_settings

PASSWORD = "correct horse battery"
PHC = re.compile(r"\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}")
PEPPER = "a pepper of the suite, and of it only"


@pytest.fixture
def app() -> Iterator[Flask]:
    """An application without stores."""
    app = create_app("testing", DATABASE_URL="sqlite://")
    with app.app_context():
        yield app


@pytest.mark.parametrize("profile", [BaseConfig, DevConfig, ProdConfig])
def test_the_cost_is_at_least_what_owasp_asks_for(profile: type[BaseConfig]) -> None:
    """P1: 19 MiB, 2 passes, 1 lane."""
    assert profile.PASSWORD_MEMORY_COST >= 19 * 1024
    assert profile.PASSWORD_TIME_COST >= 2
    assert profile.PASSWORD_PARALLELISM >= 1


def test_a_hash_is_argon2id_of_the_configured_cost_with_a_salt(app: Flask) -> None:
    """P1: 128 bits of salt, 256 of hash."""
    change_settings(app, PASSWORD_MEMORY_COST=19_456, PASSWORD_TIME_COST=2)
    cost = PHC.fullmatch(password_hash.hash_password(PASSWORD))
    assert cost
    assert cost.groups() == ("19456", "2", "1")


def test_two_hashes_of_one_password_differ_and_both_match(app: Flask) -> None:
    """P1: each hash has its own salt."""
    hashes = {password_hash.hash_password(PASSWORD) for _ in range(5)}
    assert len({stored.split("$")[4] for stored in hashes}) == len(hashes) == 5
    assert all(password_hash.verify_password(PASSWORD, stored) for stored in hashes)


@pytest.mark.parametrize(
    "stored",
    [
        None,
        "",
        "correct horse battery",
        "$argon2id$",
        "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$",
        "$argon2id$v=19$m=8,t=1,p=1$!$!",
        "$2b$12$abcdefghijklmnopqrstuv",
        "\0",
    ],
)
def test_what_is_no_hash_matches_nothing(app: Flask, stored: str | None) -> None:
    """P1, I1: and raises nothing. A password stored in clear does not match itself."""
    assert not password_hash.verify_password(PASSWORD, stored)


@pytest.mark.parametrize(
    ("password", "other"),
    [
        ("a" * 72 + "b", "a" * 72 + "c"),
        ("before\0after", "before\0later"),
        ("before\0", "before"),
        ("before", "before\0\0"),
        ("trailing ", "trailing"),
        ("Case", "case"),
        ("ﬁ", "fi"),
        ("é" * 500, "é" * 499 + "e"),
        ("", " "),
    ],
)
@pytest.mark.parametrize("pepper", ["", PEPPER])
def test_every_byte_of_a_password_counts(app: Flask, password: str, other: str, pepper: str) -> None:
    """P4: bcrypt would stop at byte 72 and at NUL."""
    change_settings(app, PASSWORD_PEPPER=pepper)
    stored = password_hash.hash_password(password)
    assert password_hash.verify_password(password, stored)
    assert not password_hash.verify_password(other, stored)


@pytest.mark.parametrize("pepper", ["", PEPPER])
@pytest.mark.parametrize("password", ["é", "Å", "각", "ñandú", "ệ"])
def test_composed_and_decomposed_text_is_one_password(app: Flask, password: str, pepper: str) -> None:
    """P4: RFC 8265, 4.2."""
    change_settings(app, PASSWORD_PEPPER=pepper)
    forms = {normalize("NFC", password), normalize("NFD", password)}
    assert len(forms) == 2
    assert all(
        password_hash.verify_password(one, password_hash.hash_password(other)) for one in forms for other in forms
    )


def test_without_its_pepper_a_hash_matches_nothing(app: Flask) -> None:
    """P1: passwords cannot be guessed from a stolen table alone."""
    change_settings(app, PASSWORD_PEPPER=PEPPER)
    stored = password_hash.hash_password(PASSWORD)
    assert password_hash.verify_password(PASSWORD, stored)
    for other in ("", PEPPER + "!", PEPPER[:-1]):
        change_settings(app, PASSWORD_PEPPER=other)
        assert not password_hash.verify_password(PASSWORD, stored)


@pytest.mark.parametrize(
    ("setting", "value", "is_outdated"),
    [("MEMORY_COST", 8, False), ("MEMORY_COST", 16, True), ("TIME_COST", 2, True), ("PARALLELISM", 2, True)],
)
def test_a_hash_of_another_cost_is_outdated(app: Flask, setting: str, value: int, is_outdated: bool) -> None:
    """P2."""
    stored = password_hash.hash_password(PASSWORD)
    change_settings(app, **{f"PASSWORD_{setting}": value})
    assert password_hash.is_outdated(stored) == is_outdated
    assert password_hash.verify_password(PASSWORD, stored)


Work = Counter[tuple[int, int, int, Type]]
OLD = {"passes": (64, 1, 1), "memory": (32, 2, 1), "dearer": (256, 4, 1), "lanes": (64, 2, 4)}


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    """The argon2 calls, by memory in KiB, passes, lanes and variant."""
    done: Work = Counter()

    class Counted(PasswordHasher):
        def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
            done[self.memory_cost, self.time_cost, self.parallelism, self.type] += 1
            return super().hash(password, salt=salt)

        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002 (the name in the base class)
            cost = extract_parameters(str(hash))
            done[cost.memory_cost, cost.time_cost, cost.parallelism, cost.type] += 1
            return super().verify(hash, password)

    monkeypatch.setattr(password_hash, "PasswordHasher", Counted)
    password_hash._make_hasher.cache_clear()
    yield done
    password_hash._make_hasher.cache_clear()


def work_of(work: Work, password: str, stored: str | None) -> tuple[bool, Work]:
    work.clear()
    return password_hash.verify_password(password, stored), work.copy()


@pytest.mark.parametrize(("memory", "passes", "lanes"), OLD.values(), ids=OLD)
@pytest.mark.parametrize("variant", [Type.ID, Type.I])
def test_a_wrong_password_costs_the_same_work_whatever_the_parameters_of_its_hash(
    app: Flask, work: Work, memory: int, passes: int, lanes: int, variant: Type
) -> None:
    """E1: otherwise timing would distinguish a user with an old hash from an unknown one."""
    change_settings(app, PASSWORD_MEMORY_COST=64, PASSWORD_TIME_COST=2, PASSWORD_PARALLELISM=1)
    old = PasswordHasher(memory_cost=memory, time_cost=passes, parallelism=lanes, type=variant).hash(PASSWORD)
    new = password_hash.hash_password(PASSWORD)
    password_hash.verify_password(PASSWORD, old)  # from here on this process knows its parameters
    both = Counter({(memory, passes, lanes, variant): 1, (64, 2, 1, Type.ID): 1})
    work_of(work, "another", None)  # makes the dummy hash
    for stored in (None, old, new, None, "no hash", "no ascii: \u00e9", "$argon2id$v=19$m=8,t=1,p=1$!$!"):
        assert work_of(work, "another", stored)[0] is False
        assert sum((work & both).values()) == 2, stored
    assert work_of(work, PASSWORD, old) == (True, Counter({(memory, passes, lanes, variant): 1}))
    assert work_of(work, PASSWORD, new) == (True, Counter({(64, 2, 1, Type.ID): 1}))


def test_with_one_set_of_parameters_a_refusal_costs_one_hash(app: Flask, work: Work) -> None:
    """E1."""
    stored = password_hash.hash_password(PASSWORD)
    work_of(work, "another", None)
    assert [work_of(work, "another", known)[1].total() for known in (None, stored, None, "no hash")] == [1, 1, 1, 1]


def test_a_process_remembers_few_parameters(app: Flask, work: Work) -> None:
    """V8: so that a refusal has a bounded cost."""
    for memory in range(8, 88, 8):
        password_hash.verify_password("another", PasswordHasher(1, memory, 1).hash(PASSWORD))
    assert work_of(work, "another", None)[1].total() <= 5


def test_a_turn_is_given_back_whatever_comes_of_it(app: Flask) -> None:
    """V8: otherwise the service would answer 503 forever."""
    change_settings(app, PASSWORD_HASH_CONCURRENCY=1, PASSWORD_HASH_QUEUE=0)
    password_hash.init_app(app)
    stored = password_hash.hash_password(PASSWORD)
    for _ in range(3):
        assert not password_hash.verify_password("another", stored)
        assert not password_hash.verify_password(PASSWORD, "no hash")
        with pytest.raises(UnicodeEncodeError):
            password_hash.hash_password("\ud800")
    assert password_hash.verify_password(PASSWORD, stored)


def test_whoever_waits_too_long_for_a_turn_is_refused(app: Flask) -> None:
    """V8: and leaves the queue."""
    change_settings(app, PASSWORD_HASH_CONCURRENCY=1, PASSWORD_HASH_QUEUE=1)
    change_settings(app, PASSWORD_HASH_TIMEOUT=timedelta(milliseconds=10))
    password_hash.init_app(app)
    free = threading.Event()
    app.extensions["hashing"].threads.submit(free.wait)
    for _ in range(3):
        with pytest.raises(Overloaded):
            password_hash.hash_password(PASSWORD)
    free.set()
    assert password_hash.hash_password(PASSWORD)


def test_only_the_threads_that_hash_hold_the_memory_of_hashes(app: Flask) -> None:
    """V8: request threads never hash, so at most PASSWORD_HASH_CONCURRENCY threads keep the memory of a hash."""
    change_settings(app, PASSWORD_HASH_CONCURRENCY=2)
    password_hash.init_app(app)

    def act(_: int) -> str:
        with app.app_context():
            return password_hash._in_turn(lambda: threading.current_thread().name)

    with ThreadPoolExecutor(16) as requests:
        names = set(requests.map(act, range(200)))
    assert names <= {"hashing_0", "hashing_1"}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
def test_the_threads_that_hash_give_way_to_the_others(app: Flask) -> None:
    """V8."""

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    assert password_hash._in_turn(niceness) > niceness()
