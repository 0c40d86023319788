"""Archives as contexts: a tar, plain or compressed, becomes a directory."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from kaniko_core.errors import ContentError
from kaniko_core.oci.archive import read_entries, tar_stream
from kaniko_core.oci.compression import decompressed
from kaniko_core.oci.entry import SECOND, Entry, Kind
from kaniko_core.rootfs.beneath import Whiteouts
from kaniko_core.rootfs.unpack import unpack

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_WHITEOUTS = (Kind.WHITEOUT, Kind.OPAQUE)
_DEVICES = (Kind.CHARACTER, Kind.BLOCK)
_FILES = (Kind.FILE, Kind.HARDLINK)


def unpack_context(archive: BinaryIO, directory: Path) -> None:
    """Unpack an archive, compressed or not, into the empty *directory*.

    Its files become this process's: in an image they are root's whoever they belonged to.

    Raises:
        ContentError: it is damaged, or has what no context has: a layer's deletions.
        DiskError: *directory* cannot be written.
    """
    stream = cast("BinaryIO", io.BufferedReader(_Chunks(tar_stream(_own_entries(archive)))))
    unpack(stream, directory, whiteouts=Whiteouts.APPLY)


def newest_file(archive: BinaryIO) -> int | None:
    """Return when the newest file of an archive was modified, in seconds since 1970.

    None for what is damaged, has no files, or is no archive at all.
    """
    entries = (entry for entry, _ in read_entries(decompressed(archive)))
    try:
        times = (entry.mtime_ns // SECOND for entry in entries if entry.kind in _FILES)
        return max(times, default=None)
    except ContentError:
        return None


def _own_entries(archive: BinaryIO) -> Iterator[Entry]:
    owner = (os.geteuid(), os.getegid())
    for entry, content in read_entries(decompressed(archive)):
        if entry.kind in _WHITEOUTS:
            raise ContentError(
                "the archive of a context has a whiteout: it is a layer of an image",
                hint="name the image, as docker-image://NAME",
            )
        if entry.kind in _DEVICES:
            continue  # no use to a build, and not for everybody to make
        entry.uid, entry.gid = owner
        entry.xattrs = {}
        if entry.kind is Kind.FILE and entry.size:
            # Read before the next entry is asked for: the archive is not held anywhere.
            entry.content = _content(content)
        yield entry


def _content(stream: BinaryIO) -> Callable[[], BinaryIO]:
    return lambda: stream


class _Chunks(io.RawIOBase):
    """A stream over the chunks of a generator."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
