"""Layers as files, written in one pass; `opening.py` reads them.

    write_layer   entries ─▶ tar ─┬─▶ compressed ─┬─▶ file
                                  └─ diff ID      └─ digest

Hashing, compressing and the disk go on in threads of their own.
"""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from kaniko_core.errors import disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.oci.archive import tar_stream
from kaniko_core.oci.atomic import replacing
from kaniko_core.oci.compression import Compression, compressed
from kaniko_core.oci.digest import Digest, VerifyingReader
from kaniko_core.oci.entry import Entry
from kaniko_core.oci.image import Layer
from kaniko_core.oci.opening import open_tar
from kaniko_core.oci.spec import Descriptor
from kaniko_core.oci.tarheader import MTIME

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

_CHUNK = 1 << 20  # bytes that are read from a layer at a time
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


__all__ = ["FileLayer", "open_tar", "recompress", "write_layer"]
