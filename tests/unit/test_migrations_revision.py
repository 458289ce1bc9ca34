"""`manage.py db revision`: a new migration is numbered like the others, so that the names tell the order."""

import runpy
import shutil
from pathlib import Path

import pytest
from flask import Flask

from apps.about import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the migrations, to add to."""
    return Path(shutil.copytree(ROOT / "migrations", tmp_path / "migrations"))


def add_revision(app: Flask, folder: Path, message: str) -> Path:
    before = {*(folder / "versions").glob("*.py")}
    result = app.test_cli_runner().invoke(args=["db", "revision", "--message", message, "--directory", str(folder)])
    assert result.exit_code == 0, result.output
    (added,) = {*(folder / "versions").glob("*.py")} - before
    return added


def test_a_new_migration_has_the_next_number_on_every_database(app: Flask, folder: Path) -> None:
    last = max(path.name for path in (folder / "versions").glob("*.py"))[:4]
    for message, slug in (("nicknames of users", "nicknames_of_users"), ("Webhooks", "webhooks")):
        number = f"{int(last) + 1:04}"
        path = add_revision(app, folder, message)
        made = runpy.run_path(str(path))
        assert path.name == f"{number}_{slug}.py"
        assert (made["revision"], made["down_revision"]) == (number, last)
        assert made["__doc__"] == f"{message[:1].upper()}{message[1:]}."
        last = number


def test_the_migrations_of_the_repository_are_numbered_without_a_gap(folder: Path) -> None:
    numbers = sorted(path.name[:4] for path in (folder / "versions").glob("*.py"))
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
