"""`manage.py keys` and `manage.py clients`: their output and their errors."""

import re

import pytest
from flask import Flask

from apps.extensions import db
from apps.models import SigningKey
from tests.support.keys import add_client, command, refusal, rotate

pytestmark = pytest.mark.stores("sqlite")
KID = r"[A-Za-z0-9_-]{43}"  # RFC 7638: SHA-256 in base64url
rotating = pytest.mark.settings(JWT_ALGORITHM="EdDSA", JWT_KEYS_RELOAD=0.1)


@rotating
def test_the_list_says_what_each_key_is_for(app: Flask) -> None:
    """T12: the newest key first, without retired ones."""
    assert command(app, "keys", "list") == []
    first, second = rotate(app), rotate(app)
    (line,) = command(app, "keys", "generate")
    waiting = line.removeprefix("published ")
    lines = command(app, "keys", "list")
    assert [re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", line) for line in lines] == [
        f"{waiting}  EdDSA  TIME  published",
        f"{second}  EdDSA  TIME  signing",
        f"{first}  EdDSA  TIME  verifying",
    ]
    command(app, "keys", "retire", first, "--force")
    assert len(command(app, "keys", "list")) == 2


@rotating
def test_generate_and_rotate_name_the_key(app: Flask) -> None:
    (published,) = command(app, "keys", "generate")
    assert re.fullmatch(f"published {KID}", published)
    (signing,) = command(app, "keys", "rotate")
    assert signing == published.replace("published", "signing with")
    (pending,) = command(app, "keys", "rotate")
    assert re.fullmatch(rf"signing from \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC with {KID}", pending)


@rotating
@pytest.mark.parametrize("options", [[], ["--now"]])
def test_a_waiting_key_that_cannot_be_decrypted_never_signs(app: Flask, options: list[str]) -> None:
    """T12: `rotate` retires it and publishes another one; with it, a new process could not sign."""
    signing = rotate(app)
    (line,) = command(app, "keys", "rotate")
    broken = line.split()[-1]
    with app.app_context():
        db.session.get_one(SigningKey, broken).private_key_ciphertext = b"\x01"
        db.session.commit()
    (line,) = command(app, "keys", "rotate", *options)
    assert line.split()[-1] not in (signing, broken)
    assert broken not in "".join(command(app, "keys", "list"))


@rotating
@pytest.mark.parametrize("kid", ["nobody", "", "x" * 200, "-Uj" + "x" * 40, "--" + "x" * 41])
def test_an_unknown_key_is_not_retired(app: Flask, kid: str) -> None:
    """One in 64 kids begins with "-" and looks like an option."""
    assert refusal(app, "keys", "retire", kid) == "Error: no such key"


@pytest.mark.parametrize("what", ["generate", "rotate"])
def test_with_hs256_there_is_no_key_to_make(app: Flask, what: str) -> None:
    """T11: with HS256 the secret is a setting."""
    assert "JWT_ALGORITHM is HS256" in refusal(app, "keys", what)


def test_a_client_is_added_listed_and_removed(app: Flask) -> None:
    """R10: the secret is printed only once."""
    client_id, secret = add_client(app, "orders", ["revoke", "introspect"])
    (line,) = command(app, "clients", "list")
    assert re.fullmatch(rf"{client_id}  \d{{4}}-\d\d-\d\d  service  introspect revoke  orders", line)
    assert secret not in line
    assert command(app, "clients", "remove", client_id) == [f"removed {client_id}"]
    assert command(app, "clients", "list") == []
    assert refusal(app, "clients", "remove", client_id) == "Error: no such client"
    assert refusal(app, "clients", "set", client_id, "--scope=revoke") == "Error: no such client"


def test_the_scopes_of_a_client_are_replaced(app: Flask) -> None:
    """R10: a repeated scope counts once."""
    client_id, _ = add_client(app, "orders", ["revoke"])
    assert command(app, "clients", "set", client_id, "--scope=introspect", "--scope=introspect") == [f"set {client_id}"]
    (line,) = command(app, "clients", "list")
    assert line.split("  ")[2:] == ["service", "introspect", "orders"]


@pytest.mark.parametrize("scopes", [[], ["--scope=everything"], ["--scope="], ["--scope=introspect,revoke"]])
def test_a_client_needs_scopes_that_exist(app: Flask, scopes: list[str]) -> None:
    """R10: no scope is the default, so an operator chooses what a client may do."""
    client_id, _ = add_client(app)
    for arguments in (["add", "orders"], ["set", client_id]):
        result = app.test_cli_runner().invoke(args=["clients", *arguments, *scopes])
        assert result.exit_code == 2
        assert "--scope" in result.output
        assert "revoke" in result.output
    assert len(command(app, "clients", "list")) == 1
