"""What finding a command's changes by a scan costs: ``python -m benchmarks.scan``.

The yardstick is a bare walk over the same tree, which looks at every file once and does nothing
with what it sees. Both take turns, so that they meet the same machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from kaniko_core.rootfs.ignore import IgnoreRules
from kaniko_core.rootfs.scan import Scanner

_Result = TypeVar("_Result")
_PLACES = {"disk": Path("/var/tmp"), "memory": Path("/dev/shm")}
_FILES_PER_DIRECTORY = 10  # as in /usr of Debian


@dataclass(slots=True)
class Times:
    """Seconds, one number for each round."""

    walk: list[float] = field(default_factory=list)
    changes: list[float] = field(default_factory=list)
    settle: list[float] = field(default_factory=list)


def make_tree(root: Path, files: int) -> Path:
    """Make a tree of about as many small *files*; return one of them."""
    count = max(1, files // _FILES_PER_DIRECTORY)
    for number in range(count):
        directory = root / f"usr/lib/part-{number // 100}/package-{number}"
        directory.mkdir(parents=True)
        for name in range(_FILES_PER_DIRECTORY):
            (directory / f"some-module-{name}.py").write_bytes(b"content\n")
    return directory / "some-module-0.py"


def walk(root: bytes) -> int:
    """Look at everything below *root* once; return how many there are."""
    count = 0
    waiting = [root]
    while waiting:
        with os.scandir(waiting.pop()) as found:
            for entry in found:
                entry.stat(follow_symlinks=False)
                count += 1
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return count


def timed(act: Callable[[], _Result]) -> tuple[float, _Result]:
    """Return the seconds that *act* takes, and what it returns."""
    start = time.perf_counter()
    result = act()
    return time.perf_counter() - start, result


def measure(root: Path, changed: Path, rounds: int) -> Times:
    """Walk and scan in turns; before each scan, one file changes."""
    scanner = Scanner(root, IgnoreRules())
    scanner.remember()
    walk(os.fsencode(root))
    times = Times()
    for number in range(rounds):
        times.walk.append(timed(lambda: walk(os.fsencode(root)))[0])
        times.settle.append(timed(scanner.settle)[0])
        changed.write_text(f"{number}\n")
        seconds, found = timed(scanner.changes)
        times.changes.append(seconds)
        # Four directories on the way, and the file.
        assert len(found) == 5, found
        print(
            f"  {number + 1}/{rounds}: walk {times.walk[-1]:.3f} s, changes"
            f" {times.changes[-1]:.3f} s, ratio {times.changes[-1] / times.walk[-1]:.2f}",
            flush=True,
        )
    return times


def remembered_bytes(root: Path) -> int:
    """Return what a scanner of *root* keeps in memory."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        scanner = Scanner(root, IgnoreRules())
        scanner.remember()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def main() -> None:
    """Make a tree, measure, and print the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scan", description=__doc__)
    parser.add_argument("--files", type=int, default=50_000, help="size of the tree (50,000)")
    parser.add_argument("--rounds", type=int, default=9, help="walks and scans (9)")
    parser.add_argument("--place", choices=_PLACES, default="disk", help="where the tree is made")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kaniko-scan-", dir=_PLACES[chosen.place]) as name:
        root = Path(name)
        changed = make_tree(root, chosen.files)
        count = walk(os.fsencode(root))
        remember, _ = timed(Scanner(root, IgnoreRules()).remember)
        print(f"{count:,} files and directories; remembered in {remember:.3f} s")
        times = measure(root, changed, chosen.rounds)
        memory = remembered_bytes(root)
    bare, scan = statistics.median(times.walk), statistics.median(times.changes)
    print(f"median: walk {bare:.3f} s, changes {scan:.3f} s, ratio {scan / bare:.2f}")
    print(
        f"settle {statistics.median(times.settle) * 1000:.1f} ms; {memory / count:.0f} bytes each"
    )


if __name__ == "__main__":
    main()
