"""Tokens signed by a key whose public half is published (RFC 7517), so that other services can verify them."""

from datetime import timedelta
from itertools import product

import jwt as pyjwt
import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient

from apps.security import jwk
from apps.services import key as keys
from apps.utils import clock
from tests.support.forge import HEADER, KEY, REFUSAL, claims_of, signed, verdict
from tests.support.keys import ALGORITHMS, rotate, signed_with, signing_key_of
from tests.support.people import People, sign_up_body
from tests.support.settings import change_settings

pytestmark = pytest.mark.stores("sqlite")
NO_SIGNING_KEY = (503, "no_signing_key")

eddsa = pytest.mark.settings(JWT_ALGORITHM="EdDSA", JWT_KEYS_RELOAD=0.1)
es256 = pytest.mark.settings(JWT_ALGORITHM="ES256", JWT_KEYS_RELOAD=0.1)


def published(client: FlaskClient) -> list[dict[str, str]]:
    response = client.get("/.well-known/jwks.json")
    assert (response.status_code, response.mimetype) == (200, "application/jwk-set+json")
    keys: list[dict[str, str]] = response.get_json()["keys"]
    return keys


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
@pytest.mark.parametrize("algorithm", [pytest.param("EdDSA", marks=eddsa), pytest.param("ES256", marks=es256)])
def test_the_whole_life_of_a_login_is_signed_by_the_key(app: Flask, people: People, algorithm: str) -> None:
    """T11: each token's header has the algorithm and the key id (RFC 7515, 4.1)."""
    kid = rotate(app)
    alice = people.sign_up()
    refreshed = alice.refresh().get_json()["data"]["access_token"]
    for token in (alice.access_token, alice.refresh_token, refreshed):
        assert pyjwt.get_unverified_header(token) == {"alg": algorithm, "typ": "JWT", "kid": kid}
    assert alice.get("/users/", token=refreshed).status_code == 200
    assert alice.post("/logout", json={}).status_code == 200
    assert verdict(alice.get("/users/")) == REFUSAL


@pytest.mark.parametrize("algorithm", [pytest.param("EdDSA", marks=eddsa), pytest.param("ES256", marks=es256)])
def test_what_is_published_verifies_and_holds_nothing_private(
    app: Flask, client: FlaskClient, people: People, algorithm: str
) -> None:
    """T12, RFC 7517, 9.1: any library can verify tokens with the published key, and none can sign them."""
    kid = rotate(app)
    (key,) = published(client)
    assert (key["kid"], key["alg"], key["use"]) == (kid, algorithm, "sig")
    assert set(key) <= {"kty", "crv", "x", "y", "kid", "alg", "use"}
    token = people.sign_up().access_token
    claims = pyjwt.decode(token, pyjwt.PyJWK(key), [algorithm], audience="gatehouse", issuer="gatehouse")
    assert claims == claims_of(token)
    assert client.get("/.well-known/jwks.json").headers["Cache-Control"] == "public, max-age=0"  # JWT_KEYS_RELOAD


def test_with_hs256_nothing_is_published(client: FlaskClient, people: People) -> None:
    """T11: the key that verifies is the secret that signs."""
    people.sign_up()
    assert published(client) == []


@eddsa
def test_without_a_key_nobody_gets_in_and_nothing_is_written(app: Flask, client: FlaskClient, people: People) -> None:
    """503, so a client may retry. The first key is used immediately."""
    for _ in range(2):
        response = client.post("/api/v1/users/", json=sign_up_body("alice-liddell"))
        assert (response.status_code, response.get_json()["error"]["type"]) == NO_SIGNING_KEY
    rotate(app)
    assert people.sign_up("alice-liddell").get("/users/").status_code == 200


@pytest.mark.parametrize("algorithm", [pytest.param("EdDSA", marks=eddsa), pytest.param("ES256", marks=es256)])
def test_a_token_of_our_key_is_refused_under_any_other_header(app: Flask, people: People, algorithm: str) -> None:
    """T1, T3, T4: the header cannot choose the algorithm or the source of the key, and every member is required."""
    rotate(app)
    alice = people.sign_up()
    key, claims = signing_key_of(app), claims_of(alice.access_token)
    good = {"alg": algorithm, "typ": "JWT", "kid": key.kid}
    assert alice.get("/users/", token=signed_with(key.private_key, algorithm, claims, good)).status_code == 200
    other = next(name for name in ALGORITHMS if name != algorithm)
    headers = {
        "none": good | {"alg": "none"},
        "another algorithm": good | {"alg": other},
        "in small letters": good | {"alg": algorithm.lower()},
        "without a kid": {"alg": algorithm, "typ": "JWT"},
        "without a typ": {"alg": algorithm, "kid": key.kid},
        "an unknown kid": good | {"kid": "x" * 43},
        "a kid of another type": good | {"kid": [key.kid]},
        "a null kid": good | {"kid": None},
        "a path for a kid": good | {"kid": "../../dev/null"},
        "SQL for a kid": good | {"kid": "' OR 1=1 --"},
        "a key of its own": good | {"jwk": key.public_jwk},
        "a place of keys": good | {"jku": "http://127.0.0.1/keys.json"},
        "a certificate": good | {"x5c": ["AAAA"]},
        "critical": good | {"crit": ["exp"]},
    }
    for name, header in headers.items():
        token = signed_with(key.private_key, algorithm, claims, header)
        assert (name, verdict(alice.get("/users/", token=token))) == (name, REFUSAL)


@pytest.mark.parametrize("algorithm", [pytest.param("EdDSA", marks=eddsa), pytest.param("ES256", marks=es256)])
def test_a_public_key_is_no_secret_for_hs256(app: Flask, client: FlaskClient, people: People, algorithm: str) -> None:
    """T2: algorithm confusion (RFC 8725, 2.1). The HS256 secret is not accepted beside the key either."""
    kid = rotate(app)
    alice = people.sign_up()
    claims, (public,) = claims_of(alice.access_token), published(client)
    for secret in (KEY, public["x"].encode(), repr(public).encode(), pyjwt.utils.base64url_decode(public["x"])):
        for header in (HEADER, HEADER | {"kid": kid}, {"alg": algorithm, "typ": "JWT", "kid": kid}):
            assert verdict(alice.get("/users/", token=signed(claims, header, key=secret))) == REFUSAL


@pytest.mark.parametrize("algorithm", [pytest.param("EdDSA", marks=eddsa), pytest.param("ES256", marks=es256)])
def test_a_strangers_key_signs_nothing(app: Flask, people: People, algorithm: str) -> None:
    """T1: with the id of our key or with its own id."""
    kid = rotate(app)
    alice = people.sign_up()
    stranger = jwk.make_private_key(algorithm)
    for name in (kid, str(jwk.to_public_jwk(stranger, algorithm)["kid"])):
        header = {"alg": algorithm, "typ": "JWT", "kid": name}
        token = signed_with(stranger, algorithm, claims_of(alice.access_token), header)
        assert verdict(alice.get("/users/", token=token)) == REFUSAL


@pytest.mark.settings(JWT_ALGORITHM="EdDSA", JWT_REFRESH_ROTATION=True, REFRESH_REUSE_GRACE=0)
def test_a_refresh_that_cannot_be_signed_retires_nothing(
    app: Flask, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R1: otherwise the client's retry would be a reuse and end the session."""
    rotate(app)
    alice = people.sign_up()
    with monkeypatch.context() as patch:
        patch.setattr(keys, "_signing_kid", lambda *_: None)
        keys.init_app(app)
        response = alice.refresh()
        assert (response.status_code, response.get_json()["error"]["type"]) == NO_SIGNING_KEY
    keys.init_app(app)
    assert alice.refresh().status_code == 200


def switch(app: Flask, algorithm: str) -> None:
    """Simulate a restart with another JWT_ALGORITHM."""
    change_settings(app, JWT_ALGORITHM=algorithm)
    keys.init_app(app)


@pytest.mark.parametrize("algorithm", [pytest.param("EdDSA", marks=eddsa), pytest.param("ES256", marks=es256)])
def test_a_key_verifies_by_its_own_algorithm_alone(app: Flask, people: People, algorithm: str) -> None:
    """T1, I1: a header with one key's id and the other key's algorithm is refused, whichever key signs."""
    other = next(name for name in ALGORITHMS if name != algorithm)
    switch(app, other)
    rotate(app)
    other_key = signing_key_of(app)
    switch(app, algorithm)
    rotate(app)
    own_key = signing_key_of(app)
    alice = people.sign_up()
    for key, by in ((own_key, algorithm), (other_key, other)):
        for kid, alg in product((own_key.kid, other_key.kid), ALGORITHMS):
            header = {"alg": alg, "typ": "JWT", "kid": kid}
            token = signed_with(key.private_key, by, claims_of(alice.access_token), header)
            is_good = (kid, alg) == (key.kid, by)
            assert (header, verdict(alice.get("/users/", token=token)) == REFUSAL) == (header, not is_good)


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
@eddsa
def test_a_change_of_the_algorithm_ends_no_login(app: Flask, client: FlaskClient, people: People) -> None:
    """T12: the old keys verify until their last token expires. New tokens use the new algorithm."""
    first = rotate(app)
    alice = people.sign_up("alice-liddell")
    switch(app, "ES256")
    assert alice.get("/users/").status_code == 200
    response = client.post("/api/v1/login", json={"username": "alice-liddell", "password": alice.password})
    assert (response.status_code, response.get_json()["error"]["type"]) == NO_SIGNING_KEY  # EdDSA keys do not sign
    second = rotate(app)
    token = alice.refresh().get_json()["data"]["access_token"]
    assert pyjwt.get_unverified_header(token) == {"alg": "ES256", "typ": "JWT", "kid": second}
    assert [alice.get("/users/", token=each).status_code for each in (alice.access_token, token)] == [200] * 2
    assert {key["kid"]: key["alg"] for key in published(client)} == {first: "EdDSA", second: "ES256"}
    with time_machine.travel(clock.now() + timedelta(seconds=131)):
        assert verdict(alice.get("/users/")) == REFUSAL
        assert alice.refresh().status_code == 200
    with time_machine.travel(clock.now() + timedelta(seconds=311)):
        assert verdict(alice.refresh()) == REFUSAL


@pytest.mark.parametrize(("before", "after"), [("HS256", "EdDSA"), ("ES256", "HS256")])
def test_a_change_from_or_to_hs256_ends_every_login(app: Flask, people: People, before: str, after: str) -> None:
    """T1: a secret and keys never verify side by side."""
    change_settings(app, JWT_KEYS_RELOAD=0.1)
    for algorithm in (before, after):
        if algorithm != "HS256":
            switch(app, algorithm)
            rotate(app)
    switch(app, before)
    alice = people.sign_up("alice-liddell")
    switch(app, after)
    assert verdict(alice.get("/users/")) == REFUSAL
    assert verdict(alice.refresh()) == REFUSAL
    assert people.log_in("alice-liddell").get("/users/").status_code == 200
