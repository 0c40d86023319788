"""Parts of a blob that are on their way, by connections of their own, before they are read.

    delivered │ being read, from the first answer │ part │ part │ part │ not asked for yet
                                                  └─ each fetched ahead, and kept ──┘

One connection is what a blob begins with. Where the line or this program is the bottleneck it
stays the only one: on loopback it brings 1 GB/s, and several bring less, for their threads take
turns. Where a registry, its store, or a long way slows down each single connection, the others
bring as much again. Which of the two it is shows on the way: by what one connection brings while
its socket is empty and somebody waits. Time that is spent on the bytes is not counted.

The parts are read in their order, as the first answer is, so nothing above knows of them, and a
part is given up with the bytes that it holds when it is read. All blobs of a registry share the
connections: a few images at once leave little to fetch ahead, a single large layer has them all.
That bounds both what a registry is asked at once and what is held in memory: ``most`` times
``part``. A blob's own connection needs no leave, so nobody ever waits for another's.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial

from kaniko_core.errors import KanikoError, RegistryError
from kaniko_core.lean import dataclass
from kaniko_core.registry.failures import Busy
from kaniko_core.registry.transport import Reply

_GLANCE = 0.2  # seconds after which a reader that waits looks whether everything was given up
_SMALL = 4096  # bytes; what arrives in smaller pieces is put together

# Asks for the bytes from the first position up to, and without, the second.
AskRange = Callable[[int, int], Reply]


@dataclass(frozen=True, slots=True)
class Haste:
    """When and how a blob is fetched by several connections.

    Attributes:
        most: connections for all blobs together, that of each blob itself included.
        part: bytes that are asked for at a time. Each costs a round trip, in which its
            connection brings nothing.
        least: bytes that must be left for it to pay.
        slow: bytes per second below which one connection is too slow.
        patience: seconds of waiting after which that is judged; at 0 it is, unseen.
        failures: parts that may come to nothing before a blob is left to one connection.
    """

    most: int = 8
    part: int = 8 << 20
    least: int = 24 << 20
    slow: float = 64e6
    patience: float = 0.1
    failures: int = 3


class Lanes:
    """The connections that all blobs share; safe to use from several threads."""

    def __init__(self, haste: Haste | None = None) -> None:
        self.haste = haste or Haste()
        self._lock = threading.Lock()
        self._free = self.haste.most

    def occupy(self) -> None:
        """Count a blob's own connection, be one free or not."""
        with self._lock:
            self._free -= 1

    def take(self) -> bool:
        """Count one more connection if one is free; say whether it was."""
        with self._lock:
            free = self._free > 0
            self._free -= free
        return free

    def give_back(self) -> None:
        """Count one connection less."""
        with self._lock:
            self._free += 1


class Speed:
    """What one connection brings while it is waited for.

    The longest wait does not count: a registry that stops for a moment is not a slow line.
    """

    def __init__(self, haste: Haste) -> None:
        self._haste = haste
        self._waited, self._longest, self._brought = 0.0, 0.0, 0

    def note(self, seconds: float, count: int) -> None:
        """Count *count* bytes, for which was waited so long."""
        self._waited += min(seconds, self._longest)
        self._longest = max(seconds, self._longest)
        self._brought += count

    @property
    def too_slow(self) -> bool:
        """Whether the time has come to judge, and it is; the next judgement begins anew."""
        if not self._haste.patience:
            return True
        if self._waited < self._haste.patience:
            return False
        slow = self._brought < self._haste.slow * self._waited
        self._waited, self._longest, self._brought = 0.0, 0.0, 0
        return slow


class _Part:
    """The bytes from *start* up to *end*, which another thread fetches."""

    def __init__(self, start: int, end: int, lanes: Lanes) -> None:
        self.start, self.end = start, end
        self._lanes = lanes
        self._pieces: deque[bytes] = deque()
        self._changed = threading.Condition()
        self.error: Exception | None = None
        self._fetched = False  # or will not be
        self._left = False  # by the reader

    def fetch(self, ask: AskRange) -> None:
        """Fetch everything, unless the reader leaves; never raises."""
        try:
            if not self._left:
                self._receive(ask(self.start, self.end))
        except Exception as error:  # the reader's thread raises it
            self.error = error
        with self._changed:
            self._fetched = True
            self._changed.notify()
            over = self._left
        if over:
            self._lanes.give_back()

    def read(self, go_on: Callable[[], None]) -> bytes:
        """Return the next bytes, waiting for them.

        Args:
            go_on: raises where everything was given up.

        Raises:
            RegistryError: they do not come.
        """
        with self._changed:
            while not self._pieces and not self._fetched:
                self._changed.wait(_GLANCE)
                go_on()
            if self._pieces:
                return self._pieces.popleft()
        if self.error is not None:
            raise self.error
        raise RegistryError("the connection broke off", temporary=True)

    def leave(self) -> None:
        """Want nothing more of it."""
        with self._changed:
            self._left = True
            self._pieces.clear()
            over = self._fetched
        if over:
            self._lanes.give_back()

    def _receive(self, reply: Reply) -> None:
        missing = self.end - self.start
        try:
            if reply.status != 206 or first_position(reply) != self.start:
                raise RegistryError("the registry sends something else instead of a part")
            for piece in reply.chunks():
                missing -= len(piece)
                if missing < 0:
                    raise RegistryError("the registry sends more than it was asked for")
                with self._changed:
                    if self._left:
                        return
                    # A registry may send single bytes, and an object for each would be too much.
                    small = self._pieces and len(self._pieces[-1]) < _SMALL
                    self._pieces.append(self._pieces.pop() + piece if small else piece)
                    self._changed.notify()
        finally:
            reply.close()


class Ahead:
    """The parts of one blob; for one thread.

    Args:
        lanes: shared with all other blobs.
        size: of the whole blob, in bytes.
        go_on: raises where everything was given up.
    """

    def __init__(self, lanes: Lanes, size: int, go_on: Callable[[], None]) -> None:
        self._lanes = lanes
        self._haste = lanes.haste
        self._size = size
        self._check = go_on
        self._ask: AskRange | None = None
        self._parts: deque[_Part] = deque()
        self._asked = size
        self._failures = 0
        self._at = 0  # within the first part

    @property
    def begins(self) -> int:
        """Where the first part begins that is not yet being read, or the blob's end."""
        return self._parts[0].start if self._parts else self._size

    @property
    def under_way(self) -> bool:
        """Whether there are parts."""
        return bool(self._parts)

    def pays(self, position: int) -> bool:
        """Whether there is enough left from *position* on, and nothing under way."""
        left = self._size - position
        return not self._parts and left >= self._haste.least and self._tolerable

    def begin(self, position: int, ask: AskRange) -> None:
        """Ask for what comes a part's length behind *position*, if connections are free."""
        self._ask = ask
        self._asked = position + self._haste.part
        self.extend()

    def extend(self) -> None:
        """Ask for more, behind what was asked for, on all connections that are free."""
        ask = self._ask
        assert ask is not None
        while self._asked < self._size and self._lanes.take():
            end = min(self._asked + self._haste.part, self._size)
            part = _Part(self._asked, end, self._lanes)
            # Not waited for: whoever reads on does not care how a server ends its answer.
            thread = threading.Thread(target=partial(part.fetch, ask), name="ahead", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # A container may have no more of them. What there is goes on without.
                self._lanes.give_back()
                self._failures = self._haste.failures
                return
            self._parts.append(part)
            self._asked = end

    def go_on(self) -> None:
        """Do as :meth:`extend` does, for whoever still reads the answer before the first part.

        Where a part has failed by now, all of them are given up: that answer has their bytes, too,
        and a registry that refuses a part need not be asked for anything else.
        """
        for part in self._parts:
            if isinstance(part.error, KanikoError):
                self._fail(part.error)
                return
        self.extend()

    def read(self, position: int) -> bytes | None:
        """Return the next bytes where they are a part's, or None where they are not.

        None, too, where such a part has failed: then all of them are given up.
        """
        if not self._parts or self._parts[0].start + self._at != position:
            return None
        self.extend()
        first = self._parts[0]
        try:
            piece = first.read(self._check)
        except KanikoError as error:
            self._fail(error)
            self._check()
            return None
        self._at += len(piece)
        if position + len(piece) == first.end:
            self._parts.popleft().leave()
            self._at = 0
            self.extend()
        return piece

    def give_up(self) -> None:
        """Want nothing more of any part; their threads end by themselves."""
        while self._parts:
            self._parts.popleft().leave()
        self._at = 0

    def _fail(self, error: Exception) -> None:
        # Who says that it is asked too much is not asked that way again.
        self._failures += self._haste.failures if isinstance(error, Busy) else 1
        self.give_up()

    @property
    def _tolerable(self) -> bool:
        return self._failures < self._haste.failures


def first_position(reply: Reply) -> int:
    """Return the first byte's position of a 206, or -1 where it does not say."""
    text = reply.headers.get("content-range", "")
    start = text.removeprefix("bytes").strip().partition("-")[0]
    return int(start) if start.isdecimal() else -1
