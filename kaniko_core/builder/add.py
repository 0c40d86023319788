"""ADD of a local archive: its members become entries of the layer.

An archive is known by its content, whatever its name: a tar, plain or compressed by gzip,
bzip2, xz or zstd. Its members go below the destination as ``tar -x`` would put them if the
destination were the root: no link, of the archive or of the image, leads out of it. What its
files hold is written one after the other into a spool file, and each entry opens its part.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kaniko_core.builder.destination import Defaults, Destination, printable
from kaniko_core.errors import ContentError, disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.oci.archive import read_entries
from kaniko_core.oci.compression import decompressed
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.oci.tarheader import BLOCK, check

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_COPY_SIZE = 256 << 10  # bytes at a time


def is_archive(stream: BinaryIO) -> bool:
    """Whether *stream* begins like a tar, compressed or not; the stream may be closed then."""
    try:
        header = decompressed(stream).read(BLOCK)
        if len(header) < BLOCK or not any(header):
            return False
        check(header)
    except ContentError:
        return False
    return True


def unpack_archive(
    stream: BinaryIO,
    destination: Destination,
    directory: bytes,
    *,
    owner: tuple[int, int] | None,
    made: Defaults,
    spool: Path,
) -> None:
    """Put the members of the archive *stream* below *directory*.

    Args:
        stream: the archive, from its beginning; closed by the caller.
        destination: takes the entries.
        directory: the resolved name of where they go; made if need be.
        owner: of all members; None leaves the archive's numbers.
        made: what *directory* is like where it has to be made. Directories that the archive
            takes for granted are root's, whoever owns its members, as with BuildKit.
        spool: a new file for the members' contents, which the entries read from.

    Raises:
        ContentError: the archive is damaged or incomplete.
        UnsafeEntry: a member would leave the directory.
        DiskError: the spool cannot be written.
    """
    destination.make_directories(directory, made)
    implied = Defaults(mtime_ns=made.mtime_ns)
    with disk_errors("unpack an archive to", spool), spool.open("xb") as file:
        members = _Members(destination, directory, owner, implied, spool, file)
        for entry, content in read_entries(decompressed(stream)):
            members.add(entry, content)


@dataclass(frozen=True, slots=True)
class _Members:
    destination: Destination
    directory: bytes
    owner: tuple[int, int] | None
    implied: Defaults
    spool: Path
    file: BinaryIO

    def add(self, entry: Entry, content: BinaryIO) -> None:
        if entry.kind in (Kind.WHITEOUT, Kind.OPAQUE):
            raise ContentError(
                f"the archive has a whiteout of /{printable(entry.name)}: it is a layer of an "
                "image, and its deletions cannot be added as files",
                hint="build FROM the image, or copy from it with COPY --from",
            )
        if not entry.name:
            return  # the archive's own root does not change the directory that it is put in
        if self.owner is not None:
            entry.uid, entry.gid = self.owner
        entry.name = self._place(entry)
        if not entry.name:
            return
        match entry.kind:
            case Kind.HARDLINK:
                self._link(entry)
            case Kind.FILE:
                entry.content = self._spooled(content, entry.size)
                self.destination.put(entry)
            case _:
                self.destination.put(entry)

    def _place(self, entry: Entry) -> bytes:
        if entry.kind is Kind.DIRECTORY:
            # A directory of the archive may be a link to one in the image: /lib of many.
            resolved = self._resolve(entry.name)
            if self.destination.kind(resolved) is Kind.DIRECTORY:
                return resolved
        parent, _, base = entry.name.rpartition(b"/")
        parent = self._resolve(parent)
        self.destination.make_directories(parent, self.implied)
        return _join(parent, base)

    def _resolve(self, name: bytes) -> bytes:
        return self.destination.resolve(name, top=self.directory)

    def _link(self, entry: Entry) -> None:
        parent, _, base = entry.link.rpartition(b"/")
        target = _join(self._resolve(parent), base)
        if target == entry.name:
            return
        known = self.destination.entry(target)
        if known is not None and known.kind is not Kind.DIRECTORY:
            key = self.destination.file_key(target) if known.kind is Kind.FILE else None
            self.destination.put(replace(known, name=entry.name), same_file=key)
        elif known is None and self.destination.kind(target) is Kind.FILE:
            entry.link = target  # a file of the image below
            self.destination.put(entry)
        else:
            raise ContentError(
                f"the archive links /{printable(entry.name)} to /{printable(target)}, "
                "which is no file"
            )

    def _spooled(self, content: BinaryIO, size: int) -> Callable[[], BinaryIO] | None:
        if not size:
            return None
        offset = self.file.tell()
        shutil.copyfileobj(content, self.file, _COPY_SIZE)
        return partial(_open_part, self.spool, offset, size)


def _join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name


def _open_part(path: Path, offset: int, size: int) -> BinaryIO:
    file = path.open("rb", buffering=0)
    file.seek(offset)
    return io.BufferedReader(_Part(file, size))


class _Part(io.RawIOBase):
    """The next *size* bytes of a file, which is closed with it."""

    def __init__(self, file: io.FileIO, size: int) -> None:
        super().__init__()
        self._file = file
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        count = self._file.readinto(view[: self._left])
        self._left -= count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
