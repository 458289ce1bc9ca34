"""The pattern, the check and the canonical form of mobile numbers."""

import re
from unicodedata import category, normalize

MAXIMUM_LENGTH = 64  # of a number as sent

# Five to fifteen digits (E.164 allows fifteen), an optional + and the usual separators: always accepted.
_SEPARATOR = r"[ ().\-\/\[\]]"
_PLAIN = rf"{_SEPARATOR}{{0,4}}\+?{_SEPARATOR}{{0,4}}[0-9](?:{_SEPARATOR}{{0,4}}[0-9]){{4,14}}{_SEPARATOR}{{0,4}}"
# An international prefix and a country code, or letters (tel:, an extension, 1-800-FLOWERS): libphonenumber decides.
_PREFIXED = rf"{_SEPARATOR}{{0,4}}[08](?:{_SEPARATOR}{{0,4}}[0-9]){{15,19}}{_SEPARATOR}{{0,4}}"
_LETTERED = r"(?:[Tt][Ee][Ll]:)?[ (+]{0,4}[0-9][ -~]*[A-Za-z#~;,][ -~]*"
_ASCII = rf"(?:{_PLAIN}|{_PREFIXED}|[Tt][Ee][Ll]:{_PLAIN}|{_LETTERED})"
_EXTENDED = r"[ (+]{0,4}[0-9].*[^ -~].*"  # a word that is not ASCII after the digits, such as an extension
_FOREIGN = r"[^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u009f][^\u0000-\u001f\u007f-\u009f]*"
PATTERN = rf"^(?:{_ASCII}|{_FOREIGN})$"  # for the OpenAPI document: every accepted number matches


def is_region(region: str) -> bool:
    """Return True if numbers without a country code can be parsed for `region`."""
    if region == "CN":  # the default: skip the list, which takes a tenth of a second to load
        return True
    import phonenumbers

    return region in phonenumbers.SUPPORTED_REGIONS


def check(number: str, region: str) -> None:
    """Raise `ValueError` unless `number` is a phone number as people write them.

    Five to fifteen digits always are; so is what libphonenumber reads as a possible number.
    """
    if len(number) > MAXIMUM_LENGTH:
        raise ValueError(f"Must be at most {MAXIMUM_LENGTH} characters.")
    plain = _plain(number)
    if re.fullmatch(_PLAIN, plain):
        return
    if not (
        re.fullmatch(PATTERN, number) and re.fullmatch(f"{_ASCII}|{_EXTENDED}", plain) and _is_possible(plain, region)
    ):
        raise ValueError("Must be a phone number, such as 13200001111, (415) 555-2671 or +49 30 123456.")


def normalise(number: str, region: str) -> str:
    """Return `number` in E.164, or only its digits and + if it cannot be parsed.

    `region` (ISO 3166, two letters) is assumed for a number without a country code.
    """
    import phonenumbers

    plain = _plain(number)
    try:
        parsed = phonenumbers.parse(plain, region)
    except phonenumbers.NumberParseException:
        return re.sub(r"[^0-9+]", "", plain)
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def _is_possible(plain: str, region: str) -> bool:
    import phonenumbers

    try:
        parsed = phonenumbers.parse(plain, region)
    except phonenumbers.NumberParseException:
        return False
    return (parsed.national_number or 0) > 9999 and phonenumbers.is_possible_number(parsed)  # no emergency numbers


def _plain(number: str) -> str:
    """Return `number` with ASCII digits, spaces, hyphens and brackets, without invisible format characters."""
    if number.isascii():
        return number
    return "".join(map(_plain_character, normalize("NFKC", number)))


def _plain_character(character: str) -> str:
    kind = category(character)
    if kind == "Nd":
        return str(int(character))
    if kind == "Pd" or character in "\u2212\u30fc\u2053\u223c":  # the minus, the Japanese sound mark and two tildes
        return "-"
    return {"Zs": " ", "Cf": ""}.get(kind, character)
