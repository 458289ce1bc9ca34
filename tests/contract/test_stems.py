"""One stem: a feature has the same file name in every layer, so that `git ls-files '*login*'` finds all of it."""

from pathlib import Path

import pytest

from apps.about import ROOT

APPS, TESTS = ROOT / "apps", ROOT / "tests"

# Files of these folders that belong to no single feature.
SHARED = {
    "models": {"base": "column types of all tables"},
    "forms": {
        "binding": "fills every form from JSON",
        "username_reason": "explains a refused username",
        "fields": "validators of several forms",
        "urlencoded": "fills forms from query strings and form-encoded bodies",
    },
    "api_v1": {
        "answers": "answers of several features",
        "blueprint": "the blueprint of all views",
        "docs": "the documentation page; it has no rules",
        "metrics": "the page that Prometheus reads; it has no rules",
        "settings": "what a client needs to know of the settings; it has no rules",
    },
    "commands": {
        "backup": "all tables at once",
        "database_copy": "how `backup` copies a database",
        "doctor": "every setting and store at once",
        "documents": "files that are generated from the code",
        "postman_collection": "one of these files",
        "server": "`run` and `serve`",
        "supervisor": "the main process of `serve`",
        "worker": "a worker process of `serve`",
    },
}

# First words of test files about no single file of `apps/`.
TOPICS = {
    # rules for all routes
    "bad_input": "every route that has a body",
    "etag": "ETag and If-Match",
    "fresh_token": "routes that need a token from a login",
    "policies": "every route, requested by every kind of caller",
    "rotation": "rotation of refresh tokens",
    "schemathesis": "requests that are generated from the OpenAPI document",
    "state_machine": "random sequences of requests",
    "transcript": "the curl transcript of the lesson",
    "unreadable": "requests that are no valid HTTP",
    # rules for the repository
    "call_count": "function calls per request",
    "clients": "docs/clients.md: clients that are generated from the OpenAPI document",
    "contributing": "CONTRIBUTING.md",
    "examples": "docs/examples",
    "layers": "the order of imports",
    "links": "links of the Markdown files",
    "readme": "README.md and README.zh-CN.md",
    "recorder": "tests that use no store",
    "requirements": "requirement ids",
    "stems": "this file",
    "tour": "docs/tour.md",
    # files and programs outside of apps/
    "browser_client": "docs/examples/browser_client.ts",
    "env_file": "deploy/gatehouse.env.example",
    "files": "the files of deploy/",
    "galera": "a cluster of MariaDB",
    "monitoring": "deploy/prometheus and deploy/grafana",
    "nginx": "deploy/nginx",
    "one_machine": "docs/deploy.md",
    "postgresql_replica": "a replica of PostgreSQL",
    # several files of apps/ at once
    "command_output": "what all commands print",
    "last_admin": "races of admins who are removed",
    "main_process": "workers of `serve` and their main process",
    "postman": "the Postman collection",
    "purge": "deletion of old rows, by several commands",
    "second_process": "two processes without Redis",
    "signing_key_rotation": "two processes and a new signing key",
}


def stems(folder: Path, pattern: str = "*.py") -> set[str]:
    return {path.stem for path in folder.glob(pattern)} - {"__init__"}


@pytest.mark.parametrize("folder", SHARED)
def test_a_file_has_the_stem_of_a_service(folder: str) -> None:
    strays = stems(APPS / folder) - stems(APPS / "services") - set(SHARED[folder])
    assert not strays, (
        f"apps/{folder}: name {sorted(strays)} for the service in apps/services that they belong to, or add them to "
        f"SHARED in tests/contract/test_stems.py, with the reason"
    )


def test_a_test_file_begins_with_a_stem() -> None:
    known = stems(APPS, "**/*.py") | {path.name for path in APPS.iterdir() if path.is_dir()} | set(TOPICS)
    names = {stem.removeprefix("test_"): stem for stem in stems(TESTS, "**/test_*.py")}
    strays = [stem for name, stem in names.items() if not any(f"{name}_".startswith(f"{stem}_") for stem in known)]
    assert not strays, (
        f"rename {sorted(strays)}: after test_ comes the stem of the file of apps/ that they test. If there is none, "
        "add the topic to TOPICS in tests/contract/test_stems.py, with the reason"
    )


def test_the_lists_name_nothing_that_is_gone_or_needs_no_entry() -> None:
    for folder, shared in SHARED.items():
        assert set(shared) <= stems(APPS / folder) - stems(APPS / "services")
    tests = {stem.removeprefix("test_") + "_" for stem in stems(TESTS, "**/test_*.py")}
    assert [topic for topic in TOPICS if not any(name.startswith(f"{topic}_") for name in tests)] == []
    assert set(TOPICS) & stems(APPS, "**/*.py") == set()
