"""The clock. No other module asks the operating system for the date, so tests can shift it."""

from datetime import UTC, datetime


def now() -> datetime:
    """Return the current time, timezone-aware, in UTC."""
    return datetime.now(UTC)
