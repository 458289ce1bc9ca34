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
from typing import Any

import redis
from redis.exceptions import NoScriptError


class HeldConnections:
    """Connections of a pool, of which each serves one thread at a time; there are as many as were ever needed at once.

    It is still redis-py that connects, greets, sends and parses.
    """

    def __init__(self, pool: Any, timeout: float) -> None:
        """Hold connections of `pool`, a `redis.ConnectionPool`, and wait at most `timeout` seconds for an answer."""
        self._pool = pool
        self._timeout = timeout
        self._idle: deque[Any] = deque()

    def ask(self, *command: str | int) -> Any:
        """Send a command and return the answer.

        The server may have closed a connection while nobody used it, so a broken one is tried again with the next, and
        at last with a new one: `command` must do no harm when it is done twice. Raises what redis-py does.
        """
        while True:
            connection, is_new = self._take()
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
                if is_new:
                    raise
                continue
            finally:
                self._give_back(connection, is_good)
            return answer

    def drop(self) -> None:
        """Close those that nobody uses now."""
        while self._idle:
            self._give_back(self._idle.pop(), is_good=False)

    def _take(self) -> tuple[Any, bool]:
        """Return a connection and whether it is a new one."""
        try:
            return self._idle.pop(), False
        except IndexError:
            connection = self._pool.get_connection()
            _time_by_kernel(connection._sock, self._timeout)
            return connection, True

    def _give_back(self, connection: Any, is_good: bool) -> None:
        if is_good:
            self._idle.append(connection)
        else:  # the rest of its answer must not become another one's (SECURITY K2)
            connection.disconnect()
            self._pool.release(connection)


def _time_by_kernel(sock: socket.socket, seconds: float) -> None:
    """Have the kernel end what takes too long on `sock` (socket(7), SO_RCVTIMEO), instead of Python with `poll`."""
    if sys.platform == "win32" or isinstance(sock, ssl.SSLSocket):  # whose read would begin again, without end
        return
    before = sock.gettimeout()
    sock.settimeout(None)
    if not os.get_blocking(sock.fileno()):  # gevent's: the kernel never waits on it
        sock.settimeout(before)
        return
    whole, part = divmod(round(seconds * 1e6), 1_000_000)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", whole, part))
