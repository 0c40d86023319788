"""Checksums that stores keep of their objects, and streams that are compared with them.

S3      x-amz-checksum-sha256, -sha1, -crc32, where they are of the whole object; else the
        ETag, which is the MD5 of what was sent in one piece and is not encrypted with a key
        of the customer's
GCS     x-goog-hash: md5=…
Azure   Content-MD5
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from kaniko_core.addresses.archives import Store
from kaniko_core.errors import ContentError
from kaniko_core.lean import dataclass
from kaniko_core.progress import Direction, Progress
from kaniko_core.registry.meter import Meter

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_MD5_TAG = re.compile(r'"?([0-9a-f]{32})"?')
# The best first.
_AMAZON = (("SHA-256", "sha256", 32), ("SHA-1", "sha1", 20), ("CRC-32", "crc32", 4))
_MD5_SIZE = 16  # bytes


@dataclass(frozen=True, slots=True)
class Checksum:
    """What an object's bytes add up to: the algorithm, as people name it, and the hex digits."""

    algorithm: str
    hex: str


class _Sum(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


class _Crc32:
    """A CRC-32 with the manners of :mod:`hashlib`."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


def checksum_of(store: Store, headers: Mapping[str, str]) -> Checksum | None:
    """Return the checksum in the answer to a HEAD, whose header names are in lower case."""
    match store:
        case Store.S3:
            return _amazons(headers)
        case Store.GCS:
            return _decoded("MD5", _google_md5(headers.get("x-goog-hash", "")), _MD5_SIZE)
        case Store.AZURE:
            return _decoded("MD5", headers.get("content-md5", ""), _MD5_SIZE)


def _amazons(headers: Mapping[str, str]) -> Checksum | None:
    whole = headers.get("x-amz-checksum-type", "FULL_OBJECT") == "FULL_OBJECT"
    for algorithm, name, size in _AMAZON:
        # Those of several parts end with their number, and are no base64.
        found = _decoded(algorithm, headers.get(f"x-amz-checksum-{name}", ""), size)
        if whole and found is not None:
            return found
    encryption = headers.get("x-amz-server-side-encryption", "")
    customers = "x-amz-server-side-encryption-customer-algorithm" in headers
    tag = _MD5_TAG.fullmatch(headers.get("etag", ""))
    if tag is None or customers or encryption not in ("", "AES256"):
        return None
    return Checksum("MD5", tag[1])


def _google_md5(text: str) -> str:
    parts = (part.strip() for part in text.split(","))
    return next((part.removeprefix("md5=") for part in parts if part.startswith("md5=")), "")


def _decoded(algorithm: str, text: str, size: int) -> Checksum | None:
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return Checksum(algorithm, digest.hex()) if len(digest) == size else None


def _sum(algorithm: str) -> _Sum:
    if algorithm == "CRC-32":
        return _Crc32()
    name = algorithm.replace("-", "").lower()
    return hashlib.new(name, usedforsecurity=False)


class VerifiedReader(io.RawIOBase):
    """Pass an object's bytes on, tell of them, and refuse to end unless they are the right ones.

    The last bytes of a damaged object are not passed on.

    Args:
        source: the bytes; closed with this.
        name: of the object, for people.
        size: of the object, in bytes.
        checksum: None where there is none.
        progress: told of bytes that move.
        ending: called first when this is closed.
    """

    def __init__(
        self,
        source: io.RawIOBase,
        name: str,
        size: int,
        *,
        checksum: Checksum | None,
        progress: Progress,
        ending: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        super().__init__()
        self._source = source
        self._name = name
        self._size = size
        self._checksum = checksum
        self._sum = _sum(checksum.algorithm) if checksum else None
        self._meter = Meter(progress, Direction.PULL, name, size)
        self._ending, self._ended = ending, ended
        self._done = 0
        self._verified = False

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to *size* bytes, or all that are left; ``b""`` at the end.

        Raises:
            ContentError: the bytes are not those that the store took.
        """
        if size is None or size < 0:
            return self.readall()
        chunk = self._source.read(size) or b""
        self._done += len(chunk)
        if self._sum is not None:
            self._sum.update(chunk)
        if chunk or not self._verified:
            if self._done == self._size:
                self._verify()
            self._meter.at(self._done)
        return chunk

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read into *buffer*, as :meth:`read` does."""
        view = memoryview(buffer).cast("B")
        chunk = self.read(len(view))
        view[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        """End the transfer."""
        if not self.closed:
            self._ending()
            self._source.close()
            self._ended()
        super().close()

    def _verify(self) -> None:
        self._verified = True
        if self._sum is None or self._checksum is None:
            return
        actual = self._sum.hexdigest()
        if actual != self._checksum.hex:
            self._verified = False
            raise ContentError(
                f"{self._name} was damaged on the way: its {self._checksum.algorithm} is {actual} "
                f"instead of {self._checksum.hex}",
                hint="fetch it once more; if that does not help, it is damaged in the store",
            )
