"""Low-cardinality labels of a finished request, for metrics and traces; never text from the client."""

from typing import NamedTuple
from wsgiref.types import WSGIEnvironment

from apps.utils.response import ERROR_TYPE

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class RequestLabels(NamedTuple):
    """`route` is the rule, not the path, and "none" if no rule matched. `error` is empty without an error."""

    method: str
    route: str
    status: str
    error: str


def request_labels(environ: WSGIEnvironment, status: str) -> RequestLabels:
    """Return the labels. Call it from `start_response`: Flask drops the request afterwards."""
    rule = environ["werkzeug.request"].url_rule
    method = environ["REQUEST_METHOD"]
    return RequestLabels(
        method if method in _METHODS else "other",
        rule.rule if rule else "none",
        status[:3],
        environ.get(ERROR_TYPE, ""),
    )
