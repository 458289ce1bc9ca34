"""The reason for which PRECIS refuses a username, for the person who chose it (RFC 8264; RFC 8265, 3.3)."""

from unicodedata import bidirectional, category, normalize, unidata_version

import precis_i18n

from apps.utils.username import canonical

_CHARACTERS = precis_i18n.get_profile("UsernameCaseMapped").base  # the rules for characters, without the direction
_HINT = " Use letters, digits and ASCII punctuation."
# The texts of PRECIS rules (RFC 8264, 8 and 9); {0} is the character.
_REASONS = {
    "spaces": "Must not contain spaces.",
    "symbols": "{0} is a symbol." + _HINT,
    "punctuation": "{0} is punctuation of another kind than ASCII." + _HINT,
    "controls": "{0} is a control character. Remove it.",
    "precis_ignorable_properties": "{0} is invisible. Remove it.",
    "unassigned": "{0} is not a character of Unicode " + unidata_version + ".",
    "other_letter_digits": "{0} is a letter or number of a form that usernames must not contain." + _HINT,
    "old_hangul_jamo": "{0} is a part of an old Korean syllable. Write whole syllables.",
    "exceptions": "{0} is a mark that usernames must not contain. Remove it.",
    "format_characters": "{0} is an invisible or formatting character. Remove it.",
    "other": "{0} has no agreed meaning: it is reserved for private use or half of a pair. Remove it.",
    "zero_width_nonjoiner": "{0} is invisible and is allowed only where the script needs it between two letters.",
    "zero_width_joiner": "{0} is invisible and is allowed only where the script needs it between two letters.",
    "middle_dot": "{0}, the middle dot, is allowed only between two l.",
    "greek_keraia": "{0}, the Greek numeral sign, is allowed only before a Greek letter.",
    "hebrew_punctuation": "{0} is allowed only after a Hebrew letter.",
    "katakana_middle_dot": "{0}, the katakana middle dot, is allowed only in names with Japanese or Chinese letters.",
    "arabic_indic": "Do not mix the digits of Arabic with those of Persian and Urdu.",
    "extended_arabic_indic": "Do not mix the digits of Arabic with those of Persian and Urdu.",
    "not_idempotent": "This spelling has no stable form. Write it with other letters.",
}


def explained(name: str) -> str:
    """Return the canonical form of a username. Raises `ValueError` with the reason for the person who chose it."""
    try:
        return canonical(name)
    except UnicodeEncodeError as error:
        raise ValueError(reason_of(error)) from None


def reason_of(error: UnicodeEncodeError) -> str:
    """Return the text for the rule of PRECIS that a name breaks. A bad character comes before the direction."""
    rule = error.reason.rpartition("/")[2]
    if rule == "bidi_rule":
        try:
            _CHARACTERS.enforce(error.object)
        except UnicodeEncodeError as of_character:
            return reason_of(of_character)
        return _direction_reason(error.object)
    character = error.object[error.start : error.end][:1]
    if rule == "has_compat":
        return _other_form_reason(character)
    if rule == "other" and category(character) in ("Cf", "Zl", "Zp"):
        rule = "format_characters"
    return _REASONS[rule].format(_named(character))


def _other_form_reason(character: str) -> str:
    """Return the text for a character that has a compatibility mapping: spaces and symbols are among them."""
    if category(character).startswith("Z"):
        return _REASONS["spaces"]
    plain = normalize("NFKC", character)
    if category(character).startswith("P"):
        return _REASONS["punctuation"].format(_named(character))
    if category(character).startswith("S") or (category(character) == "No" and not plain.isalnum()):
        return _REASONS["symbols"].format(_named(character))
    return f"{_named(character)} is another form of {plain}. Write {plain} instead."


def _direction_reason(name: str) -> str:
    """Return the part of the Bidi Rule that a name with right-to-left characters breaks (RFC 5893, 2)."""
    kinds = [bidirectional(character) for character in name]
    if kinds[0] not in ("L", "R", "AL"):
        return "A username with right-to-left characters or Arabic digits must begin with a letter."
    if kinds[0] == "L" or "L" in kinds:
        return "Do not mix letters written from left to right with right-to-left letters or Arabic digits."
    if "EN" in kinds and "AN" in kinds:
        return "Do not mix the digits 0 to 9 with Arabic digits."
    return "A username that is written from right to left must end with a letter or digit."


def _named(character: str) -> str:
    return f"The character U+{ord(character):04X}"
