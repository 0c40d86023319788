"""Contents of files, kept on disk between the layers that they come from and where they go.

One file without a name holds them all, each after the other; holes of sparse files are left out.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from kaniko_core.errors import disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.oci.tarreader import TarReader

_BUFFER = 1 << 20  # bytes
_ZEROS = bytes(64 << 10)


@dataclass(frozen=True, slots=True)
class Content:
    """The content of one file.

    Attributes:
        start: where its data is kept.
        size: how many bytes it has, with its holes.
        segments: offset and length of each part that is no hole; None where there is none.
    """

    start: int
    size: int
    segments: tuple[tuple[int, int], ...] | None

    def parts(self) -> Iterator[tuple[int, int, int]]:
        """Yield where each part is kept, its offset in the file and its length."""
        kept = self.start
        for offset, length in self.segments if self.segments is not None else ((0, self.size),):
            yield kept, offset, length
            kept += length


class Contents:
    """Keeps contents; first all are kept, then they are read."""

    def __init__(self, file: BinaryIO, directory: Path) -> None:
        self._file = file
        self._directory = directory
        self._end = 0

    def keep(self, reader: TarReader, size: int) -> Content:
        """Keep the content of the reader's current entry, which has *size* bytes."""
        segments = None if reader.segments is None else tuple(reader.segments)
        left = size if segments is None else sum(length for _, length in segments)
        content = Content(self._end, size, segments)
        self._end += left
        while left:
            piece = reader.take(left)
            left -= len(piece)
            with disk_errors("keep files in", self._directory):
                self._file.write(piece)
        return content

    def ready(self) -> None:
        """Let what was kept be read."""
        with disk_errors("keep files in", self._directory):
            self._file.flush()

    def open(self, content: Content) -> BinaryIO:
        """Return *content* as a stream, holes as zeros; it needs no closing."""
        return cast(BinaryIO, _Stream(self._file.fileno(), content))

    def copy_to(self, content: Content, fd: int) -> None:
        """Write *content* to *fd*, a new file; its holes stay holes.

        Raises:
            OSError: the disk refused.
        """
        source = self._file.fileno()
        for start, offset, length in content.parts():
            os.lseek(fd, offset, os.SEEK_SET)
            position, end = start, start + length
            while position < end:
                count = os.sendfile(fd, source, position, end - position)
                assert count, "what is kept has become shorter"
                position += count
        if content.segments is not None:
            os.ftruncate(fd, content.size)


class _Stream:
    """A content as the writer of a tar reads it."""

    def __init__(self, fd: int, content: Content) -> None:
        self._fd = fd
        self._size = content.size
        self._position = 0
        self._parts = content.parts()
        self._kept, self._offset, self._length = next(self._parts, (0, content.size, 0))

    def read(self, size: int) -> bytes:
        while self._position >= self._offset + self._length and self._position < self._size:
            self._kept, self._offset, self._length = next(self._parts, (0, self._size, 0))
            if self._offset > self._position:
                break
        if self._position < self._offset:
            data = _ZEROS[: min(size, self._offset - self._position)]
        else:
            done = self._position - self._offset
            data = os.pread(self._fd, min(size, self._length - done), self._kept + done)
        self._position += len(data)
        return data

    def close(self) -> None:
        pass


@contextmanager
def open_contents(directory: Path) -> Iterator[Contents]:
    """Yield room for contents on the disk that *directory* is on; it is freed at the end."""
    with disk_errors("keep files in", directory):
        file = tempfile.TemporaryFile(dir=directory, buffering=_BUFFER)  # noqa: SIM115 - see below
    try:
        yield Contents(cast(BinaryIO, file), directory)
    finally:
        # What could not be written is of no use to anybody any more.
        with suppress(OSError):
            file.close()
