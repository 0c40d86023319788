"""Caches of RUN: directories that outlive the command, and often the build.

    <directory>/                        <cache-dir>/.mounts, or below the build's workspace
    └── <hash of what the cache is>/
        ├── lock                        held while one of the following is chosen or made
        ├── 0/  0.lock                  the cache; its lock is held as long as it is used
        └── 1/  1.lock                  another, from when 0 was in use and could not be shared

The time of last use of a cache is the modification time of ``lock``.

Locks are flock(2)'s, because filelock's cannot be shared: the kernel drops them with the process,
however it ends. What a killed command left in its cache stays there, as on any disk.

Source: the Dockerfile reference, "RUN --mount=type=cache"; which directory is chosen,
BuildKit's solver/llbsolver/mounts.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from kaniko_core.dockerfile.mounts import Sharing
from kaniko_core.errors import KanikoError, disk_errors, reason_of
from kaniko_core.lean import dataclass
from kaniko_core.progress import Noted, Progress

_CLOSED = 0o700
_POLL = 0.1  # seconds between two looks at a lock
_SPOKEN = 3  # looks after which it is said that we wait


@dataclass(frozen=True, slots=True)
class Wanted:
    """A cache that a command asks for.

    Attributes:
        name: its id, for people.
        key: what tells it from others beside its id: a change of any part gives a new cache.
        fill: puts its first content into a new directory.
        mode, owner: of the directory, when it is made.
    """

    name: str
    key: tuple[str, ...] = ()
    sharing: Sharing = Sharing.SHARED
    mode: int = 0o755
    owner: tuple[int, int] = (0, 0)
    fill: Callable[[Path], None] = lambda _: None

    @property
    def directory_name(self) -> str:
        """The name of the directory that all who ask for the same cache use."""
        hashed = hashlib.sha256()
        for part in (self.name, f"{self.mode:o}", *map(str, self.owner), *self.key):
            # With its length before it, no part can pass for two.
            data = part.encode("utf-8", "surrogateescape")
            hashed.update(len(data).to_bytes(8, "big") + data)
        return hashed.hexdigest()


class Caches:
    """The caches of one build; safe to use from several threads.

    Args:
        shared: the directory that other builds share; None where there is none.
        own: names a directory that lasts as long as the build.
        cancelled: asked while waiting for a cache; True ends the wait.
        mode: of the directories that caches are in.
        hold: keeps what is at a path below *shared* from being pruned, from now on.
    """

    def __init__(
        self,
        shared: Path | None,
        own: Callable[[], Path],
        progress: Progress,
        cancelled: Callable[[], bool],
        *,
        mode: int = _CLOSED,
        hold: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._mode = mode
        self._hold = hold
        self._shared = shared
        self._own = own
        self._progress = progress
        self._cancelled = cancelled
        self._guard = threading.Lock()
        self._directory: Path | None = None

    @contextmanager
    def lent(self, wanted: Sequence[Wanted]) -> Iterator[Mapping[str, Path]]:
        """Yield the directories of the caches, by ``directory_name``, for use in the block.

        Raises:
            DiskError: one cannot be made.
            KanikoError: the build was given up while this waited.
        """
        with ExitStack() as stack:
            # Everyone asks in the same order, so that no two can wait for each other; and who
            # asks for one cache twice gets one.
            names = {item.directory_name: item for item in reversed(wanted)}
            yield {name: self._lend(names[name], stack) for name in sorted(names)}

    def _lend(self, wanted: Wanted, stack: ExitStack) -> Path:
        place = self._place() / wanted.directory_name
        with disk_errors("keep caches of RUN in", place.parent):
            if place.is_symlink():
                place.unlink()  # what it leads to is no cache of ours
            self._make(place)
            # A cache that is only being looked at is free at the second try.
            for tries in itertools.count(1):
                found = self._try(wanted, place, stack)
                if found is not None:
                    return found
                if tries == _SPOKEN:
                    self._progress(
                        Noted(f"the cache {wanted.name} is used by another command; waiting for it")
                    )
                self._pause(wanted)
            raise AssertionError

    def _make(self, place: Path) -> None:
        _directory(place, self._mode)
        if self._shared is not None and place.is_relative_to(self._shared):
            self._hold(str(place.relative_to(self._shared)))
            # Once more: it may have been pruned just before it was held; now it stays.
            _directory(place, self._mode)

    def _try(self, wanted: Wanted, place: Path, stack: ExitStack) -> Path | None:
        """Take one of the directories of the cache; None where all are in use and it must wait."""
        mutex = _open_lock(place / "lock")
        try:
            if not _locked(mutex, fcntl.LOCK_EX):
                return None
            os.utime(mutex)
            # By their locks: a directory that somebody removed may be in use nevertheless.
            numbers = sorted(int(p.stem) for p in place.glob("*.lock") if p.stem.isdigit())
            kind = fcntl.LOCK_SH if wanted.sharing is Sharing.SHARED else fcntl.LOCK_EX
            for number in numbers:
                lock = _open_lock(place / f"{number}.lock")
                if _locked(lock, kind):
                    stack.callback(os.close, lock)
                    return self._made(wanted, place / str(number))
                os.close(lock)
            if numbers and wanted.sharing is Sharing.LOCKED:
                return None
            number = next(n for n in range(len(numbers) + 1) if n not in numbers)
            lock = _open_lock(place / f"{number}.lock")
            stack.callback(os.close, lock)
            fcntl.flock(lock, kind)
            return self._made(wanted, place / str(number))
        finally:
            os.close(mutex)

    def _made(self, wanted: Wanted, path: Path) -> Path:
        """Return the directory *path*, made and filled if it is not there."""
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            temporary = path.with_suffix(".tmp")
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            wanted.fill(temporary)
            os.chown(temporary, *wanted.owner)
            temporary.chmod(wanted.mode)
            temporary.rename(path)
        return path

    def _pause(self, wanted: Wanted) -> None:
        if self._cancelled():
            raise KanikoError(f"the build was given up while it waited for the cache {wanted.name}")
        time.sleep(_POLL)

    def _place(self) -> Path:
        with self._guard:
            if self._directory is None:
                self._directory = self._chosen()
            return self._directory

    def _chosen(self) -> Path:
        reason = "there is no cache directory"
        hint = "name one with --cache and --cache-dir to keep them"
        if self._shared is not None:
            directory = self._shared / ".mounts"
            try:
                _directory(directory, self._mode)
                _try_locks(directory)
                return directory
            except OSError as error:
                reason = f"{directory} cannot be used: {reason_of(error)}"
                hint = "name another directory with --cache-dir to keep them"
        self._progress(Noted(f"caches of RUN are kept for this build only, as {reason}; {hint}"))
        directory = self._own()
        with disk_errors("keep caches of RUN in", directory):
            _directory(directory, self._mode)
        return directory


def _directory(path: Path, mode: int) -> None:
    """Make a directory, or open the one that is there to whom *mode* lets pass."""
    with suppress(FileExistsError):
        path.mkdir(mode=_CLOSED, parents=True)
    wanted = stat.S_IMODE(path.stat().st_mode) | mode
    if wanted != stat.S_IMODE(path.stat().st_mode):
        path.chmod(wanted)


def _try_locks(directory: Path) -> None:
    """Find out whether files can be made and locked in *directory*; raise OSError if not."""
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _open_lock(path: Path) -> int:
    # Writable, because NFS grants exclusive locks on nothing less.
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _locked(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
