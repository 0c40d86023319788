"""What commands cost: seconds, processor time of all their descendants, and peak memory."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_SAMPLE_SECONDS = 0.05
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class Cost:
    """What a sequence of commands cost.

    Attributes:
        seconds: wall clock.
        cpu: user and system seconds of the whole process tree.
        memory: the largest sum, over the tree, of proportional set sizes seen, in bytes.
        largest: the largest resident set of any single process, in bytes (0 if unknown).
    """

    seconds: float
    cpu: float
    memory: int
    largest: int


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
        aside: our own other children (the registry), which are not counted.

    Raises:
        CommandError: a command ended with another status than 0; the message has its last lines.
    """
    before = _children_seconds()
    sampler = _Sampler(aside)
    start = time.monotonic()
    with log.open("wb") as stream, sampler:
        for command in commands:
            _run(command, env, stream, log)
        seconds = time.monotonic() - start
    _reap_orphans(aside)
    cpu = _children_seconds() - before
    return Cost(seconds, cpu, sampler.peak, sampler.largest)


def _run(command: Sequence[str], env: Mapping[str, str], stream: IO[bytes], log: Path) -> None:
    status = subprocess.run(
        list(command),
        check=False,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=stream,
        stderr=stream,
    ).returncode
    if status != 0:
        last = log.read_text(errors="replace").splitlines()[-15:]
        raise CommandError(f"{' '.join(command)}\nended with {status}:\n" + "\n".join(last))


def _children_seconds() -> float:
    """Sum the processor time of all children that ended, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _reap_orphans(aside: frozenset[int]) -> None:
    """Wait for descendants that outlived their parents; only then is their time known."""
    for pid in _descendants(os.getpid(), aside):
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            continue  # ended meanwhile, or not ours to wait for


def _descendants(top: int, aside: frozenset[int]) -> list[int]:
    """List all processes below *top*, except those in *aside* and what is below them."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                text = Path("/proc", name, "stat").read_text(errors="replace")
            except OSError:
                continue
            # The command's name is in parentheses and may hold anything, spaces included.
            parent = int(text.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    waiting = [top]
    while waiting:
        below = [pid for pid in children.get(waiting.pop(), []) if pid not in aside]
        found += below
        waiting += below
    return found


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
