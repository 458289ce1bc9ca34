"""Probes for a load balancer or an orchestrator."""

import msgspec
from flask import Blueprint, Response

from apps.config import settings
from apps.errors import NotReady
from apps.http.contract import Policy
from apps.http.endpoint import endpoint
from apps.services.health import problems
from apps.utils.response import HttpResponse

health = Blueprint("health", __name__)


class HealthAnswer(msgspec.Struct):
    """The process runs."""

    status: str


class ReadinessAnswer(msgspec.Struct):
    """Which stores respond. Without Redis the service is slower, not wrong, so it stays ready."""

    database: bool
    cache: bool


@health.get("/healthz")
@endpoint(policy=Policy.ANYONE, answer=HealthAnswer)
def healthz() -> Response:
    """Check that the process runs. Restart it if this does not respond."""
    return HttpResponse.success(HealthAnswer("ok"))


@health.get("/readyz")
@endpoint(policy=Policy.ANYONE, answer=ReadinessAnswer, errors=(NotReady,))
def readyz() -> Response:
    """Check that the process can serve requests. 503 names what is missing."""
    found = problems()
    is_ready = not (set(found) - {"cache"} or ("cache" in found and not settings().REDIS_URL))
    if not is_ready:
        raise NotReady(found)  # without REDIS_URL, no cache means that another process holds its lock
    return HttpResponse.success(ReadinessAnswer(database=True, cache="cache" not in found))
