"""Metrics for Prometheus: requests by route and status, password hashes, the cache, database connections.

Imported only if METRICS_TOKEN is set. A label is a URL rule, a method, a status or a type of apps/errors.py, never text
from a client, so the number of series stays small.
"""

import functools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, get_args
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
from apps.models.session import RetiredTokenUse
from apps.observability.request_labels import request_labels
from apps.security.password_hash import HashObserver

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # read by prometheus_client: with it, processes count in files of that folder
_ENCRYPTED_FIELDS = ("mobile", "signing key")  # the labels of their metric, which exist before the first failure
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """Every metric with its name and labels. A gauge is the sum over the live processes."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Histogram(
            "gatehouse_http_request_duration_seconds",
            "Duration of requests in seconds; `error` is the `type` in the envelope.",
            ("method", "route", "status", "error"),
            registry=registry,
            buckets=_SECONDS,
        )
        self.hashes = Histogram(
            "gatehouse_password_hash_seconds",
            "Duration of password hashes in seconds.",
            registry=registry,
            buckets=_SECONDS,
        )
        self.hash_waits = Histogram(
            "gatehouse_password_hash_wait_seconds",
            "Seconds that password hashes waited in the queue.",
            registry=registry,
            buckets=_SECONDS,
        )
        self.cache_lookups = Counter(
            "gatehouse_cache_lookups", "Cache entries looked up.", ("result",), registry=registry
        )
        self.cache_errors = Counter("gatehouse_cache_errors", "Failed calls to Redis.", registry=registry)
        self.values_removed = Counter(
            "gatehouse_redis_values_removed",
            "Values of another program, under keys of this service in Redis, that were removed.",
            ("kind",),
            registry=registry,
        )
        self.unreadable_fields = Counter(
            "gatehouse_unreadable_fields",
            "Reads of encrypted fields that could not be decrypted.",
            ("field",),
            registry=registry,
        )
        self.retired_tokens = Counter(
            "gatehouse_retired_refresh_tokens", "Uses of retired refresh tokens.", ("cause",), registry=registry
        )
        for cause in get_args(RetiredTokenUse):
            self.retired_tokens.labels(cause)  # 0 from the start, so that an alert sees the first increase
        self.hash_queue = self._gauge("gatehouse_password_hash_queue", "Password hashes that wait in the queue.")
        self.open_breakers = self._gauge("gatehouse_cache_breaker_open", "Processes that run without Redis.")
        self.connections = self._gauge("gatehouse_database_connections_in_use", "Pooled connections in use.")
        self.pool_size = self._gauge("gatehouse_database_pool_size", "Maximum number of pooled connections.")
        self.processes = self._gauge("gatehouse_processes", "Running worker processes.")

    def _gauge(self, name: str, meaning: str) -> Gauge:
        gauge = Gauge(name, meaning, registry=self.registry, multiprocess_mode="livesum")
        gauge.set(0)  # an earlier process may have had the same id
        return gauge


def init_app(app: Flask) -> None:
    """Measure `app`. Call it after all other extensions are initialized."""
    metrics = app.extensions["metrics"] = Metrics()
    # `_created` series double the number of series, and processes cannot share them.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    metrics.processes.set(1)
    app.wsgi_app = measure_requests(app.wsgi_app, metrics)  # type: ignore[method-assign,assignment]
    app.extensions["hashing"].observer = MeasuredHashes(metrics)
    measure_cache(app.extensions["cache"], metrics)
    unreadable = {field: metrics.unreadable_fields.labels(field) for field in _ENCRYPTED_FIELDS}
    app.extensions["unreadable_fields"].on_unreadable = lambda field: unreadable[field].inc()
    app.extensions["limits"].on_removed = metrics.values_removed.labels("counter").inc
    with app.app_context():
        measure_pool(db.engine, metrics)


def render() -> bytes:
    """Return the metrics of all processes in the text format of Prometheus."""
    folder = os.environ.get(_FOLDER)
    if folder is None:
        metrics: Metrics = current_app.extensions["metrics"]
        return prometheus_client.generate_latest(metrics.registry)
    _drop_dead_processes(Path(folder))
    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
    return prometheus_client.generate_latest(registry)


@contextmanager
def shared_by_processes() -> Iterator[None]:
    """Let processes that start in the block share their metrics, in a temporary folder under TMPDIR.

    The counts of a process stay there when it dies, so a counter never decreases.
    """
    with tempfile.TemporaryDirectory(prefix="gatehouse-metrics-", ignore_cleanup_errors=True) as folder:
        os.environ[_FOLDER] = folder
        # prometheus_client reads the variable at its import, which a forked process does not repeat.
        values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
        yield


def _drop_dead_processes(folder: Path) -> None:
    """Remove the gauges of killed processes."""
    for process_id in {int(file.stem.rpartition("_")[2]) for file in folder.glob("gauge_live*.db")}:
        if not _is_alive(process_id):
            with suppress(FileNotFoundError):  # another process handles a scrape at the same time
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
    """Return `application` with its requests measured."""
    series = functools.cache(metrics.requests.labels)  # `labels` is slow: it checks and converts its arguments

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        started = time.perf_counter()

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            series(*request_labels(environ, status)).observe(time.perf_counter() - started)
            return start_response(status, headers, exc_info)

        return application(environ, start)

    return serve


class MeasuredHashes(HashObserver):
    """Measures the wait and the duration of each hash."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def queued(self) -> None:
        """Add it to the queue gauge."""
        self._metrics.hash_queue.inc()

    def started(self, waited: float) -> None:
        """Remove it from the queue gauge and record its wait."""
        self._metrics.hash_queue.dec()
        self._metrics.hash_waits.observe(waited)

    def finished(self, took: float) -> None:
        """Record its duration."""
        self._metrics.hashes.observe(took)

    def cancelled(self) -> None:
        """Remove it from the queue gauge."""
        self._metrics.hash_queue.dec()


def measure_cache(store: Store, metrics: Metrics) -> None:
    """Count hits, misses, failures and open breakers of the cache."""
    hits, misses = metrics.cache_lookups.labels("hit"), metrics.cache_lookups.labels("miss")
    events: dict[str, Callable[[], None]] = {
        "error": metrics.cache_errors.inc,
        "open": lambda: metrics.open_breakers.set(1),
        "trusted": lambda: metrics.open_breakers.set(0),
        "removed": metrics.values_removed.labels("cache entry").inc,
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
    """Count the connections in use."""
    if isinstance(engine.pool, QueuePool):
        metrics.pool_size.set(engine.pool.size())

    @event.listens_for(engine, "checkout")
    def begin(_connection: Any, record: Any, _proxy: Any) -> None:
        record.record_info["is_counted"] = True
        metrics.connections.inc()

    @event.listens_for(engine, "checkin")
    def end(_connection: Any, record: Any) -> None:
        if record.record_info.pop("is_counted", False):  # False: the connection failed before its checkout
            metrics.connections.dec()
