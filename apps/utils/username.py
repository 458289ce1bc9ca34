"""The rules for usernames in any script, and their canonical form.

`Alice`, `alice` and full-width `ａｌｉｃｅ` are one name (RFC 8265, UsernameCaseMapped). A name that mixes scripts as
no language does, such as Latin with one Cyrillic letter, is refused (Unicode TS 39, 5.2, "Highly Restrictive").
"""

from unicodedata import east_asian_width, normalize

import precis_i18n
from confusable_homoglyphs import categories

MINIMUM_WIDTH = 7  # "longer than 6", as in the tutorial
MAXIMUM_LENGTH = 64  # of the name in NFC and of its canonical form
MAXIMUM_EXPANSION = 4  # of a text in NFC by NFD: the cap of the length as sent
_profile = precis_i18n.get_profile("UsernameCaseMapped")
_SCRIPTS_USED_TOGETHER = (
    {"LATIN", "HAN", "HIRAGANA", "KATAKANA"},
    {"LATIN", "HAN", "BOPOMOFO"},
    {"LATIN", "HAN", "HANGUL"},
)


def canonical(name: str) -> str:
    """Return the canonical form: two names are the same if theirs are equal. Raises `ValueError` with the reason."""
    if not name:
        raise ValueError("Must not be empty.")
    _check_length(name, MAXIMUM_LENGTH * MAXIMUM_EXPANSION)  # first: the time of the rest is proportional to it
    composed = normalize("NFC", name)
    _check_length(composed)
    key: str = _profile.enforce(composed)  # raises UnicodeEncodeError: forms/username_reason.py explains it
    _check_length(key)  # one letter may become three
    _check_scripts(key)
    if width(key) < MINIMUM_WIDTH:
        raise ValueError(
            "Username should be longer than 6 characters (a Chinese, Japanese or Korean one counts as two)."
        )
    return key


def stored(name: str) -> str:
    """Return a valid name as it is stored and shown: as sent or, if that does not fit the column, in NFC."""
    return name if len(name) <= MAXIMUM_LENGTH else normalize("NFC", name)


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


def _check_length(name: str, maximum: int = MAXIMUM_LENGTH) -> None:
    if len(name) > maximum:
        raise ValueError(f"Username should be at most {MAXIMUM_LENGTH} characters.")


def _check_scripts(name: str) -> None:
    scripts = categories.unique_aliases(name) - {"COMMON", "INHERITED"}
    if len(scripts) > 1 and not any(scripts <= together for together in _SCRIPTS_USED_TOGETHER):
        names = ", ".join(sorted(script.replace("_", " ").title() for script in scripts))
        raise ValueError(f"Do not mix scripts that are not written together. Found: {names}.")
