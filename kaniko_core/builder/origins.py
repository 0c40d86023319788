"""What stages start from, and what their instructions copy and mount from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import field, replace
from datetime import datetime

from kaniko_core.builder.base import BaseImages
from kaniko_core.builder.cached.lineage import Lineage
from kaniko_core.builder.cached.reuse import Reused
from kaniko_core.builder.configure import StageState, follow_stage, scratch, start_stage
from kaniko_core.builder.mounts import NamedTree
from kaniko_core.builder.output import Delivery
from kaniko_core.builder.plan import (
    ContextBase,
    ImageBase,
    LayoutBase,
    Plan,
    Scratch,
    StageBase,
    StagePlan,
)
from kaniko_core.builder.source import CopySource
from kaniko_core.builder.spool import spooled
from kaniko_core.builder.trees import Tree, Trees
from kaniko_core.builder.workspace import Workspace
from kaniko_core.dockerfile.instructions import Add, Copy
from kaniko_core.lean import dataclass
from kaniko_core.oci.image import Image
from kaniko_core.oci.layer import FileLayer
from kaniko_core.oci.reference import SCRATCH, Repository
from kaniko_core.options import ImageOptions
from kaniko_core.steps.step import CachedStep


@dataclass(frozen=True, slots=True)
class BuiltStage:
    """A stage after its last instruction.

    Attributes:
        docker: whether its media types are Docker's.
        below: how many layers its base image has.
        layer: the newest one of its own, where one is made; and *made*, when.
        lineage: what its files came from, where there is a layer cache.
        steps: return what its own layers are cached as, waiting for them; likewise.
    """

    state: StageState
    tree: Tree
    docker: bool
    below: int = 0
    layer: Future[FileLayer] | None = None
    made: datetime | None = None
    lineage: Lineage | None = None
    steps: tuple[Callable[[], CachedStep], ...] = ()


Built = Mapping[int, BuiltStage]


@dataclass(frozen=True, slots=True)
class Origins:
    """The stages, images and contexts of one plan; safe to use from several threads.

    Attributes:
        context: the build context.
        files: returns the files of a named context.
        materialize: whether the target's files must be where commands run.
        reused: what the layer cache has; None where there is none.
        made: what images are to be like.
    """

    plan: Plan
    escape: str
    context: CopySource
    files: Callable[[ContextBase], CopySource]
    workspace: Workspace
    trees: Trees
    images: BaseImages
    delivery: Delivery
    materialize: bool = False
    reused: Reused | None = None
    made: ImageOptions = field(default_factory=ImageOptions)
    _kept: dict[ImageBase | LayoutBase, Image] = field(default_factory=dict)
    _read_only: dict[ImageBase | LayoutBase, Tree] = field(default_factory=dict)

    def is_materialized(self, plan: StagePlan) -> bool:
        """Whether the stage's files stay where commands run."""
        return self.materialize and plan.stage.number == self.plan.target

    def _enters_root(self, plan: StagePlan) -> bool:
        """Whether the stage's files must be where commands run."""
        return plan.runs_commands or self.is_materialized(plan)

    def start(self, plan: StagePlan, built: Built) -> BuiltStage:
        """Return stage *plan* before its first instruction; what it needs is in *built*."""
        match plan.base:
            case StageBase(number):
                base = built[number]
                shared = self.plan.needed(number, plan, built) or number in plan.copies_from
                tree = self.trees.follow(base.tree, shared=shared, runs=self._enters_root(plan))
                return replace(base, state=follow_stage(base.state), tree=tree)
            case Scratch():
                return self._empty(plan, SCRATCH)
            case ContextBase(name=name):
                return self._empty(plan, name)
            case ImageBase() | LayoutBase() as wanted:
                image = self._base_image(plan, wanted)
                state = start_stage(image.config, self.plan.arguments, self.escape)
                tree = self.trees.start(wanted.name, image, runs=self._enters_root(plan))
                docker = self.made.is_docker(image.is_docker)
                stage = BuiltStage(state, tree, docker, len(image.layers))
                return replace(stage, lineage=self._begun(plan))

    def _empty(self, plan: StagePlan, name: str) -> BuiltStage:
        state = start_stage(scratch(plan.platform), self.plan.arguments, self.escape)
        tree = self.trees.start(name, runs=self._enters_root(plan))
        return BuiltStage(state, tree, docker=self.made.is_docker(False), lineage=self._begun(plan))

    def _begun(self, plan: StagePlan) -> Lineage | None:
        return None if self.reused is None else self.reused.reuse.begun(plan.stage.number)

    def _image(self, wanted: ImageBase | LayoutBase) -> Image:
        """Return an image whose layers are fetched once, however many trees they are part of."""
        image = self.images.find(wanted)
        if self.trees.unpacks_once or self.plan.uses(wanted) == 1:
            return image
        kept = spooled(image, lambda: self.workspace.fresh("blobs"))
        return self._kept.setdefault(wanted, kept)

    def is_read_twice(self, repository: Repository) -> bool:
        """Whether a layer of the image that is in *repository* is read more than once.

        It is read to be delivered to where it is not, to be listed, and to be unpacked, if
        anything is.
        """
        readers = self.delivery.readers_of(repository) + self.made.sbom
        return readers > 1 or (readers == 1 and self.plan.needs_root)

    def _base_image(self, plan: StagePlan, wanted: ImageBase | LayoutBase) -> Image:
        image = self._image(wanted)
        if plan.stage.number not in self.plan.packed:
            return image
        if isinstance(wanted, ImageBase):
            repository = wanted.reference.repository
            if self.is_read_twice(repository):
                image = spooled(image, lambda: self.workspace.fresh("blobs"))
            self.delivery.starts_from(repository)
        for layer in image.layers:
            self.delivery.offer(layer, self.plan.image_of(plan.stage.number))
        return image

    def source(
        self, instruction: Copy | Add, plan: StagePlan, built: Mapping[int, BuiltStage]
    ) -> CopySource:
        """Return where a COPY or ADD has local files from."""
        name = "" if isinstance(instruction, Add) else instruction.from_ or ""
        found = self.find(name, plan, built)
        return found.source if isinstance(found, NamedTree) else found

    def find(
        self, name: str, plan: StagePlan, built: Mapping[int, BuiltStage]
    ) -> CopySource | NamedTree:
        """Return what the ``--from`` of a COPY or the ``from`` of a mount names.

        Where there is none, *name* is empty, and means the build context.
        """
        if not name:
            return self.context
        origin = plan.origins[name.lower()]
        if isinstance(origin, ContextBase):
            return self.files(origin)
        name = SCRATCH
        if isinstance(origin, StageBase):
            name = f"stage {self.plan.stages[origin.number].stage.label}"
        elif not isinstance(origin, Scratch):
            name = f"image {origin.name}"
        return NamedTree(self._tree_of(origin, built), name)

    def _tree_of(
        self, origin: StageBase | ImageBase | LayoutBase | Scratch, built: Mapping[int, BuiltStage]
    ) -> Tree:
        """Return the files of a stage or image that is copied or mounted from."""
        match origin:
            case StageBase(number):
                return built[number].tree
            case Scratch():
                return self.trees.start(SCRATCH)
            case ImageBase() | LayoutBase() as wanted:
                # One for all who copy from the image: a tree is mounted once.
                known = self._read_only.get(wanted)
                if known is None:
                    tree = self.trees.start(wanted.name, self._image(wanted))
                    known = self._read_only.setdefault(wanted, tree)
                return known
