"""The bytes of an archive: hashed and uncompressed by a thread of their own, a little ahead.

    source ─▶ hash ─▶ decompression ─▶ limit ─▶ a few chunks that wait ─▶ who unpacks

Hashing and decompression let other threads run, and so does writing files; a disk and a
network that take turns to wait for each other would take the time of both.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable
from typing import BinaryIO, Self, cast

from kaniko_core.errors import ContentError
from kaniko_core.oci.compression import decompressed_unbuffered
from kaniko_core.oci.digest import Digest

_CHUNK = 512 << 10  # bytes; chunks of a slow source are as small as they come
_AHEAD = 8  # chunks
_PATIENCE = 1.0  # seconds to wait for the thread where the rest is not wanted
_EXTRA = 1 << 20  # bytes by which the compressed archive may be the larger one
_MAGIC = 6  # bytes: the longest of those that compressed data begin with
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1, "bytes"))


class ArchiveStream:
    """What is in an archive, uncompressed; ``with`` ends the thread, which closes the source.

    Args:
        source: the archive as it comes; its reads may be short. Nobody else reads or closes it.
        limit: how many bytes may come out of it, or about as many into it.

    Attributes:
        failure: what a read of the source raised, if one did: it names the source already.
    """

    def __init__(self, source: BinaryIO, limit: int) -> None:
        self._source = source
        self._limit = limit
        self._came = 0
        self._hash = hashlib.sha256()
        self._chunks: queue.Queue[bytes | BaseException] = queue.Queue(_AHEAD)
        self._waiting: list[bytes] = []
        self._ended = False
        self._stopped = False
        self._magic = b""
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)
        self.failure: BaseException | None = None

    @property
    def digest(self) -> Digest:
        """The digest of the source's bytes; of all of them only after the end was read."""
        return Digest("sha256", self._hash.hexdigest())

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, as many as there are at once; none at the end.

        Args:
            size: does not matter: a chunk is not cut.

        Raises:
            KanikoError: the source failed, or what it gives is damaged or too much.
        """
        if self._waiting:
            return self._waiting.pop(0)
        return self._next()

    def compressed(self) -> bool:
        """Whether the source is: whether what comes out begins differently."""
        return not self.peek(_MAGIC).startswith(self._magic[:_MAGIC])

    def peek(self, size: int) -> bytes:
        """Return the first *size* bytes, fewer only if there are no more; they are read again."""
        missing = size - sum(map(len, self._waiting))
        while missing > 0 and (chunk := self._next()):
            self._waiting.append(chunk)
            missing -= len(chunk)
        return b"".join(self._waiting)[:size]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        while not self._chunks.empty():
            self._chunks.get()
        # It may wait for a source that sends nothing. To close that in the middle of a read could
        # make it read what is another's; so it ends, and closes, when something has come.
        self._thread.join(_PATIENCE)

    def _next(self) -> bytes:
        if self._ended:
            return b""
        chunk = self._chunks.get()
        if isinstance(chunk, bytes):
            self._ended = not chunk
            return chunk
        self._ended = True
        raise chunk

    # In the thread

    def _run(self) -> None:
        end: bytes | BaseException = b""
        try:
            try:
                self._pass_on()
            finally:
                self._source.close()
        except BaseException as error:
            end = error
        self._chunks.put(end)

    def _pass_on(self) -> None:
        stream = decompressed_unbuffered(cast("BinaryIO", _Source(self._hashed)))
        left = self._limit
        while not self._stopped and (chunk := stream.read(_CHUNK)):
            left -= len(chunk)
            if left < 0:
                raise too_large(self._limit)
            self._chunks.put(chunk)

    def _hashed(self, size: int) -> bytes:
        try:
            data = self._source.read(size)
        except BaseException as error:
            self.failure = error
            raise
        if len(self._magic) < _MAGIC:
            self._magic += data[:_MAGIC]
        self._hash.update(data)
        # Members without content, and zeros after the last, are endless too.
        self._came += len(data)
        if self._came > self._limit + _EXTRA:
            raise too_large(self._limit)
        return data


class _Source:
    """As much of a binary stream as decompression needs."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self.read = read

    def close(self) -> None:
        """Do nothing: the source is somebody else's."""


def too_large(limit: int) -> ContentError:
    """Return the error for an archive that unpacks to more than *limit* bytes."""
    size, unit = next((size, unit) for size, unit in _UNITS if limit % size == 0)
    return ContentError(
        f"it unpacks to more than {limit // size} {unit}",
        hint="allow more with --context-limit, if you trust where it comes from",
    )
