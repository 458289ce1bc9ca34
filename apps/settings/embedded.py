"""The embedded default: the folder instance/, generated secrets and the URL of a SQLite file."""

import json
import os
import secrets
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from flask import Flask

from apps.config import BaseConfig


def _folder(app: Flask) -> Path:
    folder = Path(app.instance_path)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def fill_secrets(app: Flask, settings: BaseConfig, names: list[str]) -> BaseConfig:
    """Return `settings` with a random value for each empty secret of `names`, kept in instance/secrets.json (0600)."""
    path = _folder(app) / "secrets.json"
    if not path.exists():
        _create(path, {name: secrets.token_urlsafe(32) for name in names})
    stored: dict[str, str] = json.loads(path.read_text())
    empty = {name: getattr(settings, name) for name in names if not getattr(settings, name)}
    filled: dict[str, Any] = {name: (stored[name],) if value == () else stored[name] for name, value in empty.items()}
    return replace(settings, **filled)


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
    """Return the URL of the SQLite file under instance/."""
    return f"sqlite:///{_folder(app) / 'gatehouse.sqlite3'}"
