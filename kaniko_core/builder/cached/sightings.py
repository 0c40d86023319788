"""Which stages' results lie together in one tree, and which of them could be of different builds.

A sighting is a set of stages whose results one build has seen together: those that a cached step
reads, and, where that depends on what is below it, all that is in the tree before it. What two
sightings have seen of one command can be two results of it; in an image there must be one.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from itertools import chain

from kaniko_core.builder.cached.keys import StepKey

Sighting = frozenset[int]
Sightings = tuple[Sighting, ...]


def after_cached(before: Sightings, step: StepKey, origins: Sightings) -> Sightings:
    """Return the sightings in a tree after a *step* that is surely cached.

    Args:
        before: those in the tree below it.
        step: what is cached.
        origins: those of the stages that it reads.
    """
    together = frozenset(step.stages).union(*origins)
    if not step.independent:
        # It was made on a tree that had the same in it, so the same build has seen that.
        return (together.union(*before),)
    return (*before, together) if together else before


def doubtful(
    sightings: Sightings, wanted: Container[int], commands: Mapping[int, frozenset[int]]
) -> Iterator[int]:
    """Yield the stages whose results may contradict what another sighting has seen.

    Args:
        sightings: those in one tree.
        wanted: the stages that are built, whose results are no sightings but facts.
        commands: by stage, itself and the stages that its files come from, if they run commands.
    """
    for place, one in enumerate(sightings):
        for stage in one:
            if stage in wanted:
                continue
            others = chain(*sightings[:place], *sightings[place + 1 :])
            if any(commands[stage] & commands[other] for other in others if other != stage):
                yield stage
