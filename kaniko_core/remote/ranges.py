"""A file delivered in order, from ranges of it that several threads fetch ahead.

    delivered │ being read │ fetched, fetched, under way, under way, … │ not asked for yet
              └──────────── the window: twice *at_once* parts ────────┘

The next part is asked for when one was delivered, so that the window bounds what is held however
slow the reader is. It is wider than what is fetched at once, so that one slow part does not make
the other threads wait for it at once. What is fetched, and how often it is tried, is the
business of whoever gives *fetch*.
"""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from kaniko_core.errors import ContextError
from kaniko_core.remote.incoming import PieceStream

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Returns the bytes from the first position up to, and without, the second.
FetchRange = Callable[[int, int], bytes | bytearray]

_GLANCE = 0.2  # seconds after which a reader that waits looks whether everything was given up


class RangeReader(io.RawIOBase):
    """Read a file of known size in order; the first read starts the threads.

    Reads may be short: none goes beyond a part. An error of *fetch* is raised by the read that
    comes to that part, not before, and by each one after it. Closing asks for nothing more and
    returns when all threads have ended: a *fetch* that may last should look at an event of its
    own that is set first.

    Args:
        fetch: called from several threads; must return exactly the bytes that it is asked for.
        size: of the whole file, in bytes.
        start: the position of the first byte to be delivered.
        part: how many bytes are asked for at a time; the last part is smaller.
        at_once: how many threads fetch; at most twice as many parts are held.
        stopped: set by whoever gives everything up; reads then raise a ContextError.
    """

    def __init__(
        self,
        fetch: FetchRange,
        size: int,
        *,
        start: int = 0,
        part: int,
        at_once: int,
        stopped: threading.Event,
    ) -> None:
        super().__init__()
        self._fetch = fetch
        self._size = size
        self._asked = start
        self._part = part
        self._window = 2 * at_once
        self._stopped = stopped
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="range")
        self._parts: deque[Future[bytes | bytearray]] = deque()
        self._stream = PieceStream(self._in_order(), self._end)

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to *size* bytes, or all that are left; ``b""`` at the end.

        Raises:
            Exception: what *fetch* raised.
            ContextError: everything was given up.
        """
        return self._stream.read(size)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read into *buffer*, as :meth:`read` does."""
        return self._stream.readinto(buffer)

    def close(self) -> None:
        """End everything; return when the threads have ended."""
        self._stream.close()
        super().close()

    def _end(self) -> None:
        self._parts.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _in_order(self) -> Iterator[bytes | bytearray]:
        while True:
            while self._asked < self._size and len(self._parts) < self._window:
                end = min(self._asked + self._part, self._size)
                self._parts.append(self._pool.submit(self._exactly, self._asked, end))
                self._asked = end
            if not self._parts:
                return
            yield self._awaited()

    def _awaited(self) -> bytes | bytearray:
        part = self._parts.popleft()
        while not self._stopped.is_set():
            if wait([part], _GLANCE).done:
                return part.result()
        raise ContextError("the transfer was cancelled")

    def _exactly(self, start: int, end: int) -> bytes | bytearray:
        part = self._fetch(start, end)
        if len(part) != end - start:
            raise ContextError(
                f"a part of a file has {len(part)} bytes instead of the expected {end - start}"
            )
        return part
