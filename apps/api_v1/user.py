"""Users: sign up, read, update, delete."""

from flask import Response
from flask.views import MethodView

from apps.api_v1.answers import LoginAnswer, NoAnswer, UserAnswer, answer_login, answer_user, if_match, requester_of
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
from apps.services import user as users
from apps.services.account import read_user
from apps.services.identity_cache import Identity
from apps.utils.response import HttpResponse

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
    """`/users/`."""

    init_every_request = False  # the instance has no state

    @endpoint(
        policy=Policy.ANYONE,
        name="sign_up",
        form=SignUpForm,
        answer=LoginAnswer,
        sends_csrf_token=True,
        limit="SIGN_UP_LIMIT",
        account_limit="SIGN_UP_ACCOUNT_LIMIT",
        hashes_password=True,
        errors=(UsernameTaken, WeakPassword, NoSigningKey),
        links=("read_user", "replace_user", "update_user", "delete_user", "refresh"),
    )
    def post(self, form: SignUpForm) -> Response:
        """Sign up."""
        return answer_login(users.sign_up(**form.values(), device=client_device()))

    @endpoint(
        policy=Policy.SELF, name="read_me", token="access", answer=UserAnswer, has_etag=True, sends_csrf_token=True
    )
    def get(self, identity: Identity) -> Response:
        """Read your own account."""
        return _answer_read(identity)


class UserByIdAPI(MethodView):
    """`/users/<id>`."""

    init_every_request = False

    @endpoint(
        policy=Policy.SELF_OR_ADMIN,
        name="read_user",
        token="access",
        answer=UserAnswer,
        has_etag=True,
        sends_csrf_token=True,
        errors=(UserNotFound,),
    )
    def get(self, user_id: int, identity: Identity) -> Response:
        """Read a user: yourself or, as an admin, any user."""
        return _answer_read(identity, None if user_id == identity.user.id else read_user(user_id))

    @endpoint(
        policy=Policy.SELF_OR_ADMIN,
        name="replace_user",
        token="access",
        form=UpdateForm,
        answer=UserAnswer,
        has_etag=True,
        account_limit="UPDATE_ACCOUNT_LIMIT",
        errors=_UPDATE_ERRORS,
    )
    def put(self, user_id: int, identity: Identity, form: UpdateForm) -> Response:
        """Replace a user's data.

        A new password or mobile number requires a fresh token. A new password ends every other session.
        """
        return answer_user(users.update_user(user_id, requester_of(identity), if_match(), **form.values()))

    @endpoint(
        policy=Policy.SELF_OR_ADMIN,
        name="update_user",
        token="access",
        form=PatchForm,
        answer=UserAnswer,
        has_etag=True,
        account_limit="UPDATE_ACCOUNT_LIMIT",
        errors=_UPDATE_ERRORS,
    )
    def patch(self, user_id: int, identity: Identity, form: PatchForm) -> Response:
        """Change some of a user's data, under the rules of PUT. Absent fields keep their value.

        Null does not change a required field.
        """
        return answer_user(users.update_user(user_id, requester_of(identity), if_match(), **form.values()))

    @endpoint(
        policy=Policy.SELF_OR_ADMIN,
        name="delete_user",
        token="access",
        is_fresh=True,
        answer=NoAnswer,
        account_limit="UPDATE_ACCOUNT_LIMIT",
        errors=(UserNotFound, LastAdmin, StaleVersion, ConcurrentUpdate),
    )
    def delete(self, user_id: int, identity: Identity) -> Response:
        """Delete a user and all their sessions."""
        users.delete_user(user_id, requester_of(identity), if_match())
        response = HttpResponse.success(message=f"delete user success: {user_id}")
        if user_id == identity.user.id:
            cookies.clear_tokens(response)
        return response


def _answer_read(identity: Identity, other: User | None = None) -> Response:
    """Answer with another user, or else with the user of the token, and with the CSRF token of the session."""
    response = answer_user(other) if other else answer_user(identity.user, from_cache=identity.from_cache)
    cookies.send_csrf_token(response, identity.session.id)
    return response


api_v1.add_url_rule("/users/", view_func=UserAPI.as_view("user_api"))
api_v1.add_url_rule("/users/<id:user_id>", view_func=UserByIdAPI.as_view("user_by_id_api"))
