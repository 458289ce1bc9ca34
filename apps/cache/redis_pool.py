"""Connections to Redis that are kept between commands, with timeouts by the kernel (decision 0013).

For each command, redis-py checks a connection, takes it from its pool, returns it and updates its metrics: as much work
as the round trip itself. In addition, Python calls `poll` before each call on a socket with a timeout, which releases
the interpreter lock. On a busy server the two cost a quarter of the reads.

The code uses private parts of redis-py 8.1; tests/unit/test_redis_pool.py lists them and checks the version.
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
    """A client of one server that keeps the connections of a pool. Each connection serves one thread at a time.

    redis-py still connects, initializes, sends and parses. This class replaces the checks of its pool: a connection is
    not used by a forked process, after an error, or after the client connected to another server.
    """

    def __init__(self, pool: Any) -> None:
        """Keep connections of `pool`, a `redis.ConnectionPool`, with the timeout of the pool."""
        self._pool = pool
        self._process_id = os.getpid()
        self._idle: deque[Any] = deque()

    def execute_command(self, *command: str | int) -> Any:
        """Send an idempotent command and return the answer. Raises the errors of redis-py.

        If the server closed an idle connection meanwhile, the command is sent once more over a new connection.
        """
        idle = self._idle_of_process()
        try:
            connection = idle.pop()
        except IndexError:
            return self._execute_on_new(command)
        try:
            return self._execute(connection, idle, command)
        except redis.ConnectionError:
            self.drop()  # the server has probably closed the others too
            return self._execute_on_new(command)

    def time(self) -> tuple[int, int]:
        """Return the time of the server, as `redis.Redis.time` does."""
        seconds, microseconds = self.execute_command("TIME")
        return int(seconds), int(microseconds)

    def delete(self, *keys: str) -> None:
        """Delete keys."""
        self.execute_command("DEL", *keys)

    def drop(self) -> None:
        """Close every connection: idle ones now, the others after their current command."""
        idle, self._idle = self._idle, deque()
        self._close(idle)

    def _idle_of_process(self) -> deque[Any]:
        if self._process_id != os.getpid():
            self._process_id, self._idle = os.getpid(), deque()
        return self._idle

    def _execute_on_new(self, command: Sequence[str | int]) -> Any:
        idle = self._idle  # read before connecting: a new server calls `drop` and replaces it
        return self._execute(self._connect(), idle, command)

    def _connect(self) -> Any:
        connection = self._pool.get_connection()
        _use_kernel_timeout(connection._sock)
        return connection

    def _execute(self, connection: Any, idle: deque[Any], command: Sequence[str | int]) -> Any:
        is_good = False
        try:
            connection.send_command(*command)
            answer = connection.read_response()
            is_good = True
        except NoScriptError:
            is_good = True
            raise
        except redis.ConnectionError as error:
            if isinstance(error.__context__, BlockingIOError):  # EAGAIN: the timeout of the kernel
                raise redis.TimeoutError("no answer in time") from error
            raise
        finally:
            if not is_good:
                self._close([connection])  # the rest of the answer must not reach another command (K2)
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


def _use_kernel_timeout(sock: socket.socket) -> None:
    """Replace the timeout of `sock`, for which Python calls `poll`, by one of the kernel (socket(7), SO_RCVTIMEO)."""
    if sys.platform == "win32" or isinstance(sock, ssl.SSLSocket):  # Python would restart a TLS read forever
        return
    seconds = sock.gettimeout() or 0.0  # the kernel takes 0 as no timeout
    sock.settimeout(None)
    if not os.get_blocking(sock.fileno()):  # a socket of gevent, for which the kernel never waits
        sock.settimeout(seconds or None)
        return
    whole, part = divmod(round(seconds * 1e6), 1_000_000)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", whole, part))
