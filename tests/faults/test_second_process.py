"""Without Redis only one process may serve: a second one would miss a logout."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import live, stores
from tests.support.people import BIRTH, PASSWORD, sign_up_body

pytestmark = pytest.mark.timeout(120)


def test_a_second_process_serves_only_after_the_first(tmp_path: Path) -> None:
    """R6: under any WSGI server; `manage.py serve` refuses more than one worker by itself."""
    settings = {"DATABASE_URL": stores.make_database("sqlite", tmp_path)}
    (tmp_path / "service").mkdir()
    with live.live_server(tmp_path / "service", "run", **settings) as first:
        status, answer = first.send("POST", "/api/v1/users/", sign_up_body())
        token = answer["data"]["access_token"]
        (tmp_path / "elsewhere").mkdir()
        elsewhere = {"TMPDIR": str(tmp_path / "elsewhere")}  # as a container or a systemd unit may have
        with live.live_server(tmp_path / "service", "run", probe="/healthz", **settings, **elsewhere) as second:
            for method, path, body in (("GET", "/api/v1/users/", None), ("POST", "/api/v1/logout", {})):
                status, answer = second.send(method, path, body, token)
                assert (status, answer["error"]["type"]) == (503, "second_process")
            body = sign_up_body()
            assert second.send("POST", "/api/v1/users/", body)[0] == 503
            assert first.send("POST", "/api/v1/users/", body)[0] == 200  # the second process has not added the user
            status, answer = second.send("GET", "/readyz")
            assert (status, answer["error"]["fields"]) == (503, {"cache": ["Does not respond."]})
            assert first.send("POST", "/api/v1/logout", {}, token)[0] == 200
            live.stop(first.process)
            assert second.send("GET", "/api/v1/users/", token=token)[0] == 401
            assert second.send("POST", "/api/v1/users/", sign_up_body())[0] == 200


def test_an_admin_can_be_created_while_a_process_serves(tmp_path: Path) -> None:
    """A new user is in no cache, so the command needs none."""
    settings = {"DATABASE_URL": stores.make_database("sqlite", tmp_path)}
    body = sign_up_body("root-admin")
    facts = (f"--username={body['username']}", f"--mobile={body['mobile']}", "--age=40", f"--birth={BIRTH}")
    with live.live_server(tmp_path, "run", **settings) as server:
        assert server.send("POST", "/api/v1/users/", sign_up_body())[0] == 200  # the process uses its cache
        subprocess.run(
            [sys.executable, "manage.py", "create-admin", *facts, "--password-stdin"],
            input=PASSWORD.encode(),
            cwd=tmp_path,
            env=live.unconfigured() | settings,
            check=True,
        )
        login = {"username": body["username"], "password": PASSWORD}
        assert server.send("POST", "/api/v1/login", login)[0] == 200
