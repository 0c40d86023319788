"""Build contexts from everywhere, beside each source's own tool: ``python -m benchmarks.contexts``.

Ours is a whole build of nothing but the context: it is fetched, unpacked and read in, one small
file of it is copied, and everything is removed again. The other side is the tool that a person
would fetch and unpack it with, and ``rm``, which is measured apart: the first ratio is to both, and
the second to the tool alone. They take turns (A B A B) and medians are compared. All servers
are on this machine, and files are random, so that neither network nor compression hides anything.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.contexts_served import World, make, serving
from benchmarks.measure import CommandError, Cost, adopt_orphans, measure
from integration.world import REPOSITORY, end_in_good_order

_PLACES = {"disk": Path("/var/tmp"), "memory": Path("/dev/shm")}
_RESULTS = Path(__file__).parent / "results"
_MEBIBYTE = 1 << 20
_KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of context.

    Attributes:
        name: how it is chosen.
        needs: the file that has to be made for it.
        ours: returns ``--context``.
        theirs: returns the shell command that fetches and unpacks it in the current directory.
        env: returns variables for ours.
        stdin: whether the file *needs* comes to us by standard input.
    """

    name: str
    needs: str
    ours: Callable[[World], str]
    theirs: Callable[[World], str]
    env: Callable[[World], Mapping[str, str]] = lambda _: {}
    stdin: bool = False


def _curl(scheme: str, name: str, how: str) -> Callable[[World], str]:
    def command(world: World) -> str:
        port = world.secure if scheme == "https" else world.plain
        return f"curl --silent --fail {scheme}://127.0.0.1:{port}/{name} | tar --extract {how}"

    return command


def _endpoint(world: World) -> str:
    return f"http://127.0.0.1:{world.plain}"


def _clone(address: str) -> str:
    return f"git clone --quiet --depth 1 {address} ."


SOURCES = (
    Source(
        "tar",
        "context.tar",
        lambda world: f"tar://{world.files}/context.tar",
        lambda world: f"tar --extract --file {world.files}/context.tar",
    ),
    Source(
        "tar-gz",
        "context.tar.gz",
        lambda world: f"tar://{world.files}/context.tar.gz",
        lambda world: f"tar --extract --gzip --file {world.files}/context.tar.gz",
    ),
    Source(
        "tar-zst",
        "context.tar.zst",
        lambda world: f"tar://{world.files}/context.tar.zst",
        lambda world: f"tar --extract --zstd --file {world.files}/context.tar.zst",
    ),
    Source(
        "stdin",
        "context.tar.gz",
        lambda _: "tar://stdin",
        lambda world: f"tar --extract --gzip < {world.files}/context.tar.gz",
        stdin=True,
    ),
    Source(
        "https",
        "context.tar.gz",
        lambda world: f"https://127.0.0.1:{world.secure}/context.tar.gz",
        _curl("https", "context.tar.gz", "--gzip"),
    ),
    Source(
        "s3",
        "context.tar.gz",
        lambda _: "s3://bucket/context.tar.gz",
        _curl("http", "bucket/context.tar.gz", "--gzip"),
        lambda world: {"S3_ENDPOINT": _endpoint(world), "S3_FORCE_PATH_STYLE": "true"} | _KEYS,
    ),
    Source(
        "gs",
        "context.tar.gz",
        lambda _: "gs://bucket/context.tar.gz",
        _curl("http", "bucket/context.tar.gz", "--gzip"),
        lambda world: {"STORAGE_EMULATOR_HOST": _endpoint(world)},
    ),
    Source(
        "az",
        "context.tar.gz",
        lambda _: "az://bucket/context.tar.gz",
        _curl("http", "account/bucket/context.tar.gz", "--gzip"),
        lambda world: {
            "AZURE_STORAGE_ENDPOINT": f"{_endpoint(world)}/account",
            "AZURE_STORAGE_ACCOUNT": "account",
            "AZURE_STORAGE_ACCESS_KEY": "a2V5",
        },
    ),
    Source(
        "git-https",
        "code.git",
        lambda world: f"https://127.0.0.1:{world.secure}/git/code.git",
        lambda world: _clone(f"https://127.0.0.1:{world.secure}/git/code.git"),
    ),
    Source(
        "git",
        "code.git",
        lambda world: f"git://127.0.0.1:{world.git}/code.git",
        lambda world: _clone(f"git://127.0.0.1:{world.git}/code.git"),
    ),
)


# --- measuring -------------------------------------------------------------------------------


@dataclass(slots=True)
class Sample:
    """All runs of one side."""

    costs: list[Cost] = field(default_factory=list)

    def median(self, name: str) -> float:
        """Return the median of a field of the costs."""
        return float(statistics.median(getattr(cost, name) for cost in self.costs))


class Bench:
    """Lets both sides take turns at a source, in one directory."""

    def __init__(self, top: Path, world: World, aside: frozenset[int]) -> None:
        self._top = top
        self._world = world
        self._aside = aside

    def run(self, source: Source, runs: int) -> Mapping[str, Sample]:
        """Return the samples of both sides."""
        samples = {"ours": Sample(), "theirs": Sample(), "rm": Sample()}
        for turn in range(runs):
            fetched, removed = self._theirs(source)
            costs = {"ours": self._ours(source), "theirs": fetched, "rm": removed}
            for name, cost in costs.items():
                samples[name].costs.append(cost)
                seconds, peak = cost.seconds, cost.memory / _MEBIBYTE
                print(
                    f"  {source.name} {turn + 1}/{runs} {name}: {seconds:.1f} s, {peak:.0f} MiB",
                    flush=True,
                )
        return samples

    def _ours(self, source: Source) -> Cost:
        work = self._top / "kaniko"
        command = [
            *(sys.executable, "-m", "kaniko_executor", "--no-push"),
            *(f"--context={source.ours(self._world)}", f"--kaniko-dir={work}"),
        ]
        if source.stdin:
            given = self._world.files / source.needs
            command = ["sh", "-c", 'exec "$@" < "$0"', str(given), *command]
        cost = self._measured(command, source.env(self._world))
        shutil.rmtree(work, ignore_errors=True)
        return cost

    def _theirs(self, source: Source) -> tuple[Cost, Cost]:
        """Return what fetching and unpacking costs, and what removing it again."""
        out = self._top / "theirs"
        out.mkdir()
        script = f"set -o pipefail; cd {out}; {source.theirs(self._world)}"
        cost = self._measured(["bash", "-c", script], {})
        return cost, self._measured(["rm", "-rf", str(out)], {}, flush=False)

    def _measured(
        self, command: Sequence[str], more: Mapping[str, str], *, flush: bool = True
    ) -> Cost:
        temporary = self._top / "tmp"
        temporary.mkdir(exist_ok=True)
        certificate = str(self._world.certificate)
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(temporary),
            "TMPDIR": str(temporary),
            "PYTHONPATH": str(REPOSITORY),
            "SSL_CERT_FILE": certificate,
            "GIT_SSL_CAINFO": certificate,
            **more,
        }
        # What was written before must not be flushed to disk during the measurement.
        if flush:
            os.sync()
        return measure([command], env=env, log=self._top / "log", aside=self._aside)


def _table(results: Mapping[str, Mapping[str, Sample]]) -> str:
    lines = [
        f"{'':<12}{'ours s':>9}{'theirs s':>10}{'rm s':>7}{'ratio':>7}{'tool':>7}"
        f"{'cpu s':>8}{'theirs':>8}"
        f"{'peak MiB':>10}{'theirs':>8}{'largest':>9}"
    ]
    for name, samples in results.items():
        ours, theirs, removal = samples["ours"], samples["theirs"], samples["rm"]
        seconds, other_seconds, rm = (each.median("seconds") for each in (ours, theirs, removal))
        memory = [ours.median("memory"), theirs.median("memory"), ours.median("largest")]
        peak, other, largest = (value / _MEBIBYTE for value in memory)
        lines.append(
            f"{name:<12}{seconds:9.1f}{other_seconds:10.1f}{rm:7.1f}"
            f"{seconds / (other_seconds + rm):7.2f}{seconds / other_seconds:7.2f}"
            f"{ours.median('cpu'):8.1f}{theirs.median('cpu'):8.1f}"
            f"{peak:10.0f}{other:8.0f}{largest:9.0f}"
        )
    return "\n".join(lines)


def _keep(results: Mapping[str, Mapping[str, Sample]], about: Mapping[str, object]) -> Path:
    """Write all numbers to a file of their own below ``benchmarks/results``."""
    _RESULTS.mkdir(exist_ok=True)
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
    machine = {
        "commit": commit,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processors": os.cpu_count(),
    }
    values = {
        source: {side: asdict(sample) for side, sample in samples.items()}
        for source, samples in results.items()
    }
    path = _RESULTS / f"contexts-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps({**machine, **about, "sources": values}, indent=2) + "\n")
    return path


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contexts", description=__doc__)
    names = [source.name for source in SOURCES]
    parser.add_argument("--source", action="append", choices=names, help="repeatable; all if none")
    parser.add_argument("--runs", type=int, default=3, help="turns of each side (3)")
    parser.add_argument("--files", type=int, default=100_000, help="in the context (100,000)")
    parser.add_argument("--size", type=int, default=20_000, help="bytes of each file (20,000)")
    parser.add_argument("--place", choices=_PLACES, default="disk", help="where all work is done")
    return parser.parse_args()


def main() -> None:
    """Run what was asked for; the first failing command ends everything."""
    arguments = _arguments()
    wanted = [s for s in SOURCES if not arguments.source or s.name in arguments.source]
    end_in_good_order()
    adopt_orphans()
    results: dict[str, Mapping[str, Sample]] = {}
    with ExitStack() as stack:
        place = _PLACES[arguments.place]
        top = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="kaniko-bench-", dir=place))
        )
        (top / "files").mkdir()
        for name in dict.fromkeys(source.needs for source in wanted):
            print(f"making {name}", flush=True)
            make(top / "files" / name, arguments.files, arguments.size)
        bench = Bench(top, *stack.enter_context(serving(top)))
        for source in wanted:
            try:
                results[source.name] = bench.run(source, arguments.runs)
            except CommandError as error:
                raise SystemExit(f"benchmarks: {source.name}: {error}") from None
    print(f"\n{_table(results)}\n")
    print(f"numbers: {_keep(results, vars(arguments))}")


if __name__ == "__main__":
    main()
