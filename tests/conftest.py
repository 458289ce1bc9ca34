"""The fixtures: real servers, an application on each of them, and people who use it."""

import io
import logging
import os
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.support import programs, servers, stores
from tests.support.people import People

REQUIRED = "TEST_REQUIRE"


def pytest_configure(config: pytest.Config) -> None:
    """Start the servers once, in the process that the xdist workers are started from; they inherit the URLs."""
    config.addinivalue_line("markers", "stores(*names): run on these pairs of stores only, not on all")
    config.addinivalue_line("markers", "settings(**settings): settings of the test's application")
    if hasattr(config, "workerinput"):
        return
    started = servers.start_servers()
    config.add_cleanup(started.stop)
    started.missing.update(programs.missing())
    required = os.environ.get(REQUIRED, "").split(",")
    servers.require(started, [name for name in required if name and not programs.find(name)])
    for name, url in started.urls.items():
        os.environ[f"TEST_{name.upper()}_URL"] = url
    config.stash[missing_key] = started.missing


missing_key = pytest.StashKey[dict[str, str]]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name what the run could not use."""
    for name, reason in config.stash.get(missing_key, {}).items():
        terminalreporter.write_line(f"not tested with {name}: {reason}", yellow=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that needs stores on every pair, or on those that its `stores` marker names."""
    if "store" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("stores")
        metafunc.parametrize("store", marker.args if marker else list(stores.PAIRS))


@pytest.fixture(scope="session")
def database_urls() -> dict[str, str]:
    """Remember the databases that this process made."""
    return {}


@pytest.fixture
def database_url(store: str, database_urls: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    pair = stores.PAIRS[store]
    stores.skip_unless_available(pair)
    if store not in database_urls:
        database_urls[store] = stores.make_database(pair.database, tmp_path_factory.mktemp("sqlite"))
    return database_urls[store]


@pytest.fixture
def app(request: pytest.FixtureRequest, store: str, database_url: str) -> Iterator[Flask]:
    marker = request.node.get_closest_marker("settings")
    settings = marker.kwargs if marker else {}
    with stores.application(database_url, stores.cache_url(stores.PAIRS[store].cache), **settings) as app:
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def people(client: FlaskClient) -> People:
    return People(client)


@pytest.fixture
def output(app: Flask) -> Iterator[io.StringIO]:
    """What the service writes on its standard output."""
    handler = logging.getLogger("apps").handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    stream = io.StringIO()
    before = handler.setStream(stream)
    yield stream
    handler.setStream(before)
