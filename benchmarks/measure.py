"""What commands cost: seconds, and processor time, memory and disk of all their descendants.

Nothing is added to a command to measure it. Processor time and disk are what the kernel counted
for the children that ended, and theirs (``getrusage``), so a process that lives for a millisecond
counts as well. Memory is sampled from outside, from the tree of ``/proc/PID/task/TID/children``.
What a command leaves running is ours to wait for, or to end where the measurement broke off.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_SAMPLE_SECONDS = 0.05
_LONGEST_SECONDS = 900.0  # a builder that hangs must not hold up the others for ever
_GRACE_SECONDS = 10.0
_BLOCK = 512  # bytes: the unit of ru_oublock, whatever the file system
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class Cost:
    """What a sequence of commands cost.

    Attributes:
        seconds: wall clock.
        cpu: user and system seconds of the whole process tree.
        memory: the largest sum, over the tree, of proportional set sizes seen, in bytes.
        largest: the largest resident set of any single process, in bytes (0 if unknown).
        disk: bytes that the tree wrote to files on block devices, whether or not they were
            removed before they reached the device. A file system in memory has none: 0.
        network: bytes over the network in both directions, headers included.
        requests: what the registry answered.
        blobs: layers among that which were downloaded.
        pushed: bytes of the layers that the result has above its base.
    """

    seconds: float
    cpu: float
    memory: int
    largest: int
    disk: int = 0
    network: int = 0
    requests: int = 0
    blobs: int = 0
    pushed: int = 0


class CommandError(Exception):
    """A measured command failed."""


def adopt_orphans() -> None:
    """Become the reaper of descendants: so daemons and orphans of a command count as well."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def measure(
    commands: Sequence[Sequence[str]], *, env: Mapping[str, str], log: Path, aside: frozenset[int]
) -> Cost:
    """Run *commands* one after another and return what they cost together.

    Args:
        commands: command lines; none may fail.
        env: the whole environment.
        log: takes what the commands write.
        aside: our own other children (the registry), which are not counted; nor is what else
            runs already, and all that they start.

    Raises:
        CommandError: a command ended with another status than 0; the message has its last lines.
    """
    # Whatever runs already is none of the commands': not to be counted, waited for or ended.
    aside |= frozenset(_descendants(os.getpid(), aside))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    sampler = _Sampler(aside)
    start = time.monotonic()
    try:
        with log.open("wb") as stream, sampler:
            for command in commands:
                _run(command, env, stream, log)
            seconds = time.monotonic() - start
        _reap_orphans(aside)
    except BaseException:
        end_descendants(aside)
        raise
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    disk = (after.ru_oublock - before.ru_oublock) * _BLOCK
    return Cost(seconds, cpu, sampler.peak, sampler.largest, disk)


def _run(command: Sequence[str], env: Mapping[str, str], stream: IO[bytes], log: Path) -> None:
    try:
        process = subprocess.Popen(
            list(command), env=dict(env), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
        )
    except FileNotFoundError:
        raise CommandError(f"{command[0]} is not installed") from None
    # Not wait(timeout=…), which looks every 50 ms only: a short build would be as long as that.
    limit = threading.Timer(_LONGEST_SECONDS, process.kill)
    limit.daemon = True
    started = time.monotonic()
    limit.start()
    try:
        status: object = process.wait()
    finally:
        limit.cancel()
    if time.monotonic() - started > _LONGEST_SECONDS:
        status = f"nothing after {_LONGEST_SECONDS:.0f} seconds"
    if status != 0:
        last = log.read_text(errors="replace").splitlines()[-15:]
        raise CommandError(f"{' '.join(command)}\nended with {status}:\n" + "\n".join(last))


def _reap_orphans(aside: frozenset[int]) -> None:
    """Wait for descendants that outlived their parents; only then is their time known."""
    deadline = time.monotonic() + _GRACE_SECONDS
    while left := _descendants(os.getpid(), aside):
        _reap(left)
        if time.monotonic() > deadline:
            end_descendants(aside)
        time.sleep(0.01)


def end_descendants(aside: frozenset[int]) -> None:
    """Let everything that was started, but what is in *aside*, end: in good order, or by force."""
    deadline = time.monotonic() + _GRACE_SECONDS
    told: set[int] = set()
    while left := _descendants(os.getpid(), aside):
        late = time.monotonic() > deadline
        for pid in left:
            if late or pid not in told:
                told.add(pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        _reap(left)
        time.sleep(0.01)


def _reap(pids: Iterable[int]) -> None:
    """Take note of those that ended; the children of others are theirs to take note of."""
    for pid in pids:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _descendants(top: int, aside: frozenset[int]) -> list[int]:
    """List all processes below *top*, except those in *aside* and what is below them."""
    found: list[int] = []
    waiting = [top]
    while waiting:
        below = [pid for pid in _children(waiting.pop()) if pid not in aside]
        found += below
        waiting += below
    return found


def _children(pid: int) -> list[int]:
    """List the children of all threads of a process; none if it ended."""
    children: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), Path(f"/proc/{pid}/task/{thread}/children").open() as file:
                children += map(int, file.read().split())
    return children


class _Sampler:
    """Looks at the memory of our descendants every 50 ms, from a thread."""

    def __init__(self, aside: frozenset[int]) -> None:
        self.peak = 0
        self.largest = 0
        self._aside = aside
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(_SAMPLE_SECONDS):
            total = 0
            for pid in _descendants(os.getpid(), self._aside):
                resident, proportional = _memory(pid)
                total += proportional
                self.largest = max(self.largest, resident)
            self.peak = max(self.peak, total)


def _memory(pid: int) -> tuple[int, int]:
    """Return the resident and proportional set size of a process, in bytes; 0 if it ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0, 0
    sizes = dict(line.split(":", 1) for line in text.splitlines()[1:])
    return tuple(int(sizes[name].split()[0]) * 1024 for name in ("Rss", "Pss"))  # type: ignore[return-value]
