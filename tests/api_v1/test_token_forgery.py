"""Forged and misused tokens: all get the same refusal, in identical bytes.

Those signed with the real key show that the signature is not the only check.
"""

import socket
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt as pyjwt
import pytest
import time_machine
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from apps.services.token import Kind
from tests.support.forge import ABSENT, HEADER, KEY, REFUSAL, Json, altered, claims_of, headed, segment, signed, verdict
from tests.support.people import People, Person

pytestmark = pytest.mark.stores("sqlite")

KINDS: tuple[Kind, ...] = ("access", "refresh")
START = datetime(2026, 1, 1, 12, tzinfo=UTC)
LIFETIME = 120  # seconds of an access token
LEEWAY = 10
TEXTS = ("iss", "aud", "sub", "sid", "jti", "type")
TIMES = ("exp", "nbf", "iat")


def use(person: Person, kind: Kind, token: str) -> tuple[int, bytes, str | None]:
    """Send a token to a route of its kind."""
    return verdict(person.get("/users/", token=token) if kind == "access" else person.post("/refresh", token=token))


def accepted(person: Person, tokens: Mapping[str, str], kind: Kind = "access") -> list[str]:
    """Return the names of the tokens that are not refused as expected."""
    return [name for name, token in tokens.items() if use(person, kind, token) != REFUSAL]


def token_of(person: Person, kind: Kind) -> str:
    return person.access_token if kind == "access" else person.refresh_token


@pytest.mark.parametrize("kind", KINDS)
def test_the_forger_of_these_tests_makes_a_good_token(people: People, kind: Kind) -> None:
    """Otherwise the tests below could pass for a different reason."""
    alice = people.sign_up()
    token = token_of(alice, kind)
    assert altered(token) != token
    assert [use(alice, kind, good)[0] for good in (altered(token), headed(token), altered(token, jti="another"))] == [
        200
    ] * 3


def wrong_types(claim: str, value: Any) -> dict[str, Any]:
    """Return values that a lax check would accept for the claim, all of another JSON type."""
    odd: dict[str, Any] = {"absent": ABSENT, "null": None, "list": [value], "object": {claim: value}}
    if claim != "fresh":
        odd |= {"true": True, "false": False}
    if claim in TEXTS:
        return odd | {"number": 1, "float": 1.5, "1e30": 1e30}
    odd |= {"text": str(value), "no text": "", "float": float(value), "fraction": value + 0.5, "minus": -1.5}
    odd |= {"1e30": 1e30, "NaN": float("nan"), "Infinity": float("inf")}
    return odd | ({"0": 0, "1": 1} if claim == "fresh" else {})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("claim", [*TEXTS, *TIMES, "fresh"])
def test_every_claim_is_needed_with_its_own_type(people: People, claim: str, kind: Kind) -> None:
    """T5: `sub` is a string, not a number, in issued tokens as well."""
    alice = people.sign_up()
    token = token_of(alice, kind)
    odd = wrong_types(claim, claims_of(token)[claim])
    assert accepted(alice, {name: altered(token, **{claim: value}) for name, value in odd.items()}, kind) == []


def test_a_refresh_token_says_which_generation_it_is(people: People) -> None:
    """T5, R1: an access token has no generation."""
    alice = people.sign_up()
    odd = wrong_types("gen", 0) | {"the next": 1, "one before the first": -1, "huge": int("9" * 400)}
    assert (
        accepted(alice, {name: altered(alice.refresh_token, gen=value) for name, value in odd.items()}, "refresh") == []
    )
    assert accepted(alice, {"with one": altered(alice.access_token, gen=0)}) == []
    assert accepted(alice, {"made another kind": altered(alice.access_token, type="refresh")}, "refresh") == []
    assert alice.refresh().status_code == 200


def wrong_values(claims: Json, lifetime: int) -> dict[str, Json]:
    exp, iat = claims["exp"], claims["iat"]
    huge = int("9" * 400)
    return {
        "lives a second too long": {"exp": exp + 1},
        "lives for years": {"exp": exp + 10**8},
        "lives for ever": {"exp": huge},
        "made before its lifetime, but not over": {"iat": iat - 1},
        "over before it was made": {"exp": iat - 1},
        "over as it was made": {"exp": iat},
        "over": {"exp": iat - LEEWAY - 1, "iat": iat - lifetime, "nbf": iat - lifetime},
        "over long ago": {"exp": -huge + lifetime, "iat": -huge, "nbf": -huge},
        "made tomorrow": {"exp": exp + 86_400, "iat": iat + 86_400},
        "made at the end of time": {"exp": huge, "iat": huge - lifetime},
        "good tomorrow": {"nbf": iat + 86_400},
        "good at the end of time": {"nbf": huge},
        "one claim too many": {"role": "admin"},
        "a claim of the library": {"csrf": "x"},
        "a claim without a name": {"": ""},
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_times_are_held_against_the_clock_and_the_lifetime(people: People, kind: Kind) -> None:
    """T5: a signature does not make a token valid for longer than the service would issue it."""
    alice = people.sign_up()
    token = token_of(alice, kind)
    odd = wrong_values(claims_of(token), LIFETIME if kind == "access" else 300)
    assert accepted(alice, {name: altered(token, **claims) for name, claims in odd.items()}, kind) == []


@pytest.mark.parametrize(("seconds", "status"), [(LIFETIME + LEEWAY - 1, 200), (LIFETIME + LEEWAY, 401)])
def test_an_access_token_ends_with_its_lifetime_and_the_leeway(people: People, seconds: int, status: int) -> None:
    """T5."""
    with time_machine.travel(START, tick=False) as clock:
        alice = people.sign_up()
        clock.shift(seconds)
        assert alice.get("/users/").status_code == status


@pytest.mark.parametrize(("seconds", "status"), [(LEEWAY, 200), (LEEWAY + 1, 401)])
def test_a_clock_that_is_behind_by_the_leeway_takes_the_tokens_of_another(
    people: People, seconds: int, status: int
) -> None:
    """T5."""
    with time_machine.travel(START, tick=False) as clock:
        alice = people.sign_up()
        clock.shift(timedelta(seconds=-seconds))
        assert alice.get("/users/").status_code == status


@pytest.mark.settings(JWT_ACCESS_TOKEN_EXPIRES=1.5, JWT_REFRESH_TOKEN_EXPIRES=2.5)
@pytest.mark.parametrize("fraction", [0, 0.25, 0.5, 0.75])
def test_a_token_of_a_lifetime_in_fractions_of_a_second_is_good(people: People, fraction: float) -> None:
    """T5: `exp` and `iat` are whole seconds, so their difference may be off by one from the lifetime."""
    with time_machine.travel(START + timedelta(seconds=fraction), tick=False):
        alice = people.sign_up()
        assert [alice.get("/users/").status_code, alice.refresh().status_code] == [200, 200]


WRONG_NAMES: dict[str, tuple[Any, ...]] = {
    "iss": ("", "gate", "gatehouse2", "Gatehouse", "gatehouse ", "https://gatehouse", ["gatehouse"], "*"),
    "aud": ("", "gate", "gatehouse2", "GATEHOUSE", ["gatehouse"], ["gatehouse", "other"], [], {"gatehouse": 1}, "*"),
    "type": ("", "Access", "ACCESS", "access ", "reset", "verify", "mfa", ["access"], "refreshaccess", "\0"),
    "sid": ("", "0" * 31, "0" * 33, "0" * 32, "G" * 32, "0" * 31 + "\n", "٣" * 32, "*" * 32, "{u:1}", "' OR '1'='1"),
    "sub": (
        *("", "0", "-1", "+1", "1.0", "1e0", " 1", "1 ", "1\n", "01", "0x1", "1_0", "٣", "１", "one", "1;", "\0"),
        *(str(2**63 - 1), str(2**63), "9" * 19, "9" * 20, "9" * 400),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("claim", WRONG_NAMES)
def test_names_are_compared_whole_and_exactly(people: People, claim: str, kind: Kind) -> None:
    """T6, T7: no prefix, list or other case matches (CVE-2024-53861). T8: `sub` has one form only."""
    alice = people.sign_up()
    token = token_of(alice, kind)
    odd = {repr(value): altered(token, **{claim: value}) for value in WRONG_NAMES[claim]}
    assert accepted(alice, odd, kind) == []


@pytest.mark.parametrize("kind", KINDS)
def test_user_and_session_must_belong_together(people: People, kind: Kind) -> None:
    """T8: the signing key alone, without the database, opens no account by its id."""
    alice, bob = people.sign_up(), people.sign_up()
    token, other = token_of(alice, kind), claims_of(bob.access_token)
    odd = {
        "the session of another": altered(token, sid=other["sid"]),
        "another with one's own session": altered(token, sub=other["sub"]),
        "the id with a zero before it": altered(token, sub=f"0{alice.id}"),
        "the session in capitals": altered(token, sid=claims_of(token)["sid"].upper()),
    }
    assert accepted(alice, odd, kind) == []
    assert bob.get("/users/").status_code == 200


HEADERS: dict[str, Json] = {
    **{
        f"typ {typ!r}": {"typ": typ} for typ in ("jwt", "Jwt", "at+jwt", "reset+jwt", "JOSE", "", None, ["JWT"], ABSENT)
    },
    **{f"alg {alg!r}": {"alg": alg} for alg in ("none", "None", "NONE", "nOnE", "", None, ABSENT, 1, ["HS256"])},
    **{f"alg {alg!r}": {"alg": alg} for alg in ("hs256", "HS256 ", "HS384", "HS512", "RS256", "ES256", "dir")},
    **{f"kid {kid[:20]!r}": {"kid": kid} for kid in ("", "0", "../../dev/null", "' OR 1=1", "|id", "\0", "k" * 1000)},
    "crit of an unknown name": {"crit": ["exp"], "exp": 1},
    "crit of b64": {"crit": ["b64"], "b64": False},
    "crit of nothing": {"crit": []},
    "cty": {"cty": "JWT"},
    "zip": {"zip": "DEF"},
    "enc": {"enc": "A128GCM"},
    "jwk": {"jwk": {"kty": "oct", "k": segment(KEY), "alg": "HS256"}},
    "x5c": {"x5c": ["MIIB"]},
}


def test_the_header_is_exactly_ours(people: People) -> None:
    """T1, T3, T4: signed with the real key, and refused because the service does not write such a header."""
    alice = people.sign_up()
    assert accepted(alice, {name: headed(alice.access_token, **odd) for name, odd in HEADERS.items()}) == []


@pytest.mark.parametrize("member", ["jku", "x5u"])
def test_no_key_is_fetched_from_an_address_in_a_token(people: People, member: str) -> None:
    """T3: a listener on that address gets no connection."""
    alice = people.sign_up()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/jwks.json"
        assert accepted(alice, {url: headed(alice.access_token, **{member: url})}) == []
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_without_the_right_signature_nothing_is_accepted(people: People) -> None:
    """T1 (CVE-2026-28802): no signature, an empty one, or one of another algorithm, key or token."""
    alice, bob = people.sign_up(), people.sign_up()
    claims, token = claims_of(alice.access_token), alice.access_token
    content, _, signature = token.rpartition(".")
    odd = {f"alg {alg}": f"{segment({**HEADER, 'alg': alg})}.{segment(claims)}." for alg in ("none", "None", "nOnE")}
    odd |= {alg: signed(claims, HEADER | {"alg": alg}, digest=alg) for alg in ("sha384", "sha512")}
    odd |= {f"a MAC by {digest}": signed(claims, digest=digest) for digest in ("sha1", "sha384", "sha512")}
    odd |= {f"the key {key!r}": signed(claims, key=key) for key in (b"", b"secret", b"\0" * 32, KEY[:-1])}
    odd |= {"no signature": f"{content}.", "no dot": content, "of another": f"{content}.{bob.access_token[-43:]}"}
    odd |= {"cut": token[:-1], "longer": token + "A", "padded": token + "=", "twice": f"{token}.{signature}"}
    odd |= {"case": f"{content}.{signature.swapcase()}", "claims of another": swap_claims(token, bob.access_token)}
    assert accepted(alice, odd) == []


def swap_claims(token: str, other: str) -> str:
    header, _, signature = token.split(".")
    return f"{header}.{other.split('.')[1]}.{signature}"


def test_a_token_has_one_spelling(people: People) -> None:
    """F8: the unused bits of the last character are zero, and no extra characters surround a part."""
    alice = people.sign_up()
    head, body, signature = alice.access_token.split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(signature[-1])
    odd = {f"unused bits {bits}": alice.access_token[:-1] + alphabet[last ^ bits] for bits in (1, 2, 3)}
    odd |= {f"{junk!r} in it": f"{head}.{body}.{signature[:9]}{junk}{signature[9:]}" for junk in "=\t+/~%é\xa0"}
    odd |= {f"{junk!r} after the header": f"{head}{junk}.{body}.{signature}" for junk in ("=", "==", ".", "%2E")}
    odd |= {"a dot before": f".{alice.access_token}", "a dot after": f"{alice.access_token}."}
    assert accepted(alice, odd) == []


def private_keys() -> dict[str, Any]:
    rsa_key = rsa.generate_private_key(65537, 2048)
    elliptic = ec.generate_private_key(ec.SECP256R1())
    return {"RS256": rsa_key, "PS256": rsa_key, "ES256": elliptic, "EdDSA": ed25519.Ed25519PrivateKey.generate()}


def spellings(alg: str, public: Any) -> dict[str, bytes]:
    """Return the public key in each published format."""
    return {
        "PEM": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "DER": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "SSH": public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "JWK": str(pyjwt.get_algorithm_by_name(alg).to_jwk(public)).encode(),
    }


def test_a_public_key_is_no_secret_and_its_owner_no_signer(people: People) -> None:
    """T2 (CVE-2022-29217, CVE-2024-33663): a MAC with a public key and a signature with its private key are refused."""
    alice = people.sign_up()
    claims = claims_of(alice.access_token)
    odd = {}
    for alg, key in private_keys().items():
        odd[alg] = pyjwt.encode(claims, key, algorithm=alg)
        odd[f"{alg} said to be HS256"] = ".".join((segment(HEADER), *odd[alg].split(".")[1:]))
        for spelling, public in spellings(alg, key.public_key()).items():
            odd[f"HS256 by {alg} as {spelling}"] = signed(claims, key=public)
            odd[f"{alg} by itself as {spelling}"] = signed(claims, HEADER | {"alg": alg}, key=public)
    assert accepted(alice, odd) == []
