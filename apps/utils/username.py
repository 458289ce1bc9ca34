"""The rules for usernames in any script, and their canonical form.

`Alice`, `alice` and full-width `ａｌｉｃｅ` are one name (RFC 8265, UsernameCaseMapped). A name that mixes scripts as
no language does, such as Latin with one Cyrillic letter, is refused (Unicode TS 39, 5.2, "Highly Restrictive").
"""

from unicodedata import east_asian_width, normalize

import precis_i18n
from confusable_homoglyphs import categories

MINIMUM_WIDTH = 7  # "longer than 6", as in the tutorial
MAXIMUM_LENGTH = 64
_profile = precis_i18n.get_profile("UsernameCaseMapped")
_SCRIPTS_USED_TOGETHER = (
    {"LATIN", "HAN", "HIRAGANA", "KATAKANA"},
    {"LATIN", "HAN", "BOPOMOFO"},
    {"LATIN", "HAN", "HANGUL"},
)


def canonical(name: str) -> str:
    """Return the canonical form: two names are the same if theirs are equal. Raises `ValueError` with the reason."""
    _check_length(name)  # first: the time of the rest is proportional to it
    try:
        key: str = _profile.enforce(name)
    except UnicodeError:
        raise ValueError("Use letters, digits and punctuation: no spaces, symbols or invisible characters.") from None
    _check_length(key)  # one letter may become three
    if not _is_of_one_script(key):
        raise ValueError("Do not mix scripts that are not written together, such as Latin and Cyrillic.")
    if width(key) < MINIMUM_WIDTH:
        raise ValueError(
            "Username should be longer than 6 characters (a Chinese, Japanese or Korean one counts as two)."
        )
    return key


def lookup_key(name: str) -> str:
    """Return the canonical form of `name` or, if it is not a valid username, a form that all its spellings share."""
    try:
        return canonical(name)
    except ValueError:
        return normalize("NFKC", name).casefold().strip()


def prefix_key(name: str) -> str:
    """Return the prefix of the canonical forms of all names that begin with `name`."""
    try:
        return canonical(name)
    except ValueError:  # too short for a username; the x keeps a capital sigma from becoming a final one
        return normalize("NFC", (normalize("NFKC", name.strip()) + "x").lower()[:-1])


def width(name: str) -> int:
    """Return the length in columns: a Han, kana or Hangul character counts as two, because it says as much."""
    return sum(2 if east_asian_width(character) == "W" else 1 for character in name)


def _check_length(name: str) -> None:
    if len(name) > MAXIMUM_LENGTH:
        raise ValueError(f"Username should be at most {MAXIMUM_LENGTH} characters.")


def _is_of_one_script(name: str) -> bool:
    scripts = categories.unique_aliases(name) - {"COMMON", "INHERITED"}
    return len(scripts) <= 1 or any(scripts <= together for together in _SCRIPTS_USED_TOGETHER)
