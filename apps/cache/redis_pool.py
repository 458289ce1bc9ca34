"""Connections to Redis that stay open from one round trip to the next.

redis-py looks at a connection before each command, counts it in and out of its pool, and tells its metrics of it: as
much work again as the round trip itself. And Python asks `poll` before each call on a socket with a timeout, where a
thread lets go of the interpreter and has to wait for it again. On a busy server the two cost a quarter of the reads.
"""

import os
import socket
import ssl
import struct
import sys
from collections import deque
from collections.abc import MutableSequence, Sequence
from typing import Any

import redis
from redis.exceptions import NoScriptError


class HeldConnections:
    """A client of one server. It keeps the connections of a pool for good, and each serves one thread at a time.

    It is still redis-py that connects, greets, sends and parses. What its pool does for a connection that comes back is
    done here: none is used by a forked process, nor after an error, nor once another server was met.
    """

    def __init__(self, pool: Any) -> None:
        """Keep connections of `pool`, a `redis.ConnectionPool`; each waits for an answer as long as the pool says."""
        self._pool = pool
        self._process_id = os.getpid()
        self._idle: deque[Any] = deque()

    def execute_command(self, *command: str | int) -> Any:
        """Send a command and return the answer; it must do no harm when it is done twice.

        For the server may have closed a connection while nobody used it: then a new one is tried. Raises what redis-py
        does.
        """
        idle = self._idle_here()
        try:
            connection = idle.pop()
        except IndexError:
            return self._ask_over_new(command)
        try:
            return self._ask(connection, idle, command)
        except redis.ConnectionError:
            self.drop()  # the others are closed as well, most likely
            return self._ask_over_new(command)

    def time(self) -> tuple[int, int]:
        """Return the server's clock, as `redis.Redis.time` does."""
        seconds, microseconds = self.execute_command("TIME")
        return int(seconds), int(microseconds)

    def delete(self, *keys: str) -> None:
        """Drop entries."""
        self.execute_command("DEL", *keys)

    def drop(self) -> None:
        """Close every connection: those that nobody uses now, and the others when they come back."""
        idle, self._idle = self._idle, deque()
        self._close(idle)

    def _idle_here(self) -> deque[Any]:
        if self._process_id != os.getpid():
            self._process_id, self._idle = os.getpid(), deque()
        return self._idle

    def _ask_over_new(self, command: Sequence[str | int]) -> Any:
        idle = self._idle  # before it connects: the server may be another one already when it has
        return self._ask(self._connect(), idle, command)

    def _connect(self) -> Any:
        connection = self._pool.get_connection()
        _time_by_kernel(connection._sock)
        return connection

    def _ask(self, connection: Any, idle: deque[Any], command: Sequence[str | int]) -> Any:
        is_good = False
        try:
            connection.send_command(*command)
            answer = connection.read_response()
            is_good = True
        except NoScriptError:
            is_good = True
            raise
        except redis.ConnectionError as error:
            if isinstance(error.__context__, BlockingIOError):  # the kernel's word for it
                raise redis.TimeoutError("no answer in time") from error
            raise
        finally:
            if not is_good:
                self._close([connection])  # the rest of its answer must not become another one's (K2)
            else:
                idle.append(connection)
                if idle is not self._idle:
                    self._close(idle)
        return answer

    def _close(self, connections: MutableSequence[Any]) -> None:
        while True:
            try:
                connection = connections.pop()
            except IndexError:
                return
            connection.disconnect()
            self._pool.release(connection)


def _time_by_kernel(sock: socket.socket) -> None:
    """Have the kernel end what takes too long on `sock` (socket(7), SO_RCVTIMEO), instead of Python with `poll`."""
    if sys.platform == "win32" or isinstance(sock, ssl.SSLSocket):  # whose read would begin again, without end
        return
    seconds = sock.gettimeout() or 0.0  # for the kernel, 0 is without end
    sock.settimeout(None)
    if not os.get_blocking(sock.fileno()):  # gevent's: the kernel never waits on it
        sock.settimeout(seconds or None)
        return
    whole, part = divmod(round(seconds * 1e6), 1_000_000)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", whole, part))
