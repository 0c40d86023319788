"""Small files that tell others about a build: what may be written where, and how it appears."""

from __future__ import annotations

import os
from contextlib import suppress
from errno import EACCES, EBUSY, EPERM, EROFS
from pathlib import Path

from kaniko_core.errors import DiskError, disk_errors

# What renaming onto a file says that is mounted, or whose directory is not ours to change.
_NOT_TO_BE_REPLACED = frozenset({EACCES, EBUSY, EPERM, EROFS})


def check_directory(directory: Path, what: Path) -> None:
    """Make *directory*, and find out whether *what* can be written there.

    Raises:
        DiskError: it cannot.
    """
    with disk_errors(f"write {what} into", directory):
        directory.mkdir(parents=True, exist_ok=True)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise DiskError(
            f"cannot write {what}: {directory} is not writable",
            hint="change its permissions, or name another place",
        )
    if what.is_dir() and what != directory:
        raise DiskError(f"cannot write {what}: it is a directory", hint="name a file")


def check_text(path: Path) -> None:
    """Find out whether :func:`write_text` can write to *path*; raise DiskError if not."""
    # A writable file will do, as /dev/termination-log is: its directory need not be.
    if path.is_dir() or not os.access(path, os.W_OK):
        check_directory(path.absolute().parent, path)


def check_replaceable(path: Path) -> None:
    """Find out whether a file that appears whole may take the place of *path*.

    Raises:
        DiskError: it is a device, a pipe or the like, which nothing takes the place of.
    """
    if path.exists() and not path.is_file():
        raise DiskError(f"cannot write {path}: it is no regular file", hint="name a file")


def write_text(path: Path, text: str) -> None:
    """Write *text* to *path*, which appears whole where it is a file of its own.

    What cannot be replaced is written to: a device or pipe, a link such as /dev/stdout, and
    a file that is mounted there, as /dev/termination-log is in a pod.

    Raises:
        OSError: the disk refused.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        _write_through(path, text)
        return
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        if error.errno not in _NOT_TO_BE_REPLACED:
            raise
        path.write_text(text)


def _write_through(path: Path, text: str) -> None:
    if path.exists():
        status = path.stat()
        for stream in (1, 2):
            # Opened anew, the file that our output goes to would be emptied.
            with suppress(OSError):
                if os.path.samestat(os.fstat(stream), status):
                    _write_all(stream, text.encode())
                    return
    path.write_text(text)


def _write_all(stream: int, data: bytes) -> None:
    while data:
        data = data[os.write(stream, data) :]
