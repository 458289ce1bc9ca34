"""What the URLs of the database and of Redis have in common: their syntax, their options and their secrets."""

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

_FLAGS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_PASSWORDS = frozenset({"password", "passwd", "sslpassword", "ssl_password", "ssl_key_password", "oauth_client_secret"})


class InvalidUrl(ValueError):
    """A URL cannot be used. The message follows the name of the setting and contains no value."""


class UrlOption(NamedTuple):
    """An option of a URL, in seconds, that means the same as a setting."""

    setting: str
    name: str
    seconds: float
    decides: bool = True  # False: it applies to a part of what the setting is for, and leaves the setting alone


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
    """Raise `InvalidUrl` for an option that is not among `known`, that is `refused`, or that has no value."""
    if unknown := sorted(set(options) - set(known)):
        # The rest of a secret with a raw "&" would look like the name of an option.
        is_name = re.fullmatch(r"[A-Za-z][\w-]{0,39}", unknown[0]) and not _PASSWORDS & set(options)
        raise InvalidUrl(f"has an option that its driver does not know{f': {unknown[0]}' if is_name else ''}")
    if wrong := sorted(set(options) & set(refused)):
        raise InvalidUrl(f"must not have the option {wrong[0]}: the service sets it, or it belongs before the ?")
    if empty := [name for name, value in options.items() if not value]:
        raise InvalidUrl(f"the option {empty[0]} has no value")


def pop_seconds(options: dict[str, Any], name: str, setting: str) -> list[UrlOption]:
    """Take an option out of `options` and return it as one that stands for `setting`; [] if it is absent."""
    if name not in options:
        return []
    try:
        return [UrlOption(setting, name, float(options.pop(name)))]
    except ValueError:
        raise InvalidUrl(f"the option {name} must be a number of seconds") from None


def flag(name: str, value: str) -> bool:
    """Return the truth value of an option."""
    try:
        return _FLAGS[value.lower()]
    except KeyError:
        raise InvalidUrl(f"the option {name} must be true or false") from None


def passwords(options: Mapping[str, Any]) -> list[str]:
    """Return the values of the options that are secret."""
    return [str(options[name]) for name in sorted(_PASSWORDS & set(options))]
