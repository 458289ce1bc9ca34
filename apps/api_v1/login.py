"""Login: open another session of an account."""

from flask import Response

from apps.api_v1.answers import LoginAnswer, answer_login
from apps.api_v1.blueprint import api_v1
from apps.errors import NoSigningKey, WrongCredentials
from apps.forms.login import LoginForm
from apps.http.client_address import client_device
from apps.http.contract import Policy
from apps.http.endpoint import endpoint
from apps.services.login import log_in


@api_v1.post("/login")
@endpoint(
    policy=Policy.ANYONE,
    form=LoginForm,
    answer=LoginAnswer,
    sends_csrf_token=True,
    limit="LOGIN_LIMIT",
    account_limit="LOGIN_ACCOUNT_LIMIT",
    hashes_password=True,
    errors=(WrongCredentials, NoSigningKey),
    links=("read_user", "refresh"),
)
def login(form: LoginForm) -> Response:
    """Log in: open a new session with a username and a password."""
    return answer_login(log_in(**form.values(), device=client_device()))
