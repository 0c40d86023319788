"""Unpacking entries themselves: what COPY, ADD and WORKDIR make, with no tar in between.

    packing     entries ─▶ tar ─▶ a layer's blob      in another thread, from the same files
    filling     entries ─▶ files                      each read once, none of it kept in memory

It is the unpacker of layers that makes the files, so that whiteouts, links, owners and times are
what they would be if the layer were unpacked; and what a layer cannot hold is refused in the same
words. A file that is not of the size that its entry says has changed since it was looked at, and
is refused as it is when it is packed. Holes stay holes, and where the file system can do so, the
copy of a large file shares the blocks of the original. Never its inode: a command may write to it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from kaniko_core.errors import DiskError, disk_error
from kaniko_core.oci.archive import CONTENT_FLAGS, changed
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.oci.headers import refuse_storing
from kaniko_core.oci.tarheader import clean_name, readable
from kaniko_core.rootfs.beneath import Whiteouts
from kaniko_core.rootfs.copying import copy_content
from kaniko_core.rootfs.ignore import IgnoreRules
from kaniko_core.rootfs.unpack import NOTHING, Unpacked, unpack_members

_HIDING = frozenset({Kind.WHITEOUT, Kind.OPAQUE})
# Bytes of a file that are read and written at once; the kernel copies larger ones by itself,
# which is quicker from about there on.
_AT_ONCE = 256 << 10


def unpack_entries(
    entries: Iterable[Entry],
    directory: Path,
    *,
    whiteouts: Whiteouts,
    check: Callable[[], None],
    below: Callable[[], Sequence[Path]] = tuple,
    covered: IgnoreRules = NOTHING,
    shadow: Path | None = None,
) -> Unpacked:
    """Unpack *entries* into *directory* as :func:`~kaniko_core.rootfs.unpack.unpack` does a tar.

    The entries are not changed. After an error, half of them may be there.

    Args:
        entries: parents before their children; their files are read, and not written to.
        directory: an empty one, but for ``Whiteouts.APPLY``.
        whiteouts: what to do with whiteouts.
        check: called again and again; what it raises ends the unpacking.
        below: as for ``unpack``.
        covered: as for ``unpack``.
        shadow: as for ``unpack``.

    Raises:
        ContentError: a file changed since it was looked at, or cannot be stored in a layer.
        UnsafeEntry: a name could leave *directory*.
        DiskError: a file cannot be read; or the disk refused, or this process may not do what
            the entries ask for.
    """
    members = _Entries(entries, check)
    return unpack_members(
        members, directory, whiteouts=whiteouts, below=below, covered=covered, shadow=shadow
    )


class _Entries:
    """Entries as members to be unpacked, with what their files hold."""

    def __init__(self, entries: Iterable[Entry], check: Callable[[], None]) -> None:
        self._entries = iter(entries)
        self._entry = Entry(b"", Kind.DIRECTORY)
        self._check = check
        # One byte more than is read: room to see that a file is longer than it should be.
        self._view = memoryview(bytearray(_AT_ONCE + 1))

    def next(self) -> Entry | None:
        """Return the next entry, with a name that is as safe as that of a tar's member."""
        self._check()
        entry = next(self._entries, None)
        if entry is None:
            return None
        self._entry = entry
        if entry.kind not in _HIDING:
            refuse_storing(entry.name)
        name = clean_name(entry.name)
        # Not changed in place: the same entries are being packed.
        return entry if name == entry.name else replace(entry, name=name)

    def copy_to(self, fd: int, size: int) -> None:
        """Write the content of the entry, *size* bytes, to *fd*, an empty file."""
        content = self._entry.content
        assert content is not None, f"{self._entry.name!r} has a size and no content"
        if not isinstance(content, bytes):
            try:
                stream = content()
            except OSError as error:
                raise self._unreadable(error) from error
            with closing(stream):
                self._copy_pieces(lambda view: _read(stream, view), fd, size)
            return
        try:
            source = os.open(content, CONTENT_FLAGS)
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            if size > _AT_ONCE:
                self._copy_large(source, fd, size)
            else:
                self._copy_pieces(lambda view: os.readv(source, (view,)), fd, size)
        finally:
            os.close(source)

    def _copy_pieces(self, read: Callable[[memoryview], int], fd: int, size: int) -> None:
        view, left = self._view, size
        while left:
            # Asking for one byte more saves the read that would tell that the file has ended.
            piece = view[: left + 1] if left <= _AT_ONCE else view[:_AT_ONCE]
            try:
                count = read(piece)
            except OSError as error:
                raise self._unreadable(error) from error
            if not 0 < count <= left:
                raise changed(self._entry)
            left -= count
            piece = piece[:count]
            while (written := os.write(fd, piece)) < len(piece):
                piece = piece[written:]
            if left:
                self._check()

    def _copy_large(self, source: int, fd: int, size: int) -> None:
        if os.fstat(source).st_size != size:
            raise changed(self._entry)
        whole = copy_content(source, fd, size, self._check)
        if not whole or os.fstat(source).st_size != size:
            raise changed(self._entry)

    def _unreadable(self, error: OSError) -> DiskError:
        return disk_error(error, "read", readable(self._entry.name))


def _read(stream: BinaryIO, view: memoryview) -> int:
    data = stream.read(len(view))
    view[: len(data)] = data
    return len(data)
