"""`@endpoint`: everything that a route does before its view, declared in one line, in one order.

Limit by address, authenticate, permit, parse, limit by account, and then the view. The same declaration, kept on the
view as its `contract`, is what the OpenAPI document is made from, so the two cannot drift apart.
"""

import functools
import hashlib
import re
from collections.abc import Callable
from typing import Any

import msgspec
from flask import Response, g, request

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
from apps.forms.query import QueryForm, read_query
from apps.models import Client
from apps.services.client import authenticate_client
from apps.services.token import Identity, Kind, authenticate
from apps.utils import cookies
from apps.utils.actor import Actor, set_actor
from apps.utils.body import read_body
from apps.utils.client import client_address, client_device
from apps.utils.contract import Contract, Policy
from apps.utils.limits import make_check

View = Callable[..., Response]

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
    errors: tuple[type[ApiError], ...] = (),
) -> Callable[[View], View]:
    """Declare a route's view.

    The view gets the path's parameters, `identity` where a `token` is asked for (with `is_fresh`: one that comes
    straight from a login), `form` where a form is, and `query`, a dict, where a query string is. `limit` and
    `account_limit` name settings: the first counts by client address; the second by the account of an access token,
    the session of a refresh token or, without a token, the username in the body. Routes with the same setting are
    counted together. `has_etag` says that the view answers with a version, which a later If-Match may name. A view with
    a policy but ANYONE must ask for a token.
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
        errors=errors,
    )
    if (policy in (Policy.ANYONE, Policy.CLIENT)) != (token is None):
        raise TypeError("ANYONE and CLIENT need no token, and every other policy needs one")

    return functools.partial(_declare, contract)


def _declare(contract: Contract, view: View) -> View:
    name = f"{view.__module__}.{view.__qualname__}"
    check_address = make_check(f"{name}:address", contract.limit, client_address)
    check_account = make_check(f"{name}:account", contract.account_limit, lambda: str(g.limited_account))

    @functools.wraps(view)
    def handle(*args: Any, **arguments: Any) -> Response:
        check_address()
        set_actor(Actor(None, None, client_device().address, g.request_id))
        if contract.token:
            arguments["identity"] = _identify(contract, contract.token, arguments.get("user_id"))
        if contract.policy is Policy.CLIENT:
            arguments["client"] = _identify_client()
        if contract.form:
            arguments["form"] = read_body(contract.form)
        if contract.query:
            arguments["query"] = read_query(contract.query, request.args)
        if contract.account_limit:
            g.limited_account = _account(contract.token, arguments)
            check_account()
        return view(*args, **arguments)

    handle.contract = contract  # type: ignore[attr-defined]
    return handle


def _identify(contract: Contract, kind: Kind, user_id: int | None) -> Identity:
    """Return who sends the request, if they may."""
    token = _cookie_token(kind) or _bearer_token()
    identity = authenticate(token, kind)
    if "Authorization" not in request.headers and cookies.is_forged(identity.session.id):
        raise CsrfFailed
    g.user_id = identity.user.id
    set_actor(Actor(identity.user.id, identity.session.id, client_device().address, g.request_id))
    _permit(contract.policy, identity, user_id)
    if contract.is_fresh and not identity.is_fresh:
        raise FreshTokenRequired
    return identity


def _identify_client() -> Client:
    """Return the service that sends the request, by HTTP Basic (RFC 6749, 2.3.1)."""
    credentials = request.authorization
    if credentials is None or credentials.type != "basic":
        raise InvalidClient
    return authenticate_client(credentials.username or "", credentials.password or "")


def _cookie_token(kind: Kind) -> str | None:
    """Return the token of the cookie, in cookie mode; a header goes before it."""
    if not cookies.is_on() or "Authorization" in request.headers:
        return None
    return request.cookies.get(cookies.ACCESS if kind == "access" else cookies.REFRESH)


def _account(kind: Kind | None, arguments: dict[str, Any]) -> str:
    """Return what the account limit counts by. A name is digested: people type passwords where it goes."""
    if kind is None:
        name: str = arguments["form"].account_key()
        return hashlib.sha256(name.encode()).hexdigest()
    identity: Identity = arguments["identity"]
    return identity.session.id if kind == "refresh" else str(identity.user.id)


def _bearer_token() -> str:
    """Return the token of the one Authorization header (RFC 6750, 2.1); nothing else of the request is looked at."""
    header = request.headers.get("Authorization")
    if header is None:
        raise MissingToken
    match = _BEARER.fullmatch(header.strip())
    if match is None:
        raise InvalidToken
    return match[1]


def _permit(policy: Policy, identity: Identity, user_id: int | None) -> None:
    """Refuse an id that is not one's own, whether or not it exists, unless to an admin."""
    is_own = policy is Policy.SELF or (policy is Policy.SELF_OR_ADMIN and user_id in (None, identity.user.id))
    if not is_own and identity.user.role != "admin":
        raise Forbidden
