"""Read and check the settings, and configure Flask and its extensions with them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask

from apps.config import BaseConfig, TestConfig, config
from apps.settings.checks import common_problems, file_problems, production_problems
from apps.settings.embedded import fill_secrets
from apps.settings.flask_config import configure_libraries
from apps.settings.reader import InvalidSettings, declared, from_environment, from_file, needed_secrets, read_settings
from apps.settings.urls import read_urls


@dataclass(frozen=True)
class Examined:
    """The settings, their sources and all problems. A setting with a problem may have its default here."""

    profile: str
    settings: BaseConfig
    sources: dict[str, str]  # {setting: "config.py", "environment" ...}; a setting without a source has its default
    problems: list[str]


def load_settings(app: Flask, config_name: str | None, overrides: dict[str, Any]) -> str:
    """Read the settings into `app.extensions["settings"]`, and those of Flask and its extensions into `app.config`.

    Returns the name of the profile. `overrides` win over every other source. Raises `InvalidSettings` with all
    problems; each names the setting and never its value.
    """
    examined = examine(app, config_name, overrides)
    if examined.problems:
        raise InvalidSettings(examined.problems)
    app.extensions["settings"], app.extensions["examined_settings"] = examined.settings, examined
    configure_libraries(app, examined.settings)
    return examined.profile


def examine(app: Flask, config_name: str | None, overrides: dict[str, Any], *, creates: bool = True) -> Examined:
    """Read and check the settings. Unless `creates` is True, create no file.

    Raises `InvalidSettings` for an unknown profile, and for files that cannot be read.
    """
    name = _profile(config_name)
    sources = _sources(app, name) | {"create_app": overrides}
    given = {key: value for source in sources.values() for key, value in source.items()}
    settings, problems = read_settings(config[name], given)
    origins = {key: source for source, values in sources.items() for key in values}
    plain = settings
    if name == "development":
        settings = fill_secrets(app, settings, needed_secrets(BaseConfig), creates=creates)
        origins |= _changed(plain, settings, "instance/secrets.json")
    named = {_name_in(problem) for problem in problems}
    plain = settings
    settings, further = read_urls(settings, given, named)
    origins |= {key: "the URL" for key in _changed(plain, settings, "") if not key.endswith("_URL")}
    further += common_problems(settings)
    if name == "production":
        further += production_problems(settings, published=TestConfig, is_debug=app.debug)
    if name != "testing":
        further += file_problems(app, settings, creates=creates)
    problems += [problem for problem in further if _name_in(problem) not in named]
    return Examined(name, settings, origins, problems)


def _profile(config_name: str | None) -> str:
    """Return the name of the profile. Only code can select "testing". Raises `InvalidSettings`."""
    name = config_name or os.environ.get("GATEHOUSE_PROFILE", "development")
    names = [profile for profile in config if config_name or profile != "testing"]
    if name not in names:
        raise InvalidSettings([f"GATEHOUSE_PROFILE: must be one of {', '.join(names)}"])
    return name


def _sources(app: Flask, profile: str) -> dict[str, dict[str, Any]]:
    """Return {source: settings}, of which a later source wins. Raises `InvalidSettings`."""
    if profile == "testing":
        return {}
    file = from_file(Path(app.instance_path).parent / "config.py")
    return {"config.py": file, "environment": from_environment(os.environ)}


def _changed(before: BaseConfig, after: BaseConfig, source: str) -> dict[str, str]:
    """Return {setting: source} of the settings that differ."""
    return {name: source for name in declared(BaseConfig) if getattr(before, name) != getattr(after, name)}


def _name_in(problem: str) -> str:
    return problem.partition(":")[0]
