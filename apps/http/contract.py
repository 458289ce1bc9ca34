"""The contract of a route. `@endpoint` enforces it, and the OpenAPI document is generated from it."""

from dataclasses import dataclass
from enum import Enum

import msgspec

from apps.errors import (
    ApiError,
    BodyTooLarge,
    CsrfFailed,
    DatabaseUnavailable,
    DataUnreadable,
    Forbidden,
    FreshTokenRequired,
    InsufficientScope,
    InvalidBody,
    InvalidClient,
    InvalidToken,
    MissingToken,
    Overloaded,
    SecondProcess,
    TooManyRequests,
    UnsupportedMediaType,
)
from apps.forms.fields import JsonForm
from apps.forms.urlencoded import QueryForm
from apps.http import cookies
from apps.services.client import Scope
from apps.services.token import Kind


class Policy(Enum):
    """Who may call a route. There is no default."""

    ANYONE = "Anyone."
    SELF = "The user of the token."
    SELF_OR_ADMIN = "The user of the token or, for the id of another user in the path, an admin."
    ADMIN = "Admins."
    CLIENT = "Other services, with the credentials from `manage.py clients add`."
    MONITOR = "Monitoring, with METRICS_TOKEN."


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The contract of a route.

    `limit` and `account_limit` name settings. The first counts by client address; the second by the user of an access
    token, the session of a refresh token or, without a token, the username in the body. Routes with the same setting
    are counted together.
    """

    policy: Policy
    name: str | None = None  # the operationId in the OpenAPI document; None: the name of the view function
    answer: type[msgspec.Struct] | None  # None: the route is not in the OpenAPI document
    is_enveloped: bool = True
    has_etag: bool = False  # the response has an ETag, for a later If-Match
    sends_csrf_token: bool = False  # in cookie mode, the response has the CSRF token of the session in a header
    token: Kind | None = None
    scope: Scope | None = None  # required of the client, under Policy.CLIENT
    is_logout: bool = False  # accepts either token, also an expired one
    is_fresh: bool = False  # requires a token from a login, not from a refresh
    form: type[JsonForm] | None = None
    query: type[QueryForm] | None = None
    limit: str | None = None
    account_limit: str | None = None
    hashes_password: bool = False  # takes a hashing slot before everything else, or raises `Overloaded`
    errors: tuple[type[ApiError], ...] = ()
    links: tuple[str, ...] = ()  # operationIds that take the `id` of the answer (OpenAPI links)

    def __post_init__(self) -> None:
        """Raise `TypeError` unless the policy fits the token and the scope."""
        if (self.policy in (Policy.ANYONE, Policy.CLIENT, Policy.MONITOR)) != (self.token is None):
            raise TypeError("ANYONE, CLIENT and MONITOR take no token; every other policy needs one")
        if (self.policy is Policy.CLIENT) != (self.scope is not None):
            raise TypeError("CLIENT needs a scope; no other policy takes one")

    @property
    def all_errors(self) -> list[type[ApiError]]:
        """The declared errors and those that the other fields imply, sorted by status."""
        implied: list[tuple[bool, tuple[type[ApiError], ...]]] = [
            (True, (DatabaseUnavailable, SecondProcess, ApiError)),
            (self.token is not None, (MissingToken, InvalidToken, DataUnreadable)),
            (self.token is not None and cookies.is_on(), (CsrfFailed,)),
            (self.policy in (Policy.SELF_OR_ADMIN, Policy.ADMIN), (Forbidden,)),
            (self.policy is Policy.CLIENT, (InvalidClient, InsufficientScope, DataUnreadable)),
            (self.is_fresh, (FreshTokenRequired,)),
            (self.form is not None, (InvalidBody, BodyTooLarge, UnsupportedMediaType)),
            (self.query is not None, (InvalidBody,)),
            (self.hashes_password, (Overloaded,)),
            (bool(self.limit or self.account_limit), (TooManyRequests,)),
        ]
        errors = {error for applies, group in implied if applies for error in group} | {*self.errors}
        return sorted(errors, key=lambda error: (error.status, error.type))
