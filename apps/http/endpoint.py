"""`@endpoint`: everything that happens before a view, declared in one place and run in one order.

Take a hashing slot, limit by address, authenticate, permit, parse, limit by account, call the view. The declaration is
kept on the view as its `contract`, from which the OpenAPI document is generated, so the two cannot drift apart.
"""

import functools
import hashlib
import hmac
import re
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

from flask import Response, after_this_request, request

from apps.config import settings
from apps.errors import (
    CsrfFailed,
    Forbidden,
    FreshTokenRequired,
    InvalidClient,
    InvalidToken,
    MissingToken,
)
from apps.forms.urlencoded import read_query
from apps.http import cookies
from apps.http.body import read_body
from apps.http.client_address import client_address
from apps.http.contract import Contract, Policy
from apps.models import Client
from apps.observability.request_context import bind_identity
from apps.rate_limits.counter import count_request
from apps.security.password_hash import hashing_slot
from apps.services.client import authenticate_client, require_scope
from apps.services.identity_cache import Identity
from apps.services.token import Kind, authenticate, authenticate_for_logout

View = Callable[..., Response]

_NOTHING = nullcontext()
_NAMES_BEARER = re.compile(r"(^|,)\s*bearer(\s|,|$)", re.IGNORECASE)  # several headers arrive as one, with commas
_BEARER = re.compile(r"bearer +([^\s,]+)", re.IGNORECASE)  # RFC 9110, 11.1: the scheme is case-insensitive


class endpoint(Contract):  # noqa: N801 (a decorator)
    """Declare the contract of a view: `@endpoint(policy=Policy.SELF, token="access", answer=UserAnswer)`.

    The view gets the parameters of the path, and: `identity` if a `token` is declared, `client` under Policy.CLIENT,
    `form` if a form is declared, and `query` (a dict) if a query form is declared.
    """

    def __call__(self, view: View) -> View:
        """Return the view with the contract enforced."""

        @functools.wraps(view)
        def handle(*args: Any, **arguments: Any) -> Response:
            with hashing_slot() if self.hashes_password else _NOTHING:
                if self.limit:
                    count_request(self.limit, client_address())
                _authenticate(self, arguments)
                if self.form:
                    arguments["form"] = read_body(self.form)
                if self.query:
                    arguments["query"] = read_query(self.query, request.args)
                if self.account_limit:
                    count_request(self.account_limit, _account_key(self.token, arguments))
                return view(*args, **arguments)

        handle.contract = self  # type: ignore[attr-defined]
        return handle


def _authenticate(contract: Contract, arguments: dict[str, Any]) -> None:
    """Authenticate as the policy demands, and add the identity or the client to the view's arguments."""
    if contract.token:
        arguments["identity"] = _identify(contract, contract.token, arguments.get("user_id"))
    elif contract.scope:
        arguments["client"] = client = _identify_client()
        require_scope(client, contract.scope)
    elif contract.policy is Policy.MONITOR:
        _require_metrics_token()


def _identify(contract: Contract, kind: Kind, user_id: int | None) -> Identity:
    """Verify the token, bind its identity to the request context, and check the policy.

    `user_id` is the id in the path, if there is one. Raises `MissingToken`, `InvalidToken`, `CsrfFailed`, `Forbidden`,
    `FreshTokenRequired`.
    """
    if contract.is_logout:
        identity, is_cookie = _identify_for_logout()
    else:
        (token,), is_cookie = _find_tokens(kind)
        identity = authenticate(token, kind)
    if is_cookie and cookies.is_forged(identity.session.id):
        raise CsrfFailed
    bind_identity(identity.user.id, identity.session.id)
    _permit(contract.policy, identity, user_id)
    if contract.is_fresh and not identity.is_fresh:
        raise FreshTokenRequired
    return identity


def _identify_client() -> Client:
    """Authenticate another service by HTTP Basic (RFC 6749, 2.3.1). Raises `InvalidClient`."""
    try:
        credentials = request.authorization
    except ValueError as error:  # Werkzeug raises it for a header that is not ASCII
        raise InvalidClient from error
    if credentials is None or credentials.type != "basic":
        raise InvalidClient
    return authenticate_client(credentials.username or "", credentials.password or "")


def _require_metrics_token() -> None:
    """Raise `MissingToken` or `InvalidToken` unless the header holds METRICS_TOKEN."""
    header = request.headers.get("Authorization")
    if header is None:
        raise MissingToken
    if not hmac.compare_digest(_bearer_token(header).encode(), settings().METRICS_TOKEN.encode()):
        raise InvalidToken


def _identify_for_logout() -> tuple[Identity, bool]:
    """Return the identity of the first token that may log out, and True if it came in a cookie.

    Cookies without such a token are deleted, because a page cannot delete them itself. Raises `InvalidToken`.
    """
    tokens, are_cookies = _find_tokens("access", "refresh")
    for token in tokens:
        with suppress(InvalidToken):
            return authenticate_for_logout(token), are_cookies
    if are_cookies:
        after_this_request(cookies.clear_tokens)
    raise InvalidToken


def _find_tokens(*kinds: Kind) -> tuple[list[str], bool]:
    """Return the tokens of the request, and True if they came in cookies. Raises `MissingToken`, `InvalidToken`.

    A header of the Bearer scheme takes precedence over cookies. Other schemes do not: browsers add them by themselves.
    """
    header = request.headers.get("Authorization")
    if header is None or not _NAMES_BEARER.search(header):
        found = [token for token in map(cookies.read_token, kinds) if token]
        if found:
            return found, True
    if header is None:
        raise MissingToken
    return [_bearer_token(header)], False


def _bearer_token(header: str) -> str:
    """Return the token of the Authorization header (RFC 6750, 2.1). No other place of the request is read."""
    match = _BEARER.fullmatch(header.strip())
    if match is None:
        raise InvalidToken
    return match[1]


def _account_key(kind: Kind | None, arguments: dict[str, Any]) -> str:
    """Return the key of the account limit. A username is hashed, because people type passwords into its field."""
    if kind is None:
        name: str = arguments["form"].account_key()
        return hashlib.sha256(name.encode()).hexdigest()
    identity: Identity = arguments["identity"]
    return identity.session.id if kind == "refresh" else str(identity.user.id)


def _permit(policy: Policy, identity: Identity, user_id: int | None) -> None:
    """Raise `Forbidden` for another user's id, existing or not, unless the requester is an admin."""
    is_own = policy is Policy.SELF or (policy is Policy.SELF_OR_ADMIN and user_id in (None, identity.user.id))
    if not is_own and identity.user.role != "admin":
        raise Forbidden
