"""Settings of the service that a client needs."""

import msgspec
from flask import Response
from wtforms import Form, FormField

from apps.api_v1.blueprint import api_v1
from apps.config import settings
from apps.forms.binding import fields_of, is_required
from apps.forms.fields import PASSWORD_LENGTH, USERNAME, AgeRange
from apps.forms.user import USERNAME_LENGTH, SignUpForm
from apps.http import cookies
from apps.http.contract import Policy
from apps.http.endpoint import endpoint
from apps.utils.response import HttpResponse

_MAX_AGE = 300  # seconds in which a client or proxy need not ask again


class TokenSettings(msgspec.Struct):
    """Lifetimes are in seconds. `rotation`: a refresh also returns a new refresh token and retires the old one."""

    access_lifetime: int
    refresh_lifetime: int
    session_lifetime: int
    rotation: bool


class UsernameSettings(msgspec.Struct):
    """Lengths are in characters. `pattern` is a regular expression of ECMA-262, `rule` the whole rule in words."""

    minimum_length: int
    maximum_length: int
    pattern: str
    rule: str


class PasswordSettings(msgspec.Struct):
    """Lengths are in characters."""

    minimum_length: int
    maximum_length: int


class ProfileSettings(msgspec.Struct):
    """`required` has the fields that a sign-up needs beside username and password."""

    required: list[str]
    minimum_age: int
    maximum_age: int
    phone_region: str  # of numbers without a country code


class SettingsAnswer(msgspec.Struct):
    """What a client needs before the first call. `features` has the names of what is on; more may come."""

    tokens: TokenSettings
    username: UsernameSettings
    password: PasswordSettings
    profile: ProfileSettings
    features: list[str]


@api_v1.get("/settings")
@endpoint(policy=Policy.ANYONE, answer=SettingsAnswer)
def read_settings() -> Response:
    """Read what a client needs before the first call: lifetimes, rules of sign-up and the features that are on.

    The answer is the same for everybody and may be cached for five minutes.
    """
    response = HttpResponse.success(SettingsAnswer(_tokens(), _username(), _password(), _profile(), _features()))
    response.headers["Cache-Control"] = f"public, max-age={_MAX_AGE}"
    return response


def _tokens() -> TokenSettings:
    known = settings()
    return TokenSettings(
        access_lifetime=int(known.JWT_ACCESS_TOKEN_EXPIRES.total_seconds()),
        refresh_lifetime=int(known.JWT_REFRESH_TOKEN_EXPIRES.total_seconds()),
        session_lifetime=int(known.SESSION_LIFETIME.total_seconds()),
        rotation=known.JWT_REFRESH_ROTATION,
    )


def _username() -> UsernameSettings:
    rule: str = USERNAME.document["description"]
    return UsernameSettings(USERNAME_LENGTH.min, USERNAME_LENGTH.max, USERNAME.pattern, rule)


def _password() -> PasswordSettings:
    return PasswordSettings(PASSWORD_LENGTH.min, PASSWORD_LENGTH.max)


def _profile() -> ProfileSettings:
    required = [name for name in _required(SignUpForm) if name not in ("username", "password")]
    age = AgeRange()
    return ProfileSettings(required, age.min, age.max, settings().PHONE_REGION)


def _required(form: type[Form]) -> list[str]:
    """Return the fields that a body must have, those of nested forms in place of the form."""
    required = {name: field for name, field in fields_of(form).items() if is_required(field)}
    return [
        leaf
        for name, field in required.items()
        for leaf in (_required(field.args[0]) if field.field_class is FormField else [name])
    ]


def _features() -> list[str]:
    known = settings()
    is_on = {
        "cookies": cookies.is_on(),  # tokens travel in cookies, and never in a body
        "password_blocklist": known.PASSWORD_BLOCKLIST,  # leaked passwords are refused
        "public_keys": known.JWT_ALGORITHM != "HS256",  # /.well-known/jwks.json verifies tokens
    }
    return [name for name, on in is_on.items() if on]
