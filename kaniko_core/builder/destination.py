"""The layer that a COPY, ADD or WORKDIR makes: entries, collected over the tree so far.

Nothing is written to disk. A :class:`Destination` answers what is where as if it had been:
what was put so far hides what the tree below has.

Directories that are there already are no entries: an unpacker finds them in the layers below
and keeps their owner, mode and time. An entry of ours could only repeat what we saw of them,
and would undo the change of a later base image that the layer is stacked on.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from dataclasses import replace

from kaniko_core.errors import ContentError, KanikoError
from kaniko_core.lean import dataclass
from kaniko_core.oci.entry import WHITEOUT_PREFIX, Entry, Kind
from kaniko_core.rootfs.tree import Rootfs, kind_of

# As many as the kernel follows (path_resolution(7)), and then some: Docker's limit.
_MOST_LINKS = 255
DIRECTORY_MODE = 0o755


@dataclass(frozen=True, slots=True)
class Defaults:
    """What directories get that no source has: they are made on the way to a destination."""

    owner: tuple[int, int] = (0, 0)
    mode: int = DIRECTORY_MODE
    # None for the time of the directory that it is made in: were it the time of the build,
    # the same inputs would give another layer each day.
    mtime_ns: int | None = None

    def directory(self, name: bytes, parent_mtime_ns: int) -> Entry:
        """Return the entry of such a directory."""
        uid, gid = self.owner
        mtime_ns = parent_mtime_ns if self.mtime_ns is None else self.mtime_ns
        return Entry(name, Kind.DIRECTORY, self.mode, uid, gid, mtime_ns=mtime_ns)


class Destination:
    """Entries in the making, over a tree that is only read.

    Args:
        below: the tree so far; None where the layer must not depend on it (``--link``): then
            every directory of a destination is an entry, and no link of the tree is followed.
        defaults: what directories made on the way are like.
        top_mtime_ns: the time of the root directory.
    """

    def __init__(self, below: Rootfs | None, defaults: Defaults, *, top_mtime_ns: int = 0) -> None:
        self._below = below
        self._top_mtime_ns = top_mtime_ns
        self.defaults = defaults
        self._entries: dict[bytes, Entry] = {}
        # Directories of ours under whose names the tree below has none: what it has there, if
        # anything, is no part of them.
        self._new: set[bytes] = set()
        self._same_file: dict[bytes, object] = {}
        self._resolved: dict[tuple[bytes, bytes], bytes] = {}

    def resolve(self, path: str | bytes, *, top: bytes = b"") -> bytes:
        """Return where *path* leads, every symbolic link followed inside the root.

        What does not exist is kept as it is written.

        Args:
            path: as somebody wrote it.
            top: a resolved directory that *path* is below, and that counts as the root.

        Raises:
            ContentError: links lead in a circle.
        """
        raw = path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
        if (top, raw) not in self._resolved:
            self._resolved[top, raw] = self._walk(raw, top)
        return self._resolved[top, raw]

    def _walk(self, path: bytes, top: bytes) -> bytes:
        waiting = deque(path.split(b"/"))
        done = top.split(b"/") if top else []
        least = len(done)
        links = 0
        while waiting:
            part = waiting.popleft()
            if part in (b"", b"."):
                continue
            if part == b"..":
                del done[max(least, len(done) - 1) :]
                continue
            target = self._link(b"/".join([*done, part]))
            if target is None:
                done.append(part)
                continue
            links += 1
            if links > _MOST_LINKS:
                raise ContentError(f"/{printable(path)} is a symbolic link that leads in a circle")
            if target.startswith(b"/"):
                del done[least:]
            waiting.extendleft(reversed(target.split(b"/")))
        return b"/".join(done)

    def _link(self, name: bytes) -> bytes | None:
        entry = self._entries.get(name)
        if entry is not None:
            return entry.link if entry.kind is Kind.SYMLINK else None
        status = self._lstat(name)
        if self._below is None or status is None or not stat.S_ISLNK(status.st_mode):
            return None
        return self._below.readlink(name)

    def _lstat(self, name: bytes) -> os.stat_result | None:
        """Look at *name* in the tree below, unless something put since hides it."""
        if self._below is None or self._hidden(name):
            return None
        return self._below.lstat(name)

    def kind(self, name: bytes) -> Kind | None:
        """Return what is at the resolved *name*; None for nothing. Files are FILE, HARDLINK too."""
        if not name:
            return Kind.DIRECTORY
        entry = self._entries.get(name)
        if entry is not None:
            return Kind.FILE if entry.kind is Kind.HARDLINK else entry.kind
        status = self._lstat(name)
        return None if status is None else kind_of(status.st_mode)

    def _hidden(self, name: bytes) -> bool:
        if not self._entries:
            return False
        parent, slash, _ = name.rpartition(b"/")
        while slash:
            if parent in self._new:
                return True
            entry = self._entries.get(parent)
            if entry is not None and entry.kind is not Kind.DIRECTORY:
                return True
            parent, slash, _ = parent.rpartition(b"/")
        return parent in self._new

    def make_directories(self, name: bytes, defaults: Defaults | None = None) -> None:
        """Put the directory *name* and those above it, as far as they do not exist.

        Raises:
            KanikoError: something on the way is no directory.
        """
        missing = []
        while (kind := self.kind(name)) is not Kind.DIRECTORY:
            if kind is not None:
                raise KanikoError(
                    f"/{printable(name)} is {DESCRIPTIONS[kind]} in the image, not a directory",
                    hint="choose another destination, or remove it with an earlier RUN",
                )
            missing.append(name)
            name = name.rpartition(b"/")[0]
        for directory in reversed(missing):
            mtime_ns = self.mtime_ns(directory.rpartition(b"/")[0])
            self.put((defaults or self.defaults).directory(directory, mtime_ns))

    def mtime_ns(self, directory: bytes) -> int:
        """Return the time of the resolved *directory*; 0 where it is not known."""
        entry = self._entries.get(directory)
        if entry is not None:
            return entry.mtime_ns
        if not directory:
            # On disk it has the time of the last change of this build.
            return self._top_mtime_ns
        status = self._below.lstat(directory) if self._below is not None else None
        return 0 if status is None else status.st_mtime_ns

    def set_mode(self, name: bytes, mode: int) -> None:
        """Give the directory *name*, which exists, another mode, and leave the rest of it."""
        entry = self._entries.get(name)
        status = self._lstat(name) if entry is None else None
        if self._below is not None and status is not None:
            entry = self._below.entry(name, status)
        if entry is not None and entry.mode != mode:
            self.put(replace(entry, mode=mode))

    def put(self, entry: Entry, *, same_file: object = None) -> None:
        """Add *entry*, whose parents exist; what had its name is gone.

        Args:
            entry: its name resolved.
            same_file: equal for all entries that are hard links of one file.
        """
        name = entry.name
        if WHITEOUT_PREFIX in name and name.rpartition(b"/")[2].startswith(WHITEOUT_PREFIX):
            raise ContentError(
                f"/{printable(name)} cannot be stored in an image layer: names that begin with "
                ".wh. mean a deletion there",
                hint="leave the file out, for example with .dockerignore",
            )
        previous = self._entries.get(name)
        kind = entry.kind
        if kind is Kind.DIRECTORY:
            if name not in self._new and self.kind(name) is not Kind.DIRECTORY:
                self._new.add(name)
        elif previous is not None and previous.kind is Kind.DIRECTORY:
            self._forget_below(name)
        if kind is Kind.SYMLINK or (previous is not None and previous.kind is Kind.SYMLINK):
            self._resolved.clear()
        if same_file is not None:
            self._same_file[name] = same_file
        elif self._same_file:
            self._same_file.pop(name, None)
        self._entries[name] = entry

    def _forget_below(self, name: bytes) -> None:
        prefix = name + b"/"
        self._new = {item for item in self._new if item != name and not item.startswith(prefix)}
        self._entries = {k: v for k, v in self._entries.items() if not k.startswith(prefix)}

    def entry(self, name: bytes) -> Entry | None:
        """Return the entry that was put at the resolved *name*."""
        return self._entries.get(name)

    def file_key(self, name: bytes) -> object:
        """Return what all hard links of the entry at *name* share; new where it has none."""
        return self._same_file.setdefault(name, object())

    def entries(self) -> list[Entry]:
        """Return the layer: sorted by name, parents first, each name once.

        Of files that are one file, the first has the content and the others are hard links.
        """
        first: dict[object, bytes] = {}
        result = []
        for name in sorted(self._entries):
            entry = self._entries[name]
            key = self._same_file.get(name)
            if key is not None and first.setdefault(key, name) != name:
                entry = replace(
                    entry, kind=Kind.HARDLINK, link=first[key], size=0, xattrs={}, content=None
                )
            result.append(entry)
        return result


DESCRIPTIONS = {
    Kind.FILE: "a file",
    Kind.HARDLINK: "a file",
    Kind.SYMLINK: "a symbolic link",
    Kind.DIRECTORY: "a directory",
    Kind.CHARACTER: "a device",
    Kind.BLOCK: "a device",
    Kind.FIFO: "a FIFO",
}


def printable(name: bytes) -> str:
    """Return a path as text for a message."""
    return name.decode("utf-8", "backslashreplace")
