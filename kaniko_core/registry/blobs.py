"""One blob's bytes, in order, of as many answers as it takes.

    socket ─▶ BlobStream ─▶ …
       │      asks again for what is missing (Range), or, where the registry cannot do that,
       │      for everything, and passes over what was delivered already
       └─ is slow: what comes later is fetched meanwhile by other connections (``ahead.py``)

Nothing here is believed: the digest is computed above, so bytes of two answers that do not belong
together are found out as a lie would be.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from kaniko_core.errors import NotFound, RegistryError
from kaniko_core.registry.ahead import Ahead, Lanes, Speed, first_position
from kaniko_core.registry.meter import Meter
from kaniko_core.registry.session import Request, Session
from kaniko_core.registry.transport import Reply

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class BlobStream(io.RawIOBase):
    """The unverified bytes of one blob, of as many answers as it takes.

    Args:
        session: carries the requests.
        request: for the whole blob.
        size: how many bytes it has.
        lanes: the connections that it may share.
        meter: told how far it is.
    """

    def __init__(
        self, session: Session, request: Request, size: int, lanes: Lanes, meter: Meter | None
    ) -> None:
        super().__init__()
        self._session = session
        self._request = request
        self._size = size
        self._meter = meter
        self._reply: Reply | None = None
        self._chunks: Iterator[bytes] = iter(())
        self._lanes = lanes
        self._ahead = Ahead(lanes, size, session.go_on)
        self._speed = Speed(lanes.haste)
        self._rest = memoryview(b"")
        self._done = 0  # bytes given to the reader, or kept in _rest
        self._failures = 0  # in a row, without a byte of progress in between

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Return some bytes, at most *size*; empty at the end.

        Raises:
            RegistryError: after all retries.
        """
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        if not self._rest:
            chunk = self._next()
            if len(chunk) <= size:
                return chunk
            self._rest = memoryview(chunk)
        piece, self._rest = bytes(self._rest[:size]), self._rest[size:]
        return piece

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read into *buffer*, as :meth:`read` does."""
        view = memoryview(buffer).cast("B")
        chunk = self.read(len(view))
        view[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        """Drop the connection, unless everything was read."""
        self._drop()
        self._ahead.give_up()
        super().close()

    def _next(self) -> bytes:
        while True:
            try:
                chunk = self._arriving()
            except RegistryError as error:
                self._drop()
                self._require_another_try(error)
                last = error
            else:
                self._count(chunk)
                return chunk
            self._session.rest_after(last, self._failures)
            self._failures += 1

    def _arriving(self) -> bytes:
        """Return the next bytes, from wherever they come; none at the end."""
        if (piece := self._ahead.read(self._done)) is not None:
            return piece
        if self._reply is None and not self._open():
            return b""
        chunk = self._from_one()
        if not chunk and self._done < self._size:
            raise self._broken_off()
        # Where a part begins, the rest of this answer is of no use any more.
        return chunk[: max(self._ahead.begins - self._done, 0)] if self._ahead.under_way else chunk

    def _from_one(self) -> bytes:
        """Return the next bytes of the answer, and have others fetched ahead if it is slow."""
        reply = self._reply
        assert reply is not None
        if self._ahead.under_way:
            self._ahead.go_on()
        if not self._ahead.pays(self._done) or not _by_ranges(reply):
            return next(self._chunks, b"")
        idle, began = not reply.has_arrived, time.monotonic()
        chunk = next(self._chunks, b"")
        # Waiting for a turn of the interpreter's, with bytes at hand, says nothing of the line.
        self._speed.note(time.monotonic() - began if idle else 0.0, len(chunk))
        if self._speed.too_slow:
            self._ahead.begin(self._done, partial(self._ask_range, reply.url))
        return chunk

    def _ask_range(self, url: str, start: int, end: int) -> Reply:
        """Ask for a part where the first answer came from; called by other threads."""
        self._session.go_on()
        headers = {"Range": f"bytes={start}-{end - 1}"}
        return self._session.open(replace(self._request, target=url, headers=headers))

    def _require_another_try(self, error: RegistryError) -> None:
        try:
            self._session.require_another_try(error, self._failures)
        except RegistryError:
            raise self._named(error) from error

    def _count(self, chunk: bytes) -> None:
        self._done += len(chunk)
        if self._ahead.under_way and self._done == self._ahead.begins:
            self._drop()
        if chunk:
            self._failures = 0
            self._session.go_on()
            if self._meter is not None:
                self._meter.at(self._done)
        else:
            self._drop()

    def _open(self) -> bool:
        """Ask for the bytes from ``_done`` on; return False where none are left."""
        if self._done and self._done >= self._size:
            return False
        reply = self._session.open(self._ranged())
        self._reply = reply
        self._lanes.occupy()
        if reply.status == 206 and first_position(reply) == self._done:
            self._chunks = reply.chunks()
        elif reply.status == 200:
            self._chunks = _skipping(reply.chunks(), self._done)
        else:
            raise self._refused(reply)
        return True

    def _ranged(self) -> Request:
        if not self._done:
            return self._request
        return replace(self._request, headers={"Range": f"bytes={self._done}-"})

    def _refused(self, reply: Reply) -> RegistryError:
        error = self._session.refused_reply(reply, self._request)
        if reply.status == 404:
            registry = self._request.repository.registry
            return NotFound(
                f"cannot {self._request.doing}: {registry} does not have it, "
                "though the manifest lists it",
                status=404,
                code=error.code,
                hint="the registry may have lost it; push the image again, or use another tag",
            )
        return error

    def _broken_off(self) -> RegistryError:
        host = self._request.repository.host
        return RegistryError(f"the connection to {host} broke off", temporary=True)

    def _named(self, error: RegistryError) -> RegistryError:
        """Say which transfer failed, where the error only says what the network did."""
        if error.status is not None or str(error).startswith(f"cannot {self._request.doing}"):
            return error
        so_far = f" after {self._done} of {self._size} bytes" if self._done else ""
        return RegistryError(
            f"cannot {self._request.doing}: {error}{so_far}",
            temporary=error.temporary,
            hint=error.hint,
        )

    def _drop(self) -> None:
        reply, self._reply = self._reply, None
        self._chunks = iter(())
        if reply is not None:
            self._lanes.give_back()
            reply.close()


def _by_ranges(reply: Reply) -> bool:
    """Whether the server gives parts of it."""
    accepts = reply.headers.get("accept-ranges", "")
    return reply.status == 206 or accepts.strip().lower() == "bytes"


def _skipping(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    for chunk in chunks:
        if count >= len(chunk):
            count -= len(chunk)
        elif count:
            yield chunk[count:]
            count = 0
        else:
            yield chunk
