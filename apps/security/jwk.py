"""Asymmetric keys: create and serialize them, and convert them to JSON Web Keys (RFC 7517)."""

import base64
import hashlib
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey

ALGORITHMS = ("EdDSA", "ES256")


def make_private_key(algorithm: str) -> PrivateKey:
    """Return a new key for "EdDSA" (Ed25519) or "ES256" (P-256)."""
    return Ed25519PrivateKey.generate() if algorithm == "EdDSA" else generate_private_key(SECP256R1())


def to_text(key: PrivateKey) -> str:
    """Return the key in PKCS #8, encoded as base64."""
    return base64.b64encode(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())).decode()


def from_text(text: str) -> PrivateKey:
    """Return the key of a `to_text` result. Raises `TypeError` for a key of another kind."""
    key = load_der_private_key(base64.b64decode(text), password=None)
    if not isinstance(key, PrivateKey):
        raise TypeError("not an Ed25519 or EC key")
    return key


def to_public_jwk(key: PrivateKey, algorithm: str) -> dict[str, Any]:
    """Return the public key as a JWK, with its thumbprint as `kid`."""
    if isinstance(key, Ed25519PrivateKey):
        jwk: dict[str, Any] = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        jwk = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**jwk, "kid": thumbprint(jwk), "alg": algorithm, "use": "sig"}


def thumbprint(jwk: dict[str, Any]) -> str:
    """Return the thumbprint of a public JWK: SHA-256 over its required members (RFC 7638, 3)."""
    members = {name: jwk[name] for name in ("crv", "kty", "x", "y") if name in jwk}
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(hashlib.sha256(canonical).digest()).rstrip(b"=").decode()
