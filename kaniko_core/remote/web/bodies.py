"""The bytes and the time of a file, from the answer of a web server."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime

from kaniko_core.errors import RegistryError
from kaniko_core.oci.entry import SECOND
from kaniko_core.registry.transport import Reply

COMPRESSED = frozenset({"gzip", "x-gzip"})
_PIECE = 1 << 20  # bytes that are decompressed at a time
_BATCH, _LATENCY = 256 << 10, 0.02  # bytes, and seconds, for which chunks are put together


def batched(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Put *chunks* together: of TLS they are small, and each costs all who take it some time.

    What comes slowly is not held back for that, and what came before an error counts.
    """
    batch: list[bytes] = []
    size, since = 0, time.monotonic()
    try:
        for chunk in chunks:
            batch.append(chunk)
            size += len(chunk)
            if size >= _BATCH or time.monotonic() - since > _LATENCY:
                yield b"".join(batch)
                batch.clear()
                size, since = 0, time.monotonic()
    except RegistryError:
        if batch:
            yield b"".join(batch)
        raise
    if batch:
        yield b"".join(batch)


def body_of(reply: Reply) -> Iterator[bytes]:
    """Yield the bytes of the file that *reply* is."""
    encoding = reply.headers.get("content-encoding", "").strip().lower()
    chunks = reply.chunks()
    return filter(None, _decompressed(chunks) if encoding in COMPRESSED else chunks)


def _decompressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Undo a compression that we did not ask for, but that some stores always send."""
    decoder = zlib.decompressobj(wbits=31)
    try:
        for chunk in chunks:
            rest = chunk
            while rest:
                if decoder.eof:
                    # Another member; or padding, which none begins with.
                    rest = rest.lstrip(b"\0")
                    if not rest:
                        break
                    decoder = zlib.decompressobj(wbits=31)
                yield decoder.decompress(rest, _PIECE)
                rest = decoder.unused_data or decoder.unconsumed_tail
        yield decoder.flush()
    except zlib.error as error:
        raise RegistryError("the server sends damaged gzip data") from error
    if not decoder.eof:
        raise RegistryError("the connection broke off", temporary=True)


def modified(text: str) -> int:
    """Read a ``Last-Modified``, in nanoseconds since 1970; 0 for what is none."""
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return 0
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(int(when.timestamp()), 0) * SECOND
