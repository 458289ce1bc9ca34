"""The traces that an OpenTelemetry collector receives, and the trace id in log lines."""

import io
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from sqlalchemy import text

from apps.extensions import db
from tests.support import live, stores
from tests.support.collector import Collector, collecting
from tests.support.every_route import EveryRoute
from tests.support.people import PASSWORD, People, bearer, sign_up_body

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
CANARY = "canary-7Qe2vX"

pytestmark = pytest.mark.stores("sqlite", "postgresql")


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def app(store: str, database_url: str, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.port}")
    redis_url = stores.cache_url(stores.PAIRS[store].cache)
    with stores.application(database_url, redis_url) as app:
        yield app
    app.extensions["tracer_provider"].shutdown()


def spans(app: Flask, collector: Collector) -> list[Span]:
    app.extensions["tracer_provider"].force_flush()
    requests = [ExportTraceServiceRequest.FromString(body) for _, body in collector.received]
    resources = [resource for request in requests for resource in request.resource_spans]
    for resource in resources:
        names = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
        assert names["service.name"] == "gatehouse"
    return [span for resource in resources for scope in resource.scope_spans for span in scope.spans]


def attributes(span: Span) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in span.attributes}


def of_requests(spans: list[Span]) -> list[Span]:
    return [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]


def test_a_request_is_a_span_with_its_statements_below_it(app: Flask, people: People, collector: Collector) -> None:
    alice = people.sign_up()
    assert alice.get(f"/users/{alice.id}").status_code == 200
    all_spans = spans(app, collector)
    signed_up, read = of_requests(all_spans)
    assert (signed_up.name, read.name) == ("POST /api/v1/users/", "GET /api/v1/users/<id:user_id>")
    assert attributes(read) == {
        "http.request.method": "GET",
        "http.route": "/api/v1/users/<id:user_id>",
        "http.response.status_code": 200,
    }
    below = [span for span in all_spans if span.parent_span_id == signed_up.span_id]
    assert "INSERT" in {span.name for span in below}
    assert {span.trace_id for span in below} == {signed_up.trace_id}
    assert all(span.end_time_unix_nano >= span.start_time_unix_nano for span in below)


@pytest.mark.stores("sqlite")
def test_a_trace_that_a_client_began_goes_on(app: Flask, client: FlaskClient, collector: Collector) -> None:
    client.get("/healthz", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    client.get("/healthz", headers={"traceparent": CANARY})
    first, second = of_requests(spans(app, collector))
    assert (first.trace_id.hex(), first.parent_span_id.hex()) == (TRACE, PARENT)
    assert (second.trace_id.hex() != TRACE, second.parent_span_id) == (True, b"")


@pytest.mark.stores("sqlite")
def test_a_log_line_names_its_trace(app: Flask, client: FlaskClient, output: io.StringIO, collector: Collector) -> None:
    client.get("/healthz")
    (span,) = of_requests(spans(app, collector))
    line = json.loads(output.getvalue().splitlines()[-1])
    assert (line["event"], line["trace_id"]) == ("request", span.trace_id.hex())


@pytest.mark.stores("sqlite")
def test_a_refusal_names_its_type_and_is_the_clients_fault(
    app: Flask, client: FlaskClient, collector: Collector
) -> None:
    client.get("/api/v1/users/")
    (span,) = of_requests(spans(app, collector))
    assert attributes(span)["error.type"] == "missing_token"
    assert span.status.code == Status.STATUS_CODE_UNSET


def test_an_error_of_the_database_is_one_without_its_text(
    app: Flask, client: FlaskClient, collector: Collector
) -> None:
    with app.app_context():
        db.session.execute(text("ALTER TABLE users RENAME TO elsewhere"))
        db.session.commit()
    try:
        response = client.post("/api/v1/users/", json=sign_up_body("alice-liddell"))
    finally:
        with app.app_context():
            db.session.execute(text("ALTER TABLE elsewhere RENAME TO users"))
            db.session.commit()
    assert response.status_code >= 500
    failed = [span for span in spans(app, collector) if span.status.code == Status.STATUS_CODE_ERROR]
    assert len(failed) == 2
    assert {span.kind for span in failed} == {Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT}
    assert [(span.status.message, list(span.events)) for span in failed] == [("", [])] * 2


@pytest.mark.stores("sqlite")
def test_what_a_worker_did_last_is_sent_when_it_stops(app: Flask, collector: Collector, tmp_path: Path) -> None:
    """V5: a worker holds up to five seconds of spans."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}"}
    with live.live_server(tmp_path, "serve", **environment) as server:
        urllib.request.urlopen(f"{server.url}/healthz", timeout=30).close()
    assert "GET /healthz" in [span.name for span in spans(app, collector)]


def test_no_secret_and_no_name_is_in_a_trace(app: Flask, client: FlaskClient, collector: Collector) -> None:
    """L1: after a request to each route, and with secrets in the wrong places."""
    every = EveryRoute(app, client)
    for _, send in every.requests:
        send()
    client.get(f"/api/v1/{CANARY}?access_token={CANARY}", headers={**bearer(CANARY), "tracestate": f"a={CANARY}"})
    client.get("/healthz", headers={"baggage": f"a={CANARY}", "User-Agent": CANARY, "Cookie": f"a={CANARY}"})
    client.open("/healthz", method=CANARY.upper())
    client.post("/api/v1/users/", json=sign_up_body(every.admin.username))  # taken: the database's error has the name
    people = (every.alice, every.bob, every.admin)
    secrets = {CANARY, CANARY.upper(), PASSWORD, every.service_secret, every.service_id, "13200001111", "argon2"}
    secrets |= {secret for person in people for secret in (person.username, person.access_token, person.refresh_token)}
    assert len(of_requests(spans(app, collector))) > 30
    assert [secret for secret in secrets if secret in collector.everything] == []
