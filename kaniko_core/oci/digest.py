"""Digests, and the reader that refuses to end on wrong bytes."""

from __future__ import annotations

import hashlib
import io
import re
from typing import TYPE_CHECKING, BinaryIO, Self

from kaniko_core.errors import DigestMismatch, UsageError
from kaniko_core.lean import dataclass

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

# OCI image-spec v1.1, descriptor.md, "Registered Algorithms".
_HEX_DIGITS = {"sha256": 64, "sha512": 128}
_PATTERN = re.compile(r"([a-z0-9]+):([0-9a-f]+)")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """An algorithm and the lower-case hex of a hash, such as ``sha256:9f86d0…``.

    Source: OCI image-spec v1.1, descriptor.md, "Digests".
    """

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``algorithm:hex``; raise :class:`UsageError` for anything else."""
        match = _PATTERN.fullmatch(text)
        if match is None or len(match[2]) != _HEX_DIGITS.get(match[1]):
            raise UsageError(
                f"{text!r} is not a digest",
                hint="a digest looks like sha256: followed by 64 hexadecimal digits",
            )
        return cls(match[1], match[2])

    @classmethod
    def of(cls, data: ReadableBuffer) -> Self:
        """Return the sha256 digest of *data*."""
        return cls("sha256", hashlib.sha256(data).hexdigest())

    @property
    def short(self) -> str:
        """The first twelve hex digits, for people."""
        return self.hex[:12]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


class VerifyingReader(io.RawIOBase):
    """Pass bytes through, and refuse to end unless they were the promised ones.

    Args:
        source: the unverified stream; closed with this reader.
        digest: what the whole stream must hash to.
        size: how many bytes it must have; None where nobody promised a size.
        what: how to name the content in an error, e.g. ``layer sha256:…``.

    Source: OCI image-spec v1.1, descriptor.md, "Digests" (verification).
    """

    def __init__(self, source: BinaryIO, digest: Digest, size: int | None, what: str) -> None:
        super().__init__()
        self._source = source
        self._digest = digest
        self._size = size
        self._what = what
        self._seen = 0
        self._hash = hashlib.new(digest.algorithm)

    def readable(self) -> bool:
        """Return True: this is a stream to read from."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Read up to *size* bytes; the call that returns ``b""`` has checked them all.

        Raises:
            DigestMismatch: the stream was longer, shorter or different.
        """
        if size is None or size < 0:
            return self.readall()
        if size == 0:
            return b""
        # Never ask for more than one byte beyond the promised size: a hostile
        # registry could otherwise make us buffer an endless blob before we hash it.
        limit = size if self._size is None else min(size, self._size - self._seen + 1)
        chunk = self._source.read(max(limit, 1))
        if chunk:
            self._hash.update(chunk)
            self._seen += len(chunk)
            if self._size is not None and self._seen > self._size:
                raise DigestMismatch(f"{self._what} is longer than the promised {self._size} bytes")
            return chunk
        self._check()
        return b""

    def readall(self) -> bytes:
        """Read to the end, checked."""
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

    def _check(self) -> None:
        if self._size is not None and self._seen != self._size:
            raise DigestMismatch(
                f"{self._what} has {self._seen} bytes instead of the promised {self._size}"
            )
        actual = self._hash.hexdigest()
        if actual != self._digest.hex:
            raise DigestMismatch(
                f"{self._what} has the digest {self._digest.algorithm}:{actual} "
                f"instead of the promised {self._digest}"
            )

    def close(self) -> None:
        """Close the source too."""
        if not self.closed:
            self._source.close()
        super().close()


def read_verified(data: bytes, digest: Digest, what: str) -> bytes:
    """Return *data* if it hashes to *digest*; raise :class:`DigestMismatch` otherwise."""
    return VerifyingReader(io.BytesIO(data), digest, None, what).readall()
