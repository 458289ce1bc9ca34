"""Traces for OpenTelemetry: a span for each request, and one below it for each statement to the database.

The standard variables OTEL_* configure it. A span says nothing of a client: no path, no query, no header, no address,
no value of a statement. Of what a client sends, only the id of its own trace is believed (W3C Trace Context).
"""

import logging
from multiprocessing.util import Finalize
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from sqlalchemy import Connection, Engine, event

from apps.extensions import db
from apps.observability.request_labels import request_labels

_propagator = TraceContextTextMapPropagator()


class TraceIdFilter(logging.Filter):
    """Gives every line that is written during a request the id of its trace."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the id; let the line pass."""
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            record.trace_id = trace.format_trace_id(context.trace_id)
        return True


def init_app(app: Flask) -> None:
    """Trace `app`; to be called when everything else is in place."""
    resource = Resource({"service.name": "gatehouse"}).merge(OTELResourceDetector().detect())
    provider = app.extensions["tracer_provider"] = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    # A worker is forked, and ends without `atexit`, by which the library would send its last spans.
    Finalize(None, provider.shutdown, exitpriority=0)
    tracer = provider.get_tracer("gatehouse")
    app.wsgi_app = trace_requests(app.wsgi_app, tracer)  # type: ignore[method-assign,assignment]
    with app.app_context():
        trace_statements(db.engine, tracer)
    for handler in logging.getLogger("apps").handlers:
        handler.addFilter(TraceIdFilter())


def trace_requests(application: WSGIApplication, tracer: Tracer) -> WSGIApplication:
    """Return `application`, traced."""

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        parent = _propagator.extract({"traceparent": environ.get("HTTP_TRACEPARENT", "")})
        with tracer.start_as_current_span(
            "request",
            parent,
            SpanKind.SERVER,
            record_exception=False,  # its text may quote anything
            set_status_on_exception=False,
        ) as span:

            def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
                labels = request_labels(environ, status)
                span.update_name(f"{labels.method} {labels.route}")
                span.set_attribute("http.request.method", labels.method)
                span.set_attribute("http.route", labels.route)
                span.set_attribute("http.response.status_code", int(labels.status))
                if labels.error:
                    span.set_attribute("error.type", labels.error)
                if labels.status >= "500":
                    span.set_status(StatusCode.ERROR)
                return start_response(status, headers, exc_info)

            return application(environ, start)

    return serve


def trace_statements(engine: Engine, tracer: Tracer) -> None:
    """Give each statement a span, below the request's. Its text has placeholders where the values go."""

    @event.listens_for(engine, "before_cursor_execute")
    def begin(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        attributes = {"db.system.name": engine.dialect.name, "db.query.text": statement}
        span = tracer.start_span(statement.split(maxsplit=1)[0], kind=SpanKind.CLIENT, attributes=attributes)
        connection.info.setdefault("spans", []).append(span)

    @event.listens_for(engine, "after_cursor_execute")
    def end(connection: Connection, *_: Any) -> None:
        connection.info["spans"].pop().end()

    @event.listens_for(engine, "handle_error")
    def fail(context: Any) -> None:
        spans = context.connection.info.get("spans") if context.connection else None
        if spans:
            span = spans.pop()
            span.set_status(StatusCode.ERROR)  # without the error's text, which quotes rows
            span.end()
