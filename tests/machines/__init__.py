"""Several machines: clusters of real servers. Each server is a process with its own port."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from tests import faults
from tests.faults import program
from tests.support import servers
from tests.support.live import free_port


def wait_until(is_so: Callable[[], bool], seconds: float = 30) -> None:
    """Wait longer than elsewhere, because clusters are slow."""
    faults.wait_until(is_so, seconds)


class RedisNode:
    """A Redis on TCP: Sentinels and cluster nodes reach each other by address."""

    def __init__(self, folder: Path, *options: str, port: int = 0, sentinel: str = "") -> None:
        self.port = port or free_port()
        self.folder = folder / str(self.port)
        self.folder.mkdir()
        self.options = ["--port", str(self.port), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1", *options]
        if sentinel:
            configuration = self.folder / "sentinel.conf"  # Sentinel rewrites it
            configuration.write_text(f"port {self.port}\nbind 127.0.0.1\n{sentinel}")
            self.options = [str(configuration), "--sentinel"]
        self.start()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([program(), *self.options], cwd=self.folder, stdout=log, stderr=log)
        wait_until(self.answers)

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, decode_responses=True, retry=None)

    def answers(self) -> bool:
        try:
            with self.client as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def is_primary(self) -> bool:
        """Return True if it reports so. During its promotion it drops connections."""
        try:
            with self.client as client:
                return bool(client.info("replication")["role"] == "master")
        except redis.RedisError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def cluster_port() -> int:
    """Return a free port whose cluster bus port, 10,000 higher, is valid."""
    while (port := free_port()) > 55_000:
        pass
    return port


@contextmanager
def servers_home() -> Iterator[servers.Home]:
    """Yield a folder that the servers' user owns, with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="gh-", dir="/tmp") as name:
        folder = Path(name)
        servers._change_owner(folder)
        yield servers.Home(folder, servers.Servers(None, {}))  # type: ignore[arg-type]
