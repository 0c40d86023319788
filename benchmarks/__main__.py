"""Run the scenarios, print a table, and keep the numbers: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.measure import CommandError, Cost, adopt_orphans, measure
from benchmarks.peers import TRASH, BuildahPeer, Described, Ours, Peer
from benchmarks.scenarios import SCENARIOS, Scenario, Start
from integration import images, readers
from integration.world import REPOSITORY, Registry, end_in_good_order, running_registry

_RESULTS = Path(__file__).parent / "results"
_PLACES = {"disk": Path("/var/tmp"), "memory": Path("/dev/shm")}
_MEGABYTE = 1_000_000


@dataclass(slots=True)
class Sample:
    """All runs of one builder in one scenario, and the bytes of the layers that it pushed."""

    costs: list[Cost] = field(default_factory=list)
    pushed: int = 0

    def median(self, name: str) -> float:
        """Return the median of a field of the costs."""
        return float(statistics.median(getattr(cost, name) for cost in self.costs))


class Bench:
    """Runs scenarios against one registry, in one directory."""

    def __init__(self, registry: Registry, directory: Path, peers: Sequence[Peer]) -> None:
        self._registry = registry
        self._directory = directory
        self._peers = peers
        self._aside = frozenset({registry.process.pid})
        self._pushes = 0

    def run(self, scenario: Scenario, runs: int) -> Mapping[str, Sample]:
        """Let every builder take its turn, *runs* times; return their samples by name."""
        context = self._directory / "context"
        for leftover in (context, self._directory / TRASH):
            shutil.rmtree(leftover, ignore_errors=True)
        context.mkdir()
        scenario.fill(context)
        layout = scenario.base()
        base = images.push(layout, self._registry, f"base/{layout.name}:latest")
        samples = {peer.name: Sample() for peer in self._peers}
        for turn in range(runs):
            for peer in self._peers:
                sample = samples[peer.name]
                cost, destination = self._turn(peer, scenario, context, base)
                sample.costs.append(cost)
                sample.pushed = _new_bytes(destination, base)
                print(
                    f"  {scenario.name} {turn + 1}/{runs} {peer.name}: {cost.seconds:.1f} s",
                    flush=True,
                )
        return samples

    def _turn(self, peer: Peer, scenario: Scenario, context: Path, base: str) -> tuple[Cost, str]:
        """Bring *peer* to the scenario's start, and measure one build."""
        peer.empty()
        if scenario.start is Start.WARMED:
            commands, base = peer.warm(base)
            self._measured(commands)
        if scenario.start is Start.PULLED:
            self._measured(peer.pull(base))
        build = peer.build
        if scenario.start is Start.BUILT:
            build = peer.rebuild
            self._measured(build(context, base, self._destination()))
        # What was written for the start must not be flushed to disk during the measurement.
        os.sync()
        destination = self._destination()
        return self._measured(build(context, base, destination)), destination

    def _destination(self) -> str:
        """Name a repository that holds nothing yet, so that every layer must be pushed."""
        self._pushes += 1
        return f"{self._registry.address}/pushed/number-{self._pushes}:latest"

    def _measured(self, commands: Sequence[Sequence[str]]) -> Cost:
        temporary = self._directory / "tmp"
        temporary.mkdir(exist_ok=True)
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._directory),
            "TMPDIR": str(temporary),
            "PYTHONPATH": str(REPOSITORY),
        }
        return measure(commands, env=env, log=self._directory / "log", aside=self._aside)


def _new_bytes(destination: str, base: str) -> int:
    """Sum the sizes of the layers that *destination* has above those of *base*."""
    below = len(readers.manifest(base)["layers"])
    return sum(layer["size"] for layer in readers.manifest(destination)["layers"][below:])


def _row(name: str, sample: Sample, other: Sample | None) -> str:
    """Format a line of the table: a builder's medians, and what the first's are of them."""
    cells = []
    for measure_name, unit in (("seconds", 1), ("cpu", 1), ("memory", _MEGABYTE)):
        value = sample.median(measure_name)
        ratio = f" ({other.median(measure_name) / value:.2f})" if other and value else ""
        cells.append(f"{value / unit:9.1f}{ratio:<7}")
    return f"  {name:<16}{''.join(cells)}{sample.pushed / _MEGABYTE:9.1f}"


def _table(scenario: Scenario, samples: Mapping[str, Sample]) -> str:
    """Format a scenario's results; in parentheses: the first builder's share of the value."""
    first = next(iter(samples.values()))
    lines = [f"{scenario.name}: {scenario.title}"]
    lines.append(
        f"  {'':<16}{'wall s':>9}{'':7}{'cpu s':>9}{'':7}{'peak MB':>9}{'':7}{'new MB':>9}"
    )
    lines += [
        _row(name, sample, None if sample is first else first) for name, sample in samples.items()
    ]
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument(
        "--scenario", action="append", choices=names, help="repeatable; all if none"
    )
    parser.add_argument("--runs", type=int, default=3, help="turns of each builder (3)")
    parser.add_argument(
        "--peer",
        action="append",
        metavar="NAME|FILE.toml",
        help="ours, buildah (both if none), buildah-layers, or a file; repeatable",
    )
    parser.add_argument("--place", choices=_PLACES, default="disk", help="where all work is done")
    return parser.parse_args()


def _peer(name: str, directory: Path) -> Peer:
    match name:
        case "ours":
            return Ours(directory / "ours")
        case "buildah":
            return BuildahPeer(directory / "buildah")
        case "buildah-layers":
            return BuildahPeer(directory / "buildah-layers", layers=True)
        case _:
            return Described.read(Path(name), directory / Path(name).stem)


def _keep(samples: Mapping[str, Mapping[str, Sample]], place: str) -> Path:
    """Write all numbers to a file of their own below ``benchmarks/results``."""
    _RESULTS.mkdir(exist_ok=True)
    commit = subprocess.run(
        ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"],
        check=False,
        capture_output=True,
        text=True,
    ).stdout.strip()
    path = _RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}-{place}.json"
    about = {
        "commit": commit,
        "place": place,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processors": os.cpu_count(),
    }
    values = {
        scenario: {name: asdict(sample) for name, sample in by_peer.items()}
        for scenario, by_peer in samples.items()
    }
    path.write_text(json.dumps({**about, "scenarios": values}, indent=2))
    return path


def main() -> None:
    """Run what was asked for; the first failing command ends everything."""
    arguments = _arguments()
    if os.geteuid() != 0:
        raise SystemExit("benchmarks: run them as root: they make base images and namespaces")
    wanted = [s for s in SCENARIOS if not arguments.scenario or s.name in arguments.scenario]
    end_in_good_order()
    adopt_orphans()
    results: dict[str, Mapping[str, Sample]] = {}
    with ExitStack() as stack:
        place = _PLACES[arguments.place]
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="kaniko-bench-", dir=place))
        )
        registry = stack.enter_context(running_registry(directory / "registry"))
        peers = [_peer(name, directory) for name in arguments.peer or ("ours", "buildah")]
        for peer in peers:
            stack.callback(peer.empty)
        print(
            f"all work in {arguments.place} ({directory}), {arguments.runs} runs each", flush=True
        )
        bench = Bench(registry, directory, peers)
        for scenario in wanted:
            try:
                results[scenario.name] = bench.run(scenario, arguments.runs)
            except CommandError as error:
                raise SystemExit(f"benchmarks: {scenario.name}: {error}") from None
    print()
    for scenario in wanted:
        print(_table(scenario, results[scenario.name]), end="\n\n")
    print(f"in parentheses: {peers[0].name} divided by that builder; less than 1 is less")
    print(f"numbers: {_keep(results, arguments.place)}")


if __name__ == "__main__":
    main()
