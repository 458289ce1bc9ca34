"""docs/examples: the code that other teams copy runs unchanged against a live service."""

import json
import os
import re
import runpy
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from flask import Flask
from flask.testing import FlaskClient

from apps import create_app
from apps.about import ROOT
from apps.commands import register_commands
from apps.config import settings
from apps.security.jwk import PrivateKey, make_private_key, to_public_jwk
from apps.utils import clock
from tests.support import live, stores
from tests.support.forge import altered, claims_of
from tests.support.keys import rotate, signing_key_of
from tests.support.people import bearer, sign_up_body

EXAMPLE = ROOT / "docs" / "examples" / "verify_tokens.py"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    """The service as its operator sees it: its database, with a signing key."""
    url = stores.make_database("sqlite", tmp_path_factory.mktemp("sqlite"))
    app = create_app("testing", DATABASE_URL=url, JWT_ALGORITHM="EdDSA")
    register_commands(app)
    rotate(app)
    return app


@pytest.fixture(scope="module")
def gatehouse(app: Flask, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    names = ("JWT_ALGORITHM", "JWT_SECRET_KEY", "FIELD_INDEX_KEY")
    environment = {f"GATEHOUSE_{name}": getattr(settings(app), name) for name in names}
    environment["GATEHOUSE_FIELD_ENCRYPTION_KEYS"] = json.dumps(settings(app).FIELD_ENCRYPTION_KEYS)
    environment["DATABASE_URL"] = settings(app).DATABASE_URL
    with live.live_server(tmp_path_factory.mktemp("gatehouse"), "run", **environment) as server:
        yield server.url


@pytest.fixture(scope="module")
def person(gatehouse: str) -> dict[str, Any]:
    body = json.dumps(sign_up_body()).encode()
    request = urllib.request.Request(f"{gatehouse}/api/v1/users/", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        data: dict[str, Any] = json.load(response)["data"]
        return data


@pytest.fixture(scope="module")
def orders(gatehouse: str) -> FlaskClient:
    """The other team's service, from the example."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "ACCOUNTS_URL", gatehouse)
        client: FlaskClient = runpy.run_path(str(EXAMPLE))["app"].test_client()
    return client


def test_it_is_about_ten_lines() -> None:
    """The part that a reader copies: the function, without its imports."""
    lines = EXAMPLE.read_text().partition("def current_user_id")[2].partition("@app.get")[0].strip().splitlines()
    assert len(lines) <= 14


def test_an_access_token_is_accepted(orders: FlaskClient, person: dict[str, Any]) -> None:
    """T12: verified with the published key alone, without a request to Gatehouse about the token."""
    response = orders.get("/orders", headers=bearer(person["access_token"]))
    assert (response.status_code, response.get_json()) == (200, {"orders_of": str(person["id"])})


def test_nothing_else_is(app: Flask, orders: FlaskClient, person: dict[str, Any]) -> None:
    """T1, T5, T6, T7: refresh tokens, other keys, other audiences, expired tokens and no token are refused."""
    access = person["access_token"]
    own, stranger = signing_key_of(app), make_private_key("EdDSA")
    claims, now = claims_of(access), int(clock.now().timestamp())

    def by(key: PrivateKey, kid: str = own.kid, **changes: Any) -> str:
        return jwt.encode(claims | changes, key, "EdDSA", headers={"kid": kid})

    assert orders.get("/orders", headers=bearer(by(own.private_key))).status_code == 200

    refused = {
        "none": "",
        "no token": "x",
        "a refresh token": person["refresh_token"],
        "a stranger's under our kid": by(stranger),
        "a stranger's own": by(stranger, str(to_public_jwk(stranger, "EdDSA")["kid"])),
        "over": by(own.private_key, exp=now - 1),
        "not begun": by(own.private_key, nbf=now + 600),
        "for another audience": by(own.private_key, aud="orders"),
        "of another issuer": by(own.private_key, iss="orders"),
        "without an end": by(own.private_key, exp=None),
        "HS256": altered(access),
        "changed": f"{access[:-8]}AAAAAAAA",
        "unsigned": jwt.encode(claims, None, "none", headers={"kid": own.kid}),
    }
    for name, token in refused.items():
        assert (name, orders.get("/orders", headers=bearer(token)).status_code) == (name, 401)
    assert orders.get("/orders").status_code == 401


def test_it_starts_as_its_docstring_says(tmp_path: Path) -> None:
    """The lines work in order; only the ports and the path of Python are changed."""
    *prepare, run, start, ask = re.findall(r"^    (.+)$", EXAMPLE.read_text().split('"""')[1], re.MULTILINE)
    assert run == ".venv/bin/python manage.py run"
    live.checkout(tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    shell("; ".join(prepare), tmp_path)
    port = live.free_port()
    with live.live_server(tmp_path, "run", GATEHOUSE_JWT_ALGORITHM="EdDSA") as server:
        data = server.send("POST", "/api/v1/users/", sign_up_body())[1]["data"]
        command = in_test(start).replace("5001", str(port)).split()
        orders = subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"ACCOUNTS_URL": server.url})
        try:
            line = (
                f"{ask.replace('5001', str(port))} --retry 30 --retry-connrefused --retry-delay 1 --no-progress-meter"
            )
            answer = shell(line, tmp_path, ACCESS_TOKEN=data["access_token"])
        finally:
            live.stop(orders)
    assert json.loads(answer) == {"orders_of": str(data["id"])}


def in_test(line: str) -> str:
    return line.replace(".venv/bin/python", sys.executable).replace(".venv/bin/flask", f"{sys.executable} -m flask")


def shell(line: str, folder: Path, **environment: str) -> str:
    environ = live.unconfigured() | environment
    done = subprocess.run(
        ["sh", "-c", in_test(line)], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
