"""Which members of an archive become files of a context, and what they are like.

Everything becomes this process's: in an image it is root's, whoever it belonged to. Extended
attributes are not taken over. Devices and pipes are left out, of which a build has no use.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from kaniko_core.errors import ContentError
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.oci.tarheader import readable
from kaniko_core.oci.tarreader import TarReader
from kaniko_core.remote.archives.leaving import LARGEST_PATTERNS, Leaving
from kaniko_core.remote.archives.stream import too_large

_SPECIAL = frozenset({Kind.CHARACTER, Kind.BLOCK, Kind.FIFO})
_WHITEOUTS = frozenset({Kind.WHITEOUT, Kind.OPAQUE})
FILES = frozenset({Kind.FILE, Kind.HARDLINK})


class ContextMembers:
    """The members of *reader* that are unpacked.

    Args:
        reader: the archive.
        leaving: says what is left out; None if nothing is.
        limit: how many bytes files with holes may have together.
        room: is called once, before the first file of which no patterns say that it is needed;
            raises a DiskError where the disk is too small for the archive.

    Attributes:
        newest: time of the newest file, in nanoseconds; also of those left out. None: no file.
        special: how many devices and pipes there were.
        example: the name of the first of them.
    """

    def __init__(
        self,
        reader: TarReader,
        leaving: Leaving | None,
        limit: int,
        room: Callable[[], None],
    ) -> None:
        self._reader = reader
        self._leaving = leaving
        self._limit = limit
        self._room: Callable[[], None] | None = room
        self._owner = (os.geteuid(), os.getegid())
        self._holes = 0
        self._patterns_of: bytes | None = None
        self.newest: int | None = None
        self.special = 0
        self.example = ""

    def next(self) -> Entry | None:
        """Return the next member; None at the end, when what was too much has been removed.

        Raises:
            OnceMore: something that was left out is needed.
            ContentError: the archive is damaged, or has what no context has.
            DiskError: there is not enough room.
        """
        leaving = self._leaving
        while (entry := self._reader.next()) is not None:
            kind = entry.kind
            if kind in FILES:
                if self.newest is None or entry.mtime_ns > self.newest:
                    self.newest = entry.mtime_ns
            elif kind in _SPECIAL or kind in _WHITEOUTS:
                self._skip(entry)
                continue
            if leaving is not None and self._left_out(leaving, entry):
                continue
            if kind is Kind.FILE:
                self._check_size(entry)
            entry.uid, entry.gid = self._owner
            if entry.xattrs:
                entry.xattrs = {}
            return entry
        if leaving is not None:
            leaving.finish()
        return None

    def copy_to(self, fd: int, size: int) -> None:
        """Write the content of the current file to *fd*; patterns in it count from now on.

        Raises:
            OnceMore: other patterns have left something out.
            OSError: the disk refused.
        """
        name, self._patterns_of = self._patterns_of, None
        if name is None or self._leaving is None:
            self._reader.copy_to(fd, size)
            return
        data = b""
        while len(data) < size:
            data += self._reader.take(size - len(data))
        rest = data
        while rest:
            rest = rest[os.write(fd, rest) :]
        self._leaving.came(name, data)

    def _skip(self, entry: Entry) -> None:
        if entry.kind in _WHITEOUTS:
            raise ContentError(
                "it has a whiteout: it is a layer of an image, and no context",
                hint="name the image, as docker-image://NAME",
            )
        self.special += 1
        self.example = self.example or readable(entry.name)

    def _left_out(self, leaving: Leaving, entry: Entry) -> bool:
        if not leaving.wants(entry):
            return leaving.leaves_out(entry)
        plain = entry.kind is Kind.FILE and self._reader.segments is None
        if not plain or entry.size > LARGEST_PATTERNS:
            leaving.came(entry.name, None)
        elif not entry.size:
            leaving.came(entry.name, b"")
        else:
            self._patterns_of = entry.name
        return False

    def _check_size(self, entry: Entry) -> None:
        if self._room is not None and self._patterns_of is None:
            if self._leaving is None or self._leaving.patterns is None:
                self._room()
            self._room = None
        if self._reader.segments is not None:
            # What is stored has a limit already; holes are not.
            self._holes += entry.size
            if self._holes > self._limit:
                raise too_large(self._limit)
