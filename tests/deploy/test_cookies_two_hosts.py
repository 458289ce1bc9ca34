"""Cookie mode between two hosts of one site, in a real browser: one serves the page, the other is the service."""

import json
import re
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from tests.support import chromium, programs
from tests.support.live import live_server
from tests.support.nginx import nginx
from tests.support.people import sign_up_body

pytestmark = pytest.mark.timeout(120)

APP, SERVICE, STRANGER = "https://app.example.test", "https://accounts.example.test", "https://evil.example.test"
PAGE = """<!doctype html>
<title>app</title>
<pre id="steps"></pre>
<script type="module">
let csrf = "";
const steps = [];
async function send(method, path, body) {
  const headers = {"X-CSRF-Token": csrf, ...(body && {"Content-Type": "application/json"})};
  const request = {method, headers, body: body && JSON.stringify(body), credentials: "include"};
  const response = await fetch("%(service)s/api/v1" + path, request);
  csrf = response.headers.get("X-CSRF-Token") ?? csrf;
  const {data, error} = await response.json();
  steps.push([method, path, response.status, error?.type ?? null]);
  return data;
}
try {
  %(script)s
} catch (error) {
  steps.push(String(error));
}
document.getElementById("steps").textContent = JSON.stringify([steps, document.cookie]);
</script>
"""
Run = Callable[..., tuple[list[Any], str]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Return a function that runs a script in a page of `origin`, and returns its steps and the cookies it can read."""
    program = programs.skip_unless_installed("nginx")
    programs.skip_unless_installed("chromium")
    pages, service = tmp_path / "pages", tmp_path / "service"
    pages.mkdir()
    service.mkdir()
    environment = {
        "GATEHOUSE_TRUSTED_PROXIES": "1",
        "GATEHOUSE_JWT_TOKEN_LOCATION": '["headers", "cookies"]',
        "GATEHOUSE_JWT_REFRESH_ROTATION": "true",
        "GATEHOUSE_CORS_ORIGINS": json.dumps([APP]),
    }
    with live_server(service, **environment) as live:
        port = int(live.url.rpartition(":")[2])
        with nginx(program, tmp_path, [port, port], pages) as front:

            def run_script(script: str, origin: str = APP) -> tuple[list[Any], str]:
                (pages / "index.html").write_text(PAGE % {"service": SERVICE, "script": script})
                hosts = [f"MAP {host[8:]}:443 127.0.0.1:{front.port}" for host in (APP, SERVICE, STRANGER)]
                page = chromium.load(
                    f"{origin}/index.html", tmp_path / "profile", "--ignore-certificate-errors", hosts=hosts
                )
                found = re.search(r'<pre id="steps">(.+?)</pre>', page.dom)
                assert found, f"{page.dom}\n{page.console}"
                steps, cookies = json.loads(unescape(found[1]))
                return steps, cookies

            yield run_script


def test_a_page_on_another_host_signs_up_changes_refreshes_and_logs_out(run: Run) -> None:
    """I8: the page cannot read the cookie of the service's host, and takes the CSRF token from the answer's header."""
    script = f"""
        const {{id}} = await send("POST", "/users/", {json.dumps(sign_up_body("alice-liddell"))});
        await send("PATCH", "/users/" + id, {{info: {{age: 30}}}});
        csrf = "";  // as after a reload
        await send("PATCH", "/users/" + id, {{info: {{age: 31}}}});
        await send("GET", "/users/");
        await send("PATCH", "/users/" + id, {{info: {{age: 32}}}});
        await send("POST", "/refresh");
        await send("PATCH", "/users/" + id, {{info: {{age: 33}}}});
        await send("POST", "/logout");
        await send("GET", "/users/");
    """
    steps, cookies = run(script)
    assert steps == [
        ["POST", "/users/", 200, None],
        ["PATCH", "/users/1", 200, None],
        ["PATCH", "/users/1", 403, "csrf_failed"],
        ["GET", "/users/", 200, None],
        ["PATCH", "/users/1", 200, None],
        ["POST", "/refresh", 200, None],
        ["PATCH", "/users/1", 200, None],
        ["POST", "/logout", 200, None],
        ["GET", "/users/", 401, "missing_token"],
    ]
    assert cookies == ""


def test_a_page_that_is_not_listed_reads_and_changes_nothing(run: Run) -> None:
    """I7, I8: its browser sends the cookies, because it is of the same site."""
    signed_up = run(f"""await send("POST", "/users/", {json.dumps(sign_up_body("alice-liddell"))});""")
    assert signed_up[0] == [["POST", "/users/", 200, None]]
    for request in ('"GET", "/users/"', '"POST", "/refresh"', '"POST", "/logout"'):
        assert run(f"await send({request});", STRANGER) == (["TypeError: Failed to fetch"], "")


def test_a_restart_of_the_browser_keeps_the_session(run: Run) -> None:
    """I8: the cookies are persistent."""
    run(f"""await send("POST", "/users/", {json.dumps(sign_up_body("alice-liddell"))});""")
    steps, _ = run('await send("GET", "/users/"); await send("POST", "/refresh");')
    assert steps == [["GET", "/users/", 200, None], ["POST", "/refresh", 200, None]]
