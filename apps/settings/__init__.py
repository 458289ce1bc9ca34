"""Read and check the settings, and configure Flask and its extensions with them."""

import os
from pathlib import Path
from typing import Any

from flask import Flask

from apps.config import BaseConfig, TestConfig, config
from apps.settings.checks import common_problems, file_problems, production_problems
from apps.settings.embedded import fill_secrets
from apps.settings.flask_config import configure_libraries
from apps.settings.reader import InvalidSettings, from_environment, from_file, needed_secrets, read_settings
from apps.settings.urls import read_urls


def load_settings(app: Flask, config_name: str | None, overrides: dict[str, Any]) -> str:
    """Read the settings into `app.extensions["settings"]`, and those of Flask and its extensions into `app.config`.

    Returns the name of the profile. `overrides` win over every other source. Raises `InvalidSettings` with all
    problems; each names the setting and never its value.
    """
    name = config_name or os.environ.get("GATEHOUSE_PROFILE", "development")
    names = [profile for profile in config if config_name or profile != "testing"]  # only code can select "testing"
    if name not in names:
        raise InvalidSettings([f"GATEHOUSE_PROFILE: must be one of {', '.join(names)}"])
    profile, file = config[name], Path(app.instance_path).parent / "config.py"
    given = {} if name == "testing" else from_file(file) | from_environment(os.environ)
    settings, problems = read_settings(profile, given | overrides)
    if name == "development":
        settings = fill_secrets(app, settings, needed_secrets(BaseConfig))
    named = {_name_in(problem) for problem in problems}
    settings, further = read_urls(settings, {*given, *overrides}, named)
    further += common_problems(settings)
    if name == "production":
        further += production_problems(settings, published=TestConfig, is_debug=app.debug)
    if name != "testing":
        further += file_problems(app, settings)
    problems += [problem for problem in further if _name_in(problem) not in named]
    if problems:
        raise InvalidSettings(problems)
    app.extensions["settings"] = settings
    configure_libraries(app, settings)
    return name


def _name_in(problem: str) -> str:
    return problem.partition(":")[0]
