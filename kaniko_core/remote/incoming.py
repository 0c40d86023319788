"""Bytes on their way here, from a file, standard input, a web server or an object store."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO, Self

from kaniko_core.lean import dataclass

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


@dataclass(frozen=True, slots=True)
class Incoming:
    """A file that is being fetched; the end of the ``with`` block ends the transfer.

    Attributes:
        stream: its bytes; reads may be short. A read raises a KanikoError, with a sentence that
            names the source, where the transfer fails in spite of retries, where it ends early,
            and at the end where the bytes do not have the checksum that the source gives.
        name: the source's name for people; never a secret.
        size: how many bytes come, where the source says it.
        mtime_ns: when the file was last modified, in nanoseconds since the epoch; 0 where
            nobody knows.
    """

    stream: BinaryIO
    name: str
    size: int | None = None
    mtime_ns: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()


class PieceStream(io.RawIOBase):
    """The bytes of *pieces* as a stream; reads may be short: none goes beyond a piece.

    What *pieces* raise is raised by the read that comes to it and by each one after it: an
    iterator that failed would look as if it were at its end.

    Args:
        pieces: none of them empty; each is taken when the one before is used up.
        end: called once, by :meth:`close`.
    """

    def __init__(self, pieces: Iterator[bytes | bytearray], end: Callable[[], None]) -> None:
        super().__init__()
        self._pieces = pieces
        self._end = end
        self._piece = memoryview(b"")
        self._error: Exception | None = None

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to *size* bytes, or all that are left; ``b""`` at the end.

        Raises:
            Exception: what the pieces raised.
        """
        if size is None or size < 0:
            return self.readall()
        if self.closed:
            raise ValueError("read of closed file")
        if not self._piece and size:
            self._piece = memoryview(b"")  # an empty slice would hold the whole piece
            self._piece = memoryview(self._next_piece())
        chunk, self._piece = self._piece[:size], self._piece[size:]
        return bytes(chunk)

    def readall(self) -> bytes:
        """Return all that is left."""
        chunks = []
        while chunk := self.read(1 << 20):
            chunks.append(chunk)
        return b"".join(chunks)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read into *buffer*, as :meth:`read` does."""
        view = memoryview(buffer).cast("B")
        chunk = self.read(len(view))
        view[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        """End the transfer."""
        if not self.closed:
            self._piece = memoryview(b"")
            self._end()
        super().close()

    def _next_piece(self) -> bytes | bytearray:
        if self._error is not None:
            raise self._error
        try:
            return next(self._pieces, b"")
        except Exception as error:
            self._error = error
            raise
