"""What running builds use of a cache directory, so that pruning leaves it alone.

    <cache_dir>/.uses/
    ├── lock         shared while a build adds a name, exclusive while things are removed
    └── <random>     one build's: locked as long as it lives; a name on each line

A name is a path below the cache directory: ``sha256:…``, ``.layers/trusted/…``, ``.built/…``.
Where a build cannot write such a list, because the directory is read-only or full, it locks the
entry itself, which needs no more than that it can be read. That alone would not do: on a network
file system other machines do not see locks on directories.

The kernel drops all locks with the process, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EISDIR, ENOENT
from pathlib import Path
from types import TracebackType
from typing import Self

from kaniko_core.lean import dataclass
from kaniko_core.oci.atomic import make_directory

_DIRECTORY = ".uses"
_LOCK = "lock"
_FILE_MODE = 0o644
_PATIENCE = 10.0  # seconds to wait for a lock that others have for milliseconds
_POLL = 0.005  # seconds


class Uses:
    """What one build uses of *cache_dir*; safe to use from several threads.

    ::

        with Uses(cache_dir) as uses:
            uses.hold(".layers/trusted/…")
            if (cache_dir / ".layers/trusted/…").is_dir():
                …                           # it stays until the block ends

    Args:
        cache_dir: the cache directory; None where there is none.
    """

    def __init__(self, cache_dir: Path | None) -> None:
        self._cache_dir = cache_dir
        self._guard = threading.Lock()
        self._names: set[str] = set()
        self._list: _List | None = None
        self._locks: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def hold(self, name: str) -> None:
        """Keep what is called *name* from being pruned until the build ends; never raises.

        Look only then whether it is there: before, it might vanish while you look. It is kept
        from vanishing as well if it is put there later.
        """
        if self._cache_dir is None:
            return
        with self._guard:
            if name in self._names:
                return
            with suppress(OSError):
                try:
                    self._write(self._cache_dir, name)
                except OSError:
                    self._locks.append(_shared(self._cache_dir / name))
                self._names.add(name)

    def close(self) -> None:
        """Let everything go; a second call changes nothing."""
        with self._guard:
            if self._list is not None:
                with suppress(OSError):
                    self._list.path.unlink()
                os.close(self._list.fd)
            for lock in self._locks:
                os.close(lock)
            self._list, self._locks = None, []
            self._names.clear()

    def _write(self, cache_dir: Path, name: str) -> None:
        with _locked(cache_dir, fcntl.LOCK_SH):
            if self._list is None:
                self._list = _new_list(cache_dir / _DIRECTORY)
            # With a line's end before it, what a full disk took only half of spoils no more
            # than itself.
            line = f"\n{name}\n".encode()
            if os.write(self._list.fd, line) != len(line):
                raise OSError("the disk is full")


@contextmanager
def held_names(cache_dir: Path) -> Iterator[frozenset[str]]:
    """Yield the names that builds hold; until the block ends, no build can hold another.

    So the block is short: it moves things out of the way, and does not remove them.

    Raises:
        OSError: the directory cannot be written to, or its file system has no locks.
    """
    with _locked(cache_dir, fcntl.LOCK_EX):
        lists = (path for path in (cache_dir / _DIRECTORY).iterdir() if path.name != _LOCK)
        yield frozenset(name for path in lists for name in _names_of(path))


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Yield whether no build has locked the entry *path* itself; none can until the block ends.

    What is not there nobody has; of what cannot be opened, nobody can say.
    """
    try:
        fd = _open(path)
    except OSError as error:
        yield isinstance(error, FileNotFoundError)
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:
            pass  # no locks here, as on directories of some network file systems
        yield True
    finally:
        os.close(fd)


@contextmanager
def _locked(cache_dir: Path, kind: int) -> Iterator[None]:
    if not cache_dir.is_dir():
        raise FileNotFoundError(ENOENT, os.strerror(ENOENT))
    make_directory(cache_dir / _DIRECTORY)
    # Writable, because NFS grants exclusive locks on nothing less.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(cache_dir / _DIRECTORY / _LOCK, flags, _FILE_MODE)
    try:
        _let_read(fd)
        _wait_for(fd, kind)
        yield
    finally:
        os.close(fd)


def _wait_for(fd: int, kind: int) -> None:
    """Lock *fd*; raise TimeoutError where another has the lock for too long."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError("another process does not let go of its lock") from None
            time.sleep(_POLL)


@dataclass(frozen=True, slots=True)
class _List:
    path: Path
    fd: int


def _new_list(directory: Path) -> _List:
    path = directory / os.urandom(8).hex()
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    fd = os.open(path, flags, _FILE_MODE)
    try:
        _let_read(fd)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        path.unlink(missing_ok=True)
        raise
    return _List(path, fd)


def _names_of(path: Path) -> list[str]:
    """Return the names on a build's list, none where the build is gone; then remove it."""
    try:
        fd = _open(path)
    except FileNotFoundError:
        return []
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        with os.fdopen(os.dup(fd), encoding="utf-8", errors="replace") as stream:
            return [line for line in stream.read().splitlines() if line]
    else:
        with suppress(OSError):
            path.unlink()
        return []
    finally:
        os.close(fd)


def _let_read(fd: int) -> None:
    """Let every user read the file, whatever the umask; some file systems have no modes."""
    with suppress(OSError):
        os.fchmod(fd, _FILE_MODE)


def _shared(path: Path) -> int:
    """Return the entry *path*, opened and locked; raise OSError where that cannot be."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _wait_for(fd, fcntl.LOCK_SH)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open(path: Path) -> int:
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_RDWR)
    except OSError as error:
        kind = os.O_DIRECTORY if error.errno == EISDIR else 0
        return os.open(path, flags | os.O_RDONLY | kind)
