"""A worker process of `serve`: granian's HTTP server, with the application behind it."""

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

# Parts of granian that are not public: its version is pinned (docs/decisions/0006-granian.md).
from granian._granian import ASGIWorker, CallbackScheduler, SocketHolder, WorkerSignal

from apps.http.bridge import Bridge
from apps.settings.reader import InvalidSettings

STOP_TIMEOUT = 30  # seconds for a worker to finish its requests after a stop signal
DRAIN_SIGNAL = signal.SIGUSR1  # close each connection after its response
_LAST_REQUESTS = 0.2  # seconds in which a connection that was just accepted may send its request
BACKLOG = 1024  # connections that the workers hold together, and connections that wait for one worker


class Options(NamedTuple):
    """The options that all workers share."""

    main_process: int  # its process id
    workers: int  # number of workers
    threads: int  # per worker
    environment: dict[str, str]  # settings, as environment variables


def run_worker(options: Options, listener: socket.socket, ready: Connection) -> None:
    """Serve until SIGTERM, or until the main process is gone. Send a byte to `ready` when requests are accepted."""
    os.environ.update(options.environment)
    threading.Thread(target=_stop_with, args=(options.main_process,), daemon=True).start()
    try:
        from wsgi import app
    except InvalidSettings as error:
        sys.exit(str(error))
    loop = asyncio.new_event_loop()
    bridge = Bridge(app, options.threads, loop)
    stopped = asyncio.Event()
    stop = WorkerSignal()
    stop.add_cb(partial(loop.call_soon_threadsafe, stopped.set))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop_gently, listener.fileno(), bridge, stop, loop)
    loop.add_signal_handler(DRAIN_SIGNAL, bridge.drain)
    listener.listen(BACKLOG)  # again, if the socket listens already
    _server(options, listener).serve_mtr(_scheduler(bridge.schedule, loop), loop, stop)
    ready.send_bytes(b"1")
    ready.close()
    loop.run_until_complete(stopped.wait())


def _stop_gently(accepting: int, bridge: Bridge, stop: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Accept no more connections, then stop. granian would close a new connection before its first request is read.

    `accepting` is the file descriptor that granian accepts from. It gets another socket, to which no client connects:
    the connections that wait at the former one are for the next worker.
    """
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        os.dup2(silent.fileno(), accepting)
    bridge.drain()
    loop.call_later(_LAST_REQUESTS, stop.set)


class _Scheduler(CallbackScheduler):
    """Gives each request to `schedule`, where granian's own scheduler would start an asyncio task."""

    __slots__ = ()

    def __init__(self, *_for_granian: object) -> None:
        super().__init__()


def _scheduler(schedule: Callable[[Any], None], loop: asyncio.AbstractEventLoop) -> Any:
    enter, leave = partial(_enter_task, loop), partial(_leave_task, loop)
    scheduler: Any = _Scheduler(loop, None, None, enter, leave)
    scheduler._schedule_fn = schedule
    return scheduler


def _server(options: Options, listener: socket.socket) -> Any:
    """Return granian's server of one connection-handling thread, for HTTP/1 and HTTP/2 without TLS."""
    asgi_worker: Any = ASGIWorker  # its declared types are outdated
    holder = SocketHolder(listener.detach(), False, BACKLOG)  # type: ignore[call-arg]  # granian closes it
    backpressure = max(BACKLOG // options.workers, 1)  # connections of this worker
    no_tls: tuple[Any, ...] = (False, None, None, None, "tls1.3", None, [], False)
    return asgi_worker(
        1, (None, holder), None, 1, 512, 1, 30, backpressure, "auto", None, None, False, None, *no_tls, (None, None)
    )


def _stop_with(main_process: int) -> None:
    """Stop this worker when the main process is gone: after a SIGKILL it cannot stop its workers itself."""
    while os.getppid() == main_process:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_TIMEOUT)
    os.kill(os.getpid(), signal.SIGKILL)
