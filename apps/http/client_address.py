"""The address and the device of the client."""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import request

from apps.utils.device import Device

_PORT = re.compile(r":(?:[0-9]*|_[A-Za-z0-9._-]+)\Z")  # RFC 7239, 6: a number, or a name that hides it


def with_plain_address(application: WSGIApplication) -> WSGIApplication:
    """Wrap `application`: it gets the client's address without its port, quotes and zone.

    Some proxies and servers add the port of the connection, so each connection would count as another address.
    """

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        address = environ.get("REMOTE_ADDR")
        if address:
            environ["REMOTE_ADDR"] = plain_address(address)
        return application(environ, start_response)

    return serve


@lru_cache(maxsize=1024)
def plain_address(text: str) -> str:
    """Return the address in `text`: `203.0.113.37` for `203.0.113.37:50000` or `"[::ffff:203.0.113.37]:443"`.

    A text without an address, such as the name of a unix socket, loses only its port.
    """
    text = text.replace("\0", "").strip(' \t"')  # PostgreSQL cannot store NUL
    without_port = _PORT.sub("", text)
    for candidate in (text, without_port):  # in this order: the end of an IPv6 address looks like a port
        try:
            parsed = ip_address(candidate.removeprefix("[").removesuffix("]").partition("%")[0])
        except ValueError:
            continue
        mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
        return str(mapped or parsed)
    return without_port


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
    return str(ip_network((parsed, 64), strict=False)) if isinstance(parsed, IPv6Address) else address


def client_device() -> Device:
    """Return the device of the current request."""
    user_agent = request.headers.get("User-Agent", "").replace("\0", "")  # PostgreSQL cannot store NUL
    return Device((request.remote_addr or "unknown")[:64], user_agent[:255])
