"""Passwords that a guesser tries first."""

from functools import lru_cache
from unicodedata import normalize

from apps.config import settings


def is_refused(password: str, username: str) -> bool:
    """Whether `password` is one of the 30,000 most leaked, or holds the username (ASVS 6.2.4, 6.2.11).

    Nothing is refused unless `PASSWORD_BLOCKLIST` is on.
    """
    if not settings().PASSWORD_BLOCKLIST:
        return False
    folded = _fold(password)
    return _fold(username) in folded or folded in _leaked()


def _fold(text: str) -> str:
    """Return the text without what a guesser varies first: case, width, and how an accent is typed."""
    return normalize("NFKC", text).casefold()


@lru_cache(maxsize=1)
def _leaked() -> frozenset[str]:
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset(FREQUENCY_LISTS["passwords"])
