"""One stage: its instructions, one after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from kaniko_core.builder import history
from kaniko_core.builder.base import BaseImages
from kaniko_core.builder.configure import StageState, configure, scratch, start_stage
from kaniko_core.builder.copy import copy_entries
from kaniko_core.builder.output import Delivery
from kaniko_core.builder.plan import ImageBase, Plan, Scratch, StageBase, StagePlan
from kaniko_core.builder.run import process_of
from kaniko_core.builder.source import CopySource
from kaniko_core.builder.spool import spooled
from kaniko_core.builder.tree import Step, StepDirectory, Tree
from kaniko_core.builder.workdir import workdir_entries
from kaniko_core.builder.workspace import Workspace
from kaniko_core.dockerfile.instructions import Add, Copy, From, Instruction, Run, Workdir
from kaniko_core.dockerfile.stages import Stage
from kaniko_core.errors import CommandFailed, DockerfileError, KanikoError
from kaniko_core.oci.entry import Entry
from kaniko_core.oci.image import Image, Layer
from kaniko_core.oci.layer import write_layer
from kaniko_core.progress import (
    Output,
    Progress,
    StageFinished,
    StageStarted,
    StepFinished,
    StepStarted,
)
from kaniko_core.rootfs.overlay import upper_entries

# How much of a failing command's output is repeated with the error.
_TAIL_BYTES = 2000
_TAIL_LINES = 20
_SECOND = 10**9  # nanoseconds


@dataclass(frozen=True, slots=True)
class BuiltStage:
    """A stage after its last instruction: its config, its tree, its media types' family."""

    state: StageState
    tree: Tree
    docker: bool


@dataclass(frozen=True, slots=True)
class StageBuilder:
    """Builds the stages of one plan; safe to use from several threads at once."""

    plan: Plan
    escape: str
    build_args: Mapping[str, str]
    context: CopySource
    workspace: Workspace
    images: BaseImages
    delivery: Delivery
    progress: Progress

    def build(self, number: int, built: Mapping[int, BuiltStage]) -> BuiltStage:
        """Build stage *number*, whose needs are in *built* already.

        Raises:
            KanikoError: with a note that names the stage and the instruction.
        """
        plan = self.plan.stages[number]
        label = plan.stage.label
        started = time.monotonic()
        steps = len(plan.stage.instructions)
        self.progress(StageStarted(label, plan.stage.start.image, steps))
        try:
            stage = self._start(plan, built)
        except KanikoError as error:
            _locate(error, label, plan.stage.start)
            raise
        for position, instruction in enumerate(plan.stage.instructions, 1):
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
                return replace(base, state=replace(base.state, cmd_set=False))
            case Scratch():
                state = start_stage(scratch(plan.platform), self.plan.arguments, self.escape)
                return BuiltStage(state, Tree(self.workspace, "scratch"), docker=False)
            case ImageBase() as wanted:
                image = self._base_image(plan, wanted)
                _refuse_triggers(plan.stage, wanted.name, image)
                state = start_stage(image.config, self.plan.arguments, self.escape)
                return BuiltStage(state, Tree(self.workspace, wanted.name, image), image.is_docker)

    def _base_image(self, plan: StagePlan, wanted: ImageBase) -> Image:
        image = self.images.find(wanted)
        repository = wanted.reference.repository
        if plan.stage.number in self.plan.packed:
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
        state = _stamped(configure(stage.state, instruction, self.build_args), stage.state)
        match instruction:
            case Run():
                step = self._run(plan, stage, instruction, state)
            case Copy() | Add():
                entries = copy_entries(
                    instruction,
                    stage.state,
                    self._source(instruction, plan, built),
                    stage.tree.view,
                    spool=lambda: self.workspace.fresh("spool"),
                )
                step = self._made(plan, stage, instruction, entries)
            case Workdir():
                if state.workdir == "/":
                    return replace(stage, state=state)
                entries = workdir_entries(state, stage.tree.view)
                step = self._made(plan, stage, instruction, entries)
            case _:
                return replace(stage, state=state)
        return replace(stage, state=state, tree=stage.tree.with_step(step))

    def _run(self, plan: StagePlan, stage: BuiltStage, instruction: Run, state: StageState) -> Step:
        tree = stage.tree
        process = process_of(instruction, state, tree.view)
        tail = _Tail(self.progress, plan.stage.label)
        directory = self.workspace.fresh("steps")
        with tree.writable(directory) as mounted:
            try:
                self.workspace.sandbox.run(process, mounted, tail)
            except CommandFailed as error:
                raise tail.explain(error, instruction) from None
        upper = directory / "upper"
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

    def _source(
        self, instruction: Copy | Add, plan: StagePlan, built: Mapping[int, BuiltStage]
    ) -> CopySource:
        if isinstance(instruction, Add) or instruction.from_ is None:
            return self.context
        match plan.origins[instruction.from_.lower()]:
            case StageBase(number):
                label = self.plan.stages[number].stage.label
                return CopySource(built[number].tree.view, f"stage {label}")
            case Scratch():
                return CopySource(Tree(self.workspace, "scratch").view, "scratch")
            case ImageBase() as wanted:
                tree = Tree(self.workspace, wanted.name, self.images.find(wanted))
                return CopySource(tree.view, f"image {wanted.name}")


def _refuse_triggers(stage: Stage, name: str, image: Image) -> None:
    if triggers := image.config.config.on_build:
        source = stage.start.source
        raise DockerfileError(
            f"the base image {name} has ONBUILD triggers, which are not supported yet",
            path=source.path,
            line=source.line,
            source=source.text,
            hint=f"write them into this Dockerfile: {'; '.join(triggers)}",
        )


def _in_whole_seconds(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Drop the fractions of times, as Docker and containerd do.

    Each would cost a kilobyte of tar, and few readers keep them.
    """
    for entry in entries:
        entry.mtime_ns -= entry.mtime_ns % _SECOND
        yield entry


def _stamped(state: StageState, before: StageState) -> StageState:
    """Give the history entries that *state* has and *before* has not the present time."""
    old = len(before.config.history)
    entries = state.config.history
    created = history.now()
    stamped = (*entries[:old], *(replace(entry, created=created) for entry in entries[old:]))
    return replace(state, config=replace(state.config, history=stamped))


def _locate(error: KanikoError, label: str, instruction: Instruction | From) -> None:
    source = instruction.source
    if f"{source.path}:{source.line}:" not in str(error):
        error.add_note(f"{source.path}:{source.line}: in stage {label}: {source.text}")


class _Tail:
    """Passes a command's output on as it comes, and remembers how it ended."""

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._label = label
        self._kept = b""

    def __call__(self, data: bytes, stderr: bool) -> None:
        self._progress(Output(self._label, data, stderr))
        self._kept = (self._kept + data)[-_TAIL_BYTES:]

    def explain(self, error: CommandFailed, instruction: Run) -> CommandFailed:
        """Return *error* with the command and the last lines of its output."""
        source = instruction.source
        message = f"{source.path}:{source.line}: {error}"
        lines = self._kept.decode(errors="replace").splitlines()[-_TAIL_LINES:]
        if lines:
            message += "; its last output was:" + "".join(f"\n    {line}" for line in lines)
        return CommandFailed(
            message, argv=error.argv, exit_status=error.exit_status, hint=error.hint
        )
