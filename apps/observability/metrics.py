"""Metrics for Prometheus: requests by route and status, password hashes, the cache, database connections.

Imported only if METRICS_TOKEN is set. A label is the route's rule, a method, a status or a word of apps/errors.py and
never text from a client, so the number of series stays small.
"""

import functools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import prometheus_client
from flask import Flask, current_app
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from sqlalchemy import Engine, event
from sqlalchemy.pool import QueuePool

from apps.cache.redis import RedisCache
from apps.cache.store import Store
from apps.extensions import db
from apps.observability.request_labels import request_labels
from apps.security.password_hash import HashObserver

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the library's own: where it is set, processes count into files there
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """Every metric, with its name and labels. Gauges are of living processes, and added up."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Histogram(
            "gatehouse_http_request_duration_seconds",
            "Seconds that requests took, by route and outcome; `error` is the type in the envelope.",
            ("method", "route", "status", "error"),
            registry=registry,
            buckets=_SECONDS,
        )
        self.hashes = Histogram(
            "gatehouse_password_hash_seconds", "Seconds that password hashes took.", registry=registry, buckets=_SECONDS
        )
        self.hash_waits = Histogram(
            "gatehouse_password_hash_wait_seconds",
            "Seconds that password hashes waited for their turn.",
            registry=registry,
            buckets=_SECONDS,
        )
        self.cache_lookups = Counter(
            "gatehouse_cache_lookups", "Entries asked of the cache.", ("result",), registry=registry
        )
        self.cache_errors = Counter("gatehouse_cache_errors", "Calls to the cache that failed.", registry=registry)
        self.hash_queue = self._gauge("gatehouse_password_hash_queue", "Password hashes that wait for their turn.")
        self.open_breakers = self._gauge("gatehouse_cache_breaker_open", "Processes that do without the cache.")
        self.connections = self._gauge("gatehouse_database_connections_in_use", "Connections of the pools in use.")
        self.pool_size = self._gauge("gatehouse_database_pool_size", "Connections that the pools may keep.")
        self.processes = self._gauge("gatehouse_processes", "Processes that serve.")

    def _gauge(self, name: str, meaning: str) -> Gauge:
        gauge = Gauge(name, meaning, registry=self.registry, multiprocess_mode="livesum")
        gauge.set(0)  # also where a process before had the same id
        return gauge


def init_app(app: Flask) -> None:
    """Measure `app`; to be called when everything else is in place."""
    metrics = app.extensions["metrics"] = Metrics()
    # They would double the series, and processes cannot share them.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    metrics.processes.set(1)
    app.wsgi_app = measure_requests(app.wsgi_app, metrics)  # type: ignore[method-assign,assignment]
    app.extensions["hashing"].observer = MeasuredHashes(metrics)
    measure_cache(app.extensions["cache"], metrics)
    with app.app_context():
        measure_pool(db.engine, metrics)


def render() -> bytes:
    """Return what all processes of the service counted, in Prometheus' text format."""
    folder = os.environ.get(_FOLDER)
    if folder is None:
        metrics: Metrics = current_app.extensions["metrics"]
        return prometheus_client.generate_latest(metrics.registry)
    _forget_dead_processes(Path(folder))
    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
    return prometheus_client.generate_latest(registry)


@contextmanager
def shared_by_processes() -> Iterator[None]:
    """Have processes that start within the block count into one new folder, which goes with it.

    It is under TMPDIR. What a process counted stays there when it dies: a counter never goes back.
    """
    with tempfile.TemporaryDirectory(prefix="gatehouse-metrics-", ignore_cleanup_errors=True) as folder:
        os.environ[_FOLDER] = folder
        # The library looks at it when it is imported, which a process that is forked does not do again.
        values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
        yield


def _forget_dead_processes(folder: Path) -> None:
    """Drop the gauges of processes that were killed."""
    for process_id in {int(file.stem.rpartition("_")[2]) for file in folder.glob("gauge_live*.db")}:
        if not _is_alive(process_id):
            with suppress(FileNotFoundError):  # another process was asked at the same time
                mark_process_dead(process_id, str(folder))  # type: ignore[no-untyped-call]


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def measure_requests(application: WSGIApplication, metrics: Metrics) -> WSGIApplication:
    """Return `application`, measured."""
    series = functools.cache(metrics.requests.labels)  # which checks and converts the labels each time

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        started = time.perf_counter()

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            series(*request_labels(environ, status)).observe(time.perf_counter() - started)
            return start_response(status, headers, exc_info)

        return application(environ, start)

    return serve


class MeasuredHashes(HashObserver):
    """Measures how long each hash waits and takes."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def queued(self) -> None:
        """Count it among those that wait."""
        self._metrics.hash_queue.inc()

    def started(self, waited: float) -> None:
        """Note the wait."""
        self._metrics.hash_queue.dec()
        self._metrics.hash_waits.observe(waited)

    def finished(self, took: float) -> None:
        """Note the time."""
        self._metrics.hashes.observe(took)

    def cancelled(self) -> None:
        """No longer count it among those that wait."""
        self._metrics.hash_queue.dec()


def measure_cache(store: Store, metrics: Metrics) -> None:
    """Count hits, misses and failures of the cache."""
    hits, misses = metrics.cache_lookups.labels("hit"), metrics.cache_lookups.labels("miss")
    events: dict[str, Callable[[], None]] = {
        "error": metrics.cache_errors.inc,
        "open": lambda: metrics.open_breakers.set(1),
        "closed": lambda: metrics.open_breakers.set(0),
    }

    def count(hit: int, missed: int) -> None:
        if missed:
            misses.inc(missed)
        if hit:
            hits.inc(hit)

    store.on_lookup = count
    if isinstance(store, RedisCache):
        store.on_event = lambda event: events[event]()


def measure_pool(engine: Engine, metrics: Metrics) -> None:
    """Count the connections that are in use."""
    if isinstance(engine.pool, QueuePool):
        metrics.pool_size.set(engine.pool.size())

    @event.listens_for(engine, "checkout")
    def begin(_connection: Any, record: Any, _proxy: Any) -> None:
        record.record_info["is_counted"] = True
        metrics.connections.inc()

    @event.listens_for(engine, "checkin")
    def end(_connection: Any, record: Any) -> None:
        if record.record_info.pop("is_counted", False):  # else it failed before it was used
            metrics.connections.dec()
