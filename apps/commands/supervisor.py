"""The main process of `serve`: starts the workers, and restarts a worker that dies."""

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from types import FrameType

from apps.commands.worker import BACKLOG, DRAIN_SIGNAL, STOP_TIMEOUT

logger = logging.getLogger(__name__)

_RESTART_INTERVAL = 1  # seconds from one start to the next, of a worker that was ready and died
_FIRST_DELAY, _MAX_DELAY = 0.5, 10  # seconds before a retry, if a worker died before it was ready; doubled each time
_MAX_FAILED_STARTS = 4  # consecutive ones of every worker, before the service ends
_DRAIN_TIME = 5  # seconds in which a replaced worker closes its connections, each after a response
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_fork = multiprocessing.get_context("fork")  # workers share the memory of the modules that are loaded already

Bind = Callable[[], socket.socket]
Work = Callable[[socket.socket, Connection], None]


class NoWorkerStarts(Exception):
    """No worker is ready, and each has failed to start several times in a row."""


@dataclass(eq=False)
class Worker:
    """A worker process. `started` and `signal_at` are times of the monotonic clock.

    `signal_at` is when to send `next_signal` to a worker that is being stopped; None for a worker that serves.
    """

    slot: "Slot"
    process: ForkProcess
    ready: Connection
    started: float
    is_ready: bool = False
    signal_at: float | None = None
    next_signal: signal.Signals = signal.SIGTERM

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if self.process.is_alive() and self.process.pid:
            os.kill(self.process.pid, number)


@dataclass(eq=False)
class Slot:
    """A place for one worker; during a reload, for the old one and its replacement. Both accept from `listener`."""

    number: int
    listener: socket.socket
    start_at: float = 0
    failed_starts: int = 0
    workers: list[Worker] = field(default_factory=list)

    @property
    def serving(self) -> list[Worker]:
        """The workers that are not being stopped."""
        return [worker for worker in self.workers if worker.signal_at is None]


class Supervisor:
    """Keeps `count` worker processes running. SIGHUP replaces them, SIGTERM and Ctrl-C stop them.

    Each process calls `work` with its socket and a pipe, to which it sends a byte when it is ready.

    `bind` returns another socket that is bound to the address, so that the kernel distributes connections evenly. A
    socket stays open when its worker dies or is replaced: connections wait for the next one. `may_overlap` says whether
    an old worker may serve beside its replacement.
    """

    def __init__(self, work: Work, count: int, bind: Bind, *, may_overlap: bool) -> None:
        self._work = work
        self._bind = bind
        self._may_overlap = may_overlap
        self._count = count
        self._slots: list[Slot] = []
        self._to_replace: list[Slot] = []
        self._is_stopping = False

    def run(self) -> None:
        """Run until the service is stopped by a signal. Raises `NoWorkerStarts`."""
        wakeup, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wake)  # a signal ends the wait in `_wait`
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)
        self._slots = [Slot(number, self._bind()) for number in range(1, self._count + 1)]
        for slot in self._slots:
            slot.listener.listen(BACKLOG)
        try:
            while not self._is_stopping:
                self._start_due()
                self._wait(wakeup)
        finally:
            self._stop()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._to_replace = list(self._slots)
            logger.info("workers are replaced", extra={"event": "serve.reload"})
        else:
            self._is_stopping = True

    def _workers(self) -> list[Worker]:
        return [worker for slot in self._slots for worker in slot.workers]

    def _start_due(self) -> None:
        """Start missing workers, replace the next one of a reload, and send the signals that are due.

        A reload replaces one worker at a time, because a start takes memory.
        """
        now = time.monotonic()
        for slot in self._empty_slots():
            if slot.start_at <= now:
                self._start(slot)
        if self._to_replace and all(worker.is_ready for slot in self._slots for worker in slot.serving):
            self._replace(self._to_replace.pop(0))
        for worker in self._workers():
            if worker.signal_at is not None and worker.signal_at <= now:
                worker.send(worker.next_signal)
                worker.signal_at, worker.next_signal = now + STOP_TIMEOUT, signal.SIGKILL

    def _empty_slots(self) -> list[Slot]:
        return [slot for slot in self._slots if not (slot.serving if self._may_overlap else slot.workers)]

    def _replace(self, slot: Slot) -> None:
        if self._may_overlap:
            self._start(slot)  # `_on_ready` stops the old worker
        else:
            self._retire(slot.serving)  # when it has ended, `_start_due` fills the slot

    def _retire(self, workers: list[Worker]) -> None:
        for worker in workers:
            worker.send(DRAIN_SIGNAL)
            worker.signal_at = time.monotonic() + _DRAIN_TIME

    def _start(self, slot: Slot) -> None:
        receiver, sender = _fork.Pipe(duplex=False)
        process = _fork.Process(target=self._run, args=(slot, sender), name=f"worker-{slot.number}")
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # until the new process has its own handlers
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        sender.close()
        slot.workers.append(Worker(slot, process, receiver, time.monotonic()))

    def _run(self, slot: Slot, ready: Connection) -> None:
        """Call `work` in the new process, without the signal handlers and the other sockets of the main process."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        for other in self._slots:
            if other is not slot:
                other.listener.close()
        self._work(slot.listener, ready)

    def _wait(self, wakeup: int) -> None:
        """Wait for a signal, the end or readiness of a worker, or the next due action, and handle it."""
        workers = {worker.process.sentinel: worker for worker in self._workers()}
        starting = {worker.ready: worker for worker in workers.values() if not worker.is_ready}
        events = wait([wakeup, *workers, *starting], timeout=self._seconds_to_next())
        with contextlib.suppress(BlockingIOError):
            os.read(wakeup, 4096)
        if self._is_stopping:
            return
        for event in events:
            if event in starting:
                self._on_ready(starting[event])
        for event in events:
            if event in workers:
                self._on_end(workers[event])

    def _seconds_to_next(self) -> float | None:
        times = [worker.signal_at for worker in self._workers() if worker.signal_at is not None]
        times += [slot.start_at for slot in self._empty_slots()]
        return max(min(times) - time.monotonic(), 0) if times else None

    def _on_ready(self, worker: Worker) -> None:
        try:
            worker.ready.recv_bytes()
        except EOFError:
            return  # it died: `_on_end` handles that
        worker.is_ready = True
        worker.slot.failed_starts = 0
        logger.info("worker ready", extra={"event": "worker.ready", "process_id": worker.process.pid})
        self._retire([other for other in worker.slot.serving if other is not worker])

    def _on_end(self, worker: Worker) -> None:
        slot = worker.slot
        slot.workers.remove(worker)
        worker.ready.close()
        worker.process.join()
        if worker.signal_at is not None:
            return
        extra = {"event": "worker.died", "process_id": worker.process.pid, "exit_code": worker.process.exitcode}
        logger.error("worker died" if worker.is_ready else "worker failed to start", extra=extra)
        if slot.serving:
            if not worker.is_ready:
                self._to_replace.clear()  # the other replacements would fail too; the old workers stay
        elif worker.is_ready:
            slot.start_at = worker.started + _RESTART_INTERVAL
        else:
            self._start_later(slot)

    def _start_later(self, slot: Slot) -> None:
        slot.start_at = time.monotonic() + min(_FIRST_DELAY * 2**slot.failed_starts, _MAX_DELAY)
        slot.failed_starts += 1
        slot.listener.close()  # connections go to the other workers, until a worker is ready and listens
        slot.listener = self._bind()
        if all(slot.failed_starts >= _MAX_FAILED_STARTS for slot in self._slots):
            raise NoWorkerStarts

    def _stop(self) -> None:
        """Refuse new connections, let each worker finish its requests for at most `STOP_TIMEOUT`, then kill it."""
        for slot in self._slots:
            slot.listener.close()
        deadline = time.monotonic() + STOP_TIMEOUT
        for worker in self._workers():
            worker.send(signal.SIGTERM)
        for worker in self._workers():
            worker.process.join(max(deadline - time.monotonic(), 0))
            worker.send(signal.SIGKILL)
            worker.process.join()
