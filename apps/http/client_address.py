"""The address and the device of the client."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from flask import request

from apps.utils.device import Device


def client_address() -> str:
    """Return the address that rate limits count by: for IPv6 its /64, because one customer holds a whole /64.

    X-Forwarded-For is used only as far as `TRUSTED_PROXIES` allows (see `register_hooks`).
    """
    return _customer(request.remote_addr or "unknown")


@lru_cache(maxsize=1024)
def _customer(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:  # a unix socket, or a proxy that forwards a name
        return address
    if isinstance(parsed, IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped else str(ip_network((parsed, 64), strict=False))
    return address


def client_device() -> Device:
    """Return the device of the current request."""
    user_agent = request.headers.get("User-Agent", "").replace("\0", "")  # PostgreSQL cannot store NUL
    return Device((request.remote_addr or "unknown")[:64], user_agent[:255])
