"""Users: sign up, read, update, delete."""

import msgspec
from flask import Response, request
from flask.views import MethodView

from apps.api_v1.blueprint import api_v1
from apps.errors import (
    ConcurrentUpdate,
    FreshTokenRequired,
    LastAdmin,
    NoSigningKey,
    Overloaded,
    StaleVersion,
    UsernameTaken,
    UserNotFound,
    WeakPassword,
)
from apps.forms.user import PatchForm, SignUpForm, UpdateForm
from apps.http import cookies
from apps.http.client_address import client_device
from apps.http.contract import Policy
from apps.http.endpoint import endpoint
from apps.models import User
from apps.services import token as tokens
from apps.services import user as users
from apps.services.identity_cache import UserSnapshot
from apps.services.login import Login
from apps.services.token import Identity, TokenPair
from apps.services.user import Author
from apps.utils.response import HttpResponse


class UserAnswer(msgspec.Struct):
    """What a client sees of a user. `cache` is there, and true, when the answer came from the cache."""

    id: int
    username: str
    age: int
    mobile: str
    cache: bool | msgspec.UnsetType = msgspec.UNSET


class LoginAnswer(msgspec.Struct):
    """A user with the tokens of a session that was just opened."""

    id: int
    username: str
    age: int
    mobile: str
    access_token: str | msgspec.UnsetType = msgspec.UNSET  # not there in cookie mode: no script may read it
    refresh_token: str | msgspec.UnsetType = msgspec.UNSET


class RefreshAnswer(msgspec.Struct):
    """A new access token and, where rotation is on, the refresh token that replaces the one that was sent."""

    access_token: str | msgspec.UnsetType = msgspec.UNSET
    refresh_token: str | msgspec.UnsetType = msgspec.UNSET


class NoAnswer(msgspec.Struct):
    """`{}`: there is nothing to tell."""


def answer_user(user: User | UserSnapshot, *, from_cache: bool = False) -> Response:
    """Answer with a user, and with the version that a later If-Match may name."""
    cache = True if from_cache else msgspec.UNSET
    response = HttpResponse.success(UserAnswer(user.id, user.username, user.age, user.mobile, cache))
    response.set_etag(str(user.version))
    return response


def author_of(identity: Identity) -> Author:
    """Return who asks for a change, and which versions of the user their If-Match allows (RFC 9110, 13.1.1)."""
    is_conditional = "If-Match" in request.headers and not request.if_match.star_tag
    versions = frozenset(request.if_match) if is_conditional else None
    return Author(identity.user.id, identity.session.id, identity.is_fresh, versions)


def answer_login(login: Login) -> Response:
    """Answer with a user and a new pair of tokens."""
    user = login.user
    pair = tokens.issue_pair(login.session)
    answer = LoginAnswer(user.id, user.username, user.age, user.mobile)
    return answer_tokens(answer, login.session.id, pair)


def answer_tokens(answer: LoginAnswer | RefreshAnswer, session_id: str, pair: TokenPair) -> Response:
    """Answer with tokens: in the body or, in cookie mode, in cookies."""
    if cookies.is_on():
        response = HttpResponse.success(answer)
        cookies.set_tokens(response, session_id, pair.access_token, pair.refresh_token)
        return response
    answer.access_token, answer.refresh_token = pair.access_token, pair.refresh_token or msgspec.UNSET
    return HttpResponse.success(answer)


_UPDATE_ERRORS = (
    UserNotFound,
    UsernameTaken,
    WeakPassword,
    FreshTokenRequired,
    StaleVersion,
    ConcurrentUpdate,
    Overloaded,
)


class UserAPI(MethodView):
    """`/users/` and `/users/<id>`."""

    init_every_request = False  # it keeps nothing of one

    @endpoint(
        policy=Policy.ANYONE,
        form=SignUpForm,
        answer=LoginAnswer,
        limit="SIGN_UP_LIMIT",
        account_limit="SIGN_UP_ACCOUNT_LIMIT",
        hashes_password=True,
        errors=(UsernameTaken, WeakPassword, NoSigningKey),
    )
    def post(self, form: SignUpForm) -> Response:
        """Sign up."""
        return answer_login(users.sign_up(**form.values(), device=client_device()))

    @endpoint(policy=Policy.SELF_OR_ADMIN, token="access", answer=UserAnswer, has_etag=True, errors=(UserNotFound,))
    def get(self, identity: Identity, user_id: int | None = None) -> Response:
        """Read a user: oneself or, as an admin, anybody."""
        if user_id in (None, identity.user.id):
            return answer_user(identity.user, from_cache=identity.from_cache)
        return answer_user(users.read_user(user_id))

    @endpoint(
        policy=Policy.SELF_OR_ADMIN,
        token="access",
        form=UpdateForm,
        answer=UserAnswer,
        has_etag=True,
        account_limit="UPDATE_ACCOUNT_LIMIT",
        errors=_UPDATE_ERRORS,
    )
    def put(self, user_id: int, identity: Identity, form: UpdateForm) -> Response:
        """Replace a user's data.

        A new password or mobile number needs a fresh token, and a new password ends every other session.
        """
        return answer_user(users.update_user(user_id, author_of(identity), **form.values()))

    @endpoint(
        policy=Policy.SELF_OR_ADMIN,
        token="access",
        form=PatchForm,
        answer=UserAnswer,
        has_etag=True,
        account_limit="UPDATE_ACCOUNT_LIMIT",
        errors=_UPDATE_ERRORS,
    )
    def patch(self, user_id: int, identity: Identity, form: PatchForm) -> Response:
        """Change some of a user's data, as PUT does; what is absent or null stays as it is."""
        return answer_user(users.update_user(user_id, author_of(identity), **form.values()))

    @endpoint(
        policy=Policy.SELF_OR_ADMIN,
        token="access",
        is_fresh=True,
        answer=NoAnswer,
        account_limit="UPDATE_ACCOUNT_LIMIT",
        errors=(UserNotFound, LastAdmin, StaleVersion, ConcurrentUpdate),
    )
    def delete(self, user_id: int, identity: Identity) -> Response:
        """Delete a user, with all their sessions."""
        users.delete_user(user_id, author_of(identity))
        response = HttpResponse.success(message=f"delete user success: {user_id}")
        if user_id == identity.user.id:
            cookies.clear_tokens(response)
        return response


user_view = UserAPI.as_view("user_api")
api_v1.add_url_rule("/users/", view_func=user_view, methods=["GET", "POST"])
api_v1.add_url_rule("/users/<id:user_id>", view_func=user_view, methods=["GET", "PUT", "PATCH", "DELETE"])
