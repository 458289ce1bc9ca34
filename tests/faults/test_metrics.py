"""Metrics of several processes when one is killed, and when Redis fails and recovers."""

import os
import signal
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask import Flask

from apps import create_app
from apps.config import settings
from tests.faults import redis_server, wait_until
from tests.support import live, metrics
from tests.support.people import bearer

REQUESTS = "gatehouse_http_request_duration_seconds_count"
PROCESSES = "gatehouse_processes"
TIMEOUT = 45  # seconds; a start takes one or two, but a busy machine may be slower
SENT = 200


def get(url: str) -> str:
    """Send a GET on a new connection, so that any worker may answer."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=bearer(metrics.TOKEN)), timeout=30) as response:
        text: str = response.read().decode()
        return text


def send(url: str, times: int) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(get, [url] * times))


def worker_ids(folder: Path) -> set[int]:
    """Return the process ids in the names of the workers' files."""
    return {int(file.stem.rpartition("_")[2]) for file in folder.glob("*/gauge_livesum_*.db")}


@pytest.mark.timeout(180)
@pytest.mark.stores("postgresql")
def test_requests_to_any_worker_are_counted_once_and_stay_counted_when_it_is_killed(app: Flask, tmp_path: Path) -> None:
    """V4: counters hold every answered request, whichever worker is scraped; gauges hold the live workers only."""
    shared = tmp_path / "tmp"
    shared.mkdir()
    environment = {
        "DATABASE_URL": settings(app).DATABASE_URL,
        "REDIS_URL": settings(app).REDIS_URL,
        "GATEHOUSE_METRICS_TOKEN": metrics.TOKEN,
        "TMPDIR": str(shared),
    }
    with live.live_server(tmp_path, "serve", "--workers=2", "--threads=4", **environment) as server:

        def scraped(name: str, **labels: str) -> float:
            return metrics.total(metrics.parse(get(f"{server.url}/metrics")), name, **labels)

        healthz = f"{server.url}/healthz"
        wait_until(lambda: scraped(PROCESSES) == 2, TIMEOUT)
        send(healthz, SENT)
        assert {scraped(REQUESTS, route="/healthz") for _ in range(10)} == {SENT}
        workers = worker_ids(shared)
        assert len(workers) == 2
        assert all(has_counted(shared, worker) for worker in workers), "one worker answered everything"

        os.kill(victim := workers.pop(), signal.SIGKILL)
        wait_until(answers_without_gauges_of(shared, victim, lambda: scraped(PROCESSES)), TIMEOUT)
        assert scraped(REQUESTS, route="/healthz") == SENT
        wait_until(lambda: scraped(PROCESSES) == 2, TIMEOUT)
        assert worker_ids(shared) > workers
        send(healthz, SENT)
        assert {scraped(REQUESTS, route="/healthz") for _ in range(10)} == {2 * SENT}
    assert list(shared.glob("gatehouse-metrics-*")) == []


def has_counted(folder: Path, worker: int) -> bool:
    return any(b"/healthz" in file.read_bytes() for file in folder.glob(f"*/histogram_{worker}.db"))


def answers_without_gauges_of(folder: Path, worker: int, scrape: Callable[[], float]) -> Callable[[], bool]:
    def is_so() -> bool:
        try:
            processes = scrape()
        except OSError:  # the request reached the killed worker
            return False
        assert processes <= 2
        return worker not in worker_ids(folder)

    return is_so


def test_the_metrics_tell_when_the_breaker_opens_and_closes() -> None:
    with redis_server() as redis:
        app = create_app(
            "testing", DATABASE_URL="sqlite://", REDIS_URL=redis.url, METRICS_TOKEN=metrics.TOKEN, REDIS_TIMEOUT=1
        )
        client = app.test_client()

        def value_of(name: str) -> float:
            return metrics.total(metrics.parse(client.get("/metrics", headers=bearer(metrics.TOKEN)).text), name)

        def ask_the_cache() -> bool:
            with app.app_context():
                return bool(app.extensions["cache"].ping())

        assert ask_the_cache()
        assert (value_of("gatehouse_cache_breaker_open"), value_of("gatehouse_cache_errors_total")) == (0, 0)
        redis.kill()
        assert not ask_the_cache()
        assert not ask_the_cache()  # the breaker is open: no call, no error
        assert (value_of("gatehouse_cache_breaker_open"), value_of("gatehouse_cache_errors_total")) == (1, 1)
        (redis.folder / "socket").unlink(missing_ok=True)
        redis.start()
        wait_until(lambda: value_of("gatehouse_cache_breaker_open") == 0)
        assert value_of("gatehouse_cache_errors_total") == 1
        app.extensions["cache"]._client.drop()
