"""Run a program and see where its threads are: ``python -m benchmarks.sampled OUT MODULE ARG…``.

A thread looks at the frames of all others every few milliseconds, and asks the kernel what
processor time each has had since. That costs a build less than a twentieth, and the same whether
it calls many small functions or a few large ones, which a tracing profiler would distort. A look
has to wait until the interpreter is free, so each counts for the time that passed since the last.

What was seen is written to OUT as JSON, with times in seconds::

    {"began": …, "ended": …,             on the clock that all processes share
     "cpu": …, "children": …,            of this process, and of those it started that ended
     "stacks": [{"thread": "pack_0", "frames": [["…/oci/layer.py", "write_layer"], …],
                 "cpu": 0.2, "wall": 0.3}, …],         outermost frame first
     "moments": [{"busy": [0, 3], "idle": [1], "wall": 0.1}, …]}    numbers of stacks
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
import time
from collections import defaultdict
from types import CodeType, FrameType

_EVERY = 0.004  # seconds
_BUSY = 0.1  # of the time since the last look: less is waiting

_Stack = tuple[str, tuple[CodeType, ...]]
_Numbers = tuple[int, ...]


class Sampler:
    """Looks at all threads until it is stopped."""

    def __init__(self) -> None:
        self.numbers: dict[_Stack, int] = {}
        self.wall: defaultdict[int, float] = defaultdict(float)
        self.cpu: defaultdict[int, float] = defaultdict(float)
        self.moments: defaultdict[tuple[_Numbers, _Numbers], float] = defaultdict(float)
        self._clocks: dict[int, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="sampler", daemon=True)
        # What the interpreter used up before it came here is nobody's stack.
        self._clocks[threading.get_ident()] = time.thread_time()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        last = time.perf_counter()
        while not self._stop.wait(_EVERY):
            now = time.perf_counter()
            self._look(now - last)
            last = now

    def _look(self, passed: float) -> None:
        own = threading.get_ident()
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        busy: list[int] = []
        idle: list[int] = []
        # Nothing here lets go of the interpreter, so no thread of these can end meanwhile: the
        # C library does not survive a question for the clock of one that ended.
        for ident, frame in sys._current_frames().items():
            if ident == own:
                continue
            used = time.clock_gettime(time.pthread_getcpuclockid(ident))
            more = used - self._clocks.get(ident, 0.0)
            self._clocks[ident] = used
            stack = names.get(ident, "unknown"), _codes(frame)
            number = self.numbers.setdefault(stack, len(self.numbers))
            self.wall[number] += passed
            self.cpu[number] += more
            (busy if more >= _BUSY * passed else idle).append(number)
        # An identifier may be given again, to a thread whose clock begins at zero.
        self._clocks = {ident: self._clocks[ident] for ident in names if ident in self._clocks}
        self.moments[tuple(sorted(busy)), tuple(sorted(idle))] += passed


def _codes(frame: FrameType | None) -> tuple[CodeType, ...]:
    found = []
    while frame is not None:
        found.append(frame.f_code)
        frame = frame.f_back
    return tuple(reversed(found))


def main() -> None:
    """Run the module as ``python -m`` would, and write what was seen, however it ends."""
    began = time.monotonic()
    out, module = sys.argv[1:3]
    process = os.getpid()
    sampler = Sampler()
    sys.argv[:] = [module, *sys.argv[3:]]
    sampler.start()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        # Processes that were forked unwind through here as well.
        if os.getpid() == process:
            ended = time.monotonic()
            sampler.stop()
            _write(out, sampler, began, ended)


def _write(out: str, sampler: Sampler, began: float, ended: float) -> None:
    import json
    import resource
    from pathlib import Path

    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    stacks = [
        {
            "thread": thread,
            "frames": [(code.co_filename, code.co_qualname) for code in codes],
            "cpu": sampler.cpu[number],
            "wall": sampler.wall[number],
        }
        for (thread, codes), number in sampler.numbers.items()
    ]
    moments = [
        {"busy": busy, "idle": idle, "wall": wall} for (busy, idle), wall in sampler.moments.items()
    ]
    values = {
        "began": began,
        "ended": ended,
        "cpu": time.process_time(),
        "children": children.ru_utime + children.ru_stime,
        "stacks": stacks,
        "moments": moments,
    }
    Path(out).write_text(json.dumps(values))


if __name__ == "__main__":
    main()
