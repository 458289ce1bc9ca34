"""Metrics for Prometheus, at the root beside the API. Registered only if METRICS_TOKEN is set."""

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST

from apps.http.contract import Policy
from apps.http.endpoint import endpoint
from apps.observability.metrics import render

monitoring = Blueprint("monitoring", __name__)


@monitoring.get("/metrics")
@endpoint(policy=Policy.MONITOR, answer=None)
def metrics() -> Response:
    """Return the metrics."""
    return Response(render(), content_type=CONTENT_TYPE_LATEST)
