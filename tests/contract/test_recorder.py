"""A test that runs on several stores must use one of them. The hooks of tests/conftest.py check this."""

import pytest

from tests.support import stores

pytest_plugins = ["pytester"]

HOOKS = "from tests.conftest import pytest_generate_tests, pytest_runtest_call, pytest_runtest_protocol"
IMPORTS = """
import os, subprocess, sys, threading
import pytest, redis
import sqlalchemy as sa
from tests.support.stores import cache_url, memory_cache

def execute_sql():
    with sa.create_engine("sqlite://").connect() as connection:
        connection.execute(sa.text("SELECT 1"))

@pytest.fixture
def row():
    execute_sql()
"""
ON_ONE = '@pytest.mark.stores("postgresql")\n'
ON_TWO = '@pytest.mark.stores("sqlite", "mariadb")\n'


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """An inner suite with the hooks of this one, but without its servers."""
    pytester.makeini("[pytest]\nmarkers = stores")
    pytester.makeconftest(HOOKS)
    return pytester


def run(suite: pytest.Pytester, source: str) -> pytest.RunResult:
    suite.makepyfile(IMPORTS + source)
    return suite.runpytest_inprocess("-p", "no:cacheprovider")


@pytest.mark.parametrize(
    "source",
    [
        "def test_it(store): pass",
        "def test_it(store): memory_cache().get_many(['key'])",
        "def test_it(store, row): pass",  # only its fixture uses a store
        f"{ON_TWO}def test_it(store): pass",
    ],
)
def test_a_test_that_uses_no_store_fails_on_several(suite: pytest.Pytester, source: str) -> None:
    """The message names the marker to add. The run on SQLite passes: it has no Redis that the test could use."""
    result = run(suite, source)
    result.assert_outcomes(passed=1, failed=1 if ON_TWO in source else 3)
    result.stdout.fnmatch_lines(["*executes no SQL and no Redis command*@pytest.mark.stores(?sqlite?)."])


@pytest.mark.parametrize(
    "source",
    [
        "def test_it(store): execute_sql()",
        "def test_it(store): sa.create_engine('sqlite://').connect().close()",
        "def test_it(store): thread = threading.Thread(target=execute_sql); thread.start(); thread.join()",
        "def test_it(store): subprocess.run([sys.executable, '-c', ''], check=True)",  # may execute SQL
    ],
)
def test_a_test_that_uses_a_store_or_starts_a_process_passes(suite: pytest.Pytester, source: str) -> None:
    run(suite, source).assert_outcomes(passed=4)


def test_a_redis_command_is_a_use(suite: pytest.Pytester) -> None:
    if not stores.server_url("redis"):
        pytest.skip("no redis here")
    run(suite, "def test_it(store): redis.Redis.from_url(cache_url('redis')).ping()").assert_outcomes(passed=4)


def test_a_test_that_runs_on_one_store_need_not_use_it(suite: pytest.Pytester) -> None:
    run(suite, f"{ON_ONE}def test_it(store): pass").assert_outcomes(passed=1)


def test_a_failure_and_a_skip_stay_what_they_are(suite: pytest.Pytester) -> None:
    source = "def test_it(store): assert False, 'its own'\ndef test_other(store): pytest.skip('its own')"
    result = run(suite, source)
    result.assert_outcomes(failed=4, skipped=4)
    result.stdout.no_fnmatch_line("*executes no SQL*")
