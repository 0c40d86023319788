"""One file on its way here, in order, through as many requests as it takes.

    one answer ─────────────────────────────▶ bytes in order ─▶ checked at the end
       │ breaks off: asked for the rest (Range, If-Range with a strong tag), or where the server
       │   cannot do that for everything, and what was delivered is passed over if it is the same
       └ is slow, and the server can do that: the rest in parts, by several connections at once

Which of the two ways is taken is decided on the way, by what the first connection brings while
somebody waits for it, and not by the size. Where the line or this program is the bottleneck, it
stays the only one: on loopback it brings 1 GB/s, and four connections half of that, whose threads
take turns. Where a store, or a long way, slows down each single connection, the others are opened
after a tenth of a second of waiting: at 20 MB/s for each, four bring 72 MB/s. What the first one
has brought is used; it is closed, because what it has under way are other parts by then. A part
that cannot be had brings everything back to one answer, which also finds out what is wrong.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from kaniko_core.errors import ContentError, ContextError, RegistryError
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest
from kaniko_core.progress import BytesMoved, Direction, Progress
from kaniko_core.registry.meter import Meter
from kaniko_core.registry.transport import Reply
from kaniko_core.remote.ranges import RangeReader
from kaniko_core.remote.web.bodies import COMPRESSED, batched, body_of, modified
from kaniko_core.remote.web.checks import promised_digest
from kaniko_core.remote.web.requests import BEYOND, PARTIAL, Span, WebSource

if TYPE_CHECKING:
    from hashlib import _Hash

_PIECE = 1 << 20  # bytes that are taken from a part at a time


@dataclass(frozen=True, slots=True)
class Ranges:
    """When and how a file is fetched by several connections.

    Attributes:
        part: bytes that are asked for at a time; twice *at_once* of them are held at most.
        at_once: how many connections.
        least: bytes that must be left for it to pay.
        slow: bytes per second below which one connection is too slow.
        patience: seconds of waiting after which that is judged.
    """

    part: int = 4 << 20
    at_once: int = 4
    least: int = 32 << 20
    slow: float = 64e6
    patience: float = 0.1


class FileChanged(ContextError):  # noqa: N818 - what happened to it
    """The server has another file by now than the one of which bytes were delivered."""


@dataclass(frozen=True, slots=True)
class _Version:
    """What the first answer says of the file; all others must be of the same."""

    size: int | None
    validator: str | None  # a strong tag
    promised: Digest | None
    by_ranges: bool
    led_to: str

    @classmethod
    def of(cls, reply: Reply) -> _Version:
        encoding = reply.headers.get("content-encoding", "").strip().lower()
        plain = encoding in ("", "identity")
        length, tag, accepts = (
            reply.headers.get(name, "") for name in ("content-length", "etag", "accept-ranges")
        )
        # Positions count bytes as they are sent, and only a strong tag means the same bytes.
        usable = encoding not in COMPRESSED and tag.startswith('"')
        return cls(
            size=int(length) if length.isdecimal() and encoding not in COMPRESSED else None,
            validator=tag if usable else None,
            promised=promised_digest(reply.headers) if plain else None,
            by_ranges=plain and tag.startswith('"') and accepts.strip().lower() == "bytes",
            led_to=reply.url,
        )

    def may_be(self, other: _Version) -> bool:
        """Whether nothing tells them apart."""
        return self.size == other.size and self.validator == other.validator


class Download:
    """A file on its way here; the first answer is here when it is made. Close it.

    Args:
        source: where from.
        wanted: the checksum that the user gave.
        ranges: when several connections are used.
        progress: told of bytes that move.

    Attributes:
        mtime_ns: when the file was last modified, as the server says; 0 where it does not.

    Raises:
        RegistryError: it cannot be had.
    """

    def __init__(
        self,
        source: WebSource,
        wanted: Digest | None,
        ranges: Ranges,
        progress: Progress,
    ) -> None:
        self._source = source
        self._wanted = wanted
        self._ranges = ranges
        self._progress = progress
        self._tries = source.tries()
        self._reply: Reply | None = None
        self._chunks: Iterator[bytes] = iter(())
        self._parts: RangeReader | None = None
        self._fetching = source  # for the parts
        self._waited, self._brought = 0.0, 0  # by one connection, since it was judged
        self._done = 0
        self._reply = self._first_reply()
        self._version = _Version.of(self._reply)
        self._chunks = batched(body_of(self._reply))
        self.mtime_ns = modified(self._reply.headers.get("last-modified", ""))
        self._expected = wanted or self._version.promised
        self._hash = self._new_hash()

    @property
    def size(self) -> int | None:
        """How many bytes it has, where the server says it."""
        return self._version.size

    def pieces(self) -> Iterator[bytes]:
        """Yield the file; the end is reached only if it is whole, and what it should be.

        Raises:
            RegistryError: it cannot be had to its end.
            FileChanged: it became another one meanwhile.
            ContextError: it has not the checksum that the user gave.
            ContentError: it has not the one that the server gives.
        """
        name = self._source.url.name
        meter = Meter(self._progress, Direction.PULL, name, self.size or 0)
        while chunk := self._next():
            if self._hash:
                self._hash.update(chunk)
            self._done += len(chunk)
            self._tries.progressed()
            meter.at(self._done)
            yield chunk
        self._disconnect()
        self._check()
        if not self.size:
            self._progress(BytesMoved(Direction.PULL, name, self._done, self._done))

    def close(self) -> None:
        """End the transfer, and its threads."""
        self._disconnect()
        self._end_parts()

    # --- one connection ----------------------------------------------------------------------

    def _first_reply(self) -> Reply:
        while True:
            try:
                return self._source.reply()
            except RegistryError as error:
                self._tries.failed(error)

    def _next(self) -> bytes:
        """Return the next bytes; none at the end."""
        if self._parts is None and self._too_slow():
            self._begin_parts()
        if self._parts is not None:
            try:
                return self._parts.read(_PIECE)
            except (RegistryError, ContextError):
                self._source.go_on()
                self._end_parts()
        while True:
            try:
                return self._from_one()
            except RegistryError as error:
                self._disconnect()
                self._tries.failed(error)

    def _from_one(self) -> bytes:
        began = time.monotonic()
        self._source.go_on()
        if self._reply is None:
            self._reply = self._reply_with_the_rest()
        chunk = next(self._chunks, b"")
        if not chunk and self._done < (self.size or 0):
            raise RegistryError("the connection broke off", temporary=True)
        self._waited += time.monotonic() - began
        self._brought += len(chunk)
        return chunk

    def _reply_with_the_rest(self) -> Reply:
        tag = self._version.validator
        try:
            reply = self._source.reply(Span(self._done, None, tag) if tag and self._done else None)
        except RegistryError as error:
            if error.status != BEYOND:
                raise
            # Nothing was left, of a file whose size the server does not say; or it is confused.
            reply = self._source.reply()
        if reply.status == PARTIAL:
            self._chunks = batched(reply.chunks())
        elif self._version.may_be(_Version.of(reply)):
            self._chunks = batched(self._after_the_delivered(body_of(reply)))
        else:
            reply.close()
            raise self._changed()
        return reply

    def _after_the_delivered(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Pass over what was delivered already, if it is the same."""
        again, left = self._new_hash(), self._done
        while left:
            self._source.go_on()
            chunk = next(chunks, b"")
            if not chunk:
                raise self._changed()
            if again:
                again.update(chunk[:left])
            chunk, left = chunk[left:], max(left - len(chunk), 0)
            if not left and again and self._hash and again.digest() != self._hash.digest():
                raise self._changed()
            if chunk:
                yield chunk
        yield from chunks

    def _changed(self) -> FileChanged:
        return FileChanged(
            f"cannot fetch {self._source.url.name}: the file was changed while it was fetched",
            hint="try again; give every version of a file an address of its own, if you can",
        )

    def _disconnect(self) -> None:
        if self._reply is not None:
            self._reply.close()
        self._reply = None

    # --- several connections -----------------------------------------------------------------

    def _too_slow(self) -> bool:
        """Judge the one connection, where others would be of use."""
        size = self.size or 0
        if not self._version.by_ranges or size - self._done < self._ranges.least:
            return False
        if self._waited < self._ranges.patience:
            return False
        slow = self._brought < self._ranges.slow * self._waited
        self._waited, self._brought = 0.0, 0
        return slow

    def _begin_parts(self) -> None:
        self._disconnect()
        # Of their own, so that they can be ended while the file is still wanted.
        self._fetching = replace(self._source, ended=threading.Event())
        self._parts = RangeReader(
            self._part,
            self.size or 0,
            start=self._done,
            part=self._ranges.part,
            at_once=self._ranges.at_once,
            stopped=self._source.stopped,
        )

    def _end_parts(self) -> None:
        """Leave it to one connection from now on."""
        self._version = replace(self._version, by_ranges=False)
        if self._parts is not None:
            self._fetching.ended.set()
            self._parts.close()
        self._parts = None

    def _part(self, start: int, end: int) -> bytearray:
        """Fetch a part; called by other threads."""
        part = bytearray()
        tries = self._fetching.tries()
        while len(part) < end - start:
            before = len(part)
            try:
                self._receive(part, Span(start + before, end, self._version.validator or ""))
            except RegistryError as error:
                if len(part) > before:
                    tries.progressed()
                tries.failed(error)
        return part

    def _receive(self, part: bytearray, span: Span) -> None:
        reply = self._fetching.reply(span, self._version.led_to)
        try:
            if reply.status != PARTIAL:
                raise RegistryError("the server sends the whole file instead of a part")
            wanted = len(part) + (span.end or 0) - span.start
            for chunk in reply.chunks():
                self._fetching.go_on()
                part += chunk
                if len(part) > wanted:
                    raise RegistryError("the server sends more than it was asked for")
        finally:
            reply.close()
        if len(part) < wanted:
            raise RegistryError("the connection broke off", temporary=True)

    # --- checks ------------------------------------------------------------------------------

    def _new_hash(self) -> _Hash | None:
        """Begin to compute what is needed, and nothing else, because that takes its time."""
        if self._expected is not None:
            algorithm = self._expected.algorithm
            return hashlib.new(algorithm, usedforsecurity=algorithm != "md5")
        # To compare with what comes when everything has to be asked for again; a tag says it too.
        return hashlib.sha256() if self._version.validator is None else None

    def _check(self) -> None:
        expected = self._expected
        if expected is None or self._hash is None:
            return
        found, name = Digest(expected.algorithm, self._hash.hexdigest()), self._source.url.name
        if found == expected:
            return
        if self._wanted:
            raise ContextError(
                f"{name} has the checksum {found} instead of the expected {expected}",
                hint="it was changed since, or is another file; make sure that you want "
                "this one before you write its checksum down",
            )
        raise ContentError(
            f"{name} was damaged on its way: it has the checksum {found}, and the server says "
            f"{expected}",
            hint="try again; a proxy on the way, or the server, may be at fault",
        )
