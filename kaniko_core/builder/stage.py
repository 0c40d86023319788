"""One stage: its instructions, one after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from kaniko_core.builder import history
from kaniko_core.builder.base import BaseImages
from kaniko_core.builder.changes import ignored_changes, without
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
from kaniko_core.builder.trees import Pack, Tree, Trees
from kaniko_core.builder.workdir import workdir_entries
from kaniko_core.builder.workspace import Workspace
from kaniko_core.dockerfile.instructions import Add, Copy, From, Instruction, Run, Workdir
from kaniko_core.errors import KanikoError
from kaniko_core.oci.entry import SECOND, Entry
from kaniko_core.oci.image import Image, Layer
from kaniko_core.oci.layer import write_layer
from kaniko_core.oci.reference import SCRATCH
from kaniko_core.options import BuildOptions
from kaniko_core.progress import (
    Progress,
    StageFinished,
    StageStarted,
    StepFinished,
    StepStarted,
)


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
        options: what else the user wants of layers and trees.
    """

    plan: Plan
    escape: str
    build_args: Mapping[str, str]
    context: CopySource
    files: Callable[[ContextBase], CopySource]
    remote: RemoteSources
    workspace: Workspace
    trees: Trees
    commands: Commands
    images: BaseImages
    delivery: Delivery
    progress: Progress
    epoch: int | None = None
    options: BuildOptions = field(default_factory=BuildOptions)
    _kept: dict[ImageBase | LayoutBase, Image] = field(default_factory=dict)
    _read_only: dict[ImageBase | LayoutBase, Tree] = field(default_factory=dict)

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
        since = len(stage.state.config.history)
        if self._is_squashed(plan):
            stage = replace(stage, tree=stage.tree.marked())
        for position, instruction in enumerate(plan.instructions, 1):
            began = time.monotonic()
            self.progress(StepStarted(label, position, steps, instruction.source.text))
            try:
                stage = self._step(plan, stage, instruction, built)
            except KanikoError as error:
                _locate(error, label, instruction)
                raise
            self.progress(StepFinished(label, position, time.monotonic() - began))
        stage = self._finished(plan, stage, built, since)
        self.progress(StageFinished(label, time.monotonic() - started))
        return stage

    def _finished(
        self, plan: StagePlan, stage: BuiltStage, built: Mapping[int, BuiltStage], since: int
    ) -> BuiltStage:
        """Return *stage* at rest, and forget the trees that nobody needs any more.

        *since* is how many entries its history had before its own.
        """
        needed = self._needed(plan.stage.number, plan, built) or self._is_materialized(plan)
        pack, state = None, stage.state
        layered = any(not entry.empty_layer for entry in state.config.history[since:])
        if layered and self._is_squashed(plan):
            pack = self._packer(plan, stage, plan.stage.start)
            state = squashed_history(state, since)
        tree = self.trees.finish(stage.tree, pack, needed=needed)
        for number in plan.needs:
            if not self._needed(number, plan, built):
                self.trees.drop(built[number].tree)
        return replace(stage, state=state, tree=tree)

    def _needed(self, number: int, but: StagePlan, built: Mapping[int, BuiltStage]) -> bool:
        """Whether a stage that is still to be built, other than *but*, needs stage *number*."""
        return any(
            number in plan.needs
            for other, plan in self.plan.stages.items()
            if other not in built and plan is not but
        )

    def _is_materialized(self, plan: StagePlan) -> bool:
        return self.options.materialize and plan.stage.number == self.plan.target

    def _enters_root(self, plan: StagePlan) -> bool:
        """Whether the stage's files must be where commands run."""
        return plan.runs_commands or self._is_materialized(plan)

    def _start(self, plan: StagePlan, built: Mapping[int, BuiltStage]) -> BuiltStage:
        match plan.base:
            case StageBase(number):
                base = built[number]
                shared = self._needed(number, plan, built) or number in plan.copies_from
                tree = self.trees.follow(base.tree, shared=shared, runs=self._enters_root(plan))
                return replace(base, state=follow_stage(base.state), tree=tree)
            case Scratch():
                return self._empty(plan, SCRATCH)
            case ContextBase() as wanted:
                return self._from_files(plan, wanted)
            case ImageBase() | LayoutBase() as wanted:
                image = self._base_image(plan, wanted)
                state = start_stage(image.config, self.plan.arguments, self.escape)
                tree = self.trees.start(wanted.name, image, runs=self._enters_root(plan))
                return BuiltStage(state, tree, image.is_docker)

    def _empty(self, plan: StagePlan, name: str) -> BuiltStage:
        state = start_stage(scratch(plan.platform), self.plan.arguments, self.escape)
        tree = self.trees.start(name, runs=self._enters_root(plan))
        return BuiltStage(state, tree, docker=False)

    def _from_files(self, plan: StagePlan, wanted: ContextBase) -> BuiltStage:
        """Return a stage that starts from the files of a named context."""
        stage = self._empty(plan, wanted.name)
        everything = Copy(plan.stage.start.source, (".",), "/")
        entries = self._copied(stage, everything, self.files(wanted))
        tree = self._made(plan, stage, everything, entries)
        made = noted(stage.state, history.context_entry(wanted.name))
        state = _stamped(made, stage.state, self.epoch)
        return replace(stage, state=state, tree=tree)

    def _image(self, wanted: ImageBase | LayoutBase) -> Image:
        """Return an image whose layers are fetched once, however many trees they are part of."""
        image = self.images.find(wanted)
        if self.trees.unpacks_once or self.plan.uses(wanted) == 1:
            return image
        kept = spooled(image, lambda: self.workspace.fresh("blobs"))
        return self._kept.setdefault(wanted, kept)

    def _base_image(self, plan: StagePlan, wanted: ImageBase | LayoutBase) -> Image:
        image = self._image(wanted)
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
                tree = self._run(plan, stage, instruction, state, built)
            case Copy() | Add():
                entries = self._copied(stage, instruction, self._source(instruction, plan, built))
                tree = self._made(plan, stage, instruction, entries)
            case Workdir():
                if state.workdir == "/":
                    return replace(stage, state=state)
                entries = workdir_entries(state, stage.tree.view, epoch=self.epoch)
                tree = self._made(plan, stage, instruction, entries)
            case _:
                return replace(stage, state=state)
        return replace(stage, state=state, tree=tree)

    def _run(
        self,
        plan: StagePlan,
        stage: BuiltStage,
        instruction: Run,
        state: StageState,
        built: Mapping[int, BuiltStage],
    ) -> Tree:
        find = partial(self._from, plan=plan, built=built)
        pack = self._pack(plan, stage, instruction)
        return self.commands.run(
            instruction, state, stage.tree, find, label=plan.stage.label, pack=pack
        )

    def _made(
        self,
        plan: StagePlan,
        stage: BuiltStage,
        instruction: Instruction,
        entries: Sequence[Entry],
    ) -> Tree:
        whole = list(_in_whole_seconds(entries))
        return stage.tree.copied(whole, self._pack(plan, stage, instruction))

    def _is_squashed(self, plan: StagePlan) -> bool:
        """Whether all that the stage's instructions do becomes one layer."""
        is_packed = plan.stage.number in self.plan.packed
        return self.options.single_snapshot and is_packed and plan.changes_files

    def _pack(self, plan: StagePlan, stage: BuiltStage, instruction: Instruction) -> Pack | None:
        """Return what makes a layer of an instruction; None where none is to be made."""
        if plan.stage.number not in self.plan.packed or self._is_squashed(plan):
            return None
        return self._packer(plan, stage, instruction)

    def _packer(self, plan: StagePlan, stage: BuiltStage, instruction: Instruction | From) -> Pack:
        def packed(entries: Callable[[], Iterable[Entry]]) -> Layer:
            whole = _in_whole_seconds(without(entries(), ignored_changes(self.options)))
            try:
                layer = write_layer(
                    whole,
                    self.workspace.fresh("blobs"),
                    docker=stage.docker,
                    moved=lambda _: self.workspace.check(),
                )
            except KanikoError as error:
                _locate(error, plan.stage.label, instruction)
                raise
            self.delivery.offer(layer)
            return layer

        return lambda entries: self.workspace.packers.submit(packed, entries)

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
                return self.trees.start(SCRATCH)
            case ImageBase() | LayoutBase() as wanted:
                # One for all who copy from the image: a tree is mounted once.
                known = self._read_only.get(wanted)
                if known is None:
                    tree = self.trees.start(wanted.name, self._image(wanted))
                    known = self._read_only.setdefault(wanted, tree)
                return known


def _in_whole_seconds(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Drop the fractions of times, as Docker and containerd do.

    Each would cost a kilobyte of tar, and few readers keep them.
    """
    for entry in entries:
        entry.mtime_ns -= entry.mtime_ns % SECOND
        yield entry


def squashed_history(state: StageState, since: int) -> StageState:
    """Return *state* with one layer in its history from entry *since* on: the last one's."""
    entries = list(state.config.history)
    own = [i for i in range(since, len(entries)) if not entries[i].empty_layer]
    for number in own[:-1]:
        entries[number] = replace(entries[number], empty_layer=True)
    return replace(state, config=replace(state.config, history=tuple(entries)))


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
