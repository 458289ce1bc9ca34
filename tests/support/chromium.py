"""Chromium without a window, without access to the internet and with a profile of its own."""

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.support import programs

_FLAGS = (
    "--headless",
    "--no-sandbox",  # CI runs as root, and root cannot use the sandbox
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Loaded(NamedTuple):
    """A page after its scripts and requests: the document and the lines of the console."""

    dom: str
    console: list[str]


def command(profile: Path, *options: str, hosts: Iterable[str] = ()) -> list[str]:
    """Return the command, or skip the test. `hosts` are rules such as "MAP app.example.test:443 127.0.0.1:8443".

    All other names resolve to nothing, except 127.0.0.1.
    """
    resolve = ", ".join([*hosts, "MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1"])
    places = [f"--user-data-dir={profile}", f"--host-resolver-rules={resolve}"]
    return [programs.skip_unless_installed("chromium"), *_FLAGS, *places, *options]


def load(url: str, profile: Path, *flags: str, hosts: Iterable[str] = ()) -> Loaded:
    """Load `url`, or skip the test. `hosts` are those of `command`."""
    options = ("--enable-logging=stderr", "--virtual-time-budget=20000", *flags, "--dump-dom", url)
    done = subprocess.run(
        command(profile, *options, hosts=hosts), capture_output=True, text=True, timeout=50, check=True
    )
    return Loaded(done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line])
