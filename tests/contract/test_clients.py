"""Clients that are generated from the OpenAPI document, as docs/clients.md shows; and linters of the document."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps import create_app
from apps.about import ROOT
from apps.http import openapi
from tests.support import programs, readme
from tests.support.live import Live, live_server

PAGE = "docs/clients.md"
ADDRESS = "http://127.0.0.1:5000"
PYTHON, TYPESCRIPT = readme.blocks(PAGE, "python")[0], readme.blocks(PAGE, "ts")[0]
PYTHON_PRINTS, TYPESCRIPT_PRINTS = readme.blocks(PAGE, "text")
LINT = ROOT / "tests" / "contract" / "lint"  # rules, and what is ignored
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", "SCARF_ANALYTICS": "false"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_server(tmp_path_factory.mktemp("clients")) as running:
        yield running


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """Return the file of the document, in a folder that has the packages of Node.js."""
    path = tmp_path / "openapi.json"
    with create_app("testing").app_context():
        path.write_text(json.dumps(openapi.document(), indent=2))
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    return path


def run(folder: Path, *command: str, **environment: str) -> str:
    """Run a program in `folder` and return what it prints. Fail with all of that if the program fails."""
    done = subprocess.run(
        command, cwd=folder, env=os.environ | QUIET | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"
    return done.stdout


def test_the_python_client_of_the_page_reads_the_fields_of_a_refusal(document: Path, server: Live) -> None:
    """The generator warns of every part of the document that it leaves out."""
    folder = document.parent
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}  # of ruff
    command = ("generate", f"--path={document}", "--fail-on-warning")
    run(folder, sys.executable, "-m", "openapi_python_client", *command, **environment)
    (folder / "client.py").write_text(PYTHON.replace(ADDRESS, server.url))
    printed = run(folder, sys.executable, "client.py", PYTHONPATH=str(folder / "gatehouse-client"))
    assert printed == PYTHON_PRINTS


def test_the_typescript_client_of_the_page_compiles_and_reads_the_fields_of_a_refusal(
    document: Path, server: Live
) -> None:
    """`fields.mobile` has a type, and no cast is needed."""
    folder = document.parent
    generator, compiler = (programs.skip_unless_installed(name) for name in ("openapi-typescript", "tsc"))
    run(folder, generator, document.name, "--output", "gatehouse.d.ts")
    (folder / "client.mts").write_text(TYPESCRIPT.replace(ADDRESS, server.url))
    (options,) = re.findall(r"npx tsc (.*) client.mts", (ROOT / PAGE).read_text(encoding="utf-8"))
    run(folder, compiler, *options.split(), "client.mts")
    assert run(folder, "node", "client.mjs") == TYPESCRIPT_PRINTS


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("spectral", ("lint", "openapi.json", "--ruleset=.spectral.yaml", "--fail-severity=hint")),
        ("redocly", ("lint", "openapi.json")),
    ],
)
def test_a_linter_finds_nothing_but_what_is_meant(document: Path, name: str, command: tuple[str, ...]) -> None:
    program = programs.skip_unless_installed(name)
    shutil.copytree(LINT, document.parent, dirs_exist_ok=True)
    run(document.parent, program, *command)


@pytest.mark.parametrize("package", ["openapi-typescript", "typescript", "openapi-fetch"])
def test_the_page_pins_what_the_suite_uses(package: str) -> None:
    version = json.loads((ROOT / "package.json").read_text())["devDependencies"][package]
    assert f" {package}@{version}" in (ROOT / PAGE).read_text(encoding="utf-8")


def test_the_page_pins_the_generator_that_the_suite_uses() -> None:
    (pinned,) = re.findall(r"^openapi-python-client==[\d.]+", (ROOT / "requirements-dev.in").read_text(), re.MULTILINE)
    assert pinned in (ROOT / PAGE).read_text(encoding="utf-8")
