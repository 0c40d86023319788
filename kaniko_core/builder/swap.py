"""RUN ``--mount`` where nothing can be mounted: put there for the command, and taken away again.

    /root/.cache/pip            ──renamed──▶  <aside>/0        what the image has there
    a copy, or a link           ──made──▶     /root/.cache/pip

What is put there, ``standins.py`` knows. At the end each place has what it had, unless the
command removed the directory that it was in.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from errno import EBUSY, EEXIST, ENOENT, ENOTDIR, ENOTEMPTY, EXDEV
from functools import partial
from pathlib import Path

from kaniko_core.builder.standins import StandIn, is_lent, stand_in
from kaniko_core.errors import KanikoError, SandboxError, disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.rootfs.ignore import IgnoreRules
from kaniko_core.rootfs.moving import move_contents, remove
from kaniko_core.rootfs.tree import Rootfs
from kaniko_core.sandbox.runner import FileMount, Mount

_HIDDEN = ".kaniko-aside-"
_PARENT_MODE = 0o755
_NO_RULES = IgnoreRules()
_MERGED = frozenset({ENOTEMPTY, EEXIST})
# What keeps a directory: it is not empty, or gone, or no directory any more.
_STAYS = frozenset({ENOTEMPTY, EEXIST, ENOENT, ENOTDIR, EBUSY})


@contextmanager
def swapped_in(
    root: Path, mounts: Sequence[Mount], aside: Path, rules: IgnoreRules
) -> Iterator[Collection[bytes]]:
    """Let commands in *root* find *mounts* as long as the block lasts.

    Yields the names, relative to *root*, of what is there before and afterwards, the same but
    for its ctime.

    Args:
        root: where the targets of the mounts are resolved.
        mounts: without those that refer to roots of a sandbox.
        aside: a directory for what is in the way, best on the file system of *root*.
        rules: what must stay where it is.

    Raises:
        KanikoError: a target is, or holds, what must stay where it is.
        SandboxError: a target is a file and the mount a directory, or the reverse.
        DiskError: something cannot be copied, moved or made.
    """
    with ExitStack() as stack, Rootfs(root) as tree:
        swap = _Swap(root, tree, aside, rules)
        stack.callback(swap.close)
        # What is put at /a must be there before something is put at /a/b.
        for mount in sorted(mounts, key=lambda mount: mount.target.count("/")):
            swap.place(mount, stack)
        swap.look()
        try:
            yield swap.disturbed
        finally:
            swap.look_again()


@dataclass(slots=True)
class _Directory:
    """A directory whose contents are changed: open, with its status at three times.

    Attributes:
        before: anything was done to it.
        placed: everything was put there, before the command.
        after: the command.
    """

    fd: int
    before: os.stat_result
    placed: os.stat_result | None = None
    after: os.stat_result | None = None

    def remove(self, path: bytes) -> None:
        """Remove it from *path*, if it is there, empty, and as it was made."""
        now = os.fstat(self.fd)
        if _rights(now) != _rights(self.before):
            return  # the command has made it its own
        try:
            if os.path.samestat(now, os.lstat(path)):
                os.rmdir(path)  # noqa: PTH106 - no Path has bytes
        except OSError as error:
            if error.errno not in _STAYS:
                raise

    def close(self) -> None:
        """Give it the times that it would have without us."""
        times = self.before
        if self.placed and self.after and self.after.st_mtime_ns != self.placed.st_mtime_ns:
            times = self.after  # the command changed it
        try:
            os.utime(self.fd, ns=(times.st_atime_ns, times.st_mtime_ns))
        finally:
            os.close(self.fd)


class _Swap:
    """The places of one command's mounts."""

    def __init__(self, root: Path, tree: Rootfs, aside: Path, rules: IgnoreRules) -> None:
        self._root = os.fsencode(root.absolute()).rstrip(b"/")
        self._tree = tree
        self._aside = aside
        self._rules = rules
        self._directories: dict[bytes, _Directory] = {}
        self._lent: list[bytes] = []
        self._count = 0
        self.disturbed: set[bytes] = set()

    def place(self, mount: Mount, stack: ExitStack) -> None:
        """Put *mount* where it belongs; *stack* undoes that."""
        name, rules = self._tree.resolve(mount.target), self._rules
        self._check(name, mount.target)
        self._count += 1
        with disk_errors("put a mount at", mount.target):
            stand = stand_in(mount)
            if isinstance(mount, FileMount) and rules.covers(name):
                stand = replace(stand, make=partial(self._elsewhere, stand.make))
            parent = self._parent(name, stack)
            place = _Place(parent.fd, name.rpartition(b"/")[2], self._aside / str(self._count))
            status = place.status()
            if status is not None:
                _refuse_other_kind(mount.target, status, stand)
                self.disturbed.add(name)
            stack.callback(place.undo, mount.target)
            if status is not None and (moved := place.park()) is not None:
                self.disturbed.update(_names_below(moved, name))
            place.put(stand.make)
            if is_lent(mount):
                self._lent.append(self._tree.resolve(mount.target))

    def _elsewhere(self, make: Callable[[bytes], None], path: bytes) -> None:
        """Have *make* make a file of ours, and link to it from a mount of the container.

        In /dev nothing can be executed, and a secret must not stay in a volume if we are killed.
        """
        file = os.fsencode(self._aside / f"{self._count}-file")
        make(file)
        os.symlink(file, path)  # noqa: PTH211 - no Path has bytes

    def look(self) -> None:
        """Remember the directories as the command will find them."""
        for directory in self._directories.values():
            directory.placed = os.fstat(directory.fd)

    def look_again(self) -> None:
        """Remember the directories as the command left them."""
        for directory in self._directories.values():
            directory.after = os.fstat(directory.fd)

    def close(self) -> None:
        """Give all directories the times that they would have without us."""
        with ExitStack() as stack, disk_errors("set the times of directories in", self._aside):
            for directory in self._directories.values():
                stack.callback(directory.close)

    def _check(self, name: bytes, target: str) -> None:
        """Refuse to replace what must stay, and what holds something that must."""
        if any(name.startswith(lent + b"/") for lent in self._lent):
            return
        rules = self._rules
        if rules.covers(name):
            if not os.path.lexists(self._path(name)):
                return  # a program of a here-document, in /dev: nothing has to go for it
            stays = next(path for path in _upwards(name) if path in rules.covered)
        elif rules.shelters(name):
            stays = min(path for path in rules.covered if path.startswith(name + b"/"))
        elif not name:
            raise KanikoError(f"nothing can be mounted at {target}: it is the root directory")
        else:
            return
        raise KanikoError(
            f"nothing can be mounted at {target} in place: /{os.fsdecode(stays)} is a mount of "
            "this container, or is kept by an option, and stays as it is",
            hint="give the mount of RUN another target, or the container its volume elsewhere",
        )

    def _parent(self, name: bytes, stack: ExitStack) -> _Directory:
        """Open the directory that *name* is in; made with those above it if need be."""
        parent = _above(name)
        missing = []
        while parent and not os.path.lexists(self._path(parent)):
            missing.append(parent)
            parent = _above(parent)
        self._opened(parent)
        for directory in reversed(missing):
            path = self._path(directory)
            os.mkdir(path)  # noqa: PTH102 - no Path has bytes
            os.chmod(path, _PARENT_MODE)  # noqa: PTH101 - whatever the umask is
            stack.callback(self._opened(directory).remove, path)
        return self._opened(missing[0] if missing else parent)

    def _opened(self, name: bytes) -> _Directory:
        if name not in self._directories:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(self._path(name), flags)
            self._directories[name] = _Directory(fd, os.fstat(fd))
            self.disturbed.add(name)
        return self._directories[name]

    def _path(self, name: bytes) -> bytes:
        return self._root + b"/" + name


@dataclass(slots=True)
class _Place:
    """One name in an open directory; *parked* is where what is there goes, if it can."""

    directory: int
    name: bytes
    parked: Path
    occupied: bool = False
    filled: bool = False

    def status(self) -> os.stat_result | None:
        """Return the status of what is there; None for nothing."""
        try:
            return self._path.lstat()
        except FileNotFoundError:
            return None

    def park(self) -> Path | None:
        """Move what is there out of the way.

        Return the directory where its contents are now, if they had to be moved one by one.
        """
        self.occupied = True
        if _renamed(self._path, self.parked) or _renamed(self._path, self._hidden):
            return None
        # A directory of an overlay's lower layers: what is in it can be renamed.
        self._hidden.mkdir()
        move_contents(self._path, self._hidden, _NO_RULES)
        self._path.rmdir()
        return self._hidden

    def put(self, make: Callable[[bytes], None]) -> None:
        """Have *make* make something there."""
        self.filled = True
        make(os.fsencode(self._path))

    def undo(self, target: str) -> None:
        """Bring back what was there, in the place of whatever is there now."""
        with disk_errors("take a mount away from", target):
            if self.filled:
                remove(self._path)
            if not self.occupied:
                return
            for parked in (self.parked, self._hidden):
                if os.path.lexists(parked):
                    self._bring_back(parked)

    def _bring_back(self, parked: Path) -> None:
        try:
            parked.rename(self._path)
        except FileNotFoundError:
            # The command removed the directory, and with it what was there.
            remove(parked)
        except OSError as error:
            if error.errno not in _MERGED:
                raise
            # It was being moved one by one when something ended that.
            move_contents(parked, self._path, _NO_RULES)
            parked.rmdir()

    @property
    def _path(self) -> Path:
        return self._beside(os.fsdecode(self.name))

    @property
    def _hidden(self) -> Path:
        return self._beside(_HIDDEN + self.parked.name)

    def _beside(self, name: str) -> Path:
        return Path(f"/proc/self/fd/{self.directory}") / name


def _renamed(source: Path, target: Path) -> bool:
    """Rename *source*; return whether it could be: not to another file system."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != EXDEV:
            raise
        return False
    return True


def _refuse_other_kind(target: str, status: os.stat_result, stand: StandIn) -> None:
    if stat.S_ISDIR(status.st_mode) != stand.is_directory:
        kinds = ("a directory", "a file")
        there, wanted = kinds if stand.is_directory is False else reversed(kinds)
        raise SandboxError(f"{wanted} cannot be mounted at {target}: the image has {there} there")


def _names_below(directory: Path, name: bytes) -> Iterator[bytes]:
    """Yield everything below *directory* as if that were *name*."""
    with Rootfs(directory) as tree:
        for path, _ in tree.walk():
            yield name + b"/" + path


def _upwards(name: bytes) -> Iterator[bytes]:
    yield name
    while name:
        name = _above(name)
        yield name


def _above(name: bytes) -> bytes:
    return name.rpartition(b"/")[0]


def _rights(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mode, status.st_uid, status.st_gid
