"""What is timed by other means than one builder after another, for the same table.

slow-link        benchmarks/link.py: warming images over a link that is slow
in-place-runs    benchmarks/in_place.py: RUNs in a container, beside find over the same files
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import in_place, link
from benchmarks.measure import Cost
from benchmarks.numbers import Limit, Outcome
from integration import images
from integration.kaniko_images import kaniko_images
from integration.readers import Podman


@dataclass(frozen=True, slots=True)
class Instrument:
    """A measurement with means of its own.

    Attributes:
        prepare: makes what takes the world, and is kept.
        play: measures so many runs in an empty directory.
    """

    name: str
    title: str
    prepare: Callable[[], object]
    play: Callable[[Path, int], Outcome]


def _slow_link(directory: Path, runs: int) -> Outcome:
    """Take what curl needs with a connection for each image as the limit."""
    outcome = Outcome()
    for name, costs in link.run(directory, runs).items():
        if not name.startswith("limit"):
            outcome.costs[name] = list(costs)
        elif not outcome.limits:
            outcome.limits = [Limit({"curl": cost.seconds}) for cost in costs]
    return outcome


def _in_place(directory: Path, runs: int) -> Outcome:
    """Let each run have three RUNs: they take little of the time that the container takes."""
    podman = Podman(directory / "podman")
    try:
        walks, seconds, _ = in_place.measure(directory, podman, 3 * runs)
    finally:
        podman.close()
    return Outcome(
        {"ours": [Cost(each, 0.0, 0, 0) for each in seconds]},
        [Limit({"find -printf": each}) for each in walks],
    )


def _in_place_inputs() -> None:
    kaniko_images()
    images.large_layout()


INSTRUMENTS = (
    Instrument(
        "slow-link",
        "warming four images of 100 MB; each connection has 200 Mbit/s, 50 ms away",
        lambda: None,
        _slow_link,
    ),
    Instrument(
        "in-place-runs",
        "a RUN more, in place, in a container with the large base's 50,000 files",
        _in_place_inputs,
        _in_place,
    ),
)
