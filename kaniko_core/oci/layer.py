"""Layers as files: written in one pass, read with every promise checked.

    write_layer   entries ─▶ tar ─┬─▶ compressed ─┬─▶ file
                                  └─ diff ID      └─ digest
    open_tar      blob ─ digest and size ─▶ uncompressed ─ diff ID ─▶ the caller

Hashing, compressing and the disk go on in threads of their own.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from kaniko_core.errors import ContentError, DigestMismatch, disk_errors
from kaniko_core.oci.archive import tar_stream
from kaniko_core.oci.atomic import replacing
from kaniko_core.oci.compression import Compression, compressed, decompressed_unbuffered
from kaniko_core.oci.digest import Digest, VerifyingReader
from kaniko_core.oci.entry import Entry
from kaniko_core.oci.image import Layer, Replaceable
from kaniko_core.oci.spec import Descriptor
from kaniko_core.oci.tarheader import MTIME

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from _typeshed import WriteableBuffer

# Bytes that are read from a layer at a time, and chunks that may wait for the caller.
_CHUNK = 1 << 20
_CHUNKS_AHEAD = 4
# Chunks that may wait to be hashed.
_HASHES_BEHIND = 4
# In the place of a header's time and checksum, 12 and 8 bytes.
_NO_TIME = bytes(20)


@dataclass(frozen=True, slots=True)
class FileLayer:
    """A layer whose blob is a file, or lies in one.

    Attributes:
        path: the file.
        descriptor: of the blob.
        diff_id: digest of the uncompressed tar.
        offset: where in the file the blob begins, in bytes.
        contents: digest of the uncompressed tar with all times zero, where somebody wanted it:
            that of a command that was run again and did the same.
    """

    path: Path
    descriptor: Descriptor
    diff_id: Digest
    offset: int = 0
    contents: Digest | None = None

    def open(self) -> BinaryIO:
        """Return the blob as a new stream, verified at its end.

        Raises:
            DiskError: the file cannot be opened.
        """
        with disk_errors("read", self.path):
            stream = self.path.open("rb", buffering=0)
        digest = self.descriptor.digest
        source = _Slice(stream, self.offset, self.descriptor.size)
        return cast(
            BinaryIO,
            VerifyingReader(
                cast(BinaryIO, source), digest, self.descriptor.size, f"layer {digest}"
            ),
        )


class _Slice:
    """Some bytes of a file, from an offset: all of a stream that verifying needs."""

    def __init__(self, file: io.FileIO, offset: int, size: int) -> None:
        self._file = file
        self._left = size
        file.seek(offset)

    def read(self, size: int) -> bytes:
        with disk_errors("read", str(self._file.name)):
            data = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data

    def close(self) -> None:
        self._file.close()


def write_layer(
    entries: Iterable[Entry],
    path: Path,
    *,
    compression: Compression = Compression.GZIP,
    level: int | None = None,
    docker: bool,
    moved: Callable[[int], None] | None = None,
    contents: bool = False,
) -> FileLayer:
    """Write *entries*, in their order, as a layer; the same entries give the same bytes.

    Args:
        entries: parents before their children.
        path: the blob's file; it appears when it is complete, and on an error nothing is left.
        compression: how to store the tar.
        level: as for ``compression.compressed``.
        docker: use Docker's media type rather than OCI's.
        moved: called now and then with how many bytes of the tar are done.
        contents: whether the layer's ``contents`` are wanted.

    Raises:
        ContentError: a file changed while it was read, or cannot be stored in a layer.
        DiskError: *path* cannot be written, or a file not be read.
    """
    from concurrent.futures import ThreadPoolExecutor

    tar_hash, blob_hash = hashlib.sha256(), hashlib.sha256()
    timeless = _Timeless() if contents else None
    size = 0
    with (
        ThreadPoolExecutor(1, thread_name_prefix="hash") as hashing,
        ThreadPoolExecutor(1, thread_name_prefix="contents") as other,
        disk_errors("write the layer", path),
        replacing(path, durable=False) as file,
    ):
        blocks = tar_stream(entries, timeless.headers if timeless else None)
        if timeless is not None:
            blocks = _hashed(blocks, timeless, other)
        blocks = _hashed(blocks, tar_hash, hashing, moved)
        # Closed now and not when they are collected: they own threads and files.
        with closing(blocks), closing(compressed(blocks, compression, level)) as pieces:
            for piece in pieces:
                blob_hash.update(piece)
                file.write(piece)
                size += len(piece)
    digest = Digest("sha256", blob_hash.hexdigest())
    return FileLayer(
        path,
        Descriptor(compression.layer_media_type(docker), digest, size),
        Digest("sha256", tar_hash.hexdigest()),
        contents=timeless.digest if timeless else None,
    )


def recompress(
    layer: Layer, path: Path, *, compression: Compression, level: int | None, docker: bool
) -> FileLayer:
    """Write the tar of *layer* to *path*, compressed otherwise.

    Args:
        layer: where the tar comes from; it is verified.
        path: the blob's file; it appears when it is complete, and on an error nothing is left.
        compression: how to store the tar.
        level: as for ``compression.compressed``.
        docker: use Docker's media type rather than OCI's.

    Raises:
        ContentError: *layer* is damaged.
        DiskError: *path* cannot be written.
    """
    blob_hash, size = hashlib.sha256(), 0
    with (
        disk_errors("write the layer", path),
        replacing(path, durable=False) as file,
        open_tar(layer) as tar,
    ):
        blocks = iter(lambda: tar.read(_CHUNK) or b"", b"")
        with closing(compressed(blocks, compression, level)) as pieces:
            for piece in pieces:
                blob_hash.update(piece)
                file.write(piece)
                size += len(piece)
    digest = Digest("sha256", blob_hash.hexdigest())
    descriptor = Descriptor(compression.layer_media_type(docker), digest, size)
    return FileLayer(path, descriptor, layer.diff_id)


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


class _Timeless:
    """The hash of a tar as if every entry had been changed at 0; *headers* says where they are."""

    def __init__(self) -> None:
        self.headers: deque[int] = deque()
        self._hash = hashlib.sha256()
        self._done = 0

    def update(self, data: bytes, /) -> None:
        changed = bytearray(data)
        while self.headers and self.headers[0] < self._done + len(data):
            start = self.headers.popleft() - self._done + MTIME
            # The header's checksum comes next, and would tell the time.
            changed[start : start + len(_NO_TIME)] = _NO_TIME
        self._hash.update(changed)
        self._done += len(data)

    @property
    def digest(self) -> Digest:
        return Digest("sha256", self._hash.hexdigest())


def _hashed(
    blocks: Iterator[bytes],
    state: _Hash,
    hashing: ThreadPoolExecutor,
    moved: Callable[[int], None] | None = None,
) -> Generator[bytes, None, None]:
    """Pass *blocks* on while a thread puts them into *state*; at the end, all are in."""
    pending: deque[Future[None]] = deque()
    done = 0
    for block in blocks:
        pending.append(hashing.submit(state.update, block))
        yield block
        if len(pending) > _HASHES_BEHIND:
            pending.popleft().result()
        done += len(block)
        if moved is not None:
            moved(done)
    for future in pending:
        future.result()


def open_tar(layer: Layer) -> BinaryIO:
    """Return the uncompressed tar of *layer*, which a thread reads ahead.

    A read may give less than was asked for. The read that returns ``b""`` has verified the
    blob's digest and size, and the diff ID. The caller closes it, at any time.

    Raises:
        DigestMismatch: from a read, when the bytes are not the promised ones.
        ContentError: from a read, when the compressed data is damaged.
    """
    chunks = _tar_chunks(layer)
    if isinstance(layer, Replaceable):
        chunks = _blamed(chunks, layer)
    return cast(BinaryIO, _ReadAhead(chunks))


def _blamed(
    chunks: Generator[bytes, None, None], layer: Replaceable
) -> Generator[bytes, None, None]:
    with closing(chunks):
        try:
            yield from chunks
        except ContentError as error:
            raise layer.lost(error) from error


def open_entries(entries: Iterable[Entry]) -> BinaryIO:
    """Return the tar that *entries* make as a stream, which a thread reads ahead.

    As with :func:`open_tar`, a read may give less than was asked for, and the caller closes it.
    """
    return cast(BinaryIO, _ReadAhead(tar_stream(entries)))


def _tar_chunks(layer: Layer) -> Generator[bytes, None, None]:
    """Yield the uncompressed tar of *layer*; its end has been verified."""
    from concurrent.futures import ThreadPoolExecutor

    state = hashlib.new(layer.diff_id.algorithm)
    with (
        ThreadPoolExecutor(1, thread_name_prefix="hash") as hashing,
        layer.open() as blob,
        decompressed_unbuffered(blob) as tar,
    ):
        yield from _hashed(iter(lambda: tar.read(_CHUNK) or b"", b""), state, hashing)
    actual = state.hexdigest()
    if actual != layer.diff_id.hex:
        raise DigestMismatch(
            f"the tar of layer {layer.descriptor.digest} has the digest "
            f"{layer.diff_id.algorithm}:{actual} instead of the promised {layer.diff_id}"
        )


class _Shared:
    """What the reading thread and its consumer share; the condition guards everything."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.chunks: deque[bytes] = deque()
        self.error: BaseException | None = None
        self.ended = False
        self.stopped = False


def _read_all(chunks: Generator[bytes, None, None], shared: _Shared) -> None:
    """Put *chunks* into *shared* until they end, fail or are not wanted any more."""
    try:
        with closing(chunks):
            for chunk in chunks:
                with shared.changed:
                    while len(shared.chunks) >= _CHUNKS_AHEAD and not shared.stopped:
                        shared.changed.wait()
                    if shared.stopped:
                        break
                    shared.chunks.append(chunk)
                    shared.changed.notify()
    except BaseException as error:
        shared.error = error
    finally:
        with shared.changed:
            shared.ended = True
            shared.changed.notify()


class _ReadAhead(io.RawIOBase):
    """A stream of chunks, which a thread gets while those before them are being used.

    The thread knows nothing of this object, so that forgetting it closes it.
    """

    def __init__(self, chunks: Generator[bytes, None, None]) -> None:
        super().__init__()
        self._shared = _Shared()
        self._rest = b""
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
        with shared.changed:
            while not shared.chunks and not shared.ended:
                shared.changed.wait()
            if shared.chunks:
                shared.changed.notify()
                return shared.chunks.popleft()
        if shared.error is not None:
            raise shared.error
        return b""

    def close(self) -> None:
        """Stop the thread, and wait for it to have closed the layer."""
        if not self.closed:
            with self._shared.changed:
                self._shared.stopped = True
                self._shared.chunks.clear()
                self._shared.changed.notify()
            self._thread.join()
        super().close()
