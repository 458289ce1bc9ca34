"""Tokens: get the next access token."""

from flask import Response

from apps.api_v1.answers import RefreshAnswer, answer_tokens
from apps.api_v1.blueprint import api_v1
from apps.errors import NoSigningKey
from apps.http.client_address import client_device
from apps.http.contract import Policy
from apps.http.endpoint import endpoint
from apps.services import token as tokens
from apps.services.identity_cache import Identity


@api_v1.post("/refresh")
@endpoint(
    policy=Policy.SELF,
    token="refresh",
    answer=RefreshAnswer,
    sends_csrf_token=True,
    limit="REFRESH_LIMIT",
    account_limit="REFRESH_ACCOUNT_LIMIT",
    errors=(NoSigningKey,),
)
def refresh(identity: Identity) -> Response:
    """Get a new access token for a refresh token."""
    return answer_tokens(RefreshAnswer(), identity.session.id, tokens.refresh(identity, client_device().user_agent))
