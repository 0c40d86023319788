"""From a Dockerfile to a plan: pure, but for what a base image's ONBUILD adds.

Names are looked up as BuildKit does: a named context first, then a stage, then an image. FROM
sees the stages before it; ``--from`` sees all of them, and a name that was given twice means the
later stage, but only what stands before its own stage may be copied from.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from graphlib import CycleError, TopologicalSorter
from typing import assert_never

from kaniko_core.builder.configure import located
from kaniko_core.builder.plan import (
    ContextBase,
    ImageBase,
    LayoutBase,
    Origin,
    Plan,
    Scratch,
    StageBase,
    StagePlan,
)
from kaniko_core.context.named import (
    ArchiveContext,
    GitContext,
    ImageContext,
    LayoutContext,
    LocalContext,
    NamedContexts,
)
from kaniko_core.dockerfile.instructions import Copy, From, Instruction, OnBuild, Run, Source
from kaniko_core.dockerfile.mounts import mount_origin, parse_mount
from kaniko_core.dockerfile.parser import parse_trigger
from kaniko_core.dockerfile.places import did_you_mean
from kaniko_core.dockerfile.scope import Scope, global_scope
from kaniko_core.dockerfile.stages import Dockerfile, Stage
from kaniko_core.dockerfile.words import Lexer, WordError
from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import SCRATCH, Reference

# The triggers of a base image, which only whoever can fetch its config knows.
Triggers = Callable[[ImageBase | LayoutBase], tuple[str, ...]]
_NO_CONTEXTS = NamedContexts()


def make_plan(
    dockerfile: Dockerfile,
    *,
    targets: Sequence[str] = ("",),
    build_args: Mapping[str, str] | None = None,
    build_platform: Platform | None = None,
    target_platform: Platform | None = None,
    contexts: NamedContexts = _NO_CONTEXTS,
    triggers: Triggers = lambda _: (),
    every_stage: bool = False,
) -> Plan:
    """Return the plan for *targets* (a stage's name or number; the last stage where empty).

    Args:
        dockerfile: as it was parsed.
        targets: which stages' images are wanted.
        build_args: values given for ARGs.
        build_platform: this machine's.
        target_platform: of the image.
        contexts: what stands for a stage or image of the same name.
        triggers: returns the ONBUILD triggers of a base image.
        every_stage: whether stages that the target does not need are planned as well.

    Raises:
        DockerfileError: a FROM or ``--from`` names something that cannot be.
        UsageError: there is no such target.
    """
    build_platform = build_platform or Platform.host()
    target_platform = target_platform or build_platform
    numbers = tuple(_target(dockerfile, target) for target in targets)
    arguments = global_scope(
        dockerfile,
        build_args=build_args or {},
        build_platform=build_platform,
        target_platform=target_platform,
        # There is one for all stages, and so for all targets.
        target_stage=targets[0] or dockerfile.stages[numbers[0]].start.name or "default",
    )
    names = _numbers_by_name(dockerfile.stages)
    planner = _Planner(dockerfile, arguments, target_platform, contexts, triggers, names)
    for number in numbers:
        planner.visit(number)
    if every_stage:
        for stage in dockerfile.stages:
            planner.visit(stage.number)
    return Plan(dict(sorted(planner.planned.items())), numbers, arguments)


def _target(dockerfile: Dockerfile, target: str) -> int:
    stages = dockerfile.stages
    if not target:
        return stages[-1].number
    found = _numbers_by_name(stages).get(target.lower())
    if found is not None:
        return found[-1]
    number = _number(target)
    if number is not None and number < len(stages):
        return number
    names = [stage.start.name for stage in stages if stage.start.name]
    there = f"its stages are {', '.join(names)}" if names else "none of its stages has a name"
    hint = did_you_mean(target.lower(), names) or there
    raise UsageError(f"{dockerfile.path} has no stage named {target!r}", hint=hint)


def _number(text: str) -> int | None:
    """Return the number of a stage; no Dockerfile has more than some thousands."""
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def _numbers_by_name(stages: Iterable[Stage]) -> dict[str, list[int]]:
    """Return the numbers of stages by their names; one that was given twice has two of them."""
    found: dict[str, list[int]] = {}
    for stage in stages:
        if stage.start.name:
            found.setdefault(stage.start.name, []).append(stage.number)
    return found


def named_in(instruction: Instruction) -> Iterator[str]:
    """Yield what the ``--from`` of an instruction names."""
    match instruction:
        case Copy(from_=str() as name):
            yield name
        case Run(source=source, mounts=mounts):
            with located(source):
                origins = [mount_origin(text) for text in mounts]
                for text in mounts:
                    # What a variable will make of the others, nobody knows before.
                    if "$" not in text:
                        parse_mount(text, str)
            yield from filter(None, origins)


@dataclass(frozen=True, slots=True)
class _Planner:
    dockerfile: Dockerfile
    arguments: Scope
    target_platform: Platform
    contexts: NamedContexts
    triggers: Triggers
    names: Mapping[str, Sequence[int]]
    planned: dict[int, StagePlan] = field(default_factory=dict)
    platforms: dict[int, Platform] = field(default_factory=dict)

    def visit(self, target: int) -> None:
        """Plan stage *target* and all that it needs."""
        waiting = [target]
        while waiting:
            number = waiting.pop()
            if number not in self.planned:
                self.planned[number] = self._stage(self.dockerfile.stages[number])
                waiting.extend(self.planned[number].needs)
        self._refuse_circles()
        for plan in self.planned.values():
            self._refuse_later_stages(plan)

    def _refuse_later_stages(self, plan: StagePlan) -> None:
        for instruction in plan.instructions:
            for name in named_in(instruction):
                match plan.origins[name.lower()]:
                    # What a named context stands in for, is there from the beginning.
                    case StageBase(number) if (
                        number > plan.stage.number and not self.planned[number].replaced
                    ):
                        label = self.dockerfile.stages[number].label
                        raise instruction.source.error(
                            f"the stage {label} comes later, and cannot be copied from yet",
                            hint=f"move it before {plan.stage.label}",
                            at=(name,),
                        )

    def _refuse_circles(self) -> None:
        order = TopologicalSorter({n: plan.needs for n, plan in self.planned.items()})
        try:
            order.prepare()
        except CycleError as error:
            # Each is followed by one that needs it, the first stands at the end again.
            circle: list[int] = error.args[1][::-1]
            labels = [self.dockerfile.stages[number].label for number in circle]
            raise self.dockerfile.stages[circle[0]].start.source.error(
                f"stages need each other in a circle: {' needs '.join(labels)}",
                hint="a stage can only copy from stages that do not need it",
            ) from None

    def _stage(self, stage: Stage) -> StagePlan:
        platform = self._platform(stage.start)
        context = self._replacement(stage.start)
        if context is not None:
            return StagePlan(stage, context, platform, replaced=True)
        base = self._base(stage, platform)
        if isinstance(base, StageBase):
            platform = self._platform_of(base.number)
        elif isinstance(base, Scratch):
            platform = self.target_platform
        triggers = self._triggers(stage.start, base)
        origins = {
            name.lower(): self._origin(instruction.source, name)
            for instruction in (*triggers, *stage.instructions)
            for name in named_in(instruction)
        }
        return StagePlan(stage, base, platform, origins, triggers)

    def _replacement(self, start: From) -> Origin | None:
        """Return the named context that stands in for a whole stage, if there is one."""
        return None if start.name is None else self._context(start.name, self._platform(start))

    def _platform(self, start: From) -> Platform:
        if start.platform is None:
            return self.target_platform
        text = self._expanded(start, start.platform, "the platform")
        try:
            return Platform.parse(text)
        except UsageError as error:
            raise start.source.error(str(error), hint=error.hint) from None

    def _platform_of(self, number: int) -> Platform:
        """Return the platform of a stage that is based on, which may start from another."""
        passed: list[int] = []
        # What is known is not asked again: a Dockerfile may have thousands of stages in a row.
        while number not in self.platforms:
            passed.append(number)
            stage = self.dockerfile.stages[number]
            base = self._base(stage, self.target_platform)
            if isinstance(base, StageBase):
                number = base.number
            else:
                self.platforms[number] = self._platform(stage.start)
        self.platforms.update(dict.fromkeys(passed, self.platforms[number]))
        return self.platforms[number]

    def _base(self, stage: Stage, platform: Platform) -> Origin:
        name = self._expanded(stage.start, stage.start.image, "the base image")
        number = self._named(name, before=stage.number)
        if number is not None:
            return StageBase(number)
        context = self._context(name, platform)
        if context is not None:
            return context
        if name == SCRATCH:
            return Scratch()
        return self._image(stage.start.source, name, platform)

    def _named(self, name: str, *, before: int) -> int | None:
        """Return the last stage of that name among those with numbers less than *before*."""
        numbers = self.names.get(name.lower(), ())
        place = bisect_left(numbers, before)
        return numbers[place - 1] if place else None

    def _triggers(self, start: From, base: Origin) -> tuple[Instruction, ...]:
        match base:
            case StageBase(number):
                # Those of its own base are spent: a trigger fires once.
                replaced = self._replacement(self.dockerfile.stages[number].start)
                own = () if replaced else self.dockerfile.stages[number].instructions
                found = [(i.text, i.source.line) for i in own if isinstance(i, OnBuild)]
            case ImageBase() | LayoutBase():
                found = [(text, start.source.line) for text in self.triggers(base)]
            case _:
                found = []
        path = start.source.path
        return tuple(parse_trigger(text, path, line) for text, line in found)

    def _origin(self, where: Source, name: str) -> Origin:
        context = self._context(name, self.target_platform)
        if context is not None:
            return context
        number = self._named(name, before=len(self.dockerfile.stages))
        if number is not None:
            return StageBase(number)
        index = _number(name)
        if index is not None:
            if index >= len(self.dockerfile.stages):
                raise where.error(f"there is no stage {name} to copy from", at=(name,))
            return StageBase(index)
        if "$" in name:
            raise where.error(
                f"--from={name}: variables are not expanded here",
                hint="name the image in a FROM with a stage name, and copy from that stage",
                at=(name,),
            )
        if name.lower() == SCRATCH:
            return Scratch()
        return self._image(where, name, self.target_platform)

    def _context(self, name: str, platform: Platform) -> Origin | None:
        match self.contexts.find(name, platform) if self.contexts else None:
            case None:
                return None
            case ImageContext(reference):
                if reference is None:
                    return Scratch()
                return ImageBase(reference, platform, reference.familiar)
            case LayoutContext(path=path, selector=selector):
                return LayoutBase(path, selector, platform, name)
            case (LocalContext() | GitContext() | ArchiveContext()) as files:
                return ContextBase(name, files)
            case never:
                assert_never(never)

    def _image(self, where: Source, name: str, platform: Platform) -> ImageBase:
        try:
            return ImageBase(Reference.parse(name).with_default_tag, platform, name)
        except UsageError as error:
            raise where.error(str(error), hint=error.hint, at=(name,)) from None

    def _expanded(self, start: From, text: str, what: str) -> str:
        try:
            value = Lexer(self.dockerfile.escape).expand(text, self.arguments.variables)
        except WordError as error:
            raise start.source.error(str(error), hint=error.hint, at=(error.word,)) from None
        if not value.strip():
            nothing = f": {text} has no value here" if text.strip() else ""
            raise start.source.error(
                f"{what} is empty{nothing}",
                hint="declare it with ARG before the first FROM, or give it with --build-arg",
                at=(text,),
            )
        return value
