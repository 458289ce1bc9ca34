"""The client's address without the port, the quotes and the zone that proxies and servers add."""

import pytest

from apps.http.client_address import plain_address

SPELLINGS = {
    "203.0.113.37": [
        "203.0.113.37",
        "203.0.113.37:50000",
        "203.0.113.37:1",
        "203.0.113.37:",
        "203.0.113.37:_hidden-7",
        '"203.0.113.37:50000"',
        '"203.0.113.37"',
        " 203.0.113.37:50000 ",
        "[203.0.113.37]:50000",
        "::ffff:203.0.113.37",
        "::ffff:203.0.113.37:50000",
        "[::ffff:203.0.113.37]:50000",
        "[::FFFF:203.0.113.37%eth0]:50000",
    ],
    "2001:db8::1": [
        "2001:db8::1",
        "2001:DB8:0:0::1",
        "[2001:db8::1]",
        "[2001:db8::1]:443",
        '"[2001:db8::1]:443"',
        '"[2001:db8::1]"',
        "[2001:db8::1]:_port",
        "[2001:db8::1%eth0]:443",
        "[2001:db8::1%25eth0]:443",
        "2001:db8::1%eth0",
        "2001:db8:0:0:0:0:0:1:443",
        "2001:db8::1:50000",
    ],
    "fe80::1": ["fe80::1%eth0", "fe80::1%2", "[fe80::1%25en0]", '"[fe80::1%lo0]:8080"'],
    "::1": ["::1", "[::1]:5000"],
    "2001:db8::1:443": ["2001:db8::1:443"],  # without brackets, the end belongs to the address (RFC 5952, 6)
    "unknown": ["unknown", "unknown:50000", '"unknown"'],
    "_gazonk": ["_gazonk", "_gazonk:50000"],
    "unix": ["unix:"],
    "": ["", ":", '""', ":443"],
    "203.0.113.999": ["203.0.113.999:50000"],
    "ab": ["a\0b"],
}


@pytest.mark.parametrize(
    ("address", "text"), [(address, text) for address, texts in SPELLINGS.items() for text in texts]
)
def test_every_spelling_of_an_address_is_one_address(address: str, text: str) -> None:
    """B4."""
    assert plain_address(text) == address
