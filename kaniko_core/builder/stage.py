"""One stage: its instructions, one after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial

from kaniko_core.builder import history
from kaniko_core.builder.base import BaseImages
from kaniko_core.builder.configure import (
    StageState,
    configure,
    expand,
    follow_stage,
    located,
    noted,
    scratch,
    start_stage,
)
from kaniko_core.builder.copy import copy_entries
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
from kaniko_core.builder.remote import RemoteSources
from kaniko_core.builder.run import Commands
from kaniko_core.builder.source import CopySource, SourceItem
from kaniko_core.builder.spool import spooled
from kaniko_core.builder.tree import Step, StepDirectory, Tree
from kaniko_core.builder.workdir import workdir_entries
from kaniko_core.builder.workspace import Workspace
from kaniko_core.dockerfile.instructions import Add, Copy, From, Instruction, Run, Workdir
from kaniko_core.errors import KanikoError
from kaniko_core.oci.entry import SECOND, Entry
from kaniko_core.oci.image import Image, Layer
from kaniko_core.oci.layer import write_layer
from kaniko_core.oci.reference import SCRATCH
from kaniko_core.progress import (
    Progress,
    StageFinished,
    StageStarted,
    StepFinished,
    StepStarted,
)
from kaniko_core.rootfs.overlay import upper_entries


@dataclass(frozen=True, slots=True)
class BuiltStage:
    """A stage after its last instruction: its config, its tree, its media types' family."""

    state: StageState
    tree: Tree
    docker: bool


@dataclass(frozen=True, slots=True)
class StageBuilder:
    """Builds the stages of one plan; safe to use from several threads at once.

    Attributes:
        build_args: values given for ARGs.
        files: returns the files of a named context.
        remote: fetches the sources of ADD.
        epoch: seconds since 1970 that stand for the present time (``SOURCE_DATE_EPOCH``).
    """

    plan: Plan
    escape: str
    build_args: Mapping[str, str]
    context: CopySource
    files: Callable[[ContextBase], CopySource]
    remote: RemoteSources
    workspace: Workspace
    commands: Commands
    images: BaseImages
    delivery: Delivery
    progress: Progress
    epoch: int | None = None
    _trees: dict[ImageBase | LayoutBase, Tree] = field(default_factory=dict)

    def build(self, number: int, built: Mapping[int, BuiltStage]) -> BuiltStage:
        """Build stage *number*, whose needs are in *built* already.

        Raises:
            KanikoError: with a note that names the stage and the instruction.
        """
        plan = self.plan.stages[number]
        label = plan.stage.label
        started = time.monotonic()
        steps = len(plan.instructions)
        self.progress(StageStarted(label, plan.stage.start.image, steps))
        try:
            stage = self._start(plan, built)
        except KanikoError as error:
            _locate(error, label, plan.stage.start)
            raise
        for position, instruction in enumerate(plan.instructions, 1):
            began = time.monotonic()
            self.progress(StepStarted(label, position, steps, instruction.source.text))
            try:
                stage = self._step(plan, stage, instruction, built)
            except KanikoError as error:
                _locate(error, label, instruction)
                raise
            self.progress(StepFinished(label, position, time.monotonic() - began))
        self.progress(StageFinished(label, time.monotonic() - started))
        return stage

    def _start(self, plan: StagePlan, built: Mapping[int, BuiltStage]) -> BuiltStage:
        match plan.base:
            case StageBase(number):
                base = built[number]
                return replace(base, state=follow_stage(base.state))
            case Scratch():
                return self._empty(plan, SCRATCH)
            case ContextBase() as wanted:
                return self._from_files(plan, wanted)
            case ImageBase() | LayoutBase() as wanted:
                image = self._base_image(plan, wanted)
                state = start_stage(image.config, self.plan.arguments, self.escape)
                return BuiltStage(state, Tree(self.workspace, wanted.name, image), image.is_docker)

    def _empty(self, plan: StagePlan, name: str) -> BuiltStage:
        state = start_stage(scratch(plan.platform), self.plan.arguments, self.escape)
        return BuiltStage(state, Tree(self.workspace, name), docker=False)

    def _from_files(self, plan: StagePlan, wanted: ContextBase) -> BuiltStage:
        """Return a stage that starts from the files of a named context."""
        stage = self._empty(plan, wanted.name)
        everything = Copy(plan.stage.start.source, (".",), "/")
        entries = self._copied(stage, everything, self.files(wanted))
        step = self._made(plan, stage, everything, entries)
        made = noted(stage.state, history.context_entry(wanted.name))
        state = _stamped(made, stage.state, self.epoch)
        return replace(stage, state=state, tree=stage.tree.with_step(step))

    def _base_image(self, plan: StagePlan, wanted: ImageBase | LayoutBase) -> Image:
        image = self.images.find(wanted)
        if plan.stage.number not in self.plan.packed:
            return image
        if isinstance(wanted, ImageBase):
            repository = wanted.reference.repository
            if self.delivery.needs_bytes_of(repository):
                image = spooled(image, lambda: self.workspace.fresh("blobs"))
            self.delivery.starts_from(repository)
        for layer in image.layers:
            self.delivery.offer(layer)
        return image

    def _step(
        self,
        plan: StagePlan,
        stage: BuiltStage,
        instruction: Instruction,
        built: Mapping[int, BuiltStage],
    ) -> BuiltStage:
        configured = configure(stage.state, instruction, self.build_args)
        state = _stamped(configured, stage.state, self.epoch)
        match instruction:
            case Run():
                step = self._run(plan, stage, instruction, state, built)
            case Copy() | Add():
                entries = self._copied(stage, instruction, self._source(instruction, plan, built))
                step = self._made(plan, stage, instruction, entries)
            case Workdir():
                if state.workdir == "/":
                    return replace(stage, state=state)
                entries = workdir_entries(state, stage.tree.view, epoch=self.epoch)
                step = self._made(plan, stage, instruction, entries)
            case _:
                return replace(stage, state=state)
        return replace(stage, state=state, tree=stage.tree.with_step(step))

    def _run(
        self,
        plan: StagePlan,
        stage: BuiltStage,
        instruction: Run,
        state: StageState,
        built: Mapping[int, BuiltStage],
    ) -> Step:
        tree = stage.tree
        find = partial(self._from, plan=plan, built=built)
        upper = self.commands.run(instruction, state, tree, find, plan.stage.label)
        layer = self._packed(plan, stage, instruction, lambda: upper_entries(upper, tree.view))
        return Step(StepDirectory(upper), layer)

    def _made(
        self,
        plan: StagePlan,
        stage: BuiltStage,
        instruction: Instruction,
        entries: Sequence[Entry],
    ) -> Step:
        directory = stage.tree.directory_of(list(_in_whole_seconds(entries)))
        return Step(directory, self._packed(plan, stage, instruction, lambda: entries))

    def _packed(
        self,
        plan: StagePlan,
        stage: BuiltStage,
        instruction: Instruction,
        entries: Callable[[], Iterable[Entry]],
    ) -> Future[Layer] | None:
        if plan.stage.number not in self.plan.packed:
            return None

        def pack() -> Layer:
            whole = _in_whole_seconds(entries())
            try:
                layer = write_layer(whole, self.workspace.fresh("blobs"), docker=stage.docker)
            except KanikoError as error:
                _locate(error, plan.stage.label, instruction)
                raise
            self.delivery.offer(layer)
            return layer

        return self.workspace.packers.submit(pack)

    def _copied(
        self, stage: BuiltStage, instruction: Copy | Add, source: CopySource
    ) -> list[Entry]:
        return copy_entries(
            instruction,
            stage.state,
            source,
            stage.tree.view,
            spool=lambda: self.workspace.fresh("spool"),
            sources=self._fetched(stage, instruction),
            epoch=self.epoch,
        )

    def _fetched(self, stage: BuiltStage, instruction: Copy | Add) -> list[SourceItem] | None:
        if isinstance(instruction, Copy):
            return None
        with located(instruction.source):
            return self.remote.items(expand(stage.state, instruction))

    def _source(
        self, instruction: Copy | Add, plan: StagePlan, built: Mapping[int, BuiltStage]
    ) -> CopySource:
        name = "" if isinstance(instruction, Add) else instruction.from_ or ""
        found = self._from(name, plan, built)
        return found.source if isinstance(found, NamedTree) else found

    def _from(
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
                return Tree(self.workspace, SCRATCH)
            case ImageBase() | LayoutBase() as wanted:
                # One for all who copy from the image: a tree is mounted once.
                tree = Tree(self.workspace, wanted.name, self.images.find(wanted))
                return self._trees.setdefault(wanted, tree)


def _in_whole_seconds(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Drop the fractions of times, as Docker and containerd do.

    Each would cost a kilobyte of tar, and few readers keep them.
    """
    for entry in entries:
        entry.mtime_ns -= entry.mtime_ns % SECOND
        yield entry


def _stamped(state: StageState, before: StageState, epoch: int | None) -> StageState:
    """Give the history entries that *state* has and *before* has not the present time."""
    old = len(before.config.history)
    entries = state.config.history
    created = history.now(epoch)
    stamped = (*entries[:old], *(replace(entry, created=created) for entry in entries[old:]))
    return replace(state, config=replace(state.config, history=stamped))


def _locate(error: KanikoError, label: str, instruction: Instruction | From) -> None:
    source = instruction.source
    if f"{source.path}:{source.line}:" not in str(error):
        error.add_note(f"{source.path}:{source.line}: in stage {label}: {source.text}")
