"""The fixtures: real servers, an application on each of them, and people who use it."""

import io
import logging
import os
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from xdist.scheduler import LoadScopeScheduling

from tests.support import programs, recorder, servers, stores
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


class OneWorkerPerServer(LoadScopeScheduling):
    """Keep each module that starts a server or a browser for all its tests on one worker; spread all other tests."""

    MODULES = ("test_browser_client.py", "test_docs_page.py", "test_examples.py", "test_unreadable.py")

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.split("::")[0]
        return module if module.endswith(self.MODULES) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneWorkerPerServer:
    return OneWorkerPerServer(config, log)


missing_key = pytest.StashKey[dict[str, str]]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name what the run could not use."""
    for name, reason in config.stash.get(missing_key, {}).items():
        terminalreporter.write_line(f"not tested with {name}: {reason}", yellow=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that needs stores on every pair, or on those that its `stores` marker names."""
    if "store" in metafunc.fixturenames:
        metafunc.parametrize("store", stores.names_for(metafunc.definition))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Record the use of the stores by a test that runs on several pairs. Runs without Redis are not recorded."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    runs_on = stores.names_for(item) if "store" in parameters else []
    if len(runs_on) < 2 or stores.PAIRS[parameters["store"]].cache is None:
        return (yield)
    with recorder.recording() as record:
        item.stash[record_key] = record
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test that runs on several pairs and used neither a database nor Redis in its call phase."""
    record = item.stash.get(record_key, None)
    if record:
        record.used_a_store = False  # by its fixtures
    result = yield
    if record and not record.used_a_store and not record.started_a_process:
        pytest.fail(recorder.failure(stores.names_for(item)), pytrace=False)
    return result


record_key = pytest.StashKey[recorder.Record]()


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
    redis_url = stores.cache_url(stores.PAIRS[store].cache)
    with stores.application(database_url, redis_url, **settings) as app:
        stores.empty_left_overs(app, redis_url)
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def people(client: FlaskClient) -> People:
    return People(client)


@pytest.fixture
def stopped_clock() -> Iterator[None]:
    """Stop the clock, so that no delay ends during a test on a busy machine."""
    with time_machine.travel(datetime.now(UTC), tick=False):
        yield


@pytest.fixture
def output(app: Flask) -> Iterator[io.StringIO]:
    """What the service writes on its standard output."""
    handler = logging.getLogger("apps").handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    stream = io.StringIO()
    before = handler.setStream(stream)
    yield stream
    handler.setStream(before)
