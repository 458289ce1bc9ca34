"""The lock by which a single process owns the in-memory cache."""

import fcntl
import hashlib
import os
import tempfile
from pathlib import Path
from typing import ClassVar

from sqlalchemy.engine import URL, make_url


class SingleProcess:
    """The right to keep a cache in memory: one process has it, for one database.

    A second process would not hear of what the first one writes, and would go on to accept what was logged out there.
    """

    _held: ClassVar[dict[Path, int]] = {}  # {lock: the process that took it}; a fork inherits this, and not the lock

    def __init__(self, database_url: str, folder: str) -> None:
        """`folder` is what the path of a SQLite file is relative to."""
        self._path = _lock_path(make_url(database_url), folder)

    def is_ours(self) -> bool:
        """Whether this process has the right, or takes it now; it keeps it until it ends."""
        if self._path is None or self._held.get(self._path) == os.getpid():
            return True
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:  # another user's, or in a folder that is not there: nor is the database then
            return False
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # by process: its other applications may have it too
        except OSError:
            os.close(file)
            return False
        self._held[self._path] = os.getpid()  # the file stays open, and locked, for as long as the process lives
        return True


def _lock_path(url: URL, folder: str) -> Path | None:
    """Return the file to lock, None for a database in memory, which no other process has.

    Beside a SQLite file everybody finds it who has that, whatever their user, container or TMPDIR. Of another database
    it is this machine's, and this user's.
    """
    if url.get_backend_name() != "sqlite":
        digest = hashlib.sha256(url.render_as_string(hide_password=False).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"gatehouse-{os.getuid()}-{digest}.lock"
    name = (url.database or "").removeprefix("file:")
    if name in ("", ":memory:") or url.query.get("mode") == "memory":
        return None
    return Path(f"{Path(folder, name).resolve()}.lock")
