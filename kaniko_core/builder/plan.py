"""What to build, in which order, from what: pure data.

A plan names the stages that the target needs and no others, each with its base and the
stages, images and contexts it copies from. :mod:`kaniko_core.builder.planner` makes it.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import field
from graphlib import TopologicalSorter
from pathlib import Path

from kaniko_core.context.named import ArchiveContext, GitContext, LocalContext
from kaniko_core.dockerfile.instructions import Add, Copy, Instruction, Run, Workdir
from kaniko_core.dockerfile.scope import Scope
from kaniko_core.dockerfile.stages import Stage
from kaniko_core.lean import dataclass
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference


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
    """A named context that holds files, not an image."""

    name: str
    context: LocalContext | GitContext | ArchiveContext


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
        reused: the positions of instructions whose results the layer cache has.
    """

    stage: Stage
    base: Origin
    platform: Platform
    origins: Mapping[str, Origin] = field(default_factory=dict)
    triggers: tuple[Instruction, ...] = ()
    replaced: bool = False
    reused: frozenset[int] = frozenset()

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        """What is done on top of the base, in order."""
        return () if self.replaced else (*self.triggers, *self.stage.instructions)

    @property
    def all_origins(self) -> tuple[Origin, ...]:
        """What the stage starts from, and what its instructions copy or mount from."""
        return (self.base, *self.origins.values())

    @property
    def needs(self) -> frozenset[int]:
        """The numbers of the stages that must be built before this one."""
        return frozenset(item.number for item in self.all_origins if isinstance(item, StageBase))

    @property
    def copies_from(self) -> frozenset[int]:
        """The numbers of the stages that its instructions copy or mount from."""
        return frozenset(o.number for o in self.origins.values() if isinstance(o, StageBase))

    @property
    def remaining(self) -> tuple[Instruction, ...]:
        """The instructions whose results nobody knows yet."""
        return tuple(i for n, i in enumerate(self.instructions) if n not in self.reused)

    @property
    def runs_commands(self) -> bool:
        """Whether any command will be run."""
        return any(isinstance(instruction, Run) for instruction in self.remaining)

    @property
    def makes_layers(self) -> bool:
        """Whether any instruction of the stage will look at, or change, the file system."""
        return isinstance(self.base, ContextBase) or self.changes_files

    @property
    def changes_files(self) -> bool:
        """Whether any of its instructions may change the file system, and will."""
        return any(isinstance(i, Run | Copy | Add | Workdir) for i in self.remaining)


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages to build by number, and the scope that FROM lines saw.

    Attributes:
        targets: the numbers of the stages that become images, in the order of their names; one
            that was named twice, in two ways, is there twice.
    """

    stages: Mapping[int, StagePlan]
    targets: tuple[int, ...]
    arguments: Scope

    @property
    def target(self) -> int:
        """The first target: the one that is pushed where no other is named."""
        return self.targets[0]

    @property
    def needs_root(self) -> bool:
        """Whether any file system has to be made at all."""
        return any(stage.makes_layers for stage in self.stages.values())

    @property
    def runs_commands(self) -> bool:
        """Whether any stage has a RUN."""
        return any(stage.runs_commands for stage in self.stages.values())

    @property
    def packed(self) -> frozenset[int]:
        """The stages whose layers are an image's: a target, its base stage, and so on."""
        return frozenset().union(*map(self._chain, self.targets))

    def image_of(self, number: int) -> int:
        """Return which of the targets' images, from 0, first has the layers of a packed stage."""
        return next(at for at, target in enumerate(self.targets) if number in self._chain(target))

    def _chain(self, target: int) -> frozenset[int]:
        found: set[int] = set()
        origin: Origin = StageBase(target)
        while isinstance(origin, StageBase):
            found.add(origin.number)
            origin = self.stages[origin.number].base
        return frozenset(found)

    def needed(self, number: int, but: StagePlan, built: Container[int]) -> bool:
        """Whether a stage that is still to be built, other than *but*, needs stage *number*."""
        return any(
            number in plan.needs
            for other, plan in self.stages.items()
            if other not in built and plan is not but
        )

    def order(self) -> TopologicalSorter[int]:
        """Return a sorter over the stages' numbers, ready to be prepared."""
        return TopologicalSorter({number: plan.needs for number, plan in self.stages.items()})

    @property
    def images(self) -> frozenset[ImageBase | LayoutBase]:
        """Every image that the plan reads."""
        return frozenset(
            origin
            for plan in self.stages.values()
            for origin in plan.all_origins
            if isinstance(origin, ImageBase | LayoutBase)
        )

    def uses(self, image: ImageBase | LayoutBase) -> int:
        """Return how many stages start from *image*, and how many copy or mount from it."""
        return sum(plan.all_origins.count(image) for plan in self.stages.values())

    @property
    def bases(self) -> frozenset[ImageBase | LayoutBase]:
        """The images that stages start from."""
        return frozenset(
            plan.base
            for plan in self.stages.values()
            if isinstance(plan.base, ImageBase | LayoutBase)
        )
