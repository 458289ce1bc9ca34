"""The scenes: functions that begin a fault, wait, and end it, while the clients continue."""

import os
import random
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults import RedisServer, wait_until
from tests.faults.bench.load import NO_ANSWER, Client
from tests.faults.bench.stores import Database, Tmpfs, children
from tests.support import live, programs
from tests.support.nginx import nginx
from tests.support.proxy import Proxy

Statuses = frozenset[int]


@dataclass
class World:
    """Everything that a scene can break."""

    redis: RedisServer
    proxy: Proxy  # in front of Redis
    database: Database
    disk: Tmpfs | None
    servers: dict[int, live.Live]  # by port
    start: Callable[[int], None]
    clock: Path  # the file that libfaketime reads
    seconds: float  # duration of most faults

    def wait(self) -> None:
        time.sleep(self.seconds)


@dataclass
class Scene:
    """A fault. Clients may get the statuses in `may_see` while it lasts; any other is an error of the service."""

    name: str
    fault: Callable[[World], None]
    may_see: Statuses = frozenset({200})
    in_short: bool = False
    needs: str = ""  # a program that must be installed


def repeated(act: Callable[[], Any], every: float) -> Callable[[], Any]:
    """Call `act` now and every `every` seconds; return the function that stops this."""
    stop = threading.Event()

    def go() -> None:
        while not stop.is_set():
            act()
            stop.wait(every)

    thread = threading.Thread(target=go)
    thread.start()

    def end() -> None:
        stop.set()
        thread.join()

    return end


def redis_refused(world: World) -> None:
    world.proxy.refuse()
    world.wait()
    world.proxy.listen()


def redis_slow(world: World) -> None:
    world.proxy.delay = lambda: 0.05
    world.wait()
    world.proxy.delay = lambda: 0.0


def redis_black_hole(world: World) -> None:
    world.proxy.is_silent = True
    world.wait()
    world.proxy.is_silent = False
    world.proxy.cut()


def redis_hung(world: World) -> None:
    world.redis.freeze()
    world.wait()
    world.redis.thaw()


def redis_killed(world: World) -> None:
    world.redis.kill()
    world.wait()
    world.redis.start()


def redis_flushed(world: World) -> None:
    with world.redis.client as client:
        end = repeated(client.flushall, 0.2)
        world.wait()
        end()


def redis_read_only(world: World) -> None:
    with world.redis.client as client:
        client.replicaof("127.0.0.1", 1)
        world.wait()
        client.replicaof("no", "one")


def redis_full(world: World) -> None:
    with world.redis.client as client:
        client.config_set("maxmemory", 1)
        world.wait()
        client.config_set("maxmemory", 0)


def redis_holds_huge_values(world: World) -> None:
    """Write 3 MB, and later 30 MB, over the cache entry of one of the clients. No process may stop using Redis."""
    with world.redis.client as client:
        newest = max(client.scan_iter("*:user"), key=lambda key: int(re.findall(r"u:(\d+)", key)[0]))
        for size in (3_000_000, 30_000_000):
            opened = times_opened(world)
            client.setrange(newest, size, "x")
            time.sleep(0.5)  # every client has read
            assert times_opened(world) == opened, f"a value of {size} bytes opened a circuit breaker"
            time.sleep(world.seconds / 2)


def times_opened(world: World) -> int:
    return sum(server.log.count("cache.open") for server in world.servers.values())


def database_restarted(world: World) -> None:
    world.database.stop()
    world.database.start()


def database_killed(world: World) -> None:
    world.database.kill()
    world.wait()
    world.database.start()


def database_hung(world: World) -> None:
    world.database.freeze()
    world.wait()
    world.database.thaw()


def table_locked(world: World) -> None:
    with world.database.connect() as connection:
        for statement in world.database.lock:
            connection.exec_driver_sql(statement)
        time.sleep(30)
        connection.exec_driver_sql("ROLLBACK" if "BEGIN" in world.database.lock else "UNLOCK TABLES")


def disk_full(world: World) -> None:
    assert world.disk
    world.disk.fill()
    world.wait()
    world.disk.empty()
    with suppress(subprocess.TimeoutExpired):  # PostgreSQL exits when it cannot write its log
        world.database.process.wait(1)
        world.database.start()


def workers_killed(world: World) -> None:
    def kill_one() -> None:
        workers = [worker for server in world.servers.values() for worker in children(server.process.pid)]
        if workers:
            os.kill(random.choice(workers), signal.SIGKILL)

    end = repeated(kill_one, 1.0)
    time.sleep(7.5 * world.seconds)  # a minute, or in a short run a quarter of it
    end()


def workers_replaced(world: World) -> None:
    old = {worker for server in world.servers.values() for worker in children(server.process.pid)}
    for server in world.servers.values():
        server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: not any(old & set(children(server.process.pid)) for server in world.servers.values()), 60)


def rolling_restart(world: World) -> None:
    for port, server in list(world.servers.items()):
        live.stop(server.process)
        world.start(port)


def everything_stopped(world: World) -> None:
    for server in world.servers.values():
        server.process.terminate()
    for server in world.servers.values():
        server.process.wait(60)
    for port in list(world.servers):
        world.start(port)


def clock_jumps(world: World) -> None:
    for offset in ("+600", "+0", "-5", "+0"):
        world.clock.write_text(offset)
        world.wait()


def slow_clients(world: World) -> None:
    """Send headers and bodies byte by byte to nginx, as deploy/ configures it. The other clients bypass nginx.

    The bodies come with a valid token.
    """
    program, seconds = programs.find("nginx"), str(int(world.seconds))
    assert program, "no nginx here"
    somebody = Client(f"slow-{time.monotonic_ns()}", list(world.servers), Path(os.devnull))
    somebody.sign_up()
    with tempfile.TemporaryDirectory() as folder, nginx(program, Path(folder), list(world.servers)) as front:
        command = [
            "slowhttptest",
            "-c",
            "200",
            "-r",
            "100",
            "-l",
            seconds,
            "-i",
            "2",
            "-u",
            f"{front.url}/api/v1/logout",
        ]
        # The option -m sets the Accept header; there is none for others.
        token = f"*/*\r\nAuthorization: Bearer {somebody.token}"
        headers, bodies = ["-H"], ["-B", "-t", "POST", "-f", "application/json", "-m", token]
        attacks = [subprocess.Popen([*command, *kind], stdout=subprocess.DEVNULL) for kind in (headers, bodies)]
        world.wait()
        for attack in attacks:
            attack.terminate()
            attack.wait()


UNAVAILABLE = frozenset({200, 503})
CUT = frozenset({200, NO_ANSWER})

REDIS = [
    Scene("Redis refuses connections", redis_refused),
    Scene("Redis answers 50 ms late", redis_slow),
    Scene("the network to Redis swallows all", redis_black_hole, in_short=True),
    Scene("Redis hangs (SIGSTOP)", redis_hung, in_short=True),
    Scene("Redis is killed, and comes back empty", redis_killed, in_short=True),
    Scene("Redis is flushed every 0.2 s", redis_flushed),
    Scene("Redis is read-only", redis_read_only),
    Scene("Redis is full (maxmemory 1)", redis_full),
    Scene("Redis holds 3 MB and 30 MB as a user's entry", redis_holds_huge_values, in_short=True),
]
DATABASE = [
    Scene("{database} is restarted", database_restarted, UNAVAILABLE, in_short=True),
    Scene("{database} is killed (SIGKILL), and recovers", database_killed, UNAVAILABLE),
    Scene("{database} hangs (SIGSTOP)", database_hung, UNAVAILABLE, in_short=True),
    Scene("a table of {database} is locked for 30 s", table_locked, UNAVAILABLE),
    Scene("the disk of {database} is full", disk_full, UNAVAILABLE, needs="mount"),
]
SERVICE = [
    Scene("a random worker is killed (SIGKILL) every second", workers_killed, CUT, in_short=True),
    Scene("all workers are replaced (SIGHUP)", workers_replaced, in_short=True),
    Scene("both processes are restarted, one after the other (SIGTERM)", rolling_restart),
    Scene("the whole service is stopped and started (SIGTERM)", everything_stopped, CUT),
    Scene("400 slow clients (slowhttptest), through nginx", slow_clients, needs="slowhttptest"),
]
CLOCK = [
    Scene("the clock jumps 10 min ahead and back, and 5 s back", clock_jumps, frozenset({200, 401}), needs="faketime"),
]
