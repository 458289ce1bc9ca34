"""The programs, besides the servers, that a few tests use: newman and a Chromium."""

import shutil

from apps import ROOT

_PLACES = {
    "newman": (str(ROOT / "node_modules" / ".bin" / "newman"), "newman"),
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
}
_HOW = {"newman": "`npm ci` installs it", "chromium": "install your system's package `chromium`"}


def find(name: str) -> str | None:
    """Return the path of the program; None where it is not installed, or no such program."""
    return next((path for path in map(shutil.which, _PLACES.get(name, ())) if path), None)


def missing() -> dict[str, str]:
    """Return {name: how to get it} of those that are not installed."""
    return {name: how for name, how in _HOW.items() if not find(name)}
