"""Changes of settings while an application runs."""

from dataclasses import replace
from typing import Any

from flask import Flask

from apps.config import settings
from apps.settings.flask_config import configure_libraries


def change_settings(app: Flask, **values: Any) -> None:
    """Replace some settings of `app`. Code that reads a setting only at the start keeps the old value."""
    app.extensions["settings"] = replace(settings(app), **values)
    configure_libraries(app, settings(app))
