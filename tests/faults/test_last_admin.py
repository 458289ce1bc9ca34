"""The last admin: one remains, however many are removed at once."""

import threading
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import NullPool, create_engine, text

from apps.models import User
from apps.services import account
from tests.api_v1.test_admin import count_active_admins, do, refusal
from tests.support.people import People, Person

ROUNDS = [
    *[(act, "each other") for act in ("demote", "delete", "block", "demote", "delete")],
    *[(act, "themselves") for act in ("demote", "delete", "block", "demote", "delete")],
]


def test_two_admins_who_go_at_once_do_not_both_go(app: Flask, people: People) -> None:
    """Z5: ten rounds on every store."""
    first, second = people.admin(), people.admin()
    for act, target in ROUNDS:
        targets = [second, first] if target == "each other" else [first, second]
        statuses = at_once(app, act, list(zip([first, second], targets, strict=True)))
        assert count_active_admins(app) >= 1, (act, target, statuses)
        assert max(statuses) < 500
        first = next(person for person in (first, second) if person.get("/admin/users").status_code == 200)
        second = people.sign_up()
        assert do(first, "promote", second.id).status_code == 200


def at_once(app: Flask, act: str, pairs: list[tuple[Person, Person]]) -> list[int]:
    barrier, statuses = threading.Barrier(len(pairs)), [0] * len(pairs)

    def send(index: int, person: Person, target: Person) -> None:
        mine = Person(app.test_client(), person.id, person.username, person.access_token, person.refresh_token)
        barrier.wait()
        statuses[index] = do(mine, act, target.id).status_code

    threads = [threading.Thread(target=send, args=(index, *pair)) for index, pair in enumerate(pairs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


@pytest.mark.parametrize("act", ["block", "delete"])
@pytest.mark.stores("postgresql", "postgresql18", "mariadb")
def test_who_is_made_an_admin_meanwhile_does_not_go(
    app: Flask, people: People, database_url: str, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """Z5: otherwise another admin may leave because of the new one, who is then removed as an ordinary user."""
    admin, alice = people.admin(), people.sign_up("alice-liddell")
    lock_user = account.lock_user

    def lock_after_the_promotion(*args: Any) -> User:
        with create_engine(database_url, poolclass=NullPool).begin() as elsewhere:
            elsewhere.execute(text("UPDATE users SET role = 'admin' WHERE id = :id"), {"id": alice.id})
        return lock_user(*args)

    monkeypatch.setattr(account, "lock_user", lock_after_the_promotion)
    assert refusal(do(admin, act, alice.id)) == (409, "concurrent_update")
    assert count_active_admins(app) == 2
