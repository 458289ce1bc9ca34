"""Management of all accounts, for admins."""

from datetime import datetime
from typing import Any

import msgspec
from flask import Response
from flask.views import MethodView

from apps.api_v1.answers import NoAnswer, if_match, mobile_of, requester_of
from apps.api_v1.blueprint import api_v1
from apps.errors import ConcurrentUpdate, LastAdmin, StaleVersion, UserNotFound
from apps.forms.admin import RoleForm, UserListQuery
from apps.http.contract import Policy
from apps.http.endpoint import endpoint
from apps.models import User
from apps.services import admin
from apps.services.account import read_user
from apps.services.identity_cache import Identity
from apps.services.user import delete_user
from apps.utils.response import HttpResponse


class AccountAnswer(msgspec.Struct):
    """A user as admins see it."""

    id: int
    username: str
    age: int | None
    mobile: str | None
    role: str
    blocked: bool
    create_time: datetime
    update_time: datetime
    unreadable: list[str] | msgspec.UnsetType = msgspec.UNSET  # fields that are null because they cannot be decrypted


class AccountListAnswer(msgspec.Struct):
    """A page of users. `next` is the `cursor` of the next page, null on the last page."""

    data: list[AccountAnswer]
    next: str | None


_OF_ACCOUNTS = ("read_account", "block_account", "unblock_account", "change_role", "end_account_sessions")
_CHANGE_ERRORS = (UserNotFound, LastAdmin, StaleVersion, ConcurrentUpdate)


def _account(user: User) -> AccountAnswer:
    return AccountAnswer(
        id=user.id,
        username=user.username,
        age=user.age,
        role=user.role,
        blocked=user.block_time is not None,
        create_time=user.create_time,
        update_time=user.update_time,
        **mobile_of(user),
    )


def _answer_account(user: User) -> Response:
    """Answer with a user and its ETag, for a later If-Match."""
    response = HttpResponse.success(_account(user))
    response.set_etag(str(user.version))
    return response


@api_v1.get("/admin/users")
@endpoint(policy=Policy.ADMIN, token="access", query=UserListQuery, answer=AccountListAnswer, links=_OF_ACCOUNTS)
def list_accounts(identity: Identity, query: dict[str, Any]) -> Response:  # noqa: ARG001 (used by the policy)
    """List users, one page at a time."""
    page = admin.list_users(query)
    return HttpResponse.success(AccountListAnswer([_account(user) for user in page.users], page.next))


@api_v1.post("/admin/users/<id:user_id>/block")
@endpoint(
    policy=Policy.ADMIN,
    token="access",
    answer=AccountAnswer,
    has_etag=True,
    errors=_CHANGE_ERRORS,
)
def block_account(user_id: int, identity: Identity) -> Response:
    """Block a user: end all their sessions and refuse logins."""
    return _answer_account(admin.block_user(user_id, requester_of(identity), if_match()))


@api_v1.post("/admin/users/<id:user_id>/unblock")
@endpoint(
    policy=Policy.ADMIN,
    token="access",
    answer=AccountAnswer,
    has_etag=True,
    errors=(UserNotFound, StaleVersion, ConcurrentUpdate),
)
def unblock_account(user_id: int, identity: Identity) -> Response:
    """Unblock a user."""
    return _answer_account(admin.unblock_user(user_id, requester_of(identity), if_match()))


@api_v1.put("/admin/users/<id:user_id>/role")
@endpoint(
    policy=Policy.ADMIN,
    token="access",
    form=RoleForm,
    answer=AccountAnswer,
    has_etag=True,
    errors=_CHANGE_ERRORS,
)
def change_role(user_id: int, identity: Identity, form: RoleForm) -> Response:
    """Change a user's role."""
    return _answer_account(admin.change_role(user_id, form.data["role"], requester_of(identity), if_match()))


@api_v1.delete("/admin/users/<id:user_id>/sessions")
@endpoint(policy=Policy.ADMIN, token="access", answer=NoAnswer, errors=(UserNotFound, StaleVersion))
def end_account_sessions(user_id: int, identity: Identity) -> Response:
    """End every session of a user."""
    admin.end_sessions_of(user_id, requester_of(identity), if_match())
    return HttpResponse.success()


class AccountAPI(MethodView):
    """`/admin/users/<id>`. GET and DELETE share one URL rule, so that an invalid id is a 404 with any method."""

    @endpoint(
        policy=Policy.ADMIN,
        name="read_account",
        token="access",
        answer=AccountAnswer,
        has_etag=True,
        errors=(UserNotFound,),
    )
    def get(self, user_id: int, identity: Identity) -> Response:  # noqa: ARG002 (used by the policy)
        """Read a user, including the fields that only admins see."""
        return _answer_account(read_user(user_id))

    @endpoint(
        policy=Policy.ADMIN,
        name="delete_account",
        token="access",
        is_fresh=True,
        answer=NoAnswer,
        errors=_CHANGE_ERRORS,
    )
    def delete(self, user_id: int, identity: Identity) -> Response:
        """Delete a user."""
        delete_user(user_id, requester_of(identity), if_match())
        return HttpResponse.success(message=f"delete user success: {user_id}")


api_v1.add_url_rule("/admin/users/<id:user_id>", view_func=AccountAPI.as_view("account_api"))
