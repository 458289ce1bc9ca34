"""The documentation page in a real browser, without internet access and without a CDN."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from flask.testing import FlaskClient

from tests.support import chromium, programs
from tests.support.live import Live, live_server


@dataclass
class Page:
    """The page as a browser loaded it."""

    server: Live
    dom: str
    console: list[str]
    asked: set[str]  # the URLs that the page, not the browser itself, requested


@pytest.fixture(scope="module", params=["/api/v1/docs", "/api/v1/docs/"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    programs.skip_unless_installed("chromium")
    with live_server(tmp_path_factory.mktemp("docs_page")) as live:
        yield browse(live, request.param)


def browse(live: Live, path: str) -> Page:
    net_log = live.folder / "net.json"
    dom, console = chromium.load(f"{live.url}{path}", live.folder / "profile", f"--log-net-log={net_log}")
    return Page(live, dom, console, asked_by(live.url, net_log))


def asked_by(origin: str, net_log: Path) -> set[str]:
    events = [event.get("params", {}) for event in json.loads(net_log.read_text())["events"]]
    return {event["url"] for event in events if event.get("initiator") == origin and "url" in event}


def document_of(server: Live) -> Any:
    with urlopen(f"{server.url}/api/v1/openapi.json") as response:
        return json.load(response)


def test_the_page_shows_every_operation(page: Page) -> None:
    """`GET /api/v1/docs` shows every operation of the OpenAPI document."""
    paths = document_of(page.server)["paths"]
    documented = sorted((method, path) for path, methods in paths.items() for method in methods)
    assert sorted(re.findall(r'opblock opblock-(\w+)".*?data-path="([^"]*)"', page.dom)) == documented


def test_the_page_shows_the_tags_in_the_order_of_use_with_a_line_each(page: Page) -> None:
    """What a reader needs first comes first, below the first three calls."""
    tags = [(tag["name"], tag["description"]) for tag in document_of(page.server)["tags"]]
    assert re.findall(r'id="operations-tag-(\w+)".*?<p>(.*?)</p>', page.dom) == tags
    assert page.dom.index("The first three calls") < page.dom.index("operations-tag-user")


def test_the_page_breaks_no_policy_and_logs_no_error(page: Page) -> None:
    """I6: the page does nothing that its Content-Security-Policy forbids."""
    assert page.console == []


def test_the_page_asks_this_server_alone(page: Page) -> None:
    """I6: the page works without internet access and sends no request to another server."""
    assert f"{page.server.url}/api/v1/openapi.json" in page.asked
    assert [url for url in page.asked if not url.startswith(f"{page.server.url}/")] == []


def test_every_part_of_the_page_is_there(page: Page) -> None:
    """`GET /api/v1/docs` and its style, script and icon answer 200."""
    lines = [json.loads(line) for line in page.server.log.splitlines() if line.startswith("{")]
    statuses = [line["status"] for line in lines if (line.get("route") or "").startswith("/api/v1/docs")]
    assert len(statuses) >= 4
    assert set(statuses) == {200}


@pytest.mark.stores("sqlite")
def test_the_page_works_below_another_path(client: FlaskClient) -> None:
    """The page works behind a balancer that maps a path prefix to the service (SCRIPT_NAME)."""
    mounted = {"SCRIPT_NAME": "/accounts"}
    links = re.findall(r'(?:src|href)="([^"]*)"', client.get("/api/v1/docs", environ_overrides=mounted).text)
    assert len(links) == 4
    assert all(link.startswith("/accounts/api/v1/docs/") for link in links)
    for link in links:
        with client.get(link.removeprefix("/accounts")) as part:
            assert part.status_code == 200
    start = client.get("/api/v1/docs/start.js", environ_overrides=mounted)
    assert '"/accounts/api/v1/openapi.json"' in start.text
