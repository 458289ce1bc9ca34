"""Helpers to store and read one entry of a cache."""

from apps.cache.redis import Lease
from apps.cache.store import Store

MINUTE = 60.0


def put(place: Store, key: str, version: int, value: str, seconds: float = MINUTE) -> bool:
    return place.put([(key, version, value)], seconds)


def fill(place: Store, key: str, version: int, value: str, lease: Lease | None = None) -> None:
    """Fill as a reader does after a miss. Without `lease`, use a new one that is not in the store."""
    place.fill([(key, version, value)], MINUTE, lease or Lease.begin())


def look(place: Store, *keys: str, lease: Lease | None = None) -> list[tuple[int, str] | None]:
    return place.get_many(keys, lease)
