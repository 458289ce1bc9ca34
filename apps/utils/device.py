"""The device behind a session."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Device:
    """What a user recognises a session by: an IP address and the User-Agent, both cut to fit their columns."""

    address: str
    user_agent: str
