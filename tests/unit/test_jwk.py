"""JSON Web Keys, compared with the examples of the standards."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from apps.security import jwk
from tests.support.keys import ALGORITHMS

# RFC 8037, A.1 to A.3: an Ed25519 key and its thumbprint.
RFC_8037_PRIVATE = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
RFC_8037_PUBLIC = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
RFC_8037_THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
# RFC 9449, 4.2 and 6.1: a P-256 key and its thumbprint. The example of RFC 7638 is RSA, which is not supported.
RFC_9449_PUBLIC = {
    "kty": "EC",
    "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
    "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
    "crv": "P-256",
}
RFC_9449_THUMBPRINT = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
MEMBERS = {"EdDSA": {"kty", "crv", "x", "kid", "alg", "use"}, "ES256": {"kty", "crv", "x", "y", "kid", "alg", "use"}}


@pytest.mark.parametrize(
    ("public", "expected"), [(RFC_8037_PUBLIC, RFC_8037_THUMBPRINT), (RFC_9449_PUBLIC, RFC_9449_THUMBPRINT)]
)
@pytest.mark.parametrize("more", [{}, {"alg": "X", "use": "sig", "kid": "y", "d": "z", "key_ops": ["verify"]}])
def test_a_thumbprint_is_that_of_the_standards(public: dict[str, str], expected: str, more: dict[str, object]) -> None:
    """T12: over the required members only, in order (RFC 7638, 3)."""
    assert jwk.thumbprint({**more, **dict(reversed(public.items()))}) == expected


def test_the_public_half_is_that_of_the_standard() -> None:
    """T12: RFC 8037, A.2."""
    seed = base64.urlsafe_b64decode(RFC_8037_PRIVATE + "=")
    assert jwk.to_public_jwk(Ed25519PrivateKey.from_private_bytes(seed), "EdDSA") == {
        **RFC_8037_PUBLIC,
        "kid": RFC_8037_THUMBPRINT,
        "alg": "EdDSA",
        "use": "sig",
    }


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_public_jwk_holds_nothing_of_the_private_half(algorithm: str) -> None:
    """T12, RFC 7517, 9.1."""
    public = jwk.to_public_jwk(jwk.make_private_key(algorithm), algorithm)
    assert set(public) == MEMBERS[algorithm]
    assert (public["alg"], public["use"], public["kid"]) == (algorithm, "sig", jwk.thumbprint(public))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_comes_back_as_it_was_written(algorithm: str) -> None:
    key = jwk.make_private_key(algorithm)
    again = jwk.from_text(jwk.to_text(key))
    assert jwk.to_public_jwk(again, algorithm) == jwk.to_public_jwk(key, algorithm)
    assert jwk.to_text(again) == jwk.to_text(key)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_key_is_made_twice(algorithm: str) -> None:
    assert len({jwk.to_text(jwk.make_private_key(algorithm)) for _ in range(20)}) == 20


def test_a_key_of_another_kind_is_not_read() -> None:
    """T11: RSA is not supported."""
    key = rsa.generate_private_key(65537, 2048)
    text = base64.b64encode(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())).decode()
    with pytest.raises(TypeError):
        jwk.from_text(text)
