"""Rate limits: per route, by address and by account, counted across processes."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from limits import parse_many
from werkzeug.test import TestResponse

from apps.config import DevConfig, ProdConfig, settings
from tests.support import metrics, stores
from tests.support.people import PASSWORD, People, Person, bearer, sign_up_body
from tests.support.settings import change_settings

NOBODY_LISTENS = "redis://127.0.0.1:1/0"
BRAKED = (429, "too_many_requests")


def told(response: TestResponse) -> tuple[int, str | None]:
    return response.status_code, response.get_json().get("error", {}).get("type")


def log_in(client: FlaskClient, username: str = "nobody-of-note", **kwargs: Any) -> tuple[int, str | None]:
    return told(client.post("/api/v1/login", json={"username": username, "password": PASSWORD}, **kwargs))


def sign_up(client: FlaskClient, **kwargs: Any) -> tuple[int, str | None]:
    return told(client.post("/api/v1/users/", json=sign_up_body(), **kwargs))


def from_address(address: str) -> dict[str, Any]:
    return {"environ_base": {"REMOTE_ADDR": address}}


Act = Callable[[Person], TestResponse]

# For each limit: two requests that it counts together, and one that it does not count with them.
COUNTED: dict[str, tuple[Act, Act, Act]] = {
    "SIGN_UP_LIMIT": (
        lambda alice: alice.client.post("/api/v1/users/", json=sign_up_body()),
        lambda alice: alice.client.post("/api/v1/users/", json={"not": "a body"}),
        lambda alice: alice.client.post("/api/v1/users/", json=sign_up_body(), **from_address("192.0.2.9")),
    ),
    "SIGN_UP_ACCOUNT_LIMIT": (
        lambda alice: alice.client.post("/api/v1/users/", json=sign_up_body("cheshire-cat")),
        lambda alice: alice.client.post("/api/v1/users/", json=sign_up_body("Cheshire-CAT"), **from_address("::7")),
        lambda alice: alice.client.post("/api/v1/users/", json=sign_up_body()),
    ),
    "LOGIN_LIMIT": (
        lambda alice: alice.post("/login", json={"username": alice.username, "password": PASSWORD}),
        lambda alice: alice.post("/login", json={"username": "nobody-of-note", "password": "x"}),
        lambda alice: alice.post(
            "/login", json={"username": alice.username, "password": PASSWORD}, **from_address("192.0.2.9")
        ),
    ),
    "LOGIN_ACCOUNT_LIMIT": (
        lambda alice: alice.post("/login", json={"username": alice.username, "password": PASSWORD}),
        lambda alice: alice.post("/login", json={"username": alice.username, "password": "x"}, **from_address("::7")),
        lambda alice: alice.post("/login", json={"username": "nobody-of-note", "password": "x"}),
    ),
    "REFRESH_LIMIT": (
        lambda alice: alice.refresh(),
        lambda alice: alice.post("/refresh", token="junk"),
        lambda alice: alice.post("/refresh", token=alice.refresh_token, **from_address("192.0.2.9")),
    ),
    "REFRESH_ACCOUNT_LIMIT": (
        lambda alice: alice.refresh(),
        lambda alice: alice.post("/refresh", token=alice.refresh_token, **from_address("192.0.2.9")),
        lambda alice: People(alice.client).log_in(alice.username).refresh(),
    ),
    "UPDATE_ACCOUNT_LIMIT": (
        lambda alice: alice.patch(f"/users/{alice.id}", json={"mobile": "13200002222"}),
        lambda alice: alice.put(f"/users/{alice.id}", json=sign_up_body(alice.username), **from_address("192.0.2.9")),
        lambda alice: People(alice.client).sign_up().refresh(),
    ),
}


@pytest.mark.parametrize("setting", COUNTED)
def test_each_limit_counts_what_it_says_and_nothing_else(app: Flask, people: People, setting: str) -> None:
    """B2, B5: 429 with Retry-After. Requests that the limit does not count are answered."""
    first, second, other = COUNTED[setting]
    alice = people.sign_up()
    change_settings(app, **{setting: "2/hour"})
    assert {told(first(alice))[0], told(second(alice))[0]} <= {200, 400, 401, 409}
    for act in (first, second):
        answer = act(alice)
        assert told(answer) == BRAKED
        assert 1 <= int(answer.headers["Retry-After"]) <= 3601
    assert told(other(alice))[0] in (200, 401)


@pytest.mark.settings(UPDATE_ACCOUNT_LIMIT="3/hour")
@pytest.mark.stores("sqlite", "postgresql")
def test_updates_are_counted_by_account_not_by_session_or_method(people: People) -> None:
    """B2: another login allows no more updates."""
    admin = people.admin()
    again, bob = people.log_in(admin.username), people.sign_up()
    assert admin.patch(f"/users/{bob.id}", json={}).status_code == 200
    assert again.put(f"/users/{bob.id}", json=sign_up_body(bob.username)).status_code == 200
    assert admin.delete(f"/users/{bob.id}").status_code == 200
    assert told(again.delete(f"/users/{admin.id}")) == BRAKED


@pytest.mark.settings(**dict.fromkeys(COUNTED, "2/hour"))
@pytest.mark.stores("sqlite", "postgresql")
def test_limits_of_the_same_text_are_counted_apart(people: People) -> None:
    """B2: each by its own name."""
    alice, bob = people.sign_up(), people.sign_up()
    acts = [
        alice.refresh(),
        alice.refresh(),
        alice.patch(f"/users/{alice.id}", json={}),
        bob.delete(f"/users/{bob.id}"),
    ]
    assert [act.status_code for act in acts] == [200] * 4
    assert [log_in(people.client, alice.username)[0] for _ in range(3)] == [200, 200, 429]
    assert sign_up(people.client) == told(alice.refresh()) == BRAKED


@pytest.mark.settings(LOGIN_LIMIT="2/hour", LOGIN_ACCOUNT_LIMIT="2/hour")
@pytest.mark.stores("sqlite", "postgresql")
def test_a_username_that_is_an_address_uses_up_no_address(client: FlaskClient) -> None:
    """B3: guessing at a username that looks like an address does not use up the limit of that address."""
    for _ in range(2):
        log_in(client, "192.0.2.77", **from_address("192.0.2.9"))
    assert log_in(client, "nobody-of-note", **from_address("192.0.2.77")) == (401, "wrong_credentials")


@pytest.mark.settings(LOGIN_ACCOUNT_LIMIT="2/hour")
@pytest.mark.parametrize("username", [" ", "　", "x/1/1/hour", "%s{}", "a" * 64])
@pytest.mark.stores("sqlite")
def test_no_username_is_beyond_the_limit(client: FlaskClient, username: str) -> None:
    """B1: not even a single space."""
    answers = [log_in(client, username) for _ in range(3)]
    assert answers == [(401, "wrong_credentials")] * 2 + [BRAKED]


@pytest.mark.settings(SIGN_UP_LIMIT="2/minute;3/hour")
@pytest.mark.stores("sqlite")
def test_two_limits_hold_at_once_and_end_by_themselves(client: FlaskClient) -> None:
    """B5: a request after Retry-After succeeds."""
    early_in_an_hour = datetime(2026, 1, 1, 12, 10, 0, 500_000, UTC)
    with time_machine.travel(early_in_an_hour, tick=False) as clock:
        assert [sign_up(client)[0] for _ in range(3)] == [200, 200, 429]
        braked = client.post("/api/v1/users/", json=sign_up_body())
        clock.shift(int(braked.headers["Retry-After"]))
        assert [sign_up(client)[0] for _ in range(2)] == [200, 429]
        clock.shift(120)  # the minute's limit has ended, the hour's has not
        braked = client.post("/api/v1/users/", json=sign_up_body())
        assert int(braked.headers["Retry-After"]) > 60


@pytest.mark.settings(SIGN_UP_LIMIT="2/hour")
@pytest.mark.stores("sqlite")
@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "True-Client-IP", "X-Client-IP"])
def test_no_header_makes_a_new_address(client: FlaskClient, header: str) -> None:
    """B4: TRUSTED_PROXIES is 0, so no such header is used."""
    addresses = [f"198.51.100.{number}" for number in range(4)]
    answers = [sign_up(client, headers={header: f"for={a}" if header == "Forwarded" else a}) for a in addresses]
    assert [status for status, _ in answers] == [200, 200, 429, 429]


@pytest.mark.settings(SIGN_UP_LIMIT="2/hour")
@pytest.mark.stores("sqlite")
@pytest.mark.parametrize(
    ("addresses", "last"),
    [
        (("2001:db8:1:2::1", "2001:db8:1:2:ffff::2", "2001:db8:1:2:3:4:5:6"), 429),
        (("2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:3::1"), 200),
        (("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"), 429),
        (("192.0.2.1", "192.0.2.1", "192.0.2.2"), 200),
        (("unix:", "unix:", "unix:"), 429),
    ],
    ids=["one /64", "two of them", "IPv4 in IPv6", "two of IPv4", "no address"],
)
def test_an_address_is_what_one_customer_holds(client: FlaskClient, addresses: tuple[str, ...], last: int) -> None:
    """B4."""
    answers = [sign_up(client, **from_address(address))[0] for address in addresses]
    assert answers == [200, 200, last]


@pytest.mark.settings(SIGN_UP_LIMIT="1/hour", TRUSTED_PROXIES=1)
@pytest.mark.stores("sqlite")
def test_behind_a_proxy_the_address_it_adds_counts(client: FlaskClient) -> None:
    """B4: the last address is the proxy's entry. The client may invent those before it."""
    hops = [
        "198.51.100.1",
        "198.51.100.2",
        "203.0.113.7, 198.51.100.1",
        "198.51.100.1, 203.0.113.8",
        "::1, 198.51.100.2",
    ]
    assert [sign_up(client, headers={"X-Forwarded-For": hop})[0] for hop in hops] == [200, 200, 429, 200, 429]


FIRST_AND_NEXT_PORT = {
    "IPv4": ("203.0.113.37:50000", "203.0.113.37:50001"),
    "IPv4 in quotes": ('"203.0.113.37:50000"', '"203.0.113.37:50001"'),
    "IPv6": ("[2001:db8::1]:443", "[2001:db8::1]:444"),
    "IPv6 in quotes": ('"[2001:db8::1]:443"', '"[2001:db8::1]:444"'),
    "IPv6 with a zone": ("[fe80::1%eth0]:443", "fe80::1%eth1"),
    "IPv4 in IPv6": ("[::ffff:203.0.113.37]:443", "203.0.113.37:444"),
    "a hidden port": ("203.0.113.37:_a", "203.0.113.37:_b"),
    "no address": ("unknown:50000", "unknown:50001"),
}


@pytest.mark.settings(SIGN_UP_LIMIT="1/hour", TRUSTED_PROXIES=1)
@pytest.mark.stores("sqlite")
@pytest.mark.parametrize("pair", FIRST_AND_NEXT_PORT.values(), ids=FIRST_AND_NEXT_PORT)
@pytest.mark.parametrize("is_forwarded", [True, False], ids=["X-Forwarded-For", "REMOTE_ADDR"])
def test_another_port_is_no_other_address(client: FlaskClient, pair: tuple[str, str], is_forwarded: bool) -> None:
    """B4: of the header that a proxy sends, and of the address that the server reports."""
    senders = [{"headers": {"X-Forwarded-For": hop}} if is_forwarded else from_address(hop) for hop in pair]
    assert [sign_up(client, **sender)[0] for sender in senders] == [200, 429]


@pytest.mark.settings(SIGN_UP_LIMIT="1/hour", TRUSTED_PROXIES=2)
@pytest.mark.stores("sqlite")
def test_behind_two_proxies_the_address_before_the_last_counts(client: FlaskClient) -> None:
    """B4."""
    hops = ["198.51.100.1, 192.0.2.1", "198.51.100.1, 192.0.2.2", "203.0.113.7, 198.51.100.2, 192.0.2.1"]
    assert [sign_up(client, headers={"X-Forwarded-For": hop})[0] for hop in hops] == [200, 429, 200]


@pytest.mark.stores("postgresql", "mariadb")
@pytest.mark.parametrize("setting", ["SIGN_UP_LIMIT", "LOGIN_ACCOUNT_LIMIT"])
def test_two_applications_count_together(app: Flask, database_url: str, setting: str) -> None:
    """B1: in Redis, so a second process allows no further requests."""
    act = sign_up if setting == "SIGN_UP_LIMIT" else log_in
    change_settings(app, **{setting: "3/hour"})
    assert BRAKED not in [act(app.test_client()) for _ in range(2)]
    with stores.application(database_url, settings(app).REDIS_URL, **{setting: "3/hour"}) as other:
        answers = [act(other.test_client()) for _ in range(2)]
        assert (answers[0] != BRAKED, answers[1]) == (True, BRAKED)
        assert act(app.test_client()) == BRAKED


@pytest.mark.stores("postgresql")
@pytest.mark.settings(REFRESH_LIMIT="3/hour", REFRESH_ACCOUNT_LIMIT="3/hour")
def test_each_application_counts_the_refreshes_that_it_serves(app: Flask, people: People, database_url: str) -> None:
    """B2: refreshes are limited without another round trip."""
    alice = people.sign_up()
    limits = {"REFRESH_LIMIT": "3/hour", "REFRESH_ACCOUNT_LIMIT": "3/hour"}
    with stores.application(database_url, settings(app).REDIS_URL, **limits) as other:
        for each in (app, other):
            refresh = {"path": "/api/v1/refresh", "headers": bearer(alice.refresh_token)}
            assert [each.test_client().post(**refresh).status_code for _ in range(4)] == [200, 200, 200, 429]


@pytest.mark.stores("sqlite")
def test_limits_hold_without_redis(database_url: str) -> None:
    """B1: each process then counts on its own."""
    with stores.application(database_url, "", REDIS_URL=NOBODY_LISTENS, SIGN_UP_LIMIT="2/hour") as app:
        assert [sign_up(app.test_client())[0] for _ in range(4)] == [200, 200, 429, 429]


@pytest.mark.parametrize(("processes", "share"), [(1, 5), (2, 2), (5, 1), (100, 1)])
@pytest.mark.stores("sqlite")
def test_without_redis_each_process_allows_its_share(database_url: str, processes: int, share: int) -> None:
    """B1: all processes together allow the limit of five; each allows at least one request."""
    limits = {"PROCESSES": processes, "SIGN_UP_LIMIT": "5/hour", "REFRESH_ACCOUNT_LIMIT": "5/hour"}
    with stores.application(database_url, "", REDIS_URL=NOBODY_LISTENS, **limits) as app:
        alice = People(app.test_client()).sign_up()
        assert [sign_up(app.test_client())[0] for _ in range(6)].count(200) == share - 1
        assert [alice.refresh().status_code for _ in range(6)].count(200) == share


@pytest.mark.settings(PROCESSES=2, SIGN_UP_LIMIT="4/hour", REFRESH_ACCOUNT_LIMIT="4/hour")
@pytest.mark.stores("postgresql")
def test_with_redis_each_process_allows_its_share_of_the_refreshes_alone(people: People) -> None:
    """B2: Redis counts the other limits for all processes."""
    alice = people.sign_up()
    assert [alice.refresh().status_code for _ in range(3)] == [200, 200, 429]
    assert [sign_up(people.client)[0] for _ in range(4)] == [200, 200, 200, 429]


@pytest.mark.stores("postgresql")
def test_no_name_is_kept_in_redis_in_clear(app: Flask) -> None:
    """L1: people type passwords into the username field."""
    canary = f"canary-{secrets.token_hex(8)}"
    log_in(app.test_client(), canary)
    with redis.Redis.from_url(settings(app).REDIS_URL, decode_responses=True) as server:
        keys = list(server.scan_iter("*"))
    assert [key for key in keys if "LIMITS" in key]
    assert [key for key in keys if canary in key] == []


FOREIGN = {
    "text": lambda server, key: server.set(key, "many"),
    "a fraction": lambda server, key: server.set(key, "1.5"),
    "an endless number": lambda server, key: server.set(key, "9" * 400),
    "30 MB": lambda server, key: server.setrange(key, 30_000_000, "1"),
    "an empty text": lambda server, key: server.set(key, "", px=7_000_000),
    "a zero before the number": lambda server, key: server.set(key, "02", px=7_000_000),
    "a count that never ends": lambda server, key: server.set(key, "2"),
    "a list": lambda server, key: (server.delete(key), server.rpush(key, "1")),
}


@pytest.mark.stores("postgresql")
@pytest.mark.settings(SIGN_UP_LIMIT="3/hour", METRICS_TOKEN=metrics.TOKEN)
@pytest.mark.parametrize("plant", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("window", ["", "/-1"], ids=["this window", "the last window"])
def test_a_foreign_value_under_a_counter_is_removed(
    app: Flask, client: FlaskClient, caplog: pytest.LogCaptureFixture, window: str, plant: Callable[..., object]
) -> None:
    """B1, V1: it would make every process count locally. Its counter begins again, the others go on."""
    assert sign_up(client)[0] == 200
    with redis.Redis.from_url(settings(app).REDIS_URL, decode_responses=True) as server:
        (key,) = server.scan_iter("*SIGN_UP_LIMIT*")
        plant(server, key + window)
    answers = [sign_up(client)[0] for _ in range(4)]
    assert answers == ([200, 200, 429, 429] if window else [200, 200, 200, 429])
    events = [getattr(record, "event", "") for record in caplog.records]
    assert [event for event in events if event.startswith("limits.")] == ["limits.removed"]
    samples = metrics.parse(client.get("/metrics", headers=bearer(metrics.TOKEN)).text)
    assert metrics.total(samples, "gatehouse_redis_values_removed_total", kind="counter") == 1


@pytest.mark.settings(**{name: getattr(DevConfig, name) for name in COUNTED})
@pytest.mark.stores("sqlite")
def test_fifty_transcripts_a_minute_go_through_by_default(app: Flask) -> None:
    """The limits of `development` do not stop a person who tries the service or tests a client against it."""
    people = People(FlaskClient(app))
    statuses = []
    with time_machine.travel(datetime.now(UTC), tick=False):
        for _ in range(50):
            alice = people.sign_up()
            acts = [alice.get("/users/"), people.log_in(alice.username).refresh()]
            acts += [alice.put(f"/users/{alice.id}", json=sign_up_body()), alice.delete(f"/users/{alice.id}")]
            statuses += [act.status_code for act in acts]
    assert statuses == [200] * 200


@pytest.mark.parametrize("setting", ["SIGN_UP_LIMIT", "SIGN_UP_ACCOUNT_LIMIT", "LOGIN_LIMIT", "LOGIN_ACCOUNT_LIMIT"])
def test_production_is_stricter_than_development(setting: str) -> None:
    """B1: production expects strangers."""
    rates = [
        min(limit.amount / limit.get_expiry() for limit in parse_many(getattr(profile, setting)))
        for profile in (ProdConfig, DevConfig)
    ]
    assert rates[0] < rates[1]
