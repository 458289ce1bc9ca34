"""Keys and clients created on the command line, and tokens signed with any key."""

from base64 import b64encode
from collections.abc import Sequence

import jwt as pyjwt
from flask import Flask

from apps.security.jwk import PrivateKey
from apps.services import key as keys
from apps.services.client import SCOPES
from tests.support.forge import Json, segment

ALGORITHMS = ("EdDSA", "ES256")


def command(app: Flask, *arguments: str) -> list[str]:
    """Run `manage.py ...`, which must succeed, and return its output lines without the log."""
    result = app.test_cli_runner().invoke(args=arguments)
    assert result.exit_code == 0, result.output
    return [line for line in str(result.stdout).splitlines() if not line.startswith("{")]


def refusal(app: Flask, *arguments: str) -> str:
    """Run `manage.py ...`, which must fail, and return its last line."""
    result = app.test_cli_runner().invoke(args=arguments)
    assert result.exit_code != 0, result.output
    return str(result.output).splitlines()[-1]


def rotate(app: Flask) -> str:
    """Sign with a new key at once and return its id."""
    return command(app, "keys", "rotate", "--now")[-1].removeprefix("signing with ")


def add_client(app: Flask, name: str = "orders", scopes: Sequence[str] = SCOPES) -> tuple[str, str]:
    """Return the id and the secret of a new client."""
    options = [f"--scope={scope}" for scope in scopes]
    client_id, secret = (line.split()[-1] for line in command(app, "clients", "add", name, *options))
    return client_id, secret


def basic(client_id: str, secret: str) -> dict[str, str]:
    return {"Authorization": f"Basic {b64encode(f'{client_id}:{secret}'.encode()).decode()}"}


def signing_key_of(app: Flask) -> keys.Key:
    with app.app_context():
        return keys.signing_key()


def signed_with(key: PrivateKey, algorithm: str, claims: Json, header: Json) -> str:
    """Return a token with any header and claims, signed with `key`."""
    content = f"{segment(header)}.{segment(claims)}"
    return f"{content}.{segment(pyjwt.get_algorithm_by_name(algorithm).sign(content.encode(), key))}"
