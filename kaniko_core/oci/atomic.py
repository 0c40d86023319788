"""Files that appear whole or not at all, and the sweeping of what killed writers left.

A file is written under a temporary name beside its final one and renamed when it is complete.
Its writer holds flock(2) on it all the while. The kernel drops that lock with the process,
however it ends, and so :func:`sweep` can tell a live writer's file from a dead one's.

    .tmp-<boot>-<random>    <boot> tells which kernel the writer runs on

On a network file system flock may not reach other machines; files that were written under
another kernel are therefore left alone until nothing has touched them for an hour.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from errno import EEXIST, EISDIR, ENOTEMPTY
from pathlib import Path
from typing import BinaryIO

_PREFIX = ".tmp-"
_FILE_MODE = 0o644
_DIRECTORY_MODE = 0o755
# Seconds without a write after which another machine's temporary file counts as left behind.
_FOREIGN_QUIET = 3600.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Yield a new file that takes the place of *path* when the block ends without an error.

    The file is readable by everyone (0644), whatever the umask. Where the block raises, nothing
    is left behind and *path* is as it was. Who has the old file open keeps reading it.

    Args:
        path: where to; its directory exists.
        durable: wait until the bytes are on the disk before the new name shows.

    Raises:
        OSError: the disk refused; it names no path of the caller's, see ``disk_errors``.
    """
    temporary, stream = _create(path.parent)
    with stream:
        try:
            yield stream
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
            temporary.rename(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Yield a new directory that is called *path* when the block ends without an error.

    Where another of that name has appeared meanwhile, that one stays, and ours is removed.

    Args:
        path: where to; its parent exists.

    Raises:
        OSError: the disk refused.
    """
    temporary, descriptor = _create_directory(path.parent)
    try:
        # Inside of what is locked, so that the caller may lock its own.
        directory = temporary / "new"
        make_directory(directory)
        yield directory
        try:
            directory.rename(path)
        except OSError as error:
            if error.errno not in (EEXIST, ENOTEMPTY):
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Create *path* and its parents where they are missing, open to all readers (0755)."""
    if path.is_dir():
        return
    make_directory(path.parent)
    with suppress(FileExistsError):
        path.mkdir()
        path.chmod(_DIRECTORY_MODE)


def discard_directory(path: Path) -> None:
    """Remove the directory *path* at once as others see it: aside first, then its content."""
    aside = path.parent / _temporary_name()
    path.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def sweep(directory: Path, *, now: Callable[[], float] = time.time) -> int:
    """Remove the temporary files in *directory* whose writers are gone; return how many.

    Never raises for what it cannot see or remove: the next sweep may.
    """
    try:
        names = [name for name in os.listdir(directory) if name.startswith(_PREFIX)]
    except OSError:
        return 0
    return sum(_remove_if_dead(directory / name, now()) for name in names)


def _temporary_name() -> str:
    return f"{_PREFIX}{_boot()}-{os.urandom(8).hex()}"


def _boot() -> str:
    try:
        return _BOOT_ID.read_text()[:8]
    except OSError:
        return "unknown"


def _create(directory: Path) -> tuple[Path, BinaryIO]:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        path = directory / _temporary_name()
        stream = os.fdopen(os.open(path, flags, _FILE_MODE), "w+b")
        try:
            # Some file systems have no modes; they decide by themselves who may read.
            with suppress(OSError):
                os.fchmod(stream.fileno(), _FILE_MODE)
            # Some have no flock; then no sweep can take the lock either, and leaves the file.
            with suppress(OSError):
                fcntl.flock(stream, fcntl.LOCK_EX)
            # A sweep that came between creation and lock took the file for a dead one.
            if os.fstat(stream.fileno()).st_nlink:
                return path, stream
        except BaseException:
            stream.close()
            path.unlink(missing_ok=True)
            raise
        stream.close()


def _create_directory(parent: Path) -> tuple[Path, int]:
    """Make a temporary directory; return it with the descriptor that holds its lock."""
    while True:
        path = parent / _temporary_name()
        path.mkdir()
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # a sweep took it for a dead one's
        try:
            # Some file systems have no flock; then no sweep can take the lock either.
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if path.exists():
                return path, descriptor
        except BaseException:
            os.close(descriptor)
            shutil.rmtree(path, ignore_errors=True)
            raise
        os.close(descriptor)


def _remove_if_dead(path: Path, now: float) -> bool:
    try:
        descriptor = _open(path)
    except OSError:
        return False
    try:
        own = path.name.startswith(f"{_PREFIX}{_boot()}-")
        if not own and now - os.fstat(descriptor).st_mtime < _FOREIGN_QUIET:
            return False
        # Held until the name is gone: a writer that was about to lock sees that it lost.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _open(path: Path) -> int:
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        # Writable, because NFS grants exclusive locks on nothing less.
        return os.open(path, flags | os.O_RDWR)
    except OSError as error:
        if error.errno != EISDIR:
            raise
        return os.open(path, flags | os.O_DIRECTORY)
