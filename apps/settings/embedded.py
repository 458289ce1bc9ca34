"""The embedded default: the folder instance/, generated secrets and the URL of a SQLite file."""

import json
import os
import secrets
import tempfile
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from flask import Flask
from sqlalchemy import URL

from apps.config import BaseConfig
from apps.database import sqlite_file
from apps.settings.reader import InvalidSettings

DATABASE_NAME = "gatehouse.sqlite3"  # of the file under instance/


def make_folder(app: Flask) -> Path:
    """Return the folder instance/; create it, for its owner alone. Raises `InvalidSettings`."""
    folder = Path(app.instance_path)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSettings([f"instance/: cannot create the folder {folder}: {error.strerror}"]) from None
    return folder


def fill_secrets(app: Flask, settings: BaseConfig, names: list[str], *, creates: bool = True) -> BaseConfig:
    """Return `settings` with a random value for each empty secret of `names`, kept in instance/secrets.json (0600).

    Unless `creates` is True, a missing file is not created. Raises `InvalidSettings` if the file cannot be created or
    read.
    """
    empty = {name: getattr(settings, name) for name in names if not getattr(settings, name)}
    if not empty:
        return settings
    path = (make_folder(app) if creates else Path(app.instance_path)) / "secrets.json"
    new = {name: secrets.token_urlsafe(32) for name in names}
    try:
        if not path.exists() and creates:
            _create(path, new)
        stored = _parse(path.read_bytes(), empty) if creates or path.exists() else new
    except OSError as error:
        raise InvalidSettings([f"instance/secrets.json: cannot create or read {path}: {error.strerror}"]) from None
    filled: dict[str, Any] = {name: (stored[name],) if value == () else stored[name] for name, value in empty.items()}
    return replace(settings, **filled)


def _parse(content: bytes, names: Collection[str]) -> dict[str, str]:
    """Return the stored secrets. A damaged file is not replaced: new secrets could not read the data of the old ones.

    Raises `InvalidSettings`, without a part of the file.
    """
    try:
        stored = msgspec.json.decode(content, type=dict[str, str])
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = "is damaged: it must be a JSON object of strings"
    else:
        missing = [name for name in names if not stored.get(name)]
        if not missing:
            return stored
        problem = f"contains no {missing[0]}"
    advice = "restore the file from a backup; without one, delete the folder instance/ and all its data"
    raise InvalidSettings([f"instance/secrets.json: {problem}; {advice}"])


def _create(path: Path, values: dict[str, str]) -> None:
    """Create the file whole or not at all. If another process has just created it, that file stays."""
    handle, temporary = tempfile.mkstemp(dir=path.parent)  # 0600 from the start
    with os.fdopen(handle, "w") as file:
        json.dump(values, file, indent=2)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        Path(temporary).unlink()


def database_url(app: Flask) -> str:
    """Return the URL of the SQLite file under instance/. Raises `InvalidSettings`."""
    folder = make_folder(app)
    file = folder / DATABASE_NAME
    if problem := sqlite_file.problem_of(file, folder / "migrate.lock"):
        raise InvalidSettings([f"instance/: {problem}"])
    return URL.create("sqlite", database=str(file)).render_as_string()
