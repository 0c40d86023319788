"""Read an overlay's upper directory as a changeset.

    in the upper directory                          in the changeset
      a character device 0/0                          WHITEOUT, if there is something to remove
      a directory with …overlay.opaque = y            DIRECTORY, then OPAQUE, if there is
                                                      something to hide
      a file that is a true copy of the one below     nothing
      a directory that is only the way to others      DIRECTORY, if one of the others is told
      everything else                                 itself

The kernel copies a file up when it is opened for writing, or given the owner that it has; a
changeset without such copies is smaller, and the same however the command went about it.

Source: Linux, Documentation/filesystems/overlayfs.rst; OCI image-spec v1.1, layer.md.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import field
from pathlib import Path

from kaniko_core.errors import disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.rootfs.changeset import hard_link, is_directory, is_same_directory
from kaniko_core.rootfs.tree import Rootfs, file_entry

_OPAQUE = (b"trusted.overlay.opaque", b"user.overlay.opaque")
_CHUNK = 1 << 20  # bytes


def upper_entries(upper: Path, below: Rootfs) -> Iterator[Entry]:
    """Yield what an overlay's *upper* directory changes, parents first, sorted by name.

    There is no entry for the root itself. Hard links inside *upper* come as such, linked to
    the first name; sockets are left out, as they mean nothing in an image.

    Args:
        upper: the directory; nothing may change in it meanwhile.
        below: the merged view of the lower directories alone.

    Raises:
        DiskError: *upper* cannot be read.
    """
    with disk_errors("read what a command changed in", upper):
        yield from _Walk(below).entries(os.fsencode(upper))


@dataclass(slots=True)
class _Level:
    """A directory that is being walked.

    Attributes:
        untold: the directory's own entry, until something below it is told.
        below: the names in the same directory of the lower view.
        rest: what is still to come in it, last name first.
    """

    untold: list[Entry]
    below: frozenset[bytes]
    rest: list[os.DirEntry[bytes]]


@dataclass(slots=True)
class _Walk:
    """One walk.

    Attributes:
        links: the first names of files that have several.
        waiting: whether there is a directory on the way that is untold.
    """

    below: Rootfs
    links: dict[tuple[int, int], bytes] = field(default_factory=dict)
    waiting: bool = False

    def entries(self, upper: bytes) -> Iterator[Entry]:
        """Yield the entries of the directory *upper*."""
        prefix = len(upper) + 1
        # Levels are kept in a list, because a tree may be deeper than Python recurses.
        levels = [_Level([], frozenset(self.below.listdir(b"")), _sorted_backwards(upper))]
        while levels:
            level = levels[-1]
            below, rest = level.below, level.rest
            while rest:
                found = rest.pop()
                name = found.path[prefix:]
                known = found.name in below
                if enters := found.is_dir(follow_symlinks=False):
                    told = self._enter(found, name, levels, known=known)
                else:
                    told = self._told(found, name, known=known)
                if told and self.waiting:
                    for above in levels:
                        yield from above.untold
                        above.untold.clear()
                    self.waiting = False
                yield from told
                if enters:
                    break
            else:
                levels.pop()

    def _enter(
        self, found: os.DirEntry[bytes], name: bytes, levels: list[_Level], *, known: bool
    ) -> Sequence[Entry]:
        """Put a directory on top of *levels*; return its entries if it is news by itself."""
        entry = file_entry(name, found.stat(follow_symlinks=False), found.path)
        assert entry is not None
        opaque = _opaque(found.path)
        old = self._lower_directory(name) if known else None
        names = frozenset(self.below.listdir(name)) if old is not None else frozenset()
        hides = opaque and bool(names)
        news = hides or old is None or not is_same_directory(entry, old, self.below)
        deeper = _Level([entry], frozenset() if opaque else names, _sorted_backwards(found.path))
        levels.append(deeper)
        if not news:
            self.waiting = True
            return ()
        deeper.untold.clear()
        return (entry, Entry(name, Kind.OPAQUE)) if hides else (entry,)

    def _told(self, found: os.DirEntry[bytes], name: bytes, *, known: bool) -> Sequence[Entry]:
        """Return the entry of anything but a directory, if it has one."""
        status = found.stat(follow_symlinks=False)
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            return (Entry(name, Kind.WHITEOUT),) if known else ()
        entry = file_entry(name, status, found.path)
        if entry is None:  # a socket, which also removes what it stands on
            return (Entry(name, Kind.WHITEOUT),) if known else ()
        if status.st_nlink > 1:
            first = self.links.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                return (hard_link(entry, first),)
        elif known and self._same(entry, status):
            return ()
        return (entry,)

    def _lower_directory(self, name: bytes) -> os.stat_result | None:
        status = self.below.lstat(name)
        return status if is_directory(status) else None

    def _same(self, entry: Entry, new: os.stat_result) -> bool:
        """Return whether *entry* is what the lower view has under its name, byte for byte."""
        old = self.below.lstat(entry.name)
        if old is None or _what(old) != _what(new) or entry.xattrs != self.below.xattrs(entry.name):
            return False
        if entry.kind is Kind.SYMLINK:
            return entry.link == self.below.readlink(entry.name)
        return entry.content is None or self._same_content(entry)

    def _same_content(self, entry: Entry) -> bool:
        assert isinstance(entry.content, bytes)
        with Path(os.fsdecode(entry.content)).open("rb") as new, self.below.open(entry.name) as old:
            while chunk := new.read(_CHUNK):
                if chunk != old.read(len(chunk)):
                    return False
        return True


def _sorted_backwards(directory: bytes) -> list[os.DirEntry[bytes]]:
    with os.scandir(directory) as found:
        return sorted(found, key=lambda entry: entry.name, reverse=True)


def _what(status: os.stat_result) -> tuple[int, ...]:
    """Return everything of a file's status that a layer keeps."""
    return (
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns,
        status.st_size,
        status.st_rdev,
    )


def _opaque(path: bytes) -> bool:
    for key in _OPAQUE:
        with suppress(OSError):
            return os.getxattr(path, key, follow_symlinks=False) == b"y"
    return False
