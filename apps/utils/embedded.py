"""What the service makes for itself when nothing is configured: a folder, secrets, a SQLite file."""

import fcntl
import json
import os
import secrets
import tempfile
from pathlib import Path

import flask_migrate
from flask import Flask


def _folder(app: Flask) -> Path:
    folder = Path(app.instance_path)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def fill_secrets(app: Flask, names: list[str]) -> None:
    """Give each empty secret of `names` a random value that is kept in instance/secrets.json (0600)."""
    path = _folder(app) / "secrets.json"
    if not path.exists():
        _create(path, {name: secrets.token_urlsafe(32) for name in names})
    known: dict[str, str] = json.loads(path.read_text())
    for name in names:
        if not app.config[name]:
            value = known[name]
            app.config[name] = [value] if isinstance(app.config[name], list) else value


def _create(path: Path, values: dict[str, str]) -> None:
    """Write the file whole or not at all; of two processes that start together, one wins and both read its file."""
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


def migrate_embedded(app: Flask) -> None:
    """Bring the SQLite file up to date. A configured database is migrated by `manage.py db upgrade` alone."""
    if app.config["DATABASE_URL"]:
        return
    with (_folder(app) / "migrate.lock").open("w") as lock, app.app_context():
        fcntl.flock(lock, fcntl.LOCK_EX)  # processes that start together migrate one after the other
        flask_migrate.upgrade()
