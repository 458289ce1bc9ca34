"""One run: start the stores and two processes of the service, play the scenes, and evaluate each."""

import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults import RedisServer
from tests.faults.bench.load import NO_ANSWER, Answer, Client, Load, lost_writes, number
from tests.faults.bench.scenes import CLOCK, DATABASE, REDIS, SERVICE, Scene, World
from tests.faults.bench.stores import Database, MariaDB, PostgreSQL, Tmpfs
from tests.support import live, programs
from tests.support.proxy import Proxy

CLIENTS = 6
RECOVERY = 45  # seconds within which every request must succeed again
_FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"
_SETTINGS = {
    "GATEHOUSE_JWT_ACCESS_TOKEN_EXPIRES": "7200",
    "GATEHOUSE_JWT_REFRESH_TOKEN_EXPIRES": "14400",
    **{f"GATEHOUSE_{name}_LIMIT": "1000000/minute" for name in ("SIGN_UP", "LOGIN", "LOGIN_ACCOUNT", "UPDATE_ACCOUNT")},
}


@dataclass
class Verdict:
    """The result of a scene."""

    scene: str
    seen: Counter[tuple[str, int]]  # (kind of request, status) during the fault
    p99: float  # seconds of a read during the fault
    healthy_p99: float
    recovery: float  # seconds from the end of the fault to the last failed request
    lost: list[str]
    wrong: int
    stale: list[str]
    unexpected: list[tuple[str, int]]

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.wrong or self.stale or self.unexpected) and self.recovery < RECOVERY


def run(*, is_short: bool) -> Iterator[Verdict]:
    """Play the scenes and yield the verdict on each."""
    programme = [(PostgreSQL, [*REDIS, *DATABASE, *SERVICE]), (MariaDB, DATABASE), (PostgreSQL, CLOCK)]
    for kind, scenes in programme:
        chosen = [scene for scene in scenes if scene.in_short or not is_short]
        if chosen:
            environment = faketime if chosen == CLOCK else no_environment
            with world(kind, 2 if is_short else 8, environment) as stage:
                for scene in chosen:
                    if is_possible(scene, stage):
                        yield play(scene, stage)


def is_possible(scene: Scene, stage: World) -> bool:
    if scene.needs == "mount":
        return stage.disk is not None
    return not scene.needs or programs.find(scene.needs) is not None


@contextmanager
def world(kind: type[Database], seconds: float, more: Callable[[Path], dict[str, str]]) -> Iterator[World]:
    """Start everything that a scene can break."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gh-", dir="/tmp")))
        folder.chmod(0o755)  # the database's user must be able to enter it
        disk = None
        place = folder / "database"
        if Tmpfs.is_possible():
            disk = Tmpfs(place, 400)
            stack.callback(disk.close)
        else:
            place.mkdir()
        (folder / "redis").mkdir()
        redis = RedisServer(folder / "redis")
        stack.callback(redis.kill)
        database = kind(place)
        stack.callback(database.close)
        proxy = stack.enter_context(Proxy(redis.url.removeprefix("unix://")))
        clock = folder / "clock"
        clock.write_text("+0")
        environment = _SETTINGS | {
            "DATABASE_URL": database.url,
            "REDIS_URL": f"redis://127.0.0.1:{proxy.port}/0",
            **more(clock),
        }
        servers: dict[int, live.Live] = {}

        def start(port: int) -> None:
            home = folder / "service"
            home.mkdir(exist_ok=True)
            live.checkout(home)
            servers[port] = live.start(home, port, "serve", "--workers=2", "--threads=8", **environment)

        stack.callback(lambda: [live.stop(server.process) for server in servers.values()])
        for port in (live.free_port(), live.free_port()):
            start(port)
        yield World(redis, proxy, database, disk, servers, start, clock, seconds)


def no_environment(_clock: Path) -> dict[str, str]:
    return {}


def faketime(clock: Path) -> dict[str, str]:
    """Return the environment that lets a file set the clock of the service; empty without libfaketime."""
    library = next(iter(sorted(Path("/").glob(_FAKETIME.removeprefix("/")))), None)
    if library is None:
        return {}
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def play(scene: Scene, stage: World) -> Verdict:
    """Load the service before, during and after the fault, and evaluate its answers."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal"
        journal.touch()
        clients = make_clients(stage, journal)
        with Load(clients):
            time.sleep(max(2.0, stage.seconds / 2))
            began = time.monotonic()
            scene.fault(stage)
            ended = time.monotonic()
            wait_until_well(clients)
        return judge(scene, stage, clients, journal, began, ended)


def make_clients(stage: World, journal: Path) -> list[Client]:
    ports = list(stage.servers)
    clients = [
        Client(f"client-{time.monotonic_ns()}-{index}", ports[index % 2 :] + ports[: index % 2], journal)
        for index in range(CLIENTS)
    ]
    for client in clients:
        client.sign_up()
        client.answers.clear()
    return clients


def wait_until_well(clients: list[Client]) -> None:
    """Wait until all requests of two seconds succeed, at most `RECOVERY` seconds."""
    deadline = time.monotonic() + RECOVERY
    while time.monotonic() < deadline:
        time.sleep(0.5)
        since = time.monotonic() - 2
        recent = [answer for client in clients for answer in list(client.answers) if answer.sent > since]
        if len(recent) > 2 * CLIENTS and all(answer.status == 200 for answer in recent):
            return


def judge(scene: Scene, stage: World, clients: list[Client], journal: Path, began: float, ended: float) -> Verdict:
    answers = [answer for client in clients for answer in client.answers]
    # The fault affects every request that was sent before its end and answered after its begin.
    during = [answer for answer in answers if answer.sent + answer.seconds > began and answer.sent < ended]
    healthy = [answer for answer in answers if answer.sent + answer.seconds <= began]
    bad = [answer for answer in answers if answer.sent >= ended and answer.status != 200]
    seen = Counter((answer.what, answer.status) for answer in during)
    outside = {(answer.what, answer.status) for answer in healthy if answer.status != 200}
    unexpected = {key for key in seen | Counter((a.what, a.status) for a in bad) if key[1] not in scene.may_see}
    found = {client.id: final_number(client) for client in clients}
    return Verdict(
        scene=scene.name.format(database=type(stage.database).__name__),
        seen=seen,
        p99=percentile([answer for answer in during if answer.what == "read"]),
        healthy_p99=percentile([answer for answer in healthy if answer.what == "read"]),
        recovery=max((answer.sent + answer.seconds - ended for answer in bad), default=0.0),
        lost=lost_writes(journal, found),
        wrong=sum(len(client.wrong) for client in clients),
        stale=[text for client in clients for text in client.stale],
        unexpected=sorted(unexpected | outside),
    )


def final_number(client: Client) -> str:
    """Return the stored number after the scene."""
    client.log_in()
    answer = client.send("read", "GET", "/users/")
    return str(answer.data.get("mobile", number(0)))


def percentile(answers: list[Answer]) -> float:
    seconds = [answer.seconds for answer in answers if answer.status != NO_ANSWER]
    return statistics.quantiles(seconds, n=100)[98] if len(seconds) > 1 else 0.0
