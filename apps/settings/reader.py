"""Read the settings from the profile, config.py and the environment, in this order; checks.py checks them."""

import json
import os
import re
import textwrap
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args, get_type_hints

import limits
import msgspec
from flask import Config

from apps.config import BaseConfig, Setting

PLACEHOLDER = "change-me"
_SHORT_NAMES = ("DATABASE_URL", "REDIS_URL", "SENTRY_DSN")
# A space or line break at the end comes from a file: `echo secret > file` adds one, and drivers read it as a character.
_STRAY = re.compile(r"^\s|\s$|[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")
# Kubernetes sets these variables in each pod for every Service of the namespace. They are no settings, also if the
# name of the Service begins with `gatehouse`. A bare PORT may be a misspelt setting, so its value must be an address.
_KUBERNETES_VARIABLES = re.compile(
    r"(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_KUBERNETES_ADDRESS = re.compile(r"(?:[A-Z0-9_]+_)?PORT=(?:tcp|udp|sctp)://[^ ]+")


class InvalidSettings(Exception):
    """The service cannot start. `problems` names every wrong setting and never a value."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("the service cannot start:\n" + "\n".join(f"  {problem}" for problem in problems))
        self.problems = problems


def declared(profile: type) -> dict[str, tuple[Any, Setting]]:
    """Return {name: (type, Setting)} of every setting, in the order of the file."""
    hints = get_type_hints(profile, include_extras=True)
    order = [name for base in reversed(profile.__mro__) for name in vars(base).get("__annotations__", {})]
    return {name: (get_args(hints[name])[0], get_args(hints[name])[1]) for name in dict.fromkeys(order)}


def needed_secrets(profile: type) -> list[str]:
    """Return the names of the required secrets."""
    return [name for name, (_, setting) in declared(profile).items() if setting.secret and setting.needed]


def read_settings(profile: type[BaseConfig], given: Mapping[str, Any]) -> tuple[BaseConfig, list[str]]:
    """Return the settings and the problems found; what is not in `given` comes from the profile.

    Problems are unknown names, wrong types and values out of bounds. Each names the setting and never its value.
    """
    expected = declared(profile)
    problems = [f"{name}: no such setting" for name in given if name not in expected]
    values: dict[str, Any] = {}
    for name, (type_, setting) in expected.items():
        try:
            values[name] = convert(given.get(name, getattr(profile, name)), type_)
        except (msgspec.ValidationError, ValueError, OverflowError):
            problems.append(f"{name}: must be {_describe(type_)}")
            values[name] = getattr(profile, name)
        else:
            problems += [f"{name}: {problem}" for problem in _check(name, values[name], setting)]
    return BaseConfig(**values), problems


def from_file(path: Path) -> dict[str, Any]:
    """Return the settings of a config.py, or {} if the file does not exist. Raises `InvalidSettings`."""
    if os.path.lexists(path) and not path.is_file():  # Docker mounts a folder in the place of a missing file
        raise InvalidSettings([f"{path.name}: is not a file"])
    file = Config(path.parent)
    try:
        file.from_pyfile(str(path), silent=True)
    except SyntaxError as error:
        problem = f"{path.name}: syntax error in line {error.lineno}"
    except Exception as error:  # noqa: BLE001 (config.py may raise anything)
        problem = f"{path.name}: raises {type(error).__name__}"
    else:
        return dict(file)
    raise InvalidSettings([problem])  # not in the handler: a traceback would show the line, which may contain a secret


def from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings from `GATEHOUSE_<NAME>` and the short names."""
    prefix = "GATEHOUSE_"
    given: dict[str, Any] = {name: environ[name] for name in _SHORT_NAMES if name in environ}
    given |= {name.removeprefix(prefix): value for name, value in environ.items() if name.startswith(prefix)}
    given.pop("PROFILE", None)  # load_settings reads it
    return {name: value for name, value in given.items() if not _is_of_kubernetes(name, value)}


def _is_of_kubernetes(name: str, value: str) -> bool:
    return bool(_KUBERNETES_VARIABLES.fullmatch(name) or _KUBERNETES_ADDRESS.fullmatch(f"{name}={value}"))


def convert(value: Any, type_: Any) -> Any:
    """Return `value` as `type_`. A string from the environment is parsed as JSON, unless `type_` is str."""
    if isinstance(value, str) and type_ is not str:
        value = json.loads(value.lower() if type_ is bool else value)
    if type_ is timedelta and isinstance(value, (int, float)) and not isinstance(value, bool):
        return timedelta(seconds=value)
    if isinstance(value, bool) and type_ is not bool:
        raise ValueError(value)
    return msgspec.convert(value, type_)


def _describe(type_: Any) -> str:
    names: dict[Any, str] = {
        str: "a string",
        int: "an integer",
        float: "a number of seconds",
        bool: "true or false",
        timedelta: "a timedelta or a number of seconds",
    }
    return names.get(type_, 'a list of strings, such as ["one", "two"]')


def bound_problems(value: Any, setting: Setting) -> list[str]:
    """Return the problems of a value that is out of bounds."""
    if setting.minimum is None or setting.minimum <= value <= setting.maximum:
        return []
    return [f"must be from {_bound(setting.minimum)} to {_bound(setting.maximum)}"]


def _check(name: str, value: Any, setting: Setting) -> list[str]:
    values = value if isinstance(value, tuple) else [value]
    for number, text in enumerate(values, start=1):
        if isinstance(text, str) and _STRAY.search(text):
            entry = f"entry {number} " if isinstance(value, tuple) else ""
            return [f"{entry}must not begin or end with a space, or contain a line break or another control character"]
    if problems := bound_problems(value, setting):
        return problems
    if setting.choices and not (values and set(values) <= set(setting.choices)):
        return [f"must be one of {', '.join(setting.choices)}"]
    if name.endswith("_LIMIT") and not _is_limit(value):
        return ['must look like "10/minute;100/hour", and no amount may be 0']
    return []


def _is_limit(text: str) -> bool:
    try:
        return all(item.amount for item in limits.parse_many(text))
    except ValueError:
        return False


def example(profile: type, base: type, generated_by: str) -> str:
    """Return the text of config.example.py: every setting with its meaning. Optional settings are commented out."""
    lines = [f'"""Production settings: copy to config.py, edit, and keep secret. Generated by `{generated_by}`."""', ""]
    lines += ["from datetime import timedelta  # noqa: F401", ""]
    for name, (_, setting) in declared(base).items():
        lines += [f"# {line}" for line in textwrap.wrap(setting.meaning + _bounds(setting), 110)]
        if setting.secret and setting.needed:
            placeholder = f"{PLACEHOLDER}: the output of `openssl rand -base64 32`"
            lines.append(
                f"{name} = {_show([placeholder] if isinstance(getattr(profile, name), tuple) else placeholder)}"
            )
        else:
            lines.append(f"# {name} = {_show(getattr(profile, name))}")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _bounds(setting: Setting) -> str:
    if setting.choices:
        return f" One of {', '.join(setting.choices)}."
    return "" if setting.minimum is None else f" From {_bound(setting.minimum)} to {_bound(setting.maximum)}."


def _bound(value: Any) -> str:
    """Return a bound for a message, such as "300 s"."""
    if not isinstance(value, timedelta):
        return str(value)
    unit, number = _in_units(value)
    return f"{number} {unit[0]}"


def _in_units(value: timedelta) -> tuple[str, int]:
    """Return ("days", number) if `value` is a whole number of days, else ("seconds", number)."""
    days, rest = divmod(value, timedelta(days=1))
    return ("seconds", int(value.total_seconds())) if rest or not days else ("days", days)


def _show(value: Any) -> str:
    """Return the Python literal of `value`, with double quotes."""
    if isinstance(value, timedelta):
        unit, number = _in_units(value)
        return f"timedelta({unit}={number})"
    return json.dumps(value) if isinstance(value, (str, list, tuple)) else repr(value)
