"""Which steps of a plan come from the cache, and which stages need not be built: pure.

A step is taken from the cache if what it was made on is what it will lie on. Where an earlier
command has to run again, that is known only when it has: such a step is chosen for the time
being, and all that it would need to be made anew is built beside it. The same goes for a stage
that cached steps have copied from: it is built if what they have seen of it may be another
result of some command than the one that comes into the image beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field, replace
from itertools import chain

from kaniko_core.builder.cached.keys import StageKeys, StepKey
from kaniko_core.builder.cached.lineage import copied, grown
from kaniko_core.builder.cached.sightings import Sightings, after_cached, doubtful
from kaniko_core.builder.plan import Plan, StageBase, StagePlan
from kaniko_core.builder.planner import named_in
from kaniko_core.cache.key import Part, key_of
from kaniko_core.dockerfile.instructions import Instruction, Run
from kaniko_core.lean import dataclass
from kaniko_core.steps.step import CachedStep

# A stage's number, and the position of a step in it.
Place = tuple[int, int]
# The position of the one step that a whole stage is, where it has one layer.
WHOLE = -1


@dataclass(frozen=True, slots=True)
class Choice:
    """What is taken from the cache.

    Attributes:
        plan: without the stages that nobody needs, and with what is reused.
        steps: by their places, those that may be taken from the cache.
        sure: those of them that will be, whatever the others become.
        refused: those that were found, and made on something else than what is there.
    """

    plan: Plan
    steps: Mapping[Place, CachedStep]
    sure: frozenset[Place]
    refused: frozenset[Place] = frozenset()


def whole_stage(keys: StageKeys) -> StepKey:
    """Return the key of a stage whose steps become one layer."""
    stages = frozenset(number for step in keys.steps.values() for number in step.stages)
    parts = (Part("after", "", keys.start), Part("whole", "", keys.final))
    steps = keys.steps.values()
    return StepKey(
        key_of(parts), parts, stages=stages, unchanged=lambda: all(s.unchanged() for s in steps)
    )


def is_command(instructions: Sequence[Instruction], position: int) -> bool:
    """Whether only what the step at *position* made tells what it made."""
    return position == WHOLE or isinstance(instructions[position], Run)


def choose(
    plan: Plan,
    steps: Mapping[int, Mapping[int, StepKey]],
    starts: Mapping[int, str],
    found: Callable[[StepKey], CachedStep | None],
) -> Choice:
    """Return what to take from the cache, so that as little as possible is built.

    Args:
        plan: all that the targets need.
        steps: the keys by stage and position.
        starts: the key of what each stage starts from.
        found: what the cache has.
    """
    wanted = set(plan.targets)
    while True:
        walk = _Walk(plan, steps, starts, found, frozenset(wanted))
        walk.run()
        # What is doubtful can be told only when all that has to be built is among it.
        missing = (walk.read | walk.disputed) - wanted or walk.unconfirmed
        if not missing:
            return walk.choice()
        wanted |= missing


@dataclass(slots=True)
class _Walk:
    """One look at the stages that are *wanted*, those that others need first.

    Attributes:
        lineages: by stage, where all that it depends on is known.
        claims: by stage that is not wanted, what cached steps were made on of it.
        sightings: by stage, what lies together in its tree.
        read: the stages that are needed by what is not surely cached.
    """

    plan: Plan
    steps: Mapping[int, Mapping[int, StepKey]]
    starts: Mapping[int, str]
    found: Callable[[StepKey], CachedStep | None]
    wanted: frozenset[int]
    lineages: dict[int, str | None] = field(default_factory=dict)
    claims: dict[int, set[str]] = field(default_factory=dict)
    sightings: dict[int, Sightings] = field(default_factory=dict)
    read: set[int] = field(default_factory=set)
    chosen: dict[Place, CachedStep] = field(default_factory=dict)
    sure: set[Place] = field(default_factory=set)
    refused: set[Place] = field(default_factory=set)

    @property
    def disputed(self) -> frozenset[int]:
        """The stages of which cached steps have seen different results."""
        return frozenset(number for number, claims in self.claims.items() if len(claims) > 1)

    @property
    def unconfirmed(self) -> frozenset[int]:
        """The stages of which cached steps may have seen another result than the image has."""
        commands: dict[int, frozenset[int]] = {}
        lineages = dict(self.lineages)
        for number in self.plan.order().static_order():
            stage = self.plan.stages[number]
            own = {number for at in self.steps[number] if is_command(stage.instructions, at)}
            commands[number] = frozenset(own).union(*(commands[n] for n in stage.needs))
            if number not in self.wanted:
                lineages[number] = self._presumed(stage, lineages)
        return frozenset(
            number
            for sightings in self.sightings.values()
            for number in doubtful(sightings, self.wanted, commands)
            if self.claims[number] != {lineages[number]}
        )

    def run(self) -> None:
        for number in self.plan.order().static_order():
            if number in self.wanted:
                self.lineages[number] = self._stage(self.plan.stages[number])

    def choice(self) -> Choice:
        stages = {
            number: self._reduced(stage)
            for number, stage in self.plan.stages.items()
            if number in self.wanted
        }
        plan = replace(self.plan, stages=stages)
        return Choice(plan, self.chosen, frozenset(self.sure), frozenset(self.refused))

    def _stage(self, stage: StagePlan) -> str | None:
        number = stage.stage.number
        lineage: str | None = self.starts[number]
        sightings: Sightings = ()
        if isinstance(stage.base, StageBase):
            self.read.add(stage.base.number)
            lineage = self.lineages.get(stage.base.number)
            sightings = self._seen_in({stage.base.number})
        for position, step in self.steps[number].items():
            place = number, position
            command = is_command(stage.instructions, position)
            cached = self.found(step)
            if cached is not None and not self._take(place, step, cached, lineage):
                self.refused.add(place)
            origins = self._seen_in(step.stages)
            if place in self.sure:
                sightings = after_cached(sightings, step, origins)
            else:
                cached = None  # it may have to be made anew, and become another
                self.read |= step.stages
                sightings = tuple(dict.fromkeys((*sightings, *origins)))
            lineage = self._after(step, lineage, cached, is_command=command)
        self.sightings[number] = sightings
        return lineage

    def _seen_in(self, stages: Collection[int]) -> Sightings:
        """Return what lies in the trees of *stages*, as far as they are wanted, and themselves."""
        inner = (self.sightings.get(number, ()) for number in stages)
        return (*chain.from_iterable(inner), *(frozenset({number}) for number in stages))

    def _presumed(self, stage: StagePlan, known: Mapping[int, str | None]) -> str | None:
        """Return the lineage of a stage that is not wanted; None where its commands would run.

        *known* has those of the stages that it needs.
        """
        lineage: str | None = self.starts[stage.stage.number]
        if isinstance(stage.base, StageBase):
            lineage = known.get(stage.base.number)
        for position, step in self.steps[stage.stage.number].items():
            origins = [known.get(number) for number in sorted(step.stages)]
            if lineage is None:
                return None
            if not is_command(stage.instructions, position):
                lineage = _after_copy(step, lineage, origins)
                continue
            cached = self.found(step)
            if cached is None or None in origins or not fits(step, cached, [lineage, *origins]):
                return None
            lineage = grown(lineage, cached.contents)
        return lineage

    def _take(self, place: Place, step: StepKey, cached: CachedStep, lineage: str | None) -> bool:
        """Choose *cached*, unless it was made on something else; say whether it was chosen."""
        known = {number: self.lineages.get(number) for number in step.stages & self.wanted}
        there = [lineage, *(known.get(number) for number in sorted(step.stages))]
        if not fits(step, cached, there):
            return False
        self.chosen[place] = cached
        # Of a stage that is not built, all who were made from it have to agree.
        for number, claim in zip(sorted(step.stages), cached.made_on[1:], strict=True):
            if number not in self.wanted:
                self.claims.setdefault(number, set()).add(claim)
        if (lineage is not None or step.independent) and None not in known.values():
            self.sure.add(place)
        return True

    def _after(
        self, step: StepKey, lineage: str | None, cached: CachedStep | None, *, is_command: bool
    ) -> str | None:
        if lineage is None:
            return None
        if is_command:
            return None if cached is None else grown(lineage, cached.contents)
        claims = dict(zip(sorted(step.stages), cached.made_on[1:] if cached else (), strict=False))
        # A claim is as good as a result only where nobody makes another.
        origins = [
            (self.lineages if number in self.wanted else claims).get(number)
            for number in sorted(step.stages)
        ]
        return _after_copy(step, lineage, origins)

    def _reduced(self, stage: StagePlan) -> StagePlan:
        """Return *stage* without what is only needed to make what is cached."""
        number = stage.stage.number
        reused = {position for position in self.steps[number] if (number, position) in self.sure}
        if WHOLE in reused:
            reused = set(range(len(stage.instructions)))
        made = [i for n, i in enumerate(stage.instructions) if n not in reused]
        names = {name.lower() for instruction in made for name in named_in(instruction)}
        origins = {name: origin for name, origin in stage.origins.items() if name in names}
        return replace(stage, origins=origins, reused=frozenset(reused))


def _after_copy(step: StepKey, lineage: str, origins: Sequence[str | None]) -> str | None:
    """Return *lineage* after a copy; None where one of its *origins* is not known."""
    known = [origin for origin in origins if origin is not None]
    return grown(lineage, copied(step.key, known)) if len(known) == len(origins) else None


def fits(step: StepKey, cached: CachedStep, there: list[str | None]) -> bool:
    """Whether *cached* was made on what is *there*: lineages, None where it is not known.

    Args:
        step: whose files it is made of.
        cached: says what it was made on.
        there: the lineage of the stage before the step, and of each stage that the step reads.
    """
    if len(cached.made_on) != len(there):
        return False
    if step.independent:
        there = [None, *there[1:]]
    return all(known in (None, claim) for known, claim in zip(there, cached.made_on, strict=True))
