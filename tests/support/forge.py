"""Forged tokens: any header, claims and signature, also with the right key."""

import base64
import hmac
import json
from typing import Any

from werkzeug.test import TestResponse

from apps.config import TestConfig

Json = dict[str, Any]

HEADER: Json = {"alg": "HS256", "typ": "JWT"}
KEY = TestConfig.JWT_SECRET_KEY.encode()
ABSENT = object()  # as the value of a claim or header member: omit it

# The exact answer to every bad token (T13).
_BODY = (
    b'{"code":401,"data":{},"error":{"type":"invalid_token"},'
    b'"message":"The token is invalid, expired or revoked.","state":0}'
)
REFUSAL = (401, _BODY, 'Bearer error="invalid_token"')


def segment(value: Json | bytes) -> str:
    """Return a part of a token: JSON, or raw bytes, in base64url without padding."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(claims: Json | bytes, header: Json | bytes = HEADER, key: bytes = KEY, digest: str = "sha256") -> str:
    """Return a token with an HMAC, by default that of a valid token."""
    content = f"{segment(header)}.{segment(claims)}"
    return f"{content}.{segment(hmac.digest(key, content.encode(), digest))}"


def claims_of(token: str) -> Json:
    """Return the claims of a token, unchecked."""
    part = token.split(".")[1]
    claims: Json = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


def altered(token: str, **claims: Any) -> str:
    """Return the token with changed claims and a valid signature."""
    return signed(_present(claims_of(token) | claims))


def headed(token: str, **members: Any) -> str:
    """Return the token with changed header members and a valid signature."""
    return signed(claims_of(token), _present(HEADER | members))


def _present(values: Json) -> Json:
    return {name: value for name, value in values.items() if value is not ABSENT}


def verdict(response: TestResponse) -> tuple[int, bytes, str | None]:
    """Return all of an answer that depends on the token. It equals `REFUSAL` if the token is refused."""
    return response.status_code, response.data, response.headers.get("WWW-Authenticate")
