"""The public keys with which other services verify tokens."""

import msgspec
from flask import Blueprint, Response

from apps.config import settings
from apps.http.contract import Policy
from apps.http.endpoint import endpoint
from apps.services.key import public_jwks

well_known = Blueprint("well_known", __name__)


@well_known.get("/.well-known/jwks.json")
@endpoint(policy=Policy.ANYONE, answer=None)
def jwks() -> Response:
    """Return the public keys as a JWK Set (RFC 7517, 5)."""
    keys = [] if settings().JWT_ALGORITHM == "HS256" else public_jwks()
    response = Response(msgspec.json.encode({"keys": keys}), mimetype="application/jwk-set+json")
    response.headers["Cache-Control"] = f"public, max-age={int(settings().JWT_KEYS_RELOAD)}"
    return response
