"""What a route promises; `@endpoint` keeps it, and the OpenAPI document is made from it."""

from dataclasses import dataclass
from enum import Enum

import msgspec

from apps.errors import (
    ApiError,
    BodyTooLarge,
    CsrfFailed,
    DatabaseUnavailable,
    Forbidden,
    FreshTokenRequired,
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
from apps.services.token import Kind


class Policy(Enum):
    """Who may call a route; there is no default."""

    ANYONE = "Anyone."
    SELF = "Whoever the token speaks for."
    SELF_OR_ADMIN = "Oneself or, by the id of another in the path, an admin."
    ADMIN = "Admins."
    CLIENT = "Other services, with the credentials that `manage.py clients add` gave them."
    MONITOR = "Whoever watches the service, with METRICS_TOKEN."


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What a route promises."""

    policy: Policy
    answer: type[msgspec.Struct] | None  # None: no part of the OpenAPI document
    is_enveloped: bool
    has_etag: bool
    token: Kind | None
    is_fresh: bool
    form: type[JsonForm] | None
    query: type[QueryForm] | None
    limit: str | None
    account_limit: str | None
    hashes_password: bool
    errors: tuple[type[ApiError], ...]

    @property
    def all_errors(self) -> list[type[ApiError]]:
        """The declared errors and those that follow from the rest of the declaration."""
        implied: list[tuple[bool, tuple[type[ApiError], ...]]] = [
            (True, (DatabaseUnavailable, SecondProcess, ApiError)),
            (self.token is not None, (MissingToken, InvalidToken)),
            (self.token is not None and cookies.is_on(), (CsrfFailed,)),
            (self.policy in (Policy.SELF_OR_ADMIN, Policy.ADMIN), (Forbidden,)),
            (self.policy is Policy.CLIENT, (InvalidClient,)),
            (self.is_fresh, (FreshTokenRequired,)),
            (self.form is not None, (InvalidBody, BodyTooLarge, UnsupportedMediaType)),
            (self.query is not None, (InvalidBody,)),
            (self.hashes_password, (Overloaded,)),
            (bool(self.limit or self.account_limit), (TooManyRequests,)),
        ]
        errors = {error for applies, group in implied if applies for error in group} | {*self.errors}
        return sorted(errors, key=lambda error: (error.status, error.type))
