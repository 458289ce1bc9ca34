"""A proxy between the service and a store, in threads of the test. It can delay, drop, cut or hold the traffic."""

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from redis.connection import parse_url
from sqlalchemy.engine import URL, make_url

Address = str | tuple[str, int]  # the path of a unix socket, or a host and a port


class Hold:
    """A command that the proxy holds back: `reached` is set when the client has sent it, and `release` forwards it."""

    def __init__(self, marker: bytes) -> None:
        self.marker = marker
        self.reached = threading.Event()
        self.released = threading.Event()

    def release(self) -> None:
        self.released.set()


class Proxy:
    """Listens on its own port. Its behaviour can be changed at any time, also for open connections."""

    def __init__(self, upstream: Address) -> None:
        self._upstream = upstream
        self._sockets: set[socket.socket] = set()
        self._server: socketserver.ThreadingTCPServer | None = None
        self._holds: list[Hold] = []
        self.port = 0
        self.url = ""
        self.commands = 0  # number of chunks received from clients
        self.is_silent = False  # accept and read, but forward nothing
        self.delay: Callable[[], float] = lambda: 0.0  # seconds before an answer is forwarded

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for hold in self._holds:
            hold.release()
        self.refuse()

    def listen(self) -> None:
        """Accept connections, always on the same port."""
        if self._server:
            return
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                proxy._serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def refuse(self) -> None:
        """Refuse new connections and cut the open ones."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Cut the open connections."""
        for end in list(self._sockets):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def hold(self, marker: bytes) -> Hold:
        """Hold back the next chunk from a client that contains `marker`."""
        hold = Hold(marker)
        self._holds.append(hold)
        return hold

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), self._connect() as server:
            ends = {client, server}
            self._sockets |= ends
            back = threading.Thread(target=self._pump, args=(server, client, self._before_answer), daemon=True)
            back.start()
            self._pump(client, server, self._before_command)
            back.join()
            self._sockets -= ends

    def _connect(self) -> socket.socket:
        if isinstance(self._upstream, tuple):
            return socket.create_connection(self._upstream)
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self._upstream)
        except OSError:
            server.close()
            raise
        return server

    def _pump(self, source: socket.socket, sink: socket.socket, before: Callable[[bytes], None]) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                before(chunk)
                if not self.is_silent:
                    sink.sendall(chunk)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _before_command(self, chunk: bytes) -> None:
        self.commands += 1
        for hold in self._holds:
            if hold.marker in chunk and not hold.reached.is_set():
                hold.reached.set()
                hold.released.wait()

    def _before_answer(self, _chunk: bytes) -> None:
        time.sleep(self.delay())


@contextlib.contextmanager
def through_proxy(url: str) -> Iterator[tuple[Proxy, str]]:
    """Yield a proxy to the store at `url`, and the URL of the store through it."""
    is_redis = url.startswith(("redis:", "unix:"))
    with Proxy(_redis_address(url) if is_redis else _database_address(make_url(url))) as proxy:
        if is_redis:
            yield proxy, f"redis://127.0.0.1:{proxy.port}/{parse_url(url).get('db', 0)}"
        else:
            query = {name: value for name, value in make_url(url).query.items() if name not in ("host", "unix_socket")}
            local = make_url(url).set(host="127.0.0.1", port=proxy.port, query=query)
            yield proxy, local.render_as_string(hide_password=False)


def _redis_address(url: str) -> Address:
    place = parse_url(url)
    return place["path"] if "path" in place else (place.get("host", "localhost"), place.get("port", 6379))


def _database_address(url: URL) -> Address:
    is_postgresql = url.get_backend_name() == "postgresql"
    folder, path = url.query.get("host"), url.query.get("unix_socket")
    if folder:
        return f"{folder}/.s.PGSQL.{url.port or 5432}"
    return str(path) if path else (url.host or "localhost", url.port or (5432 if is_postgresql else 3306))
