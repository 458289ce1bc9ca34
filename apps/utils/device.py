"""The device behind a session."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Device:
    """The IP address and the User-Agent of a session, truncated to their columns. A user recognises it by them."""

    address: str
    user_agent: str
