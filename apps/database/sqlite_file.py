"""Check at the start whether SQLite can use a file, without creating or changing anything."""

import os
from pathlib import Path

_HEADER = b"SQLite format 3\x00"


def problem_of(file: Path, *others: Path) -> str | None:
    """Return why the service cannot use this file as its database, or None if it can. The file need not exist.

    `others` are further files that the service writes.
    """
    beside = [Path(f"{file}{end}") for end in ("-wal", "-shm", ".lock")]
    try:
        str(file).encode()
        return _folder_problem(file.parent) or _files_problem([*beside, *others]) or _database_problem(file)
    except UnicodeEncodeError:
        return "the name of the folder is not UTF-8"
    except (OSError, ValueError) as error:
        return f"{file} cannot be opened: {getattr(error, 'strerror', None) or 'invalid path'}"


def _folder_problem(folder: Path) -> str | None:
    if not folder.is_dir():
        return f"the folder {folder} does not exist"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"the folder {folder} is not writable for this user; SQLite creates files beside the database"
    return None


def _files_problem(files: list[Path]) -> str | None:
    for file in filter(Path.exists, files):
        if not file.is_file():
            return f"{file} is not a file"
        if not os.access(file, os.W_OK):
            return f"{file} is not writable for this user"
    return None


def _database_problem(file: Path) -> str | None:
    if not file.exists():
        return None
    if not file.is_file():
        return f"{file} is not a file"
    if not os.access(file, os.R_OK | os.W_OK):
        return f"{file} is not readable and writable for this user"
    with file.open("rb") as content:
        start = content.read(len(_HEADER))
    return None if start in (b"", _HEADER) else f"{file} is not a SQLite database"
