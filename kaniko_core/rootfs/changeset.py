"""What a walk over a root found changed, made into the entries of a layer.

told of                               in the changeset
  a file, directory, link, device       itself; further names of it are hard links
  something that is gone                WHITEOUT
  the directories on the way            DIRECTORY, as they are now
  things in an *alias*                  the same, under the other name
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TypeGuard

from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.rootfs.tree import Rootfs, file_entry

# Where something is in the tree, and its status; None for what is gone.
_Place = tuple[bytes, os.stat_result | None]


class Changeset:
    """Collects news of a root in any order.

    Args:
        prefix: a path of this host that the names are appended to.
        aliases: directories whose content is told under another name; they themselves are not.
    """

    def __init__(self, prefix: bytes, aliases: Mapping[bytes, bytes]) -> None:
        self._prefix = prefix
        self._aliases = tuple(aliases.items())
        # By the path in the tree: the status, or None for what is gone.
        self._news: dict[bytes, os.stat_result | None] = {}

    def tell(self, path: bytes, status: os.stat_result) -> None:
        """Note that *path* is new, or another than before."""
        self._news[path] = status

    def gone(self, path: bytes) -> None:
        """Note that *path* was there before."""
        self._news[path] = None

    def with_further_names(self) -> frozenset[tuple[int, int]]:
        """Return the inodes of files that have names of which nothing was told yet."""
        links = [
            (inode_of(status), status.st_nlink)
            for status in self._news.values()
            if status is not None and status.st_nlink > 1 and not is_directory(status)
        ]
        told = Counter(inode for inode, _ in links)
        return frozenset(inode for inode, count in links if told[inode] < count)

    def entries(self) -> list[Entry]:
        """Return the changeset: parents first, sorted as a walk of the tree would give it.

        Raises:
            OSError: a link or attributes cannot be read.
        """
        if not self._news:
            return []
        return list(self._entries(self._named()))

    def _named(self) -> dict[bytes, _Place]:
        """Return path and status of all that is to be told, parents included, by name."""
        found: dict[bytes, _Place] = {}
        borrowed = {}
        for path, status in self._news.items():
            name = self._name(path)
            if name == path:
                found[path] = path, status
            elif name:
                borrowed[name] = path, status
        for path in list(found):
            self._tell_parents(found, path, path)
        # What is in the tree under its own name is preferred to what only means that name.
        own = dict(found)
        for name, (path, status) in sorted(borrowed.items()):
            if not self._hidden(name, status, own):
                found[name] = path, status
                self._tell_parents(found, name, path)
        return found

    def _name(self, path: bytes) -> bytes | None:
        """Return how *path* is called in the layer; None for an alias itself."""
        for directory, other in self._aliases:
            if path == directory:
                return None
            if path.startswith(directory + b"/"):
                return other + path[len(directory) :]
        return path

    def _hidden(
        self,
        name: bytes,
        status: os.stat_result | None,
        own: Mapping[bytes, _Place],
    ) -> bool:
        """Return whether the tree itself says otherwise about *name*."""
        if name in own or (status is None and self._status(name) is not None):
            return True
        while name := _parent(name):
            if name in own:
                return not is_directory(own[name][1])
        return False

    def _tell_parents(self, found: dict[bytes, _Place], name: bytes, path: bytes) -> None:
        """Add the directories that *name*, which is at *path*, is in."""
        while (name := _parent(name)) and name not in found:
            path = _parent(path)
            for place in (name, path):
                status = self._status(place)
                if is_directory(status) and (place == name or self._name(place) == name):
                    found[name] = place, status
                    break

    def _status(self, path: bytes) -> os.stat_result | None:
        try:
            return os.lstat(self._prefix + path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _entries(self, named: Mapping[bytes, _Place]) -> Iterator[Entry]:
        first_names: dict[tuple[int, int], bytes] = {}
        for name in sorted(named, key=by_component):
            path, status = named[name]
            if status is None:
                yield Entry(name, Kind.WHITEOUT)
                continue
            entry = file_entry(name, status, self._prefix + path)
            if entry is None:
                continue
            if status.st_nlink > 1 and entry.kind is not Kind.DIRECTORY:
                first = first_names.setdefault(inode_of(status), name)
                if first != name:
                    entry = hard_link(entry, first)
            yield entry


def hard_link(entry: Entry, first: bytes) -> Entry:
    """Return the entry of a further name of the file that has the name *first* already."""
    return Entry(
        entry.name,
        Kind.HARDLINK,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        mtime_ns=entry.mtime_ns,
        link=first,
    )


def inode_of(status: os.stat_result) -> tuple[int, int]:
    """Return what all names of a file have in common, and no other file."""
    return status.st_dev, status.st_ino


def by_component(name: bytes) -> list[bytes]:
    """Return what sorts *name* as a walk does: a directory, what is in it, its next sibling."""
    return name.split(b"/")


def is_same_directory(entry: Entry, old: os.stat_result, below: Rootfs) -> bool:
    """Return whether *entry*, a directory, is like the one that *below* has, whose status is *old*.

    Its times change with whatever is made in it; they are no news by themselves.

    Raises:
        DiskError: the attributes of the old one cannot be read.
    """
    owner = (stat.S_IMODE(old.st_mode), old.st_uid, old.st_gid)
    return (entry.mode, entry.uid, entry.gid) == owner and entry.xattrs == below.xattrs(entry.name)


def is_directory(status: os.stat_result | None) -> TypeGuard[os.stat_result]:
    """Return whether there is a directory."""
    return status is not None and stat.S_ISDIR(status.st_mode)


def _parent(name: bytes) -> bytes:
    return name.rpartition(b"/")[0]
