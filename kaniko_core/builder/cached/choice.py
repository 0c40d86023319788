"""Which steps of a plan come from the cache, and which stages need not be built: pure.

A step is taken from the cache if what it was made on is what it will lie on. Where an earlier
command has to run again, that is known only when it has: such a step is chosen for the time
being, and all that it would need to be made anew is built beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kaniko_core.builder.cached.keys import StageKeys, StepKey
from kaniko_core.builder.cached.lineage import copied, grown
from kaniko_core.builder.plan import Plan, StageBase, StagePlan
from kaniko_core.builder.planner import named_in
from kaniko_core.cache.key import Part, key_of
from kaniko_core.dockerfile.instructions import Instruction, Run
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
        plan: all that the target needs.
        steps: the keys by stage and position.
        starts: the key of what each stage starts from.
        found: what the cache has.
    """
    wanted = {plan.target}
    while True:
        walk = _Walk(plan, steps, starts, found, frozenset(wanted))
        walk.run()
        missing = (walk.read | walk.disputed) - wanted
        if not missing:
            return walk.choice()
        wanted |= missing


@dataclass(slots=True)
class _Walk:
    """One look at the stages that are *wanted*, those that others need first.

    Attributes:
        lineages: by stage, where all that it depends on is known.
        claims: by stage that is not wanted, what cached steps were made on of it.
        read: the stages that are needed by what is not surely cached.
    """

    plan: Plan
    steps: Mapping[int, Mapping[int, StepKey]]
    starts: Mapping[int, str]
    found: Callable[[StepKey], CachedStep | None]
    wanted: frozenset[int]
    lineages: dict[int, str | None] = field(default_factory=dict)
    claims: dict[int, set[str]] = field(default_factory=dict)
    read: set[int] = field(default_factory=set)
    chosen: dict[Place, CachedStep] = field(default_factory=dict)
    sure: set[Place] = field(default_factory=set)
    refused: set[Place] = field(default_factory=set)

    @property
    def disputed(self) -> frozenset[int]:
        """The stages of which cached steps have seen different results."""
        return frozenset(number for number, claims in self.claims.items() if len(claims) > 1)

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
        if isinstance(stage.base, StageBase):
            self.read.add(stage.base.number)
            lineage = self.lineages.get(stage.base.number)
        for position, step in self.steps[number].items():
            place = number, position
            command = is_command(stage.instructions, position)
            cached = self.found(step)
            if cached is not None and not self._take(place, step, cached, lineage):
                self.refused.add(place)
                cached = None
            if place not in self.sure:
                self.read |= step.stages
            lineage = self._after(step, lineage, cached, is_command=command)
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
        origins = dict(zip(sorted(step.stages), cached.made_on[1:] if cached else (), strict=False))
        known = [self.lineages.get(number) or origins.get(number) for number in sorted(step.stages)]
        if any(origin is None for origin in known):
            return None
        return grown(lineage, copied(step.key, [origin or "" for origin in known]))

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
