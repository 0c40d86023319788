"""The numbers of a run: in memory, and in the file that ``benchmarks/__init__.py`` describes."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from benchmarks.measure import Cost
from integration.world import REPOSITORY

DIRECTORY = Path(__file__).parent / "results"
_ABOUT = "commit date place runs python kernel processors tools".split()


@dataclass(frozen=True, slots=True)
class Limit:
    """What C tools took for the work of a scenario, in one turn.

    Attributes:
        parts: seconds of each tool; the limit is their sum.
        commands: seconds of what the Dockerfile itself runs, which no builder can avoid.
        pipe: seconds of the same tools as one pipe, where that was measured.
    """

    parts: Mapping[str, float]
    commands: float | None = None
    pipe: float | None = None


@dataclass(slots=True)
class Outcome:
    """All runs of a scenario: the builders' costs by name, and the limit of each turn."""

    costs: dict[str, list[Cost]] = field(default_factory=dict)
    limits: list[Limit] = field(default_factory=list)

    def median(self, builder: str, name: str) -> float:
        """Return the median of a field of a builder's costs."""
        return float(statistics.median(getattr(cost, name) for cost in self.costs[builder]))

    def limit(self) -> float:
        """Return the sum of the parts' medians; 0 without parts."""
        names = {name: None for limit in self.limits for name in limit.parts}
        return sum(
            statistics.median(limit.parts[name] for limit in self.limits if name in limit.parts)
            for name in names
        )

    def commands(self) -> float:
        """Return the median of the commands' own seconds; 0 where nothing was counted so."""
        return _median(limit.commands for limit in self.limits)

    def peers(self) -> Sequence[str]:
        """Name the builders that are not ours."""
        return [name for name in self.costs if name != "ours"]

    def best(self) -> tuple[str, float] | None:
        """Return the fastest peer and its seconds."""
        times = {name: self.median(name, "seconds") for name in self.peers()}
        return min(times.items(), key=lambda item: item[1], default=None)


def _median(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(statistics.median(known)) if known else 0.0


@dataclass(slots=True)
class Results:
    """The outcomes of scenarios by name, why others have none, and where it all was."""

    about: Mapping[str, Any]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path, verdicts: Sequence[Any] = ()) -> None:
        """Write everything to *path*; *verdicts* are dataclasses."""
        values = {
            **self.about,
            "scenarios": {
                scenario: {
                    name: {"costs": [asdict(cost) for cost in costs]}
                    for name, costs in outcome.costs.items()
                }
                for scenario, outcome in self.outcomes.items()
            },
            "limits": self._of_limits(lambda limit: dict(limit.parts) or None),
            "pipes": self._of_limits(lambda limit: limit.pipe),
            "commands": self._of_limits(lambda limit: limit.commands),
            "verdicts": [asdict(verdict) for verdict in verdicts],
            "failures": self.failures,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=2) + "\n")

    def _of_limits(self, part: Callable[[Limit], object]) -> dict[str, list[Any]]:
        """Collect one thing of all limits; what never was measured is left out."""
        found = {
            name: [part(limit) for limit in outcome.limits if part(limit) is not None]
            for name, outcome in self.outcomes.items()
        }
        return {name: values for name, values in found.items() if values}


def about(place: str, runs: int, tools: Mapping[str, str]) -> dict[str, Any]:
    """Say what is measured, when, and on which machine."""
    commit = subprocess.run(
        ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"],
        check=False,
        capture_output=True,
        text=True,
    ).stdout.strip()
    return {
        "commit": commit,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "place": place,
        "runs": runs,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "tools": dict(tools),
    }


def read(path: Path) -> Results:
    """Read a file that :meth:`Results.write` wrote."""
    values = json.loads(path.read_text())
    results = Results({name: values[name] for name in _ABOUT})
    for name, builders in values["scenarios"].items():
        outcome = Outcome({who: [Cost(**c) for c in b["costs"]] for who, b in builders.items()})
        columns = [values[key].get(name, []) for key in ("limits", "commands", "pipes")]
        for parts, commands, pipe in zip_longest(*columns):
            outcome.limits.append(Limit(parts or {}, commands, pipe))
        results.outcomes[name] = outcome
    results.failures.update(values["failures"])
    return results


def merged(paths: Sequence[Path]) -> Results:
    """Read several files; where two have the same scenario, the later file counts.

    Raises:
        SystemExit: one was measured on a disk, another in memory.
    """
    results = read(paths[0])
    for path in paths[1:]:
        later = read(path)
        if later.about["place"] != results.about["place"]:
            raise SystemExit(f"benchmarks: {path} was measured elsewhere than {paths[0]}")
        results.about = later.about
        results.outcomes.update(later.outcomes)
        results.failures.update(later.failures)
    for name in results.outcomes:
        results.failures.pop(name, None)
    return results
