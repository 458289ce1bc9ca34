"""What a mobile number may look like, and its one canonical form."""

import re

from flask import current_app

# Five to fifteen digits (E.164 allows fifteen), an optional +, and what people put between digits.
PATTERN = r"^\+?[0-9](?:[ ().-]{0,2}[0-9]){4,14}$"


def is_region(region: str) -> bool:
    """Whether numbers without a country code can be read as those of `region`."""
    if region == "CN":  # the default, which needs no list: it takes a tenth of a second to load
        return True
    import phonenumbers

    return region in phonenumbers.SUPPORTED_REGIONS


def normalise(number: str) -> str:
    """Return `number` in E.164, or its bare digits where it cannot be read as a number.

    Without a country code it is read as one of `PHONE_REGION`.
    """
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number, current_app.config["PHONE_REGION"])
    except phonenumbers.NumberParseException:
        return re.sub(r"[^0-9+]", "", number)
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
