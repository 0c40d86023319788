"""The tar of a layer, read with every promise checked.

    open_tar   blob ─ digest and size ─▶ uncompressed ─▶ a few chunks ─▶ the caller
               └──────────── a thread of its own ───┘        │           the caller's thread
                                                             └─▶ diff ID, by who has time

The two threads have about the same to do where the caller writes files; which of them has more
depends on the layer. So the hash of the tar belongs to neither: a thread that would have to wait
for the other hashes some chunks instead. Chunks are small, so that a few of them fit into the
processor's own cache.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections import deque
from collections.abc import Generator
from contextlib import closing
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast

from kaniko_core.errors import ContentError, DigestMismatch
from kaniko_core.oci.compression import decompressed_unbuffered
from kaniko_core.oci.image import Layer, Replaceable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_Item = TypeVar("_Item")

_CHUNK = 256 << 10  # bytes
_CHUNKS_AHEAD = 16  # that may wait for the caller
_HASHES_BEHIND = 32  # chunks that may wait to be hashed, those that the caller has had included


def open_tar(layer: Layer) -> BinaryIO:
    """Return the uncompressed tar of *layer*, which a thread reads ahead.

    A read may give less than was asked for. The read that returns ``b""`` has verified the
    blob's digest and size, and the diff ID. The caller closes it, at any time.

    Raises:
        DigestMismatch: from a read, when the bytes are not the promised ones.
        ContentError: from a read, when the compressed data is damaged.
    """
    return cast(BinaryIO, _Tar(layer))


class _Hashing:
    """The hash of all chunks in their order, whichever thread takes them."""

    def __init__(self, algorithm: str) -> None:
        self._hash = hashlib.new(algorithm)
        self._waiting: deque[bytes] = deque()
        self._turn = threading.Lock()

    def add(self, chunk: bytes) -> None:
        """Let *chunk* be the next."""
        self._waiting.append(chunk)

    def advance(self) -> bool:
        """Hash one chunk; return False where there is none, or another thread is at it."""
        if not self._waiting or not self._turn.acquire(blocking=False):
            return False
        try:
            self._hash_first()
        finally:
            self._turn.release()
        return True

    def catch_up(self, behind: int = 0) -> None:
        """Hash until at most *behind* chunks are left."""
        while len(self._waiting) > behind:
            with self._turn:
                self._hash_first()

    def hexdigest(self) -> str:
        """Return the hash of all chunks; none may be added any more."""
        self.catch_up()
        with self._turn:
            return self._hash.hexdigest()

    def _hash_first(self) -> None:
        # Another thread may have been quicker, since somebody looked.
        if self._waiting:
            self._hash.update(self._waiting.popleft())


class _Shared:
    """What the reading thread and its consumer share.

    Attributes:
        chunks: what was read, and at last how it ended: ``b""``, or an error.
        room: counts the chunks that may still be read ahead.
        stopped: whether they are not wanted any more.
    """

    def __init__(self, hashing: _Hashing) -> None:
        self.chunks: SimpleQueue[bytes | BaseException] = SimpleQueue()
        self.room: SimpleQueue[None] = SimpleQueue()
        self.hashing = hashing
        self.stopped = False
        for _ in range(_CHUNKS_AHEAD):
            self.room.put(None)

    def taken(self, queue: SimpleQueue[_Item]) -> _Item:
        """Return the next of *queue*; hash as long as it has none."""
        while True:
            try:
                return queue.get_nowait()
            except Empty:
                if not self.hashing.advance():
                    return queue.get()


def _read_all(layer: Layer, shared: _Shared) -> None:
    """Put the chunks of *layer* into *shared* until they end, fail or are not wanted any more."""
    end: bytes | BaseException = b""
    try:
        with closing(_chunks(layer)) as chunks:
            for chunk in chunks:
                shared.hashing.add(chunk)
                shared.chunks.put(chunk)
                shared.taken(shared.room)
                if shared.stopped:
                    break
    except BaseException as error:
        end = error
    shared.chunks.put(end)


def _chunks(layer: Layer) -> Generator[bytes, None, None]:
    """Yield the uncompressed tar of *layer*; at its end, the blob has been verified."""
    with layer.open() as blob, decompressed_unbuffered(blob) as tar:
        while chunk := tar.read(_CHUNK):
            yield chunk


class _Tar(io.RawIOBase):
    """The tar of a layer, which a thread gets while what came before is being used.

    The thread knows nothing of this object, so that forgetting it closes it.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self._layer = layer
        self._shared = _Shared(_Hashing(layer.diff_id.algorithm))
        self._rest = b""
        self._ended: bytes | BaseException | None = None
        self._thread = threading.Thread(
            target=_read_all, args=(layer, self._shared), name="read layer", daemon=True
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

    def close(self) -> None:
        """Stop the thread, and wait for it to have closed the layer."""
        if not self.closed:
            self._shared.stopped = True
            self._shared.room.put(None)
            self._thread.join()
        super().close()

    def _next(self) -> bytes:
        try:
            chunk = self._taken()
            if not chunk:
                self._check()
            return chunk
        except ContentError as error:
            if isinstance(self._layer, Replaceable):
                raise self._layer.lost(error) from error
            raise

    def _taken(self) -> bytes:
        shared = self._shared
        if self._ended is None:
            chunk = shared.taken(shared.chunks)
            if isinstance(chunk, bytes) and chunk:
                shared.room.put(None)
                shared.hashing.catch_up(_HASHES_BEHIND)
                return chunk
            self._ended = chunk
        if isinstance(self._ended, BaseException):
            raise self._ended
        return b""

    def _check(self) -> None:
        actual, promised = self._shared.hashing.hexdigest(), self._layer.diff_id
        if actual != promised.hex:
            raise DigestMismatch(
                f"the tar of layer {self._layer.descriptor.digest} has the digest "
                f"{promised.algorithm}:{actual} instead of the promised {promised}"
            )
