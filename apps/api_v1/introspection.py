"""Introspection and revocation of tokens, for other services."""

import msgspec
from flask import Response

from apps.api_v1.answers import NoAnswer
from apps.api_v1.blueprint import api_v1
from apps.forms.introspection import TokenForm
from apps.http.contract import Policy
from apps.http.endpoint import endpoint
from apps.models import Client
from apps.services import introspection
from apps.utils.response import HttpResponse


class IntrospectionAnswer(msgspec.Struct, omit_defaults=True):
    """RFC 7662, 2.2: without the envelope, for clients of that RFC. An inactive token has `active` alone."""

    active: bool
    sub: str | msgspec.UnsetType = msgspec.UNSET
    username: str | msgspec.UnsetType = msgspec.UNSET
    role: str | msgspec.UnsetType = msgspec.UNSET
    sid: str | msgspec.UnsetType = msgspec.UNSET
    token_type: str | msgspec.UnsetType = msgspec.UNSET
    type: str | msgspec.UnsetType = msgspec.UNSET
    exp: int | msgspec.UnsetType = msgspec.UNSET
    iat: int | msgspec.UnsetType = msgspec.UNSET
    nbf: int | msgspec.UnsetType = msgspec.UNSET
    iss: str | msgspec.UnsetType = msgspec.UNSET
    aud: str | msgspec.UnsetType = msgspec.UNSET
    jti: str | msgspec.UnsetType = msgspec.UNSET


@api_v1.post("/introspect")
@endpoint(
    policy=Policy.CLIENT,
    scope="introspect",
    form=TokenForm,
    answer=IntrospectionAnswer,
    is_enveloped=False,
    limit="CLIENT_LIMIT",
)
def introspect(client: Client, form: TokenForm) -> Response:  # noqa: ARG001 (used by the policy)
    """Check whether a token is active, and whose it is (RFC 7662)."""
    active = introspection.introspect(form.data["token"])
    if active is None:
        return HttpResponse.bare(IntrospectionAnswer(False))
    claims = active.claims
    return HttpResponse.bare(
        IntrospectionAnswer(
            True,
            username=active.identity.user.username,
            role=active.identity.user.role,
            token_type="Bearer",
            **{name: claims[name] for name in ("sub", "sid", "type", "exp", "iat", "nbf", "iss", "aud", "jti")},
        )
    )


@api_v1.post("/revoke")
@endpoint(policy=Policy.CLIENT, scope="revoke", form=TokenForm, answer=NoAnswer, limit="CLIENT_LIMIT")
def revoke(client: Client, form: TokenForm) -> Response:
    """End the session of a token (RFC 7009). An invalid token is answered with 200 as well."""
    introspection.revoke(form.data["token"], client.id)
    return HttpResponse.success()
