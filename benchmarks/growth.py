"""How time and memory grow with the size of a build: ``python -m benchmarks.growth``.

Each scenario is built at three sizes. What the larger two take more than the smallest is what
their size costs: the table shows it per unit (a file, a megabyte, a layer, …), and as the power
of the size that it grows with between these two: 1 is linear. Peak memory is that of the whole
process tree, and should not grow at all.

Numbers are kept in ``benchmarks/results/growth-<time>-<place>.json``: what is said about a run as
in any file of numbers, and ``{"growth": {"pull-files": {"axis": "files", "title": "…", "points":
[{"size": 1000, "seconds": 0.7, "cpu": 0.7, "memory": 58000000}, …]}, …}}``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import numbers, sizes
from benchmarks.measure import CommandError, Cost, adopt_orphans, measure
from integration import images
from integration.world import REPOSITORY, Registry, end_in_good_order, running_registry

_PLACES = {"disk": Path("/var/tmp"), "memory": Path("/dev/shm")}
_MEGABYTE = 1_000_000
# What no exponent is made of: differences that two runs of the same build may have.
_NOISE = 0.03  # seconds


@dataclass(frozen=True, slots=True)
class Axis:
    """What grows: its name, its three sizes, and the unit that prices are for."""

    name: str
    sizes: tuple[int, int, int]
    unit: str
    units: int = 1  # how many of what is counted make one unit of the price


FILES = Axis("files", (1_000, 10_000, 100_000), "file")
BYTES = Axis("bytes", (10_000_000, 100_000_000, 2_000_000_000), "MB", _MEGABYTE)
LAYERS = Axis("layers", (1, 20, 120), "layer")
STAGES = Axis("stages", (1, 10, 40), "stage")
STEPS = Axis("steps", (5, 50, 500), "step")
AXES = (FILES, BYTES, LAYERS, STAGES, STEPS)


@dataclass(frozen=True, slots=True)
class Growing:
    """A build at every size of its axis.

    Attributes:
        base: the layers that the base image of a size has above busybox.
        fill: writes the build context of a size.
        rebuilt: whether the same build ran before, and left its layers in a repository.
    """

    axis: Axis
    name: str
    title: str
    fill: Callable[[Path, int], None]
    base: Callable[[int], Sequence[sizes.Members]] = lambda _: ()
    rebuilt: bool = False


SCENARIOS = (
    Growing(
        FILES,
        "pull-files",
        "a base image with so many small files, cold, and one RUN",
        sizes.one_run,
        lambda count: [sizes.many_files(count)],
    ),
    Growing(FILES, "copy-files", "COPY of so many small files", sizes.copied_files),
    Growing(FILES, "make-files", "a RUN that makes so many small files", sizes.made_files),
    Growing(
        BYTES,
        "pull-bytes",
        "a base image with one file of so many bytes, cold, and one RUN",
        sizes.one_run,
        lambda size: [sizes.one_file(size)],
    ),
    Growing(BYTES, "copy-bytes", "COPY of one file of so many bytes", sizes.copied_bytes),
    Growing(
        LAYERS,
        "pull-layers",
        "a base image of so many layers, cold, and one RUN",
        sizes.one_run,
        lambda count: [sizes.numbered_file(number) for number in range(count)],
    ),
    Growing(LAYERS, "make-layers", "so many RUNs, each of which makes a layer", sizes.runs),
    Growing(STAGES, "stages", "so many stages of one RUN, and COPY --from each", sizes.stages),
    Growing(STAGES, "chained-stages", "so many stages, each FROM another", sizes.chained_stages),
    Growing(
        STEPS,
        "cached-steps",
        "a rebuild whose steps are all in a repository",
        sizes.mixed_steps,
        rebuilt=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Point:
    """What a scenario cost at one size: medians of its runs, and the largest peak."""

    size: int
    seconds: float
    cpu: float
    memory: int

    @classmethod
    def of(cls, size: int, costs: Sequence[Cost]) -> Point:
        """Take the medians of *costs*."""
        seconds = statistics.median(cost.seconds for cost in costs)
        cpu = statistics.median(cost.cpu for cost in costs)
        return cls(size, seconds, cpu, max(cost.memory for cost in costs))


def price(point: Point, smallest: Point) -> float | None:
    """Return the seconds for one more of what is counted; None for the smallest itself."""
    if point.size == smallest.size:
        return None
    return (point.seconds - smallest.seconds) / (point.size - smallest.size)


def exponent(points: Sequence[Point]) -> float | None:
    """Return the power of the size that seconds grow with between the last two points.

    What the smallest took is left out. None where the middle one is too near to it to tell.
    """
    smallest, middle, largest = points
    more, most = (point.seconds - smallest.seconds for point in (middle, largest))
    if more < _NOISE or most < _NOISE:
        return None
    span = (largest.size - smallest.size) / (middle.size - smallest.size)
    return math.log(most / more) / math.log(span)


def table(scenario: Growing, points: Sequence[Point]) -> str:
    """Format a scenario's points, and what they say of its growth."""
    axis = scenario.axis
    heading = f"{axis.name:>15}{'wall s':>9}{'cpu s':>8}{'per ' + axis.unit:>14}{'peak MB':>9}"
    lines = [f"{scenario.name}: {scenario.title}", heading]
    for point in points:
        each = price(point, points[0])
        words = "" if each is None else _small(each * axis.units)
        peak = point.memory / _MEGABYTE
        lines.append(f"{point.size:15,}{point.seconds:9.2f}{point.cpu:8.2f}{words:>14}{peak:9.1f}")
    if len(points) == len(axis.sizes):
        power = exponent(points)
        lines.append(
            "  grows with the power "
            + ("of nothing that can be told from noise" if power is None else f"{power:.2f}")
            + f"; memory times {points[-1].memory / points[0].memory:.2f}"
        )
    return "\n".join(lines)


def _small(seconds: float) -> str:
    """Put a short time into words."""
    return f"{seconds * 1e3:.2f} ms" if abs(seconds) >= 1e-3 else f"{seconds * 1e6:.1f} µs"


class Bench:
    """Builds scenarios at their sizes, in one directory, against one registry."""

    def __init__(self, registry: Registry, directory: Path) -> None:
        self._registry = registry
        self._directory = directory
        self._pushes = 0

    def points(self, scenario: Growing, runs: int, most: int) -> Iterator[Point]:
        """Yield what *scenario* costs at each of its sizes up to *most*; the largest runs once."""
        for size in scenario.axis.sizes:
            if size > most:
                return
            times = 1 if size == scenario.axis.sizes[-1] else runs
            with tempfile.TemporaryDirectory(dir=self._directory) as scratch:
                context = Path(scratch, "context")
                context.mkdir()
                scenario.fill(context, size)
                base = self._base(scenario, size, Path(scratch))
                repository = f"{self._registry.address}/cache/{scenario.name}-{size}"
                more = ("--cache", "--cache-repo", repository, "--cache-copy-layers")
                flags = more if scenario.rebuilt else ()
                if scenario.rebuilt:
                    self._built(context, base, flags)
                yield Point.of(size, [self._built(context, base, flags) for _ in range(times)])

    def _base(self, scenario: Growing, size: int, scratch: Path) -> str:
        layers = scenario.base(size)
        layout = sizes.image(images.busybox_layout(), layers, scratch / "layout")
        reference = images.push(layout, self._registry, f"base/{scenario.name}-{size}:latest")
        shutil.rmtree(layout)
        return reference

    def _built(self, context: Path, base: str, flags: Sequence[str]) -> Cost:
        """Build in an empty directory, push to an empty repository, and return the cost."""
        self._pushes += 1
        destination = f"{self._registry.address}/pushed/number-{self._pushes}:latest"
        # What was written for it must not be flushed to disk during the measurement.
        os.sync()
        with tempfile.TemporaryDirectory(dir=self._directory) as work:
            command = [
                *(sys.executable, "-m", "kaniko_executor", "--context", str(context)),
                *("--build-arg", f"BASE={base}", "--destination", destination),
                *("--kaniko-dir", work, "--insecure", "--insecure-pull", *flags),
            ]
            env = {
                "PATH": os.environ["PATH"],
                "HOME": work,
                "TMPDIR": work,
                "PYTHONPATH": str(REPOSITORY),
            }
            return measure(
                [command],
                env=env,
                log=self._directory / "log",
                aside=frozenset({self._registry.process.pid}),
            )


def _keep(measured: Mapping[str, Sequence[Point]], arguments: argparse.Namespace) -> Path:
    """Write all numbers to a file of their own below ``benchmarks/results``."""
    by_name = {scenario.name: scenario for scenario in SCENARIOS}
    values = {
        name: {
            "axis": by_name[name].axis.name,
            "title": by_name[name].title,
            "points": [asdict(point) for point in points],
        }
        for name, points in measured.items()
    }
    name = f"growth-{time.strftime('%Y%m%d-%H%M%S')}-{arguments.place}.json"
    path = numbers.DIRECTORY / name
    path.parent.mkdir(exist_ok=True)
    about = numbers.about(arguments.place, arguments.runs, {})
    path.write_text(json.dumps({**about, "growth": values}, indent=2) + "\n")
    return path


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    axes = [axis.name for axis in AXES]
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--axis", action="append", choices=axes, help="repeatable; all if none")
    parser.add_argument("--scenario", action="append", choices=names, help="the same, one by one")
    parser.add_argument("--runs", type=int, default=3, help="of all but the largest size (3)")
    parser.add_argument("--most", type=float, default=math.inf, help="leave out larger sizes")
    parser.add_argument("--place", choices=_PLACES, default="memory", help="where work is done")
    return parser.parse_args()


def main() -> None:
    """Measure what was asked for; the first failing command ends everything."""
    arguments = _arguments()
    if os.geteuid() != 0:
        raise SystemExit("benchmarks: run them as root: they make base images and namespaces")
    wanted = [
        scenario
        for scenario in SCENARIOS
        if (not arguments.axis or scenario.axis.name in arguments.axis)
        and (not arguments.scenario or scenario.name in arguments.scenario)
    ]
    end_in_good_order()
    adopt_orphans()
    measured: dict[str, Sequence[Point]] = {}
    with ExitStack() as stack:
        scratch = tempfile.TemporaryDirectory(prefix="kaniko-bench-", dir=_PLACES[arguments.place])
        directory = Path(stack.enter_context(scratch))
        registry = stack.enter_context(running_registry(directory / "registry"))
        bench = Bench(registry, directory)
        for scenario in wanted:
            points: list[Point] = []
            measured[scenario.name] = points
            try:
                for point in bench.points(scenario, arguments.runs, arguments.most):
                    points.append(point)
                    print(f"  {scenario.name} {point.size:,}: {point.seconds:.2f} s", flush=True)
            except CommandError as error:
                raise SystemExit(f"benchmarks: {scenario.name}: {error}") from None
            print(f"\n{table(scenario, points)}\n", flush=True)
    print(f"numbers: {_keep(measured, arguments)}")


if __name__ == "__main__":
    main()
