"""End everything below this process: daemons, orphans, and whatever they still start.

Where there is no PID namespace whose end the kernel would turn into theirs, a process that
adopts orphans (``linux.adopt_orphans``) can do it itself: nothing below it can get away from
it, neither to another session nor by forking twice.
"""

from __future__ import annotations

import os
from contextlib import suppress
from time import sleep

TYPE_CHECKING = False  # typing's own constant would cost an import of typing
if TYPE_CHECKING:
    from collections.abc import Collection

_SIGKILL = 9
_SIGSTOP = 19
_FIRST_PAUSE = 0.0005  # seconds for the killed to go; doubled until the longest
_LONGEST_PAUSE = 0.05


def end_descendants(spared: Collection[int] = ()) -> None:
    """Kill and reap every process below this one; return when there is none.

    Args:
        spared: children that are left alone, with all that is below them.
    """
    pause = _FIRST_PAUSE
    while spared or not _childless():
        # A process that was only stopped cannot fork any more, nor make room for others to.
        found = _stop_all(spared)
        if spared and not found:
            return
        for pid in found:
            _signal(pid, _SIGKILL)
        for pid in found:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _stop_all(spared: Collection[int]) -> set[int]:
    """Stop every descendant until no other shows up; return them, zombies too."""
    this = os.getpid()
    family, strangers = {this}, {*spared}
    grown = True
    while grown:
        grown = False
        for name in os.listdir("/proc"):
            if not name.isdigit() or (pid := int(name)) in family or pid in strangers:
                continue
            parent = _parent(pid)
            if parent in family:
                # At once: the next moment it may have handed over to a child, and be gone.
                _signal(pid, _SIGSTOP)
                family.add(pid)
                grown = True
            elif parent in strangers or parent == 0:
                strangers.add(pid)
    return family - {this}


def _parent(pid: int) -> int | None:
    """Return the parent of *pid*; None when it is gone.

    Source: proc(5), /proc/[pid]/stat: the name, in parentheses, may contain anything.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123 - quicker
            return int(file.read(4096).rpartition(b")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _childless() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False
