"""Play the scenarios, print tables and verdicts, and keep the numbers: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import bars, numbers, tables, traffic
from benchmarks.bench import Bench
from benchmarks.instruments import INSTRUMENTS, Instrument
from benchmarks.limits import Tools
from benchmarks.measure import CommandError, adopt_orphans, end_descendants
from benchmarks.numbers import Results
from benchmarks.peers import Ours, Peer, peer
from benchmarks.scenarios import SCENARIOS, Scenario
from integration.readers import unmount_below
from integration.world import end_in_good_order, running_registry

_PLACES = {"disk": Path("/var/tmp"), "memory": Path("/dev/shm")}
_TITLES: Mapping[str, str] = {each.name: each.title for each in (*SCENARIOS, *INSTRUMENTS)}
# What one scenario can fail of: a command, a file, or what integration/ asserts or says.
_FAILURES = (CommandError, OSError, AssertionError, RuntimeError, subprocess.SubprocessError)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time builds beside other builders and beside the limit.",
    )
    parser.add_argument(
        "--scenario", action="append", choices=_TITLES, help="repeatable; all if none"
    )
    parser.add_argument("--runs", type=int, default=3, help="turns of each builder (3)")
    parser.add_argument(
        "--peer",
        action="append",
        type=_known_peer,
        metavar="NAME|FILE.toml",
        help="ours, buildah (both if none), buildah-layers, podman, or a file; repeatable",
    )
    parser.add_argument("--place", choices=_PLACES, default="disk", help="where all work is done")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there too")
    parser.add_argument("--plot", type=Path, metavar="DIRECTORY", help="draw the results there")
    parser.add_argument(
        "--profile", action="store_true", help="only run ours, once, and say where its time goes"
    )
    parser.add_argument(
        "--show",
        type=Path,
        action="append",
        metavar="FILE.json",
        help="measure nothing; show what was kept, of several files the latest; repeatable",
    )
    return parser.parse_args()


def _known_peer(name: str) -> str:
    """Refuse a builder that there is not, before anything is measured."""
    try:
        peer(name, Path())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return name


def main() -> None:
    """Do what was asked for; the exit status says whether every scenario could be played."""
    arguments = _arguments()
    if arguments.show:
        measured = numbers.merged(arguments.show)
    else:
        if os.geteuid() != 0:
            raise SystemExit("benchmarks: run them as root: they make base images and namespaces")
        measured = _measured(arguments, arguments.scenario or list(_TITLES))
        if arguments.profile:
            raise SystemExit("\n".join(measured.failures.values()) or None)
    path = _kept(measured, arguments.show or ())
    _report(measured, arguments.markdown)
    print(f"numbers: {path}")
    if arguments.plot:
        from benchmarks import plots

        for picture in plots.draw(path, arguments.plot):
            print(f"picture: {picture}")
    if measured.failures:
        raise SystemExit(f"benchmarks: not measured: {', '.join(measured.failures)}")


def _kept(measured: Results, shown: Sequence[Path]) -> Path:
    """Return the file with all numbers, written now unless it is the one that is shown."""
    if len(shown) == 1:
        return shown[0]
    path = numbers.DIRECTORY / f"{time.strftime('%Y%m%d-%H%M%S')}-{measured.about['place']}.json"
    measured.write(path, bars.verdicts(measured.outcomes))
    return path


def _measured(arguments: argparse.Namespace, names: Sequence[str]) -> Results:
    """Play what was asked for; what was measured before an interruption is returned."""
    end_in_good_order()
    adopt_orphans()
    scenarios = [each for each in SCENARIOS if each.name in names]
    instruments = [each for each in INSTRUMENTS if each.name in names]
    # Base images may have to be made of packages from elsewhere: while there is a network.
    for scenario in scenarios:
        scenario.base()
    if not arguments.profile:
        for instrument in instruments:
            instrument.prepare()
    traffic.leave_network()
    measured = Results(numbers.about(arguments.place, arguments.runs, Tools.installed().names))
    try:
        if scenarios:
            _play(scenarios, arguments, measured)
        for instrument in () if arguments.profile else instruments:
            _use(instrument, arguments, measured)
    except (KeyboardInterrupt, SystemExit):
        left = [name for name in names if name not in measured.outcomes]
        measured.failures.update(dict.fromkeys(left, "interrupted"))
    finally:
        end_descendants(frozenset())
    return measured


def _play(scenarios: Sequence[Scenario], arguments: argparse.Namespace, measured: Results) -> None:
    """Play scenarios with one registry; what fails is noted, and the others are still played."""
    with ExitStack() as stack:
        directory = stack.enter_context(_scratch(arguments.place))
        registry = stack.enter_context(running_registry(directory / "registry"))
        peers = _peers(arguments.peer or ("ours", "buildah"), directory)
        for each in peers:
            stack.callback(each.empty)
        in_memory = arguments.place == "memory"
        bench = Bench(registry, directory, peers, in_memory=in_memory)
        print(f"all work in {directory}", flush=True)
        for scenario in scenarios:
            try:
                if arguments.profile:
                    print(f"{scenario.name}\n{_profiled(bench, scenario, directory)}\n")
                    continue
                outcome, failure = bench.run(scenario, arguments.runs)
            except _FAILURES as error:
                failure = str(error)
            else:
                measured.outcomes[scenario.name] = outcome
            if failure:
                measured.failures[scenario.name] = failure


def _use(instrument: Instrument, arguments: argparse.Namespace, measured: Results) -> None:
    """Use an instrument in a directory of its own."""
    print(f"  {instrument.name}", flush=True)
    with _scratch(arguments.place) as directory:
        try:
            measured.outcomes[instrument.name] = instrument.play(directory, arguments.runs)
        except _FAILURES as error:
            measured.failures[instrument.name] = str(error)


def _peers(names: Sequence[str], directory: Path) -> list[Peer]:
    """Return the builders that can run here; the others are left out, and it is said why."""
    peers = []
    for each in (peer(name, directory) for name in names):
        if missing := each.missing():
            print(f"without {each.name}: {missing}", flush=True)
        else:
            peers.append(each)
    return peers


def _profiled(bench: Bench, scenario: Scenario, directory: Path) -> str:
    from benchmarks import profiling

    commands, env = bench.ready(scenario, Ours(directory / "ours"))
    return "\n".join(profiling.profile(command, env=env) for command in commands)


@contextmanager
def _scratch(place: str) -> Iterator[Path]:
    """Make a directory for all work; it goes with all that is in it."""
    with tempfile.TemporaryDirectory(prefix="kaniko-bench-", dir=_PLACES[place]) as name:
        try:
            yield Path(name)
        finally:
            unmount_below(Path(name))


def _report(measured: Results, markdown: Path | None) -> None:
    """Print tables and verdicts, and write them as Markdown if asked."""
    on_disk = measured.about["place"] == "disk"
    made = [
        tables.table(name, _TITLES.get(name, ""), outcome, on_disk=on_disk)
        for name, outcome in measured.outcomes.items()
        if outcome.costs
    ]
    judged = bars.verdicts(measured.outcomes)
    parts = tables.parts_in_text(
        {name: outcome.limits for name, outcome in measured.outcomes.items()}
    )
    print(f"\n{tables.in_text(made)}\n\nlimits, seconds from least to most:\n{parts}")
    print(f"\nbars: measured, and how much of what is allowed\n{tables.verdicts_in_text(judged)}\n")
    print(f"{tables.overview_in_text(tables.overview(measured.outcomes, judged))}\n")
    for name, failure in measured.failures.items():
        print(f"{name} failed: {failure}\n")
    if markdown:
        markdown.write_text(tables.in_markdown(made, judged, measured, parts))


if __name__ == "__main__":
    main()
