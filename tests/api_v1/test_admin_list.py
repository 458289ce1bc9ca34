"""The list of users: complete pages, search, filters and refused parameters."""

import base64
import itertools
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import pytest
from flask import Flask
from sqlalchemy import event, text

from apps.extensions import db
from tests.support.people import People, Person
from tests.support.settings import change_settings

SORTS = ["id", "-id", "username", "-username", "create_time", "-create_time"]


def page(admin: Person, **query: Any) -> dict[str, Any]:
    response = admin.get(f"/admin/users?{urlencode(query)}")
    assert response.status_code == 200, response.text
    data: dict[str, Any] = response.get_json()["data"]
    return data


def pages(admin: Person, **query: Any) -> Iterator[list[dict[str, Any]]]:
    cursor: dict[str, str] = {}
    while True:
        answer = page(admin, **query, **cursor)
        yield answer["data"]
        if answer["next"] is None:
            return
        cursor = {"cursor": answer["next"]}


def found(admin: Person, **query: Any) -> list[str]:
    return [user["username"] for user in page(admin, **query)["data"]]


def in_order(users: list[dict[str, Any]], sort: str) -> list[dict[str, Any]]:
    key = sort.removeprefix("-")
    return sorted(users, key=lambda user: (user[key], user["id"]), reverse=sort.startswith("-"))


@pytest.fixture
def admin(people: People) -> Person:
    return people.admin()


@pytest.fixture
def crowd(app: Flask, people: People, admin: Person) -> list[Person]:
    """25 users in unsorted order. Most of them signed up in the same microsecond as others."""
    crowd = [people.sign_up(f"person-{number * 7 % 24:02d}") for number in range(24)]
    with app.app_context():
        for remainder in range(4):
            statement = text("UPDATE users SET create_time = :time WHERE id % 5 = :remainder")
            db.session.execute(statement, {"time": f"2024-01-0{4 - remainder} 00:00:00.123456", "remainder": remainder})
        db.session.commit()
    return [*crowd, admin]


def test_pages_hold_everybody_once_in_order(crowd: list[Person], admin: Person) -> None:
    """Every sort, in both directions. Users with equal times are ordered by id."""
    everybody = page(admin, limit=100)["data"]
    assert {user["id"] for user in everybody} == {person.id for person in crowd}
    for sort in SORTS:
        listed = list(itertools.chain(*pages(admin, sort=sort, limit=7)))
        assert listed == in_order(everybody, sort), sort


def test_pages_stay_whole_while_people_come_and_go(crowd: list[Person], admin: Person, people: People) -> None:
    """No user is listed twice, and no user who existed throughout is missing, even if the cursor's row is deleted."""
    there_all_the_time = {person.id for person in crowd}
    for sort in SORTS:
        listed: list[int] = []
        for users in pages(admin, sort=sort, limit=10):
            listed += [user["id"] for user in users]
            gone = next(user["id"] for user in reversed(users) if user["id"] != admin.id)
            assert admin.delete(f"/admin/users/{gone}").status_code == 200
            there_all_the_time.discard(gone)
            newcomer = people.sign_up()
        assert len(listed) == len(set(listed)), sort
        assert there_all_the_time <= set(listed), sort
        there_all_the_time.add(newcomer.id)


def test_a_page_has_as_many_as_asked_for(crowd: list[Person], admin: Person) -> None:
    """The last page has no cursor, whether it is full or not."""
    sizes = {limit: [len(users) for users in pages(admin, limit=limit)] for limit in (1, 12, 24, 25, 26, 100)}
    assert sizes == {1: [1] * 25, 12: [12, 12, 1], 24: [24, 1], 25: [25], 26: [25], 100: [25]}
    assert len(page(admin)["data"]) == 25


@pytest.mark.stores("postgresql", "mariadb")
def test_a_page_is_found_by_its_place_and_not_by_counting(app: Flask, crowd: list[Person], admin: Person) -> None:
    """Page 1,000 costs as much as page 2: the SQL has no OFFSET. (SQLAlchemy writes OFFSET 0 for SQLite.)"""
    statements: list[str] = []
    with app.app_context():
        event.listen(db.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    for sort in SORTS:
        assert len(list(pages(admin, sort=sort, limit=7))) == 4
    lists = [statement for statement in statements if "ORDER BY users." in statement]
    assert len(lists) == 4 * len(SORTS)
    assert [statement for statement in lists if "OFFSET" in statement.upper()] == []


NAMES = [
    *("Alice-Liddell", "alice_liddell", "al%ice-liddell", "al\\ice-liddell", "张伟张伟", "张三丰张", "straße-berg"),
    *("ΟΔΥΣΣΕΥΣ", "ΐκαροςικαρος"),
]
BY_PREFIX = {
    "alice": ["Alice-Liddell", "alice_liddell"],
    "ALICE-L": ["Alice-Liddell"],
    "ａｌｉｃｅ＿": ["alice_liddell"],
    "alice_": ["alice_liddell"],  # the wildcards of LIKE are ordinary characters
    "al%": ["al%ice-liddell"],
    "al\\": ["al\\ice-liddell"],
    "%": [],
    "_": [],
    "liddell": [],  # only a prefix matches
    "张": ["张三丰张", "张伟张伟"],  # ordered by name, not by sign-up
    "张伟": ["张伟张伟"],
    "Straß": ["straße-berg"],
    "strass": [],  # another name, which another user may have
    "ΟΔΥΣ": ["ΟΔΥΣΣΕΥΣ"],  # the sigma at the end here is not final in the name
    "ΟΔΥΣΣΕΥΣ": ["ΟΔΥΣΣΕΥΣ"],
    "ΐκα": ["ΐκαροςικαρος"],
    "alice-liddell": ["Alice-Liddell"],
    "alice-liddell-2": [],
    "' OR 1=1 --": [],
}


def test_people_are_found_by_how_their_names_begin(people: People, admin: Person) -> None:
    """I3, I4: in any case and width, like every comparison of usernames."""
    for name in NAMES:
        people.sign_up(name)
    assert {prefix: found(admin, username=prefix) for prefix in BY_PREFIX} == BY_PREFIX


BY_MOBILE = {
    "13200001111": ["alice-liddell", "bob-the-builder"],
    "+8613200001111": ["alice-liddell", "bob-the-builder"],
    "+86 132-0000-1111": ["alice-liddell", "bob-the-builder"],
    "0086 132 0000 1111": ["alice-liddell", "bob-the-builder"],
    "（132）0000–1111": ["alice-liddell", "bob-the-builder"],
    "+44 7400 123456": ["white-rabbit"],
    "07400123456": [],  # parsed as a number of PHONE_REGION
    "1320000111": [],
    "132000011112": [],
}


def test_people_are_found_by_their_whole_mobile_number(people: People, admin: Person) -> None:
    """D2: in any notation, at sign-up and in the search; by the blind index."""
    admin.patch(f"/users/{admin.id}", json={"mobile": "13900009999"})
    people.sign_up("alice-liddell", mobile="13200001111")
    people.sign_up("bob-the-builder", mobile="+86 132 0000 1111")
    people.sign_up("white-rabbit", mobile="+447400123456")
    assert {number: found(admin, mobile=number) for number in BY_MOBILE} == BY_MOBILE


BY_STATE = {
    "role=admin": ["the-second-admin"],
    "role=user": ["alice-liddell", "bob-the-builder"],
    "blocked=true": ["bob-the-builder", "the-second-admin"],
    "blocked=false": ["alice-liddell"],
    "role=user&blocked=true": ["bob-the-builder"],
    "role=user&blocked=false&username=bob": [],
    "role=user&sort=-username&limit=1": ["bob-the-builder"],
}


def test_people_are_found_by_role_and_block(people: People, admin: Person) -> None:
    people.sign_up("alice-liddell")
    bob, second = people.sign_up("bob-the-builder"), people.sign_up("the-second-admin")
    admin.put(f"/admin/users/{second.id}/role", json={"role": "admin"})
    for person in (bob, second):
        admin.post(f"/admin/users/{person.id}/block")
    names = {query: found(admin, **dict(parse_qsl(query))) for query in BY_STATE}
    assert {query: [name for name in names[query] if name != admin.username] for query in BY_STATE} == BY_STATE


BAD = [
    "unknown=1", "limit=1&limit=1", "username=a&username=b", "limit=", "limit=0", "limit=101", "limit=-1", "limit=1e3",
    "limit=+1", "limit=1.0", "limit=0x10", "limit=%D9%A3", "limit=%EF%BC%93", "limit=%00", "limit=1%00", "limit=null",
    "limit=%201", "limit=99999999999999999999", "limit=" + "9" * 10_000, "username=", "username=%00", "username=a%00b",
    "username=" + "a" * 65, "username=" + "a" * 10_000, "mobile=", "mobile=abc", "mobile=1", "mobile=+86132&x=1",
    "mobile=%D9%A1%D9%A3%D9%A2%D9%A0", "mobile=13200001111%00", "role=", "role=root", "role=Admin",
    "role=%00", "blocked=", "blocked=1", "blocked=True", "blocked=yes", "blocked=null", "sort=", "sort=age",
    "sort=--id", "sort=ID", "sort=password_hash", "sort=id%20DESC", "sort=id,username", "cursor=", "cursor=%00",
    "cursor=1", "cursor=e30=", "cursor=" + "A" * 10_000, "cursor=%C3%A9", "%00=1", "a" * 10_000 + "=1",
    "id=1", "offset=5", "page=2", "version=1", "password_hash=a",
]  # fmt: skip


def test_a_bad_parameter_is_refused(admin: Person) -> None:
    """I1, I2: with the same response on every store."""
    answers = {query: admin.get(f"/admin/users?{query}") for query in BAD}
    assert {query[:60]: answer.status_code for query, answer in answers.items() if answer.status_code != 400} == {}
    assert {answer.get_json()["error"]["type"] for answer in answers.values()} == {"invalid_body"}


FORGED = {
    "id": [
        *(
            "[1, 1]",
            "[100000000000000000000000, 1]",
            "[1, 100000000000000000000000]",
            "[1.5, 1]",
            "[true, 1]",
            "[null, 1]",
        ),
        *("[-1, -1]", "[1]", "[]", "{}", "null", "", "[" * 200, '["id", 1, 1]'),
    ],
    "username": ['["a", 1]', '["a\\u0000", 1]', '["\\ud800", 1]', '["username", "a", 1]'],
    "create_time": [
        *('["2024-01-01T00:00:00Z", 1]', '["2024-01-01T00:00:00", 1]', '["0001-01-01T00:00:00+23:59", 1]'),
        *('["9999-12-31T23:59:59-23:59", 1]', '["now", 1]', "[1, 1]"),
    ],
}


@pytest.mark.stores("sqlite", "postgresql")
@pytest.mark.parametrize("seal", ["", "0" * 16])
@pytest.mark.parametrize("sort", FORGED)
def test_a_cursor_that_this_service_did_not_make_is_refused(admin: Person, sort: str, seal: str) -> None:
    """I1: before it reaches a store, which could fail on it."""
    cursors = [base64.urlsafe_b64encode((seal + place).encode()).decode() for place in FORGED[sort]]
    answers = [admin.get(f"/admin/users?sort={sort}&cursor={quote(cursor)}") for cursor in cursors]
    assert [answer.status_code for answer in answers] == [400] * len(cursors)


@pytest.mark.stores("sqlite")
def test_a_cursor_of_another_order_or_a_damaged_one_is_refused(people: People, admin: Person) -> None:
    people.sign_up()
    cursor = page(admin, sort="id", limit=1)["next"]
    damaged = [cursor[:at] + ("A" if cursor[at] != "A" else "B") + cursor[at + 1 :] for at in range(len(cursor))]
    damaged += [cursor + "A", cursor + "====", cursor[:-4], "!" + cursor, cursor + cursor, cursor.lower()]
    queries = [f"sort={sort}&cursor={quote(cursor)}" for sort in SORTS[1:]]
    queries += [f"sort=id&cursor={quote(each)}" for each in damaged]
    answers = [admin.get(f"/admin/users?{query}") for query in queries]
    assert {(answer.status_code, *answer.get_json().get("error", {}).get("fields", {})) for answer in answers} == {
        (400, "cursor")
    }
    assert len(page(admin, sort="id", cursor=cursor)["data"]) == 1


@pytest.mark.stores("sqlite")
def test_a_cursor_of_another_service_is_refused(app: Flask, people: People, admin: Person) -> None:
    people.sign_up()
    cursor = page(admin, limit=1)["next"]
    change_settings(app, FIELD_INDEX_KEY="the-field-index-key-of-another-service")
    assert admin.get(f"/admin/users?cursor={quote(cursor)}").status_code == 400
