"""The programs, besides the servers, that some tests use: of Node.js, Chromium, and those that deploy/ is for."""

import shutil
from pathlib import Path

import pytest

from apps.about import ROOT

_OF_NPM = ("newman", "openapi-typescript", "tsc", "spectral", "redocly")
_PATHS = {
    **{name: (str(ROOT / "node_modules" / ".bin" / name), name) for name in _OF_NPM},
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
    "nginx": ("nginx", "/usr/sbin/nginx"),
    "docker-compose": ("docker-compose",),
    "systemd-analyze": ("systemd-analyze",),
    "galera": ("/usr/lib/galera/libgalera_smm.so",),
    "faketime": ("faketime",),
    "slowhttptest": ("slowhttptest",),
    "promtool": ("promtool",),
    "zsh": ("zsh",),
}
_HOW_TO_INSTALL = {
    **dict.fromkeys(_OF_NPM, "`npm ci` installs it"),
    "chromium": "install your system's package `chromium`",
    "nginx": "install your system's package `nginx-light`",
    "docker-compose": "install your system's package `docker-compose`",
    "systemd-analyze": "it comes with systemd",
    "galera": "install your system's package `galera-4`",
    "faketime": "install your system's package `faketime`",
    "slowhttptest": "install your system's package `slowhttptest`",
    "zsh": "install your system's package `zsh`",
    "promtool": "it is in your system's package `prometheus`",
}


def skip_unless_installed(name: str) -> str:
    """Return the path of the program, or skip the test."""
    return find(name) or pytest.skip(f"no {name}: {_HOW_TO_INSTALL[name]}")


def find(name: str) -> str | None:
    """Return the path of the program, or None if it is unknown or not installed."""
    places = _PATHS.get(name, ())
    found = (place if place.endswith(".so") and Path(place).exists() else shutil.which(place) for place in places)
    return next((path for path in found if path), None)


def missing() -> dict[str, str]:
    """Return {name: how to get it} of the programs that are not installed."""
    return {name: how for name, how in _HOW_TO_INSTALL.items() if not find(name)}
