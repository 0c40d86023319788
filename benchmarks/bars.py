"""What a run is allowed to cost, and whether it did: the bars of issue 8.

A bar compares a median of ours with something that was measured in the same run: the limit, the
commands that the Dockerfile itself runs, another scenario, or nothing (plain seconds). Beside
them, every scenario may use so much memory, a rebuild downloads no layer, and no peer is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from benchmarks.numbers import Outcome

_MEBIBYTE = 1 << 20
_MEMORY = 200  # MiB: peak of the whole process tree, in any scenario
_TEN_RUNS = 10


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was measured against a bar, both as ratios, seconds or MiB: the bar says which."""

    scenario: str
    bar: str
    measured: float
    allowed: float
    met: bool

    @property
    def share(self) -> float:
        """Return how much of what is allowed was used; more than 1 is too much."""
        return self.measured / self.allowed if self.allowed else float(self.measured > 0)


Outcomes = Mapping[str, Outcome]
# What is measured for a scenario; nothing where the run does not have what it takes.
Measured = Callable[[Outcomes, str], float | None]


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a scenario: how it is told, what it measures, and the most that this may be."""

    scenario: str
    text: str
    measured: Measured
    allowed: float


def _seconds(outcomes: Outcomes, name: str) -> float | None:
    return outcomes[name].median("ours", "seconds")


def _of_limit(outcomes: Outcomes, name: str) -> float | None:
    """Return what a build took beyond its commands, as a multiple of the limit."""
    outcome = outcomes[name]
    limit = outcome.limit()
    return (outcome.median("ours", "seconds") - outcome.commands()) / limit if limit else None


def _of_commands(outcomes: Outcomes, name: str) -> float | None:
    outcome = outcomes[name]
    commands = outcome.commands()
    return outcome.median("ours", "seconds") / commands if commands else None


def _more_per_run(outcomes: Outcomes, name: str) -> float | None:
    """Return what each RUN beyond the first added to the large base's one."""
    one = outcomes.get("large-base")
    if one is None or "ours" not in one.costs:
        return None
    more = outcomes[name].median("ours", "seconds") - one.median("ours", "seconds")
    return more / (_TEN_RUNS - 1)


def _times_limit(scenario: str, allowed: float) -> Bar:
    return Bar(scenario, f"<= {allowed:g} x the limit", _of_limit, allowed)


def _within(scenario: str, allowed: float) -> Bar:
    return Bar(scenario, f"<= {allowed:g} s", _seconds, allowed)


BARS = (
    _times_limit("large-base", 1.3),
    Bar("ten-runs", "<= 0.12 s more for each RUN than large-base", _more_per_run, 0.12),
    _times_limit("small-files", 1.3),
    _times_limit("large-file", 1.3),
    _times_limit("many-files", 1.3),
    Bar("stages", "<= 1.4 x the longest stage", _of_commands, 1.4),
    _times_limit("warmed", 1.2),
    _within("unpacked", 1.5),
    _within("rebuild", 0.8),
    _within("rebuild-50", 1.5),
    _within("warm-again", 0.35),
    _within("help", 0.2),
    _within("version", 0.2),
    _times_limit("slow-link", 1.1),
    _times_limit("in-place-runs", 1.5),
)
# Scenarios in which nothing needs a layer's bytes.
_NO_LAYERS = ("rebuild", "rebuild-50", "warm-again")


def verdicts(outcomes: Outcomes) -> list[Verdict]:
    """Judge everything that a run has numbers of ours for."""
    judged = []
    for name, outcome in outcomes.items():
        if "ours" not in outcome.costs:
            continue
        for bar in BARS:
            if bar.scenario == name:
                value = bar.measured(outcomes, name)
                if value is not None:
                    judged.append(Verdict(name, bar.text, value, bar.allowed, value <= bar.allowed))
        judged += _common(name, outcome)
    return judged


def of_own_bar(scenario: str, verdicts: Iterable[Verdict]) -> Verdict | None:
    """Return the verdict on the bar that only this scenario has."""
    own = {bar.text for bar in BARS if bar.scenario == scenario}
    return next((v for v in verdicts if v.scenario == scenario and v.bar in own), None)


def _common(name: str, outcome: Outcome) -> Iterator[Verdict]:
    """Judge what every scenario has to keep."""
    memory = max(cost.memory for cost in outcome.costs["ours"]) / _MEBIBYTE
    if memory:
        yield Verdict(name, f"<= {_MEMORY} MiB", memory, _MEMORY, memory <= _MEMORY)
    if name in _NO_LAYERS:
        blobs = max(cost.blobs for cost in outcome.costs["ours"])
        yield Verdict(name, "no layer downloaded", blobs, 0, blobs == 0)
    seconds = outcome.median("ours", "seconds")
    for peer in outcome.peers():
        ratio = seconds / outcome.median(peer, "seconds")
        yield Verdict(name, f"faster than {peer}", ratio, 1, ratio < 1)
