"""The tar of a layer, read with every promise checked.

    open_tar   blob ─ digest and size ─▶ uncompressed ─▶ a few chunks ─▶ diff ID ─▶ the caller
               └──────────── a thread of its own ───┘   that wait       the caller's thread

The two threads have about the same to do where the caller writes files, and each chunk goes from
one processor to the other once: what is hashed is in the cache of the one that uses it next.
Chunks are small for the same reason.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Generator, Iterable
from contextlib import closing
from queue import SimpleQueue
from typing import TYPE_CHECKING, BinaryIO, cast

from kaniko_core.errors import ContentError, DigestMismatch
from kaniko_core.oci.archive import tar_stream
from kaniko_core.oci.compression import decompressed_unbuffered
from kaniko_core.oci.entry import Entry
from kaniko_core.oci.image import Layer, Replaceable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Bytes that are read at a time: a few fit into a processor's own cache.
_CHUNK = 256 << 10
_CHUNKS_AHEAD = 16  # that may wait for the caller


def open_tar(layer: Layer) -> BinaryIO:
    """Return the uncompressed tar of *layer*, which a thread reads ahead.

    A read may give less than was asked for. The read that returns ``b""`` has verified the
    blob's digest and size, and the diff ID. The caller closes it, at any time.

    Raises:
        DigestMismatch: from a read, when the bytes are not the promised ones.
        ContentError: from a read, when the compressed data is damaged.
    """
    return cast(BinaryIO, _Tar(layer))


def open_entries(entries: Iterable[Entry]) -> BinaryIO:
    """Return the tar that *entries* make as a stream, which a thread reads ahead.

    As with :func:`open_tar`, a read may give less than was asked for, and the caller closes it.
    """
    return cast(BinaryIO, _ReadAhead(tar_stream(entries)))


def _tar_chunks(layer: Layer) -> Generator[bytes, None, None]:
    """Yield the uncompressed tar of *layer*; at its end, the blob has been verified."""
    with layer.open() as blob, decompressed_unbuffered(blob) as tar:
        while chunk := tar.read(_CHUNK):
            yield chunk


class _Shared:
    """What the reading thread and its consumer share.

    Attributes:
        chunks: what was read, and at last how it ended: ``b""``, or an error.
        room: counts the chunks that may still be read ahead.
        stopped: whether they are not wanted any more.
    """

    def __init__(self) -> None:
        self.chunks: SimpleQueue[bytes | BaseException] = SimpleQueue()
        self.room: SimpleQueue[None] = SimpleQueue()
        self.stopped = False
        for _ in range(_CHUNKS_AHEAD):
            self.room.put(None)


def _read_all(chunks: Generator[bytes, None, None], shared: _Shared) -> None:
    """Put *chunks* into *shared* until they end, fail or are not wanted any more."""
    end: bytes | BaseException = b""
    try:
        with closing(chunks):
            for chunk in filter(None, chunks):
                shared.chunks.put(chunk)
                shared.room.get()
                if shared.stopped:
                    break
    except BaseException as error:
        end = error
    shared.chunks.put(end)


class _ReadAhead(io.RawIOBase):
    """A stream of chunks, which a thread gets while those before them are being used.

    The thread knows nothing of this object, so that forgetting it closes it.
    """

    def __init__(self, chunks: Generator[bytes, None, None]) -> None:
        super().__init__()
        self._shared = _Shared()
        self._rest = b""
        self._ended: bytes | BaseException | None = None
        self._thread = threading.Thread(
            target=_read_all, args=(chunks, self._shared), name="read layer", daemon=True
        )
        self._thread.start()

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            return self.readall()
        chunk = self._rest or self._next()
        if len(chunk) <= size:
            self._rest = b""
            return chunk
        self._rest = chunk[size:]
        return chunk[:size]

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _next(self) -> bytes:
        shared = self._shared
        if self._ended is None:
            chunk = shared.chunks.get()
            if isinstance(chunk, bytes) and chunk:
                shared.room.put(None)
                return chunk
            self._ended = chunk
        if isinstance(self._ended, BaseException):
            raise self._ended
        return b""

    def close(self) -> None:
        """Stop the thread, and wait for it to have closed the layer."""
        if not self.closed:
            self._shared.stopped = True
            self._shared.room.put(None)
            self._thread.join()
        super().close()


class _Tar(_ReadAhead):
    """The tar of a layer; what is read of it is hashed."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._hash = hashlib.new(layer.diff_id.algorithm)
        super().__init__(_tar_chunks(layer))

    def _next(self) -> bytes:
        try:
            chunk = super()._next()
            if chunk:
                self._hash.update(chunk)
            else:
                self._check()
            return chunk
        except ContentError as error:
            if isinstance(self._layer, Replaceable):
                raise self._layer.lost(error) from error
            raise

    def _check(self) -> None:
        actual, promised = self._hash.hexdigest(), self._layer.diff_id
        if actual != promised.hex:
            raise DigestMismatch(
                f"the tar of layer {self._layer.descriptor.digest} has the digest "
                f"{promised.algorithm}:{actual} instead of the promised {promised}"
            )
