"""Checks that DATABASE_URL and REDIS_URL share: of their syntax, their options and their secrets."""

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

_FLAGS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_SECRETS = frozenset({"password", "passwd", "sslpassword", "ssl_password", "ssl_key_password", "oauth_client_secret"})


class InvalidUrl(ValueError):
    """A URL cannot be used. The message follows the name of the setting and contains no value."""


class UrlOption(NamedTuple):
    """An option of a URL that means the same as a setting: a time."""

    setting: str
    name: str
    seconds: float
    is_whole: bool = True  # False: it covers a part of the setting, so it is compared with it and does not replace it


def check_syntax(url: str) -> None:
    """Raise `InvalidUrl` if a driver could read a part of the password as the host, the path or an option.

    The path of a SQLite file may contain any character: its URL has no password.
    """
    _, separator, rest = url.partition("://")
    if not separator or rest.startswith("/"):
        return
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    login = authority.rpartition("@")[0]
    is_broken = re.search(r"%(?![0-9A-Fa-f]{2})", rest) or re.search(r"[@\[\]\s]", login)
    if is_broken or "@" in rest[len(authority) :] or "#" in rest:
        raise InvalidUrl(
            "a user name, password or option with a special character must be percent-encoded: "
            "@ is %40, / is %2F, # is %23, ? is %3F, % is %25, [ is %5B, ] is %5D, a space is %20"
        )


def check_options(options: Mapping[str, Any], known: Collection[str], refused: Collection[str]) -> None:
    """Raise `InvalidUrl` if an option is not in `known`, is in `refused`, or has no value."""
    if unknown := sorted(set(options) - set(known)):
        # If a secret contains a raw "&", its end looks like the name of an option: do not print it.
        is_name = re.fullmatch(r"[A-Za-z][\w-]{0,39}", unknown[0]) and not _SECRETS & set(options)
        raise InvalidUrl(f"has an option that its driver does not know{f': {unknown[0]}' if is_name else ''}")
    if wrong := sorted(set(options) & set(refused)):
        raise InvalidUrl(
            f"must not have the option {wrong[0]}: the service sets it, cannot use it, or needs it before the ?"
        )
    if empty := [name for name, value in options.items() if not value]:
        raise InvalidUrl(f"the option {empty[0]} has no value")


def check_once(options: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Raise `InvalidUrl` if an option repeats a part that the URL already has before the `?`: one would be ignored."""
    if twice := [name for name, value in before.items() if value and name in options]:
        raise InvalidUrl(f"must not have the option {twice[0]}: it is also before the ?")


def pop_seconds(options: dict[str, Any], name: str, setting: str) -> list[UrlOption]:
    """Remove the option `name` and return it as one that stands for `setting`, or [] if it is absent.

    Raises `InvalidUrl` if its value is not a number.
    """
    if name not in options:
        return []
    try:
        return [UrlOption(setting, name, float(options.pop(name)))]
    except ValueError:
        raise InvalidUrl(f"the option {name} must be a number of seconds") from None


def parse_flag(name: str, value: str) -> bool:
    """Return the boolean value of the option `name`. Raises `InvalidUrl`."""
    try:
        return _FLAGS[value.lower()]
    except KeyError:
        raise InvalidUrl(f"the option {name} must be true or false") from None


def secret_values(options: Mapping[str, Any]) -> list[str]:
    """Return the values of the secret options."""
    return [str(options[name]) for name in sorted(_SECRETS & set(options))]
