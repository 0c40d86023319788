"""Whether a program still moves: git's own protocol and ssh know no end of waiting.

What counts is what the programs of a session read and write, whatever the other side is, and the
time that they compute. ssh does not count: it says that it is there even if nothing comes.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

_LOOK = 5.0  # seconds between two looks
# Who computes less, as a part of the time, is waiting, and looks around meanwhile.
_WAITING = 0.1
_PROC = Path("/proc")
_SILENT = ("ssh",)


class Watch:
    """Looks at the programs of a session.

    Args:
        session: the process that began it.
        patience: seconds without a byte after which it is stuck.
    """

    def __init__(self, session: int, patience: float) -> None:
        self._session = session
        self._patience = patience
        self._every = min(_LOOK, patience / 2)
        self._moved = self._looked = time.monotonic()
        self._bytes: int | None = None
        self._seconds = 0.0

    def is_stuck(self) -> bool:
        """Whether nothing has moved for too long; may be asked often."""
        now = time.monotonic()
        passed = now - self._looked
        if passed < self._every:
            return False
        amount, seconds = _of_session(self._session)
        computes = seconds - self._seconds > passed * _WAITING
        if amount is None or amount != self._bytes or computes:
            self._moved = now
        self._looked, self._bytes, self._seconds = now, amount, seconds
        return now - self._moved >= self._patience


def _of_session(session: int) -> tuple[int | None, float]:
    """Return how many bytes its programs have moved, and how many seconds they have computed.

    Without what the kernel says about processes, nobody knows the bytes.
    """
    amount, ticks = None, 0
    # Processes may end meanwhile, or hide.
    with suppress(OSError):
        for number in filter(str.isdecimal, os.listdir(_PROC)):
            with suppress(OSError):
                head, _, rest = (_PROC / number / "stat").read_text("latin-1").rpartition(")")
                fields = rest.split()
                silent = head.partition("(")[2] in _SILENT and int(number) != session
                if silent or int(fields[3]) != session:
                    continue
                lines = (_PROC / number / "io").read_text().splitlines()
                counts = dict(line.split(": ") for line in lines)
                amount = (amount or 0) + int(counts["rchar"]) + int(counts["wchar"])
                ticks += int(fields[11]) + int(fields[12])
    return amount, ticks / os.sysconf("SC_CLK_TCK")
