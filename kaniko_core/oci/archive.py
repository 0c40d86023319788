"""The tar dialect of layers: entries, whiteouts, and both directions as streams.

What is written depends on the entries alone: ustar headers, a PAX header only where one is
needed, no user names, no access or change times. What is read is described in ``tarreader``.

Source: OCI image-spec v1.1, layer.md.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from kaniko_core.errors import ContentError, disk_error
from kaniko_core.oci import tarheader
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.entry import OPAQUE_MARK, WHITEOUT_PREFIX, Entry, Kind
from kaniko_core.oci.headers import Headers
from kaniko_core.oci.tarheader import BLOCK, readable
from kaniko_core.oci.tarreader import TarReader

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Bytes in each chunk of a written tar, but for the last.
CHUNK = 1 << 20

# The diff ID of a layer that changes nothing.
EMPTY_DIFF_ID = Digest.of(tarheader.END_OF_ARCHIVE)

_ZEROS = bytes(64 << 10)
_PADDING = memoryview(bytes(BLOCK))
# How a file is opened whose content an entry has: no link, and without waiting for a FIFO's writer.
CONTENT_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def read_entries(stream: BinaryIO) -> Iterator[tuple[Entry, BinaryIO]]:
    """Yield each entry of an uncompressed tar, with a stream over its content.

    The stream is closed when the next entry is asked for; what was not read of it is skipped.
    Holes of sparse files read as zeros. The tar is read to its very end.

    Raises:
        ContentError: the archive is damaged or incomplete.
        UnsafeEntry: a name could leave the root.
    """
    reader = TarReader(stream)
    while (entry := reader.next()) is not None:
        with io.BufferedReader(_Content(reader, entry.size)) as content:
            yield entry, content


class _Content(io.RawIOBase):
    """The content of a reader's current entry."""

    def __init__(self, reader: TarReader, size: int) -> None:
        super().__init__()
        self._reader = reader
        self._size = size
        self._position = 0
        segments = reader.segments
        self._segments = iter([(0, size)] if segments is None else segments)
        self._start = self._end = 0  # of the segment that is being read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        while self._position == self._end < self._size:
            self._start, length = next(self._segments, (self._size, 0))
            self._end = self._start + length
            if self._start > self._position:
                break
        if self._position < self._start:
            count = min(len(view), self._start - self._position, len(_ZEROS))
            view[:count] = _ZEROS[:count]
        else:
            piece = self._reader.take(min(len(view), self._end - self._position))
            count = len(piece)
            view[:count] = piece
        self._position += count
        return count


def tar_stream(
    entries: Iterable[Entry], headers: deque[int] | None = None
) -> Generator[bytes, None, None]:
    """Yield the tar of *entries*, in their order, in chunks of ``CHUNK`` bytes.

    Args:
        entries: parents before their children.
        headers: is given where in the tar each entry's header is, in bytes, before the chunk
            is yielded that has it: no header is spread over two.

    Raises:
        ContentError: a file changed while it was read, or cannot be stored in a layer.
        DiskError: a file cannot be read.
    """
    buffer = _Buffer()
    header = Headers().of
    position = 0
    for entry in entries:
        blocks = header(entry)
        position += len(blocks)
        if headers is not None:
            headers.append(position - BLOCK)
        while len(blocks) > CHUNK:  # extended attributes can be that large together
            yield buffer.add(blocks[:CHUNK])
            blocks = blocks[CHUNK:]
        size = entry.size if entry.kind is Kind.FILE else 0
        padding = -size % BLOCK
        position += size + padding
        content = entry.content
        # Most files are small, and read at once; what is odd about one, the other way tells.
        if size and isinstance(content, bytes) and buffer.add_file(blocks, content, size):
            continue
        if full := buffer.add(blocks):
            yield full
        if size:
            yield from _content(entry, buffer)
            if padding and (full := buffer.add(_PADDING[:padding])):
                yield full
    if full := buffer.add(tarheader.END_OF_ARCHIVE):
        yield full
    if rest := buffer.take():
        yield rest


class _Buffer:
    """Where headers and contents are collected, handed out whenever a chunk is full."""

    def __init__(self) -> None:
        # One byte more than a chunk: room to see that a file is longer than it should be.
        self._view = memoryview(bytearray(CHUNK + 1))
        self._used = 0

    def add(self, data: bytes | memoryview) -> bytes:
        """Append *data*, at most a chunk of it; return the chunk that it filled, or nothing."""
        end = self._used + len(data)
        if end < CHUNK:
            self._view[self._used : end] = data
            self._used = end
            return b""
        room = CHUNK - self._used
        self._view[self._used : CHUNK] = data[:room]
        self._used = CHUNK
        full = self.take()
        self._used = len(data) - room
        self._view[: self._used] = data[room:]
        return full

    def add_file(self, header: bytes, path: bytes, size: int) -> bool:
        """Append *header* and the file at *path*, padded; or nothing, and return False.

        That is where there is no room for all of it, no such file, or another size.
        """
        start = self._used
        content = start + len(header)
        end = content + size
        padded = end + -size % BLOCK
        if padded >= CHUNK:
            return False
        view = self._view
        try:
            fd = os.open(path, CONTENT_FLAGS)
            try:
                # A byte more than there should be tells that the file has ended.
                count = os.readv(fd, (view[content : end + 1],))
            finally:
                os.close(fd)
        except OSError:
            return False
        if count != size:
            return False
        view[start:content] = header
        view[end:padded] = _PADDING[: padded - end]
        self._used = padded
        return True

    def fill(self, read: Callable[[memoryview], int], wanted: int) -> int:
        """Read up to *wanted* bytes and return how many there are; more if there were more."""
        # Asking for one byte more saves the read that would tell that the file has ended.
        limit = min(wanted + 1, CHUNK - self._used + (wanted <= CHUNK - self._used))
        count = read(self._view[self._used : self._used + limit])
        self._used += count
        return count

    @property
    def full(self) -> bool:
        return self._used >= CHUNK

    def take(self) -> bytes:
        """Return what was collected, and begin anew."""
        chunk = bytes(self._view[: self._used])
        self._used = 0
        return chunk


def _content(entry: Entry, buffer: _Buffer) -> Iterator[bytes]:
    name = readable(entry.name)
    try:
        read, close = _opened(entry)
        try:
            left = entry.size
            while left:
                count = buffer.fill(read, left)
                if not 0 < count <= left:
                    raise changed(entry)
                left -= count
                if buffer.full:
                    yield buffer.take()
        finally:
            close()
    except OSError as error:
        raise disk_error(error, "read", name) from error


def changed(entry: Entry) -> ContentError:
    """Return what to raise where the content of *entry* is longer or shorter than it was."""
    return ContentError(
        f"{readable(entry.name)} changed while it was read",
        hint="something writes to it; try again when it does not",
    )


def _opened(entry: Entry) -> tuple[Callable[[memoryview], int], Callable[[], None]]:
    """Return a function that reads into a buffer, and one that closes."""
    content = entry.content
    assert content is not None, f"{entry.name!r} has a size and no content"
    if isinstance(content, bytes):
        fd = os.open(content, CONTENT_FLAGS)
        return (lambda view: os.readv(fd, (view,))), (lambda: os.close(fd))
    stream = content()

    def read(view: memoryview) -> int:
        data = stream.read(len(view))
        view[: len(data)] = data
        return len(data)

    return read, stream.close


__all__ = [
    "CHUNK",
    "CONTENT_FLAGS",
    "EMPTY_DIFF_ID",
    "OPAQUE_MARK",
    "WHITEOUT_PREFIX",
    "Entry",
    "Kind",
    "changed",
    "read_entries",
    "tar_stream",
]
