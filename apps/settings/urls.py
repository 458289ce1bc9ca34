"""Read DATABASE_URL and REDIS_URL into the settings, and find the secrets of all settings."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import msgspec

from apps.config import BaseConfig
from apps.settings import database_url, redis_url
from apps.settings.reader import bound_problems, convert, declared
from apps.settings.url_options import InvalidUrl, UrlOption, check_syntax

_PARSERS: dict[str, Callable[[str], tuple[str, list[UrlOption]]]] = {
    "DATABASE_URL": database_url.parse,
    "REDIS_URL": redis_url.parse,
}


def read_urls(settings: BaseConfig, explicit: Collection[str], wrong: Collection[str]) -> tuple[BaseConfig, list[str]]:
    """Return the settings with the URLs as their drivers read them, and the problems found.

    `explicit` names the settings that the operator has set. An option that means the same as a setting replaces its
    default, and must equal an explicit one. `wrong` names the settings that already have a problem. A URL that is wrong
    becomes empty, so that later checks skip it. No problem contains a part of a URL.
    """
    problems: list[str] = []
    for name, parse in _PARSERS.items():
        text = getattr(settings, name)
        if not text or name in wrong:
            settings = _with(settings, name, "")
            continue
        try:
            check_syntax(text)
            url, options = parse(text)
        except InvalidUrl as error:
            problems.append(f"{name}: {error}")
            settings = _with(settings, name, "")
            continue
        settings = _with(settings, name, url)
        for option in options:
            settings, found = _apply(settings, name, option, explicit)
            problems += found
    return settings, problems


def _apply(
    settings: BaseConfig, name: str, option: UrlOption, explicit: Collection[str]
) -> tuple[BaseConfig, list[str]]:
    """Return the settings with the value of an option of the URL in `name`, and the problems."""
    type_, setting = declared(BaseConfig)[option.setting]
    try:
        value = convert(option.seconds, type_)
    except (msgspec.ValidationError, ValueError, OverflowError):
        return settings, [f"{name}: the option {option.name} must be a number of seconds"]
    if found := bound_problems(value, setting):
        return settings, [f"{name}: the option {option.name} {problem}" for problem in found]
    if option.setting in explicit:
        same = getattr(settings, option.setting) == value
        return settings, [] if same else [f"{option.setting}: contradicts the option {option.name} in {name}"]
    return (_with(settings, option.setting, value) if option.is_whole else settings), []


def _with(settings: BaseConfig, name: str, value: Any) -> BaseConfig:
    changes: dict[str, Any] = {name: value}
    return replace(settings, **changes)


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return the text of another program, such as an error of a driver, without the secrets of `secrets_of`."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def secrets_of(settings: BaseConfig) -> list[str]:
    """Return every secret of the settings, also percent-encoded; the longest first, for `redact`."""
    found = {settings.SENTRY_DSN}
    for name, (_, setting) in declared(BaseConfig).items():
        value = getattr(settings, name)
        if setting.secret:
            found.update(value if isinstance(value, tuple) else (value,))
    if settings.DATABASE_URL:
        found.update(database_url.passwords_of(settings.DATABASE_URL))
    if settings.REDIS_URL:
        found.update(redis_url.passwords_of(settings.REDIS_URL))
    found |= {quote(secret, safe="") for secret in found}
    return sorted(filter(None, found), key=len, reverse=True)
