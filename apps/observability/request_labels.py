"""What a request came to, in words of ours alone: what watches the service must not repeat a client's."""

from typing import NamedTuple
from wsgiref.types import WSGIEnvironment

from apps.utils.response import ERROR_TYPE

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class Outcome(NamedTuple):
    """`route` is the rule, never the path; "none" where none fits. `error` is empty unless it is a refusal."""

    method: str
    route: str
    status: str
    error: str


def outcome(environ: WSGIEnvironment, status: str) -> Outcome:
    """Return what the request came to; to be asked when its answer starts, for then Flask forgets the request."""
    rule = environ["werkzeug.request"].url_rule
    method = environ["REQUEST_METHOD"]
    return Outcome(
        method if method in _METHODS else "other",
        rule.rule if rule else "none",
        status[:3],
        environ.get(ERROR_TYPE, ""),
    )
