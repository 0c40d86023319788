"""What to build, in which order, from what: pure data.

A plan names the stages that the target needs and no others, each with its base and the
stages, images and contexts it copies from. :mod:`kaniko_core.builder.planner` makes it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path

from kaniko_core.dockerfile.instructions import Add, Copy, From, Instruction, Run, Workdir
from kaniko_core.dockerfile.scope import Scope, global_scope
from kaniko_core.dockerfile.stages import Dockerfile, Stage
from kaniko_core.dockerfile.words import Lexer, WordError
from kaniko_core.errors import DockerfileError, UsageError
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference

SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class Scratch:
    """The empty base."""


@dataclass(frozen=True, slots=True)
class StageBase:
    """Another stage as the base, or as what is copied from."""

    number: int


@dataclass(frozen=True, slots=True)
class ImageBase:
    """An image to be fetched; *name* is as the user wrote it, expanded."""

    reference: Reference
    platform: Platform
    name: str


@dataclass(frozen=True, slots=True)
class LayoutBase:
    """An image in an OCI layout; *selector* is a tag, a digest, or empty for the only one."""

    path: Path
    selector: str
    platform: Platform
    name: str


@dataclass(frozen=True, slots=True)
class ContextBase:
    """A named context that holds files, not an image: a directory, a repository, an archive."""

    name: str


Origin = Scratch | StageBase | ImageBase | LayoutBase | ContextBase


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage that will be built.

    Attributes:
        origins: for each ``--from`` of COPY and ``from`` of RUN ``--mount`` (by its text,
            lower-cased), what it names.
        triggers: what ONBUILD of the base wants run first.
        replaced: whether a named context stands in for the stage: then none of its own
            instructions is run.
    """

    stage: Stage
    base: Origin
    platform: Platform
    origins: Mapping[str, Origin] = field(default_factory=dict)
    triggers: tuple[Instruction, ...] = ()
    replaced: bool = False

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        """What is done on top of the base, in order."""
        return () if self.replaced else (*self.triggers, *self.stage.instructions)

    @property
    def needs(self) -> frozenset[int]:
        """The numbers of the stages that must be built before this one."""
        found = (self.base, *self.origins.values())
        return frozenset(item.number for item in found if isinstance(item, StageBase))

    @property
    def makes_layers(self) -> bool:
        """Whether any instruction of the stage looks at, or changes, the file system."""
        return isinstance(self.base, ContextBase) or any(
            isinstance(i, Run | Copy | Add | Workdir) for i in self.instructions
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages to build by number, the target's last; and the scope that FROM lines saw."""

    stages: Mapping[int, StagePlan]
    target: int
    arguments: Scope

    @property
    def needs_root(self) -> bool:
        """Whether any file system has to be made at all."""
        return any(stage.makes_layers for stage in self.stages.values())

    @property
    def packed(self) -> frozenset[int]:
        """The stages whose layers are the image's: the target, its base stage, and so on."""
        found: set[int] = set()
        origin: Origin = StageBase(self.target)
        while isinstance(origin, StageBase):
            found.add(origin.number)
            origin = self.stages[origin.number].base
        return frozenset(found)

    def order(self) -> TopologicalSorter[int]:
        """Return a sorter over the stages' numbers, ready to be prepared."""
        return TopologicalSorter({number: plan.needs for number, plan in self.stages.items()})

    @property
    def images(self) -> frozenset[ImageBase]:
        """Every image that the plan fetches."""
        return frozenset(
            origin
            for plan in self.stages.values()
            for origin in (plan.base, *plan.origins.values())
            if isinstance(origin, ImageBase)
        )

    @property
    def bases(self) -> frozenset[ImageBase | LayoutBase]:
        """The images that stages start from."""
        return frozenset(
            plan.base
            for plan in self.stages.values()
            if isinstance(plan.base, ImageBase | LayoutBase)
        )


def make_plan(
    dockerfile: Dockerfile,
    *,
    target: str = "",
    build_args: Mapping[str, str] | None = None,
    build_platform: Platform | None = None,
    target_platform: Platform | None = None,
) -> Plan:
    """Return the plan for *target* (a stage's name or number; the last stage where empty).

    Raises:
        DockerfileError: a FROM or COPY ``--from`` names something that cannot be.
        UsageError: there is no such target.
    """
    build_platform = build_platform or Platform.host()
    target_platform = target_platform or build_platform
    number = _target(dockerfile, target)
    arguments = global_scope(
        dockerfile,
        build_args=build_args or {},
        build_platform=build_platform,
        target_platform=target_platform,
        target_stage=dockerfile.stages[number].start.name or "default",
    )
    planner = _Planner(dockerfile, arguments, target_platform)
    planned = {stage.number: planner.stage(stage) for stage in dockerfile.stages[: number + 1]}
    return Plan({n: planned[n] for n in sorted(_reachable(number, planned))}, number, arguments)


def _target(dockerfile: Dockerfile, target: str) -> int:
    stages = dockerfile.stages
    if not target:
        return stages[-1].number
    found = _stage_named(target, stages)
    if found is not None:
        return found
    number = _number(target)
    if number is not None and number < len(stages):
        return number
    names = [stage.start.name for stage in stages if stage.start.name]
    close = difflib.get_close_matches(target.lower(), names, 1)
    there = f"its stages are {', '.join(names)}" if names else "none of its stages has a name"
    hint = f"did you mean {close[0]}?" if close else there
    raise UsageError(f"{dockerfile.path} has no stage named {target!r}", hint=hint)


def _number(text: str) -> int | None:
    """Return the number of a stage; no Dockerfile has more than some thousands."""
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def _stage_named(name: str, stages: Iterable[Stage]) -> int | None:
    # A name given twice means the later stage, as in BuildKit.
    found = None
    for stage in stages:
        if stage.start.name == name.lower():
            found = stage.number
    return found


def _reachable(start: int, planned: Mapping[int, StagePlan]) -> set[int]:
    seen: set[int] = set()
    waiting = [start]
    while waiting:
        number = waiting.pop()
        if number not in seen:
            seen.add(number)
            waiting.extend(planned[number].needs)
    return seen


@dataclass(frozen=True, slots=True)
class _Planner:
    dockerfile: Dockerfile
    arguments: Scope
    target_platform: Platform

    def stage(self, stage: Stage) -> StagePlan:
        platform = self._platform(stage.start)
        earlier = self.dockerfile.stages[: stage.number]
        origins = {
            i.from_.lower(): self._copied_from(i, i.from_, earlier, platform)
            for i in stage.instructions
            if isinstance(i, Copy) and i.from_ is not None
        }
        return StagePlan(stage, self._base(stage.start, earlier, platform), platform, origins)

    def _platform(self, start: From) -> Platform:
        if start.platform is None:
            return self.target_platform
        text = self._expanded(start, start.platform, "the platform")
        try:
            return Platform.parse(text)
        except UsageError as error:
            raise _at(start, str(error), error.hint) from None

    def _base(self, start: From, earlier: tuple[Stage, ...], platform: Platform) -> Origin:
        name = self._expanded(start, start.image, "the base image")
        number = _stage_named(name, earlier)
        if number is not None:
            return StageBase(number)
        if name == SCRATCH:
            return Scratch()
        return self._image(start, name, platform)

    def _copied_from(
        self, copy: Copy, name: str, earlier: tuple[Stage, ...], platform: Platform
    ) -> Origin:
        number = _stage_named(name, earlier)
        if number is not None:
            return StageBase(number)
        index = _number(name)
        if index is not None:
            if index >= len(earlier):
                raise _at(copy, f"there is no stage {name} before this one to copy from", None)
            return StageBase(index)
        if "$" in name:
            raise _at(
                copy,
                f"COPY --from={name}: variables are not expanded here",
                "name the image in a FROM with a stage name, and copy from that stage",
            )
        if name.lower() == SCRATCH:
            return Scratch()
        return self._image(copy, name, platform)

    def _image(self, where: From | Copy, name: str, platform: Platform) -> ImageBase:
        try:
            return ImageBase(Reference.parse(name).with_default_tag, platform, name)
        except UsageError as error:
            raise _at(where, str(error), error.hint) from None

    def _expanded(self, start: From, text: str, what: str) -> str:
        try:
            value = Lexer(self.dockerfile.escape).expand(text, self.arguments.variables)
        except WordError as error:
            raise _at(start, str(error), error.hint) from None
        if not value.strip():
            raise _at(
                start,
                f"{what} is empty: {text} has no value here",
                "declare it with ARG before the first FROM, or give it with --build-arg",
            )
        return value


def _at(where: From | Copy, message: str, hint: str | None) -> DockerfileError:
    source = where.source
    return DockerfileError(
        message, path=source.path, line=source.line, source=source.text, hint=hint
    )
