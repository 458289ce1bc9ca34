"""REDIS_URL of real Sentinels and of a real cluster, of which a server is killed."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from apps.settings.redis_url import is_redis_url
from tests.machines import RedisNode, cluster_port, wait_until
from tests.support import stores
from tests.support.people import People, Person

pytestmark = [pytest.mark.stores("sqlite"), pytest.mark.timeout(180)]
NAME = "accounts"
MOBILES = ("13200002222", "13200003333")


@pytest.mark.parametrize(
    ("url", "is_good"),
    [
        ("redis+sentinel://h1:26379,h2:26379/accounts", True),
        ("redis+sentinel://user:p%40ss@h1:26379/accounts", True),
        ("redis+cluster://h1:7000,h2:7001", True),
        ("redis+cluster://:secret@h1:7000", True),
        ("redis+sentinel://h1:26379", False),
        ("redis+cluster://h1:7000/accounts", False),
        ("redis+sentinel://h1/accounts", False),
        ("redis+cluster://", False),
        ("redis+other://h1:7000", False),
    ],
)
def test_a_url_of_several_servers_is_read_or_refused(url: str, is_good: bool) -> None:
    """S1: it is refused at the start, not at the first request."""
    assert is_redis_url(url) == is_good


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def node(stack: ExitStack, folder: Path, *options: str, **more: object) -> RedisNode:
    made = RedisNode(folder, *options, **more)  # type: ignore[arg-type]
    stack.callback(made.kill)
    return made


def application(stack: ExitStack, database_url: str, redis_url: str) -> Flask:
    app = stack.enter_context(stores.application(database_url, "", REDIS_URL=redis_url))
    wait_until(lambda: uses_cache(app))
    return app


def uses_cache(app: Flask) -> bool:
    return bool(app.extensions["cache"].ping())


def check_all(app: Flask, people: list[Person], mobile: str) -> None:
    """Change every user and read them back: the own new number, in bounded time."""
    for person in people:
        mine = Person(FlaskClient(app), person.id, person.username, person.access_token, person.refresh_token)
        started = time.monotonic()
        assert mine.patch(f"/users/{mine.id}", json={"mobile": mobile}).status_code == 200
        data = mine.get("/users/").get_json()["data"]
        assert (data["id"], data["username"], data["mobile"]) == (mine.id, mine.username, mobile)
        assert time.monotonic() - started < 5


def is_cached(person: Person) -> bool:
    return "cache" in person.get("/users/").get_json()["data"]


def test_a_failover_of_sentinels_is_followed(stack: ExitStack, tmp_path: Path, database_url: str) -> None:
    """V1, K5: the primary is killed; answers are right before, during and after the failover."""
    primary = node(stack, tmp_path)
    replica = node(stack, tmp_path, "--replicaof", "127.0.0.1", str(primary.port))
    wait_until(lambda: replica.client.info("replication")["master_link_status"] == "up")
    watch = f"sentinel monitor {NAME} 127.0.0.1 {primary.port} 2\n"
    watch += f"sentinel down-after-milliseconds {NAME} 500\nsentinel failover-timeout {NAME} 3000\n"
    sentinels = [node(stack, tmp_path, sentinel=watch) for _ in range(3)]
    wait_until(lambda: all(int(s.client.sentinel_master(NAME)["num-other-sentinels"]) == 2 for s in sentinels))
    wait_until(lambda: all(int(s.client.sentinel_master(NAME)["num-slaves"]) == 1 for s in sentinels))
    hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
    app = application(stack, database_url, f"redis+sentinel://{hosts}/{NAME}")
    people = [People(FlaskClient(app)).sign_up() for _ in range(3)]
    assert all(map(is_cached, people))
    primary.kill()
    check_all(app, people, MOBILES[0])
    wait_until(replica.is_primary)
    wait_until(lambda: uses_cache(app))
    check_all(app, people, MOBILES[1])
    assert all(map(is_cached, people))
    assert replica.client.keys("*:user")


def test_a_cluster_of_three_loses_one_and_gets_it_back(stack: ExitStack, tmp_path: Path, database_url: str) -> None:
    """V1, K5: users are spread over all nodes; answers are right with one killed, and later the cache is used again."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no")
    nodes = [node(stack, tmp_path, *options, port=cluster_port()) for _ in range(3)]
    for index, first in enumerate((0, 5461, 10923)):
        last = (5460, 10922, 16383)[index]
        nodes[index].client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
        nodes[index].client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port)
    wait_until(lambda: all(n.client.cluster("info")["cluster_known_nodes"] == "3" for n in nodes))
    wait_until(lambda: all(n.client.cluster("info")["cluster_state"] == "ok" for n in nodes))
    url = "redis+cluster://" + ",".join(f"127.0.0.1:{n.port}" for n in nodes[:2])
    app = application(stack, database_url, url)
    people = [People(FlaskClient(app)).sign_up() for _ in range(9)]
    assert all(map(is_cached, people))
    assert all(n.client.keys("*:user") for n in nodes), "not every node holds users"
    for each in nodes:  # a value of another program under one user's key: one miss each, and the breaker stays closed
        each.client.setrange(each.client.keys("*:user")[0], 30_000_000, "x")
    assert [is_cached(person) for person in people].count(False) == 3
    assert all(map(is_cached, people))
    nodes[2].kill()
    check_all(app, people, MOBILES[0])
    nodes[2].start()
    wait_until(lambda: all(n.client.cluster("info")["cluster_state"] == "ok" for n in nodes))
    wait_until(lambda: uses_cache(app))
    check_all(app, people, MOBILES[1])
    assert all(map(is_cached, people))


def test_the_service_starts_while_the_cluster_is_away(stack: ExitStack, database_url: str) -> None:
    """V1: it answers from the database."""
    with stores.application(database_url, "", REDIS_URL=f"redis+cluster://127.0.0.1:{cluster_port()}") as app:
        alice = People(FlaskClient(app)).sign_up()
        assert alice.get("/users/").status_code == 200
        app.extensions["cache"]._is_open = False
