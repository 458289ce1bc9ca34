"""Password change."""

from flask import Response

from apps.api_v1.answers import NoAnswer
from apps.api_v1.blueprint import api_v1
from apps.errors import UserNotFound, WeakPassword, WrongCredentials
from apps.forms.password import PasswordForm
from apps.http.contract import Policy
from apps.http.endpoint import endpoint
from apps.services.identity_cache import Identity
from apps.services.password import change_password
from apps.utils.response import HttpResponse


@api_v1.post("/password")
@endpoint(
    policy=Policy.SELF,
    name="change_password",
    token="access",
    is_fresh=True,
    form=PasswordForm,
    answer=NoAnswer,
    account_limit="UPDATE_ACCOUNT_LIMIT",
    hashes_password=True,
    errors=(WrongCredentials, WeakPassword, UserNotFound),
)
def password(identity: Identity, form: PasswordForm) -> Response:
    """Change your password and end all your other sessions."""
    change_password(identity.user.id, identity.session.id, **form.values())
    return HttpResponse.success()
