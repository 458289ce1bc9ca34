"""The lock that allows the in-memory cache in one process only."""

import fcntl
import hashlib
import os
import tempfile
from pathlib import Path
from typing import ClassVar

from sqlalchemy.engine import URL, make_url


class SingleProcess:
    """The lock of one process on the in-memory cache of a database.

    A second process would not see the writes of the first, and would accept sessions that were logged out there (R6).
    """

    _held: ClassVar[dict[Path, int]] = {}  # {lock file: process id}; a fork inherits this dict, but not the lock

    def __init__(self, database_url: str, folder: str) -> None:
        """Prepare the lock of a database. The path of a SQLite file is relative to `folder`."""
        self._path = _lock_path(make_url(database_url), folder)

    def is_ours(self) -> bool:
        """Return True if this process has the lock or takes it now. It keeps the lock until it ends."""
        if self._path is None or self._held.get(self._path) == os.getpid():
            return True
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:  # owned by another user, or without a folder, and then without a database
            return False
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a lock of the process: its other applications share it
        except OSError:
            os.close(file)
            return False
        self._held[self._path] = os.getpid()  # the file stays open and locked until the process ends
        return True

    def is_taken(self) -> bool:
        """Return True if another process has the lock. This process does not keep it."""
        if self._path is None or self._held.get(self._path) == os.getpid():
            return False
        try:
            file = os.open(self._path, os.O_RDWR)
        except OSError:  # no process has made the lock yet, or it cannot be read
            return False
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(file)
        return False


def _lock_path(url: URL, folder: str) -> Path | None:
    """Return the file to lock, or None for a database in memory, which no other process can open.

    The lock of a SQLite file is beside it, so every user, container and TMPDIR finds the same one. For another database
    the lock applies to this machine and user.
    """
    if url.get_backend_name() != "sqlite":
        digest = hashlib.sha256(url.render_as_string(hide_password=False).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"gatehouse-{os.getuid()}-{digest}.lock"
    file = sqlite_path(url, folder)
    return file and Path(f"{file.resolve()}.lock")


def sqlite_path(url: URL, folder: str) -> Path | None:
    """Return the file of a SQLite database, or None for one in memory. A relative path begins in `folder`."""
    name = (url.database or "").removeprefix("file:")
    if name in ("", ":memory:") or url.query.get("mode") == "memory":
        return None
    return Path(folder, name)
