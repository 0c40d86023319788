"""How many requests a registry takes at once, which is found out where it refuses one (429).

Questions mostly wait for the line, so many of them are asked at once, and few registries mind.
One that does would refuse most of them, again and again, until a build has no tries left. So from
the first refusal on there are never more at once than there were beside the refused one.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

TOO_MANY_REQUESTS = 429  # HTTP's status (RFC 6585, section 4)


class Crowd:
    """The requests to one registry that wait for its answers; safe to use from several threads.

    Args:
        longest: seconds that a request waits for others. Then it is sent all the same, for what
            others do may depend on it: bytes that are sent can be those of its answer.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._changed = threading.Condition()
        self._inside: set[int] = set()  # threads: what one asks while it asks is the same request
        self._most = sys.maxsize

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Count a request during the block, which begins when there is room for it."""
        mine = threading.get_ident()
        if mine in self._inside:
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: len(self._inside) < self._most, self._longest)
            self._inside.add(mine)
        try:
            yield
        finally:
            with self._changed:
                self._inside.remove(mine)
                self._changed.notify()

    def shrink(self) -> None:
        """Let there be no more at once than there are now beside the caller's own request."""
        with self._changed:
            self._most = min(self._most, max(len(self._inside) - 1, 1))

    def open(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._most = sys.maxsize
            self._changed.notify_all()
