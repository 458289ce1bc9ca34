"""`@endpoint`: everything that a route does before its view, declared in one line, in one order.

Find a place among those who hash, limit by address, authenticate, permit, parse, limit by account, and then the view.
The same declaration, kept on the view as its `contract`, is what the OpenAPI document is made from, so the two cannot
drift apart.
"""

import functools
import hashlib
import hmac
import re
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import msgspec
from flask import Response, request

from apps.config import settings
from apps.errors import (
    ApiError,
    CsrfFailed,
    Forbidden,
    FreshTokenRequired,
    InvalidClient,
    InvalidToken,
    MissingToken,
)
from apps.forms.fields import JsonForm
from apps.forms.urlencoded import QueryForm, read_query
from apps.http import cookies
from apps.http.body import read_body
from apps.http.client_address import client_address
from apps.http.contract import Contract, Policy
from apps.models import Client
from apps.observability.request_context import identify_actor
from apps.rate_limits.counter import count_request
from apps.security.password_hash import admission
from apps.services.client import authenticate_client
from apps.services.token import Identity, Kind, authenticate

View = Callable[..., Response]

_NOTHING = nullcontext()
_BEARER = re.compile(r"bearer +([^\s,]+)", re.IGNORECASE)  # RFC 9110, 11.1: the scheme is case-insensitive


def endpoint(
    *,
    policy: Policy,
    answer: type[msgspec.Struct] | None,
    is_enveloped: bool = True,
    has_etag: bool = False,
    token: Kind | None = None,
    is_fresh: bool = False,
    form: type[JsonForm] | None = None,
    query: type[QueryForm] | None = None,
    limit: str | None = None,
    account_limit: str | None = None,
    hashes_password: bool = False,
    errors: tuple[type[ApiError], ...] = (),
) -> Callable[[View], View]:
    """Declare a route's view.

    The view gets the path's parameters, `identity` where a `token` is asked for (with `is_fresh`: one that comes
    straight from a login), `form` where a form is, and `query`, a dict, where a query string is. `limit` and
    `account_limit` name settings: the first counts by client address; the second by the account of an access token,
    the session of a refresh token or, without a token, the username in the body. Routes with the same setting are
    counted together. A view that `hashes_password` waits for its turn; where too many wait already, the request is
    refused before all else, so that a flood of logins costs others little. `has_etag` says that the view answers with
    a version, which a later If-Match may name. A view with a policy but ANYONE must ask for a token.
    """
    contract = Contract(
        policy=policy,
        answer=answer,
        is_enveloped=is_enveloped,
        has_etag=has_etag,
        token=token,
        is_fresh=is_fresh,
        form=form,
        query=query,
        limit=limit,
        account_limit=account_limit,
        hashes_password=hashes_password,
        errors=errors,
    )
    if (policy in (Policy.ANYONE, Policy.CLIENT, Policy.MONITOR)) != (token is None):
        raise TypeError("ANYONE, CLIENT and MONITOR need no token, and every other policy needs one")

    return functools.partial(_declare, contract)


def _declare(contract: Contract, view: View) -> View:
    @functools.wraps(view)
    def handle(*args: Any, **arguments: Any) -> Response:
        with admission() if contract.hashes_password else _NOTHING:
            if contract.limit:
                count_request(contract.limit, client_address())
            _authenticate(contract, arguments)
            if contract.form:
                arguments["form"] = read_body(contract.form)
            if contract.query:
                arguments["query"] = read_query(contract.query, request.args)
            if contract.account_limit:
                count_request(contract.account_limit, _account(contract.token, arguments))
            return view(*args, **arguments)

    handle.contract = contract  # type: ignore[attr-defined]
    return handle


def _authenticate(contract: Contract, arguments: dict[str, Any]) -> None:
    """Find out who asks, as the policy wants it, and give the view what it needs of them."""
    if contract.token:
        arguments["identity"] = _identify(contract, contract.token, arguments.get("user_id"))
    elif contract.policy is Policy.CLIENT:
        arguments["client"] = _identify_client()
    elif contract.policy is Policy.MONITOR:
        _identify_monitor()


def _identify(contract: Contract, kind: Kind, user_id: int | None) -> Identity:
    """Return who sends the request, if they may."""
    header = request.headers.get("Authorization")
    token = _cookie_token(kind) if header is None else _bearer_token(header)
    identity = authenticate(token, kind)
    if header is None and cookies.is_forged(identity.session.id):
        raise CsrfFailed
    identify_actor(identity.user.id, identity.session.id)
    _permit(contract.policy, identity, user_id)
    if contract.is_fresh and not identity.is_fresh:
        raise FreshTokenRequired
    return identity


def _identify_client() -> Client:
    """Return the service that sends the request, by HTTP Basic (RFC 6749, 2.3.1)."""
    try:
        credentials = request.authorization
    except ValueError as error:  # Werkzeug lets it through for a header that is not ASCII
        raise InvalidClient from error
    if credentials is None or credentials.type != "basic":
        raise InvalidClient
    return authenticate_client(credentials.username or "", credentials.password or "")


def _identify_monitor() -> None:
    """Refuse whoever has not the one token for it."""
    header = request.headers.get("Authorization")
    if header is None:
        raise MissingToken
    if not hmac.compare_digest(_bearer_token(header).encode(), settings().METRICS_TOKEN.encode()):
        raise InvalidToken


def _cookie_token(kind: Kind) -> str:
    """Return the token of the cookie, in cookie mode. A header goes before it: then nobody asks for a cookie."""
    name = cookies.ACCESS if kind == "access" else cookies.REFRESH
    token = request.cookies.get(name) if cookies.is_on() else None
    if not token:
        raise MissingToken
    return token


def _bearer_token(header: str) -> str:
    """Return the token of the one Authorization header (RFC 6750, 2.1); nothing else of the request is looked at."""
    match = _BEARER.fullmatch(header.strip())
    if match is None:
        raise InvalidToken
    return match[1]


def _account(kind: Kind | None, arguments: dict[str, Any]) -> str:
    """Return what the account limit counts by. A name is digested: people type passwords where it goes."""
    if kind is None:
        name: str = arguments["form"].account_key()
        return hashlib.sha256(name.encode()).hexdigest()
    identity: Identity = arguments["identity"]
    return identity.session.id if kind == "refresh" else str(identity.user.id)


def _permit(policy: Policy, identity: Identity, user_id: int | None) -> None:
    """Refuse an id that is not one's own, whether or not it exists, unless to an admin."""
    is_own = policy is Policy.SELF or (policy is Policy.SELF_OR_ADMIN and user_id in (None, identity.user.id))
    if not is_own and identity.user.role != "admin":
        raise Forbidden
