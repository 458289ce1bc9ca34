"""The passwords that attackers try first."""

from functools import lru_cache
from unicodedata import normalize


def is_listed(password: str, username: str) -> bool:
    """Return True if `password` is among the 30,000 most leaked or contains the username (ASVS 6.2.4, 6.2.11)."""
    folded = _fold(password)
    return _fold(username) in folded or folded in _leaked()


def _fold(text: str) -> str:
    """Remove differences in case, width and accent encoding, which attackers vary first."""
    return normalize("NFKC", text).casefold()


@lru_cache(maxsize=1)
def _leaked() -> frozenset[str]:
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset(FREQUENCY_LISTS["passwords"])
