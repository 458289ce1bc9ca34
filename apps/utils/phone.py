"""The pattern and the canonical form of mobile numbers."""

import re

# Five to fifteen digits (E.164 allows fifteen), an optional +, and the usual separators between digits.
PATTERN = r"^\+?[0-9](?:[ ().-]{0,2}[0-9]){4,14}$"


def is_region(region: str) -> bool:
    """Return True if numbers without a country code can be parsed for `region`."""
    if region == "CN":  # the default: skip the list, which takes a tenth of a second to load
        return True
    import phonenumbers

    return region in phonenumbers.SUPPORTED_REGIONS


def normalise(number: str, region: str) -> str:
    """Return `number` in E.164, or only its digits and + if it cannot be parsed.

    `region` (ISO 3166, two letters) is assumed for a number without a country code.
    """
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return re.sub(r"[^0-9+]", "", number)
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
