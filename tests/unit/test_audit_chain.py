"""L3: the chain reveals every change to the audit that the service did not make.

Here the owner of the database makes the changes and bypasses the triggers.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event

from apps.database.transaction import transactional
from apps.extensions import db
from apps.services.audit import BrokenChain, record, verify
from tests.support.audit import read_audit, write_audit
from tests.support.people import PASSWORD, People

Rows = list[dict[str, Any]]
EVENTS = 5


def verified(app: Flask) -> int:
    with app.app_context():
        return verify()


def rewrite(app: Flask, tamper: Callable[[Rows], Rows], **changes: Any) -> None:
    """Replace all rows, and change the head."""
    with app.app_context():
        events, head = read_audit()
        write_audit(tamper(events), head | changes)


@pytest.fixture
def chain(people: People) -> None:
    alice = people.sign_up()
    for _ in range(EVENTS - 1):
        people.log_in(alice.username)


def change(**columns: Any) -> Callable[[Rows], Rows]:
    """Change the third row."""
    return lambda rows: [row | columns if row["id"] == 3 else row for row in rows]


def swap(rows: Rows) -> Rows:
    """Exchange the second and the third event."""
    first, second, third, *rest = rows
    return [first, third | {"id": 2}, second | {"id": 3}, *rest]


def shift(rows: Rows) -> Rows:
    """Remove the second event and renumber the later ones."""
    return [rows[0], *(row | {"id": row["id"] - 1} for row in rows[2:])]


def squeeze_in(rows: Rows) -> Rows:
    """Insert a copy of the second event after it."""
    behind = [row | {"id": row["id"] + 1} for row in rows[2:]]
    return [*rows[:2], rows[1] | {"id": 3}, *behind]


def append(rows: Rows) -> Rows:
    return [*rows, rows[-1] | {"id": EVENTS + 1}]


def put_before(rows: Rows) -> Rows:
    return [rows[0] | {"id": 0}, *rows]


TAMPERING: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "another outcome": (change(outcome="failure"), "event 3 was changed"),
    "another name": (change(event="login "), "event 3 was changed"),
    "another actor": (change(actor_id=99), "event 3 was changed"),
    "another subject": (change(subject_id=None), "event 3 was changed"),
    "another session": (change(session_id="0" * 32), "event 3 was changed"),
    "another address": (change(address=None), "event 3 was changed"),
    "another request": (change(request_id="another-request"), "event 3 was changed"),
    "another detail": (change(detail="{}"), "event 3 was changed"),
    "another seal": (change(hash=bytes(32)), "event 3 was changed"),
    "a removed middle row": (lambda rows: [*rows[:2], *rows[3:]], "event 3 is missing"),
    "a removed first row": (lambda rows: rows[1:], "event 1 is missing"),
    "removed last rows": (lambda rows: rows[:-2], "events after 3 are missing"),
    "all rows removed": (lambda _rows: [], "events after 0 are missing"),
    "a row removed and the gap closed": (shift, "event 2 was changed"),
    "an inserted row": (squeeze_in, "event 3 was changed"),
    "a row behind the end": (append, "event 6 was changed"),
    "a row before the beginning": (put_before, "event 1 is missing"),
    "swapped rows": (swap, "event 2 was changed"),
}


@pytest.mark.parametrize("what", TAMPERING)
@pytest.mark.stores("sqlite")
def test_verify_finds(app: Flask, chain: None, what: str) -> None:
    tamper, fault = TAMPERING[what]
    rewrite(app, tamper)
    with pytest.raises(BrokenChain, match=f"^{fault}$"):
        verified(app)


def test_verify_finds_it_on_every_store(app: Flask, chain: None) -> None:
    """One tampering of each kind. A store that lost microseconds or bytes of a text would fail verification."""
    assert verified(app) == EVENTS
    for what in ("another outcome", "a removed middle row", "an inserted row", "swapped rows"):
        originals: Rows = []
        tamper, fault = TAMPERING[what]
        rewrite(app, lambda rows, kept=originals, change=tamper: kept.extend(rows) or change(rows))  # type: ignore[misc]
        with pytest.raises(BrokenChain, match=f"^{fault}$"):
            verified(app)
        rewrite(app, lambda _, kept=originals: kept)  # type: ignore[misc]
        assert verified(app) == EVENTS
    rewrite(app, lambda rows: rows[:-1])
    with pytest.raises(BrokenChain, match="events after 4 are missing"):
        verified(app)


@pytest.mark.stores("sqlite")
def test_the_command_tells_who_runs_it(app: Flask, chain: None) -> None:
    whole = app.test_cli_runner().invoke(args=["audit", "verify"])
    assert (whole.exit_code, whole.output) == (0, "5 events, none changed\n")
    rewrite(app, change(outcome="failure"))
    broken = app.test_cli_runner().invoke(args=["audit", "verify"])
    assert broken.exit_code == 1
    assert "the audit was tampered with: event 3 was changed" in broken.output


@pytest.mark.stores("sqlite")
def test_an_audit_without_events_is_whole(app: Flask) -> None:
    assert verified(app) == 0


@pytest.mark.stores("sqlite")
def test_a_cut_that_moves_the_head_too_leaves_another_last_seal(app: Flask, chain: None) -> None:
    """An owner who knows the head can do this. The log lines of decision 0009 reveal it."""
    rewrite(app, lambda rows: rows[:-1], last_event_id=EVENTS - 1)
    with pytest.raises(BrokenChain, match="events after 4 are missing"):
        verified(app)


@pytest.mark.stores("sqlite")
def test_a_chain_of_many_events_is_followed_to_its_end(app: Flask) -> None:
    """More events than one read returns, all written in one transaction."""

    @transactional
    def add() -> None:
        for number in range(1001):
            record("login", number, outcome="success", number=number)

    with app.app_context():
        add()
    assert verified(app) == 1001
    rewrite(app, lambda rows: [*rows[:1000], rows[1000] | {"outcome": "failure"}])
    with pytest.raises(BrokenChain, match="event 1001 was changed"):
        verified(app)


@pytest.mark.settings(FAILED_LOGIN_ALLOWANCE=100)
def test_ten_who_log_in_at_once_make_one_chain(app: Flask, people: People) -> None:
    """Ten threads, each with one successful and one failed login: 20 events."""
    alice, barrier = people.sign_up(), threading.Barrier(10)

    def log_in(_number: int) -> list[int]:
        client = app.test_client()
        barrier.wait()
        bodies = [{"username": alice.username, "password": password} for password in (PASSWORD, "wrong")]
        return [client.post("/api/v1/login", json=body).status_code for body in bodies]

    with ThreadPoolExecutor(10) as threads:
        assert list(threads.map(log_in, range(10))) == [[200, 401]] * 10
    assert verified(app) == 1 + 20


def test_verify_may_run_while_people_log_in(app: Flask, people: People) -> None:
    """Events added during the check are no error. Here, one is added after each of its first reads."""
    alice, checker, reads = people.sign_up(), threading.get_ident(), iter(range(5))

    def log_in(*_: Any) -> None:
        if threading.get_ident() == checker and next(reads, None) is not None:
            with ThreadPoolExecutor(1) as thread:
                thread.submit(People(app.test_client()).log_in, alice.username).result()

    with app.app_context():
        engine = db.engine
        event.listen(engine, "after_cursor_execute", log_in)
        try:
            checked = verify()
        finally:
            event.remove(engine, "after_cursor_execute", log_in)
    assert 1 <= checked < verified(app)
