"""Tokens that the service does not make: of any header, any claims and any signature, the right key's included."""

import base64
import hmac
import json
from typing import Any

from werkzeug.test import TestResponse

from apps.config import TestConfig

Json = dict[str, Any]

HEADER: Json = {"alg": "HS256", "typ": "JWT"}
KEY = TestConfig.JWT_SECRET_KEY.encode()
ABSENT = object()  # as the value of a claim or a header member: leave it out

# The answer to every bad token, to the byte (T13).
_BODY = (
    b'{"code":401,"data":{},"error":{"type":"invalid_token"},'
    b'"message":"The token is invalid, expired or revoked.","state":0}'
)
REFUSAL = (401, _BODY, 'Bearer error="invalid_token"')


def segment(value: Json | bytes) -> str:
    """Return a part of a token: base64url without padding, of JSON or of the bytes as they are."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(claims: Json | bytes, header: Json | bytes = HEADER, key: bytes = KEY, digest: str = "sha256") -> str:
    """Return a token with an HMAC: by default the one of a good token."""
    content = f"{segment(header)}.{segment(claims)}"
    return f"{content}.{segment(hmac.digest(key, content.encode(), digest))}"


def claims_of(token: str) -> Json:
    """Return what a token says, unchecked."""
    part = token.split(".")[1]
    claims: Json = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


def altered(token: str, **claims: Any) -> str:
    """Return the token with other claims, and the right signature for them."""
    return signed(_present(claims_of(token) | claims))


def headed(token: str, **members: Any) -> str:
    """Return the token with other members in its header, and the right signature for them."""
    return signed(claims_of(token), _present(HEADER | members))


def _present(values: Json) -> Json:
    return {name: value for name, value in values.items() if value is not ABSENT}


def told(response: TestResponse) -> tuple[int, bytes, str | None]:
    """Return all that an answer tells the sender of a token; `REFUSAL` where the token is refused."""
    return response.status_code, response.data, response.headers.get("WWW-Authenticate")
