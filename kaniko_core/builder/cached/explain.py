"""Why steps were not taken from the cache, in words: ``--explain``. Pure.

What a key was made of is compared with the record of the build before (``records.py``). Only
names are ever said, of files, arguments and variables; never values, which may be secret.

    Dockerfile:4 COPY src /src
        file src/main.c changed
        file src/new.c is new
    Dockerfile:7 RUN make
        follows a step that changed (line 4)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from functools import cached_property
from typing import assert_never

from kaniko_core.builder.cached.differences import differences, shown
from kaniko_core.builder.cached.keys import StageKeys
from kaniko_core.builder.cached.records import (
    Record,
    StageRecord,
    StepRecord,
    keyword,
    record,
    record_name,
)
from kaniko_core.builder.plan import ContextBase, ImageBase, LayoutBase, Plan, Scratch, StageBase
from kaniko_core.dockerfile.instructions import Add, Copy, From, Instruction
from kaniko_core.lean import dataclass
from kaniko_core.steps.step import Missing

# Characters of an instruction that say which one it is.
_WIDTH = 72
_ALL_FOUND = "every step was in the cache\n"
_UNKNOWN = "nothing is known of an earlier build, so nobody can say what changed since\n"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one step.

    Attributes:
        why: the reason for which it was not taken from the cache; None if it was.
        culprit: where it was found, but made on what an earlier step gave that has given
            something else by now: that step, such as ``line 5``.
    """

    why: Missing | None = None
    culprit: str = ""

    @property
    def missed(self) -> bool:
        """Whether the step had to be done."""
        return self.why is not None or bool(self.culprit)


def explain(
    plan: Plan,
    keys: Mapping[int, StageKeys],
    outcomes: Mapping[tuple[int, int], Outcome],
    previous: bytes | None,
) -> str:
    """Return a paragraph for each step that was not in the cache; lines end with a newline.

    Args:
        plan: of this build, with all stages that have keys.
        keys: of this build.
        outcomes: by the stage's number and the step's position. A position that is no step's
            stands for the stage as a whole, where that is one layer.
        previous: the :func:`record` of the build before; None where there was none.
    """
    missed = {place: outcome for place, outcome in sorted(outcomes.items()) if outcome.missed}
    if not missed:
        return _ALL_FOUND if outcomes else ""
    before = None if previous is None else Record.parse(previous)
    explainer = _Explainer(plan, keys, before)
    text = "" if before is not None else _UNKNOWN
    for (number, position), outcome in missed.items():
        text += f"{explainer.place(number, position)}\n"
        text += "".join(f"    {cause}\n" for cause in explainer.causes(number, position, outcome))
    return text


@dataclass(frozen=True)
class _Explainer:
    """Compares the keys of a plan with those of the build before; no slots: it remembers."""

    plan: Plan
    keys: Mapping[int, StageKeys]
    before: Record | None

    def place(self, number: int, position: int) -> str:
        """Return where a step stands, and its first line."""
        source = self._instruction(number, position).source
        line = " ".join(source.text.partition("\n")[0].split())
        line = line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"
        return f"{source.path}:{source.line} {shown(line)}"

    def causes(self, number: int, position: int, outcome: Outcome) -> list[str]:
        """Return why a step was missed, the first cause first."""
        if outcome.culprit:
            found = [f"was made on another result of {outcome.culprit}"]
        else:
            found = self._reason(self._instruction(number, position), outcome.why)
        if self.before is not None:
            found += self._changes(number, position)
        return found or ["it was not in the cache"]

    def _reason(self, instruction: Instruction | From, why: Missing | None) -> list[str]:
        match why:
            case None | Missing.ABSENT:
                return []
            case Missing.EXPIRED:
                return ["expired"]
            case Missing.LOST:
                return ["its layer is gone from the cache"]
            case Missing.UNREACHABLE:
                return ["the cache could not be asked"]
            case Missing.OFF:
                copies = isinstance(instruction, Copy | Add)
                flag = "--cache-copy-layers" if copies else "--cache-run-layers"
                whose = "" if isinstance(instruction, From) else f"{keyword(instruction)} "
                return [f"{whose}layers are not cached ({flag})"]
            case _:
                assert_never(why)

    def _instruction(self, number: int, position: int) -> Instruction | From:
        planned = self.plan.stages[number]
        if position in self.keys[number].steps:
            return planned.instructions[position]
        return planned.stage.start

    def _changes(self, number: int, position: int) -> list[str]:
        """Return what is different from the build before."""
        stage = self._stages[number]
        if stage.before is None:
            return ["the stage is new"]
        if position not in self.keys[number].steps:
            return [*self._base(stage), *stage.all_changes()]
        index = sorted(self.keys[number].steps).index(position)
        own = stage.own[index]
        if stage.same[index]:
            return list(own)
        return [self._above(stage, index), *own]

    def _above(self, stage: _Compared, index: int) -> str:
        """Return what changed below a step: the first cause, which has no other below it."""
        if base := self._base(stage):
            return base[0]
        for line, own in zip(stage.lines[:index], stage.own, strict=False):
            if own:
                return f"follows a step that changed (line {line})"
        return "follows other steps than before"

    def _base(self, stage: _Compared) -> list[str]:
        """Return what changed of what a stage starts from."""
        changed = differences(stage.now.start, stage.before.start) if stage.before else []
        if not changed:
            return []
        base = self.plan.stages[stage.now.number].base
        match base:
            case StageBase(number):
                return [f"stage {self.plan.stages[number].stage.label} changed"]
            case ImageBase(name=name) | LayoutBase(name=name):
                return [f"the base image {name} is another one"]
            case ContextBase(name=name):
                return [f"context {name} changed", *changed]
            case Scratch():
                return changed
            case _:
                assert_never(base)

    @cached_property
    def _stages(self) -> Mapping[int, _Compared]:
        """This build's stages beside those of the build before, in the same coarseness."""
        assert self.before is not None
        now = Record.of(self.plan, self.keys)
        before = self.before.coarsened(now.coarseness)
        now = now.coarsened(before.coarseness)
        partners = _partners(now.stages, before.stages)
        return {
            stage.number: _Compared.of(self.plan, self.keys, stage, partners.get(stage.number))
            for stage in now.stages
        }


@dataclass(frozen=True, slots=True)
class _Compared:
    """A stage beside what it was before, which is None if there was none.

    Attributes:
        lines: where its steps stand in the Dockerfile.
        same: for each step, whether what it lies on is the same, or makes no difference.
        own: for each step, what is different of itself.
    """

    now: StageRecord
    before: StageRecord | None
    lines: tuple[int, ...]
    same: tuple[bool, ...]
    own: tuple[tuple[str, ...], ...]

    @classmethod
    def of(
        cls,
        plan: Plan,
        keys: Mapping[int, StageKeys],
        now: StageRecord,
        before: StageRecord | None,
    ) -> _Compared:
        steps = keys[now.number].steps
        instructions = plan.stages[now.number].instructions
        matched = _matched(now.steps, before.steps if before else ())
        return cls(
            now,
            before,
            tuple(instructions[position].source.line for position in sorted(steps)),
            tuple(
                # Of what was copied with --link, it makes no difference what is below.
                old is None or not (step.below and old.below) or step.below == old.below
                for step, old in zip(now.steps, matched, strict=True)
            ),
            tuple(
                ("the instruction is new",) if old is None else tuple(differences(step, old))
                for step, old in zip(now.steps, matched, strict=True)
            ),
        )

    def all_changes(self) -> Iterator[str]:
        """Yield what changed of all steps."""
        for line, own in zip(self.lines, self.own, strict=True):
            yield from (f"line {line}: {cause}" for cause in own)


def _partners(
    now: Sequence[StageRecord], before: Sequence[StageRecord]
) -> Mapping[int, StageRecord]:
    """Return which stages of the build before are those of this one, by these ones' numbers.

    A name says it. Of the others, whose numbers change with each stage that comes or goes, those
    belong together that have the most instructions in common.
    """
    named = {stage.name: stage for stage in before if stage.name}
    found = {stage.number: named[stage.name] for stage in now if stage.name in named}
    taken = {stage.number for stage in found.values()}
    likeness = sorted(
        (-_likeness(stage, other), abs(stage.number - other.number), stage.number, other.number)
        for stage in now
        for other in before
        if stage.number not in found and other.number not in taken
    )
    by_number = {stage.number: stage for stage in before}
    for _, _, number, other in likeness:
        if number not in found and other not in taken:
            found[number] = by_number[other]
            taken.add(other)
    return found


def _likeness(stage: StageRecord, other: StageRecord) -> float:
    return _matcher((stage.start, *stage.steps), (other.start, *other.steps)).ratio()


def _matched(
    now: Sequence[StepRecord], before: Sequence[StepRecord]
) -> tuple[StepRecord | None, ...]:
    """Return for each step what it was before; None for a new one.

    Steps with the same text belong together, in their order; between those, the ones with the
    same keyword do: their text was changed.
    """
    found: list[StepRecord | None] = [None] * len(now)
    # Opcodes lead from the first to the second: those before come first.
    for tag, old_start, old_end, start, end in _matcher(before, now).get_opcodes():
        left = list(before[old_start:old_end])
        for index in range(start, end):
            for old in left:
                if tag == "equal" or old.keyword == now[index].keyword:
                    found[index] = old
                    # What stood before it has no place behind it any more.
                    left = left[left.index(old) + 1 :]
                    break
    return tuple(found)


def _matcher(one: Sequence[StepRecord], other: Sequence[StepRecord]) -> SequenceMatcher[str]:
    texts = ([step.text for step in one], [step.text for step in other])
    return SequenceMatcher(None, *texts, autojunk=False)


__all__ = ["Outcome", "explain", "record", "record_name"]
