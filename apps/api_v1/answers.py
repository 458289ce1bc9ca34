"""Answers that several features share, and helpers that read a request to change a user."""

import re
from typing import Any

import msgspec
from flask import Response, request

from apps.http import cookies
from apps.models import User
from apps.security.field_encryption import Undecryptable
from apps.services import token as tokens
from apps.services.account import IfMatch, Requester
from apps.services.identity_cache import CachedUser, Identity
from apps.services.login import Login
from apps.services.token import TokenPair
from apps.services.unreadable_field import log_unreadable, report_unreadable_mobile
from apps.utils.response import HttpResponse

_CODING = re.compile("-{1,2}(?:gzip|deflate|br|zstd)$")


class UserAnswer(msgspec.Struct):
    """A user as clients see it. `cache` is present, and true, if the answer came from the cache."""

    id: int
    username: str
    age: int | None
    mobile: str | None
    cache: bool | msgspec.UnsetType = msgspec.UNSET


class LoginAnswer(msgspec.Struct):
    """A user with the tokens of a new session."""

    id: int
    username: str
    age: int | None
    mobile: str | None
    unreadable: list[str] | msgspec.UnsetType = msgspec.UNSET  # fields that are null because they cannot be decrypted
    access_token: str | msgspec.UnsetType = msgspec.UNSET  # absent in cookie mode: scripts must not read it
    refresh_token: str | msgspec.UnsetType = msgspec.UNSET


class RefreshAnswer(msgspec.Struct):
    """A new access token and, with rotation, the next refresh token."""

    access_token: str | msgspec.UnsetType = msgspec.UNSET
    refresh_token: str | msgspec.UnsetType = msgspec.UNSET


class NoAnswer(msgspec.Struct):
    """`{}`."""


def requester_of(identity: Identity) -> Requester:
    """Return the requester of a change."""
    return Requester(identity.user.id, identity.session.id, identity.is_fresh)


def if_match() -> IfMatch:
    """Return the versions that If-Match allows, or None if it allows any (RFC 9110, 13.1.1).

    A weak tag counts as a strong one, and `"2-gzip"` as `"2"`: the tag is a version number, and a proxy that compresses
    the answer weakens it (nginx) or adds the coding (Apache, Caddy).
    """
    if "If-Match" not in request.headers or request.if_match.star_tag:
        return None
    return frozenset(_CODING.sub("", tag or "") for tag in request.if_match.as_set(include_weak=True))


def answer_user(user: User | CachedUser, *, from_cache: bool = False) -> Response:
    """Answer with a user and its ETag, for a later If-Match. Raises `DataUnreadable`."""
    try:
        mobile = user.mobile
    except Undecryptable as error:
        raise report_unreadable_mobile(user.id, error) from None
    cache = True if from_cache else msgspec.UNSET
    answer = UserAnswer(id=user.id, username=user.username, age=user.age, mobile=mobile, cache=cache)
    response = HttpResponse.success(answer)
    response.set_etag(str(user.version))
    return response


def mobile_of(user: User) -> dict[str, Any]:
    """Return `mobile` as fields of an answer. If it cannot be decrypted, it is null and `unreadable` names it."""
    try:
        return {"mobile": user.mobile}
    except Undecryptable as error:
        log_unreadable("mobile", user.id, error)
        return {"mobile": None, "unreadable": ["mobile"]}


def answer_login(login: Login) -> Response:
    """Answer with a user and a new pair of tokens."""
    user, pair = login.user, tokens.issue_pair(login.session)
    answer = LoginAnswer(id=user.id, username=user.username, age=user.age, **mobile_of(user))
    return answer_tokens(answer, login.session.id, pair)


def answer_tokens(answer: LoginAnswer | RefreshAnswer, session_id: str, pair: TokenPair) -> Response:
    """Answer with tokens: in the body or, in cookie mode, in cookies."""
    if cookies.is_on():
        response = HttpResponse.success(answer)
        cookies.set_tokens(response, session_id, pair)
        return response
    answer.access_token, answer.refresh_token = pair.access_token, pair.refresh_token or msgspec.UNSET
    return HttpResponse.success(answer)
