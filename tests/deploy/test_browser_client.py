"""docs/examples/browser_client.ts in a real browser: two tabs, one session, one refresh."""

import itertools
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.about import ROOT
from tests.support import programs
from tests.support.live import Live, live_server
from tests.support.nginx import nginx
from tests.support.people import PASSWORD, sign_up_body
from tests.support.tabs import Browser, Tab, browser

pytestmark = pytest.mark.timeout(120)

EXAMPLE = ROOT / "docs" / "examples" / "browser_client.ts"
APP, SERVICE = "https://app.example.test", "https://accounts.example.test"
OPTIONS = "--strict --noUncheckedIndexedAccess --exactOptionalPropertyTypes --target es2022 --module es2022"
PAGE = """<!doctype html>
<title>app</title>
<script type="module">
import {Gatehouse, load, save} from "./browser_client.js";
Object.assign(window, {load, save, accounts: new Gatehouse("%s/api/v1", {cookies: %s})});
accounts.onLogout(() => { document.title = "logged out"; });
</script>
"""
ACCESS = 2  # seconds that an access token lives; there is no leeway


class Place:
    """A service, and a browser that knows its host and the host of the page."""

    def __init__(self, live: Live, browser: Browser) -> None:
        self.live, self.browser = live, browser
        self.seen, self.people = 0, itertools.count(1)
        self.username = ""

    def begin(self) -> None:
        """Begin a test: with another user, and a browser that holds nothing of the last one."""
        self.username = f"alice-{next(self.people):03}"
        self.browser.forget()

    @property
    def sign_up(self) -> str:
        return f"return (await accounts.signUp({json.dumps(sign_up_body(self.username))})).id;"

    def tab(self) -> Tab:
        return self.browser.open(f"{APP}/index.html")

    def requests(self) -> list[tuple[str, str, int]]:
        """Return the method, the path and the status of each API request since the last call, without preflights."""
        lines = [json.loads(line) for line in self.live.log.splitlines() if line.startswith("{")]
        found = [(line["method"], line["route"], line["status"]) for line in lines if line["event"] == "request"]
        api = [request for request in found if "/api/" in (request[1] or "") and request[0] != "OPTIONS"]
        fresh, self.seen = api[self.seen :], len(api)
        return fresh


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Check the types of the example, and return it as JavaScript."""
    folder = tmp_path_factory.mktemp("script")
    program = programs.skip_unless_installed("tsc")
    command = [program, *OPTIONS.split(), "--lib", "es2022,dom", "--outDir", str(folder), str(EXAMPLE)]
    # In the folder of node_modules, it would load the types of Node.js.
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return folder / "browser_client.js"


@pytest.fixture(scope="module", params=["bearer", "cookies"])
def running_place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, script: Path
) -> Iterator[Place]:
    tmp_path = tmp_path_factory.mktemp("place")
    program = programs.skip_unless_installed("nginx")
    with_cookies = request.param == "cookies"
    pages, service = tmp_path / "pages", tmp_path / "service"
    pages.mkdir()
    service.mkdir()
    (pages / script.name).write_text(f"{script.read_text()}\nexport {{load, save}};")
    (pages / "index.html").write_text(PAGE % (SERVICE, json.dumps(with_cookies)))
    environment = {
        "GATEHOUSE_TRUSTED_PROXIES": "1",
        "GATEHOUSE_JWT_TOKEN_LOCATION": '["headers", "cookies"]' if with_cookies else '["headers"]',
        "GATEHOUSE_JWT_REFRESH_ROTATION": "true",
        "GATEHOUSE_JWT_ACCESS_TOKEN_EXPIRES": str(ACCESS),
        "GATEHOUSE_JWT_LEEWAY": "0",
        "GATEHOUSE_CORS_ORIGINS": json.dumps([APP]),
    }
    with live_server(service, **environment) as live:
        port = int(live.url.rpartition(":")[2])
        with nginx(program, tmp_path, [port, port], pages) as front:
            hosts = [f"MAP {host[8:]}:443 127.0.0.1:{front.port}" for host in (APP, SERVICE)]
            with browser(tmp_path / "profile", "--ignore-certificate-errors", hosts=hosts) as running:
                yield Place(live, running)


@pytest.fixture
def place(running_place: Place) -> Place:
    running_place.begin()
    return running_place


READ = """return accounts.send("GET", "/users/").then((me) => me.username, (error) => error.type);"""


def test_two_tabs_refresh_once_and_both_requests_succeed(place: Place) -> None:
    """The tabs find at the same moment that the access token has expired."""
    first, second = place.tab(), place.tab()
    first.run(place.sign_up)
    time.sleep(ACCESS + 1)
    place.requests()
    assert place.browser.run((first, READ), (second, READ)) == [place.username, place.username]
    requests = place.requests()
    assert [request for request in requests if request[1] == "/api/v1/refresh"] == [("POST", "/api/v1/refresh", 200)]
    assert [request[2] for request in requests if request[1] == "/api/v1/users/"].count(200) == 2


def test_two_tabs_change_something_after_a_refresh(place: Place) -> None:
    """Each tab has what the next request needs: the token, or the cookie and the CSRF token."""
    first, second = place.tab(), place.tab()
    id_ = first.run(place.sign_up)
    time.sleep(ACCESS + 1)
    change = f"""return (await accounts.send("PATCH", "/users/{id_}", {{info: {{age: %d}}}})).age;"""
    assert first.run(change % 30) == 30
    assert second.run(change % 31) == 31


def test_a_request_is_repeated_once(place: Place) -> None:
    """A service that refuses each new access token gets two requests, not an endless number."""
    tab = place.tab()
    tab.run(place.sign_up)
    refuse = """
        let sent = [];
        const real = window.fetch;
        window.fetch = async (url, init) => {
          sent.push(new URL(url).pathname);
          const answer = await real(url, init);
          if (!url.endsWith("/users/")) return answer;
          const body = {code: 401, data: {}, error: {type: "invalid_token"}, message: "no", state: 0};
          return new Response(JSON.stringify(body), {status: 401});
        };
        const type = await accounts.send("GET", "/users/").catch((error) => error.type);
        window.fetch = real;
        return [type, sent];
    """
    users = "/api/v1/users/"
    assert tab.run(refuse) == ["invalid_token", [users, "/api/v1/refresh", users]]


def test_a_logout_in_one_tab_logs_out_the_other(place: Place) -> None:
    first, second = place.tab(), place.tab()
    first.run(place.sign_up)
    assert second.run(READ) == place.username
    time.sleep(ACCESS + 1)  # a logout needs no refresh
    place.requests()
    first.run("await accounts.logout();")
    assert place.requests() == [("POST", "/api/v1/logout", 200)]
    assert second.run(READ) == "missing_token"
    assert second.run("return document.title") == "logged out"
    assert [request[:2] for request in place.requests()] == [("GET", "/api/v1/users/")]
    assert first.run(f"""await accounts.login("{place.username}", "{PASSWORD}"); {READ}""") == place.username
    assert second.run(READ) == place.username


def test_a_session_that_ended_elsewhere_is_forgotten(place: Place) -> None:
    first, second = place.tab(), place.tab()
    first.run(place.sign_up)
    elsewhere = f"""
        const {{csrf, access_token}} = await load();
        const headers = {{...(csrf ? {{"X-CSRF-Token": csrf}} : {{Authorization: `Bearer ${{access_token}}`}})}};
        const credentials = csrf ? "include" : "omit";
        return (await fetch("{SERVICE}/api/v1/logout", {{method: "POST", headers, credentials}})).status;
    """
    assert first.run(elsewhere) == 200
    assert second.run(READ) in ("invalid_token", "missing_token")
    assert second.run("return (await load()).turn ?? null") is None
    assert first.run("return document.title") == "logged out"


def test_a_refusal_tells_its_type_and_fields(place: Place) -> None:
    script = (
        """return accounts.signUp({username: "12345678"}).catch((error) => [error.status, error.type, error.fields])"""
    )
    status, type_, fields = place.tab().run(script)
    assert (status, type_) == (400, "invalid_body")
    assert "password" in fields


@pytest.mark.parametrize("running_place", ["cookies"], indirect=True)
def test_the_page_may_be_on_the_host_of_the_service(place: Place, script: Path) -> None:
    """Cookie mode on one host. The documentation page stands for the application."""
    tab = place.browser.open(f"{SERVICE}/api/v1/docs")
    classes = script.read_text().replace("export class", "class")
    id_ = tab.run(f"""{classes} window.accounts = new Gatehouse("/api/v1", {{cookies: true}}); {place.sign_up}""")
    change = f"""return (await accounts.send("PATCH", "/users/{id_}", {{info: {{age: 30}}}})).age;"""
    assert tab.run(change) == 30
    assert tab.run("return document.cookie.split('=')[0]") == "__Host-csrf_token"


@pytest.mark.parametrize("running_place", ["cookies"], indirect=True)
def test_a_page_that_lost_the_csrf_token_finds_it_at_the_user(place: Place) -> None:
    tab = place.tab()
    id_ = tab.run(place.sign_up)
    change = f"""
        const change = () => accounts.send("PATCH", "/users/{id_}", {{info: {{age: 30}}}});
        await save({{}});
        const lost = await change().catch((error) => error.type);
        await accounts.send("GET", "/users/");
        return [lost, (await change()).age];
    """
    assert tab.run(change) == ["csrf_failed", 30]
