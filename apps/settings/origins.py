"""Origins of pages and apps (RFC 6454), as a browser writes them in the header `Origin`."""

import re
from ipaddress import IPv4Address, IPv6Address

FORMS = "scheme://host or scheme://host:port, without anything after it"
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_IS_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")  # a browser reads such a host as an IPv4 address


def as_sent(origin: str) -> str:
    """Return an origin as a browser sends it: in lower case, and without the default port of http and https.

    Raises `ValueError`, with the reason, for anything that no browser sends as the origin of a page or an app.
    """
    if not origin.isascii():
        raise ValueError("must have its host in Punycode (xn--...)")
    match = _ORIGIN.fullmatch(origin.lower())
    if match is None:
        raise ValueError(f"must be {FORMS}")
    scheme, host, port = match[1], _host(match[1], match[2]), int(match[3] or 0)
    if match[3] and not 0 < port < 65536:
        raise ValueError("must have a port from 1 to 65535")
    return f"{scheme}://{host}" + (f":{port}" if port and port != _DEFAULT_PORTS.get(scheme) else "")


def _host(scheme: str, host: str) -> str:
    """Return a host in the spelling of browsers. Raises `ValueError` for an IP address that is none."""
    if host.startswith("["):
        return f"[{_ipv6(host[1:-1])}]"
    if scheme in _DEFAULT_PORTS and _IS_NUMBER.fullmatch(host):
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise ValueError("must have an IPv4 address as four decimal numbers") from None
    return host


def _ipv6(text: str) -> str:
    try:
        address = IPv6Address(text)
    except ValueError:
        raise ValueError("must have a valid IPv6 address in its brackets") from None
    if address.ipv4_mapped:  # Python 3.13 writes it in dotted form
        number = int(address.ipv4_mapped)
        return f"::ffff:{number >> 16:x}:{number & 0xFFFF:x}"
    return address.compressed
