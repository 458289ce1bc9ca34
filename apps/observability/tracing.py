"""Traces for OpenTelemetry: a span for each request, with a child span for each SQL statement.

The standard OTEL_* variables configure it. A span contains no client data: no path, query, header, address or value of
a statement. From the client only the id of its trace is accepted (W3C Trace Context).
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
    """Adds the trace id to every log line of a request."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the id and keep the record."""
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            record.trace_id = trace.format_trace_id(context.trace_id)
        return True


def init_app(app: Flask) -> None:
    """Trace `app`. Call it after all other extensions are initialized."""
    resource = Resource({"service.name": "gatehouse"}).merge(OTELResourceDetector().detect())
    provider = app.extensions["tracer_provider"] = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    # A forked worker ends without `atexit`, where the library would send the last spans.
    Finalize(None, provider.shutdown, exitpriority=0)
    tracer = provider.get_tracer("gatehouse")
    app.wsgi_app = trace_requests(app.wsgi_app, tracer)  # type: ignore[method-assign,assignment]
    with app.app_context():
        trace_statements(db.engine, tracer)
    for handler in logging.getLogger("apps").handlers:
        handler.addFilter(TraceIdFilter())


def trace_requests(application: WSGIApplication, tracer: Tracer) -> WSGIApplication:
    """Return `application` with a span for each request."""

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        parent = _propagator.extract({"traceparent": environ.get("HTTP_TRACEPARENT", "")})
        with tracer.start_as_current_span(
            "request",
            parent,
            SpanKind.SERVER,
            record_exception=False,  # the text of an exception may quote anything
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
    """Create a child span for each SQL statement. Its text has placeholders instead of values."""

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
            span.set_status(StatusCode.ERROR)  # without the text of the error, which may quote rows
            span.end()
