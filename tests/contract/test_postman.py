"""The Postman collection: generated, complete, and passed by a live server."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from apps.about import ROOT
from apps.commands import postman_collection
from apps.commands.documents import DOCS
from apps.http import openapi
from tests.support import programs
from tests.support.live import Live, live_server

COLLECTION = DOCS / "gatehouse.postman_collection.json"
ENVIRONMENT = DOCS / "gatehouse.postman_environment.json"


@pytest.mark.stores("sqlite")
def test_the_committed_files_are_what_the_command_writes(app: Flask, tmp_path: Path) -> None:
    """The files are generated. If this fails, run `python manage.py postman`."""
    result = app.test_cli_runner().invoke(args=["postman", f"--folder={tmp_path}"])
    assert result.exit_code == 0, result.output
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_text() for path in (COLLECTION, ENVIRONMENT)}


@pytest.mark.stores("sqlite")
def test_every_documented_operation_is_in_the_story(app: Flask) -> None:
    """A new feature adds its step to apps/commands/postman_collection.py."""
    with app.app_context():
        document = openapi.document()
    documented = {spec["operationId"] for methods in document["paths"].values() for spec in methods.values()}
    assert documented == {step.operation for step in postman_collection.SCENARIO}


def test_the_packages_of_npm_are_pinned_and_their_lock_names_no_host() -> None:
    """C1: exact versions, fixed by hashes, from any registry that the reader's npm is configured for."""
    versions = json.loads((ROOT / "package.json").read_text())["devDependencies"]
    assert {name for name, version in versions.items() if not re.fullmatch(r"\d+\.\d+\.\d+", version)} == set()
    locked = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    assert all("integrity" in package for path, package in locked.items() if path)
    assert not any("resolved" in package for package in locked.values())


@pytest.mark.parametrize("command", ["run", "serve"])
def test_a_live_server_passes_the_collection_again_and_again(command: str, tmp_path: Path) -> None:
    """The collection checks every status, envelope, key and token."""
    if not programs.find("newman"):
        pytest.skip("no newman here")
    with live_server(tmp_path, command) as live:
        run = newman(live, tmp_path / "report.json", iterations=2)
    assert [f"{failure['source']['name']}: {failure['error']['message']}" for failure in run["failures"]] == []
    assert run["stats"]["requests"]["total"] == 2 * len(postman_collection.SCENARIO)
    assert run["stats"]["assertions"]["total"] == 2 * 3 * len(postman_collection.SCENARIO)


def newman(live: Live, report: Path, iterations: int) -> Any:
    """Run the collection like a user who imported the two files, and return newman's report."""
    options = ["--environment", ENVIRONMENT, "--env-var", f"base_url={live.url}", "--iteration-count", str(iterations)]
    command = [programs.find("newman") or "", "run", COLLECTION, *options, "--timeout-request", "20000"]
    reporter = ["--reporters", "json", "--reporter-json-export", report]
    done = subprocess.run([*command, *reporter], capture_output=True, text=True, timeout=50, check=False)
    assert report.exists(), done.stdout + done.stderr
    return json.loads(report.read_text())["run"]
