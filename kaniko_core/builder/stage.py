"""One stage: its instructions, one after another, as far as the layer cache has them not."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import field, replace
from datetime import UTC, datetime
from functools import partial

from kaniko_core.builder import history
from kaniko_core.builder.cached.choice import WHOLE
from kaniko_core.builder.cached.reuse import Made, Reused, Step
from kaniko_core.builder.configure import (
    StageState,
    changes_files,
    configure,
    expand,
    located,
    noted,
)
from kaniko_core.builder.finished import (
    changes_nothing,
    squashed_history,
    stamped,
    unlayered,
)
from kaniko_core.builder.locating import locate
from kaniko_core.builder.origins import Built, BuiltStage, Origins
from kaniko_core.builder.packing import Packer, in_whole_seconds
from kaniko_core.builder.plan import ContextBase, Plan, StagePlan
from kaniko_core.builder.remote import RemoteSources
from kaniko_core.builder.run import Commands
from kaniko_core.builder.source import CopySource, SourceItem
from kaniko_core.builder.spool import spooled_layer
from kaniko_core.builder.trees import Tree
from kaniko_core.builder.workdir import workdir_entries
from kaniko_core.builder.workspace import Workspace
from kaniko_core.dockerfile.instructions import Add, Copy, From, Instruction, Run
from kaniko_core.errors import KanikoError
from kaniko_core.lean import dataclass
from kaniko_core.oci.compression import Compression
from kaniko_core.oci.entry import Entry
from kaniko_core.oci.image import Layer
from kaniko_core.oci.layer import recompress
from kaniko_core.options import BuildOptions, ImageOptions
from kaniko_core.progress import (
    Progress,
    StageFinished,
    StageStarted,
    StepFinished,
    StepStarted,
)
from kaniko_core.registry.download import Housed
from kaniko_core.steps.step import CachedStep


@dataclass(frozen=True, slots=True)
class StageBuilder:
    """Builds the stages of one plan; safe to use from several threads at once.

    Attributes:
        origins: what stages start from, and copy from.
        build_args: values given for ARGs.
        remote: fetches the sources of ADD.
        epoch: seconds since 1970 that stand for the present time (``SOURCE_DATE_EPOCH``).
        options: what else the user wants of layers and trees.
        image: what images are to be like.
    """

    origins: Origins
    build_args: Mapping[str, str]
    remote: RemoteSources
    workspace: Workspace
    commands: Commands
    progress: Progress
    epoch: int | None = None
    options: BuildOptions = field(default_factory=BuildOptions)
    image: ImageOptions = field(default_factory=ImageOptions)

    @property
    def plan(self) -> Plan:
        """What is built."""
        return self.origins.plan

    @property
    def reused(self) -> Reused | None:
        """What the layer cache has; None where there is none."""
        return self.origins.reused

    def build(self, number: int, built: Built) -> BuiltStage:
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
            begun = self._begun(plan, built)
            whole = self._step(plan, WHOLE, begun, built)
            cached = self._taken(whole, plan.stage.start)
            stage = self._prepared(plan, begun, cached)
        except KanikoError as error:
            locate(error, label, plan.stage.start)
            raise
        for position, instruction in enumerate(plan.instructions, 1):
            began = time.monotonic()
            self.progress(StepStarted(label, position, steps, instruction.source.text))
            try:
                stage, known = self._after(plan, stage, position - 1, built, cached)
            except KanikoError as error:
                locate(error, label, instruction)
                raise
            self.progress(StepFinished(label, position, time.monotonic() - began, known))
        stage = self._finished(plan, stage, built, len(begun.state.config.history), cached)
        if whole is not None:
            stage = self._noted(whole, stage, cached)
        self.progress(StageFinished(label, time.monotonic() - started))
        return stage

    def _begun(self, plan: StagePlan, built: Built) -> BuiltStage:
        """Return the stage before its first instruction."""
        stage = self.origins.start(plan, built)
        return self._with_files(plan, stage) if isinstance(plan.base, ContextBase) else stage

    def _with_files(self, plan: StagePlan, stage: BuiltStage) -> BuiltStage:
        """Return *stage*, which is empty, with the files of a named context."""
        assert isinstance(plan.base, ContextBase)
        everything = Copy(plan.stage.start.source, (".",), "/")
        entries = self._copied(stage, everything, self.origins.files(plan.base))
        tree = self._put(stage, entries, self._packer(plan, stage, plan.stage.start, None))
        made = noted(stage.state, history.context_entry(plan.base.name))
        state = stamped(made, stage.state, history.now(self.epoch))
        return replace(stage, state=state, tree=tree)

    def _prepared(
        self, plan: StagePlan, stage: BuiltStage, cached: CachedStep | None
    ) -> BuiltStage:
        """Return *stage* with all that its instructions do in it, or ready to be told it."""
        if cached is not None:
            return self._stacked(plan, stage, cached)
        if self._is_squashed(plan):
            return replace(stage, tree=stage.tree.marked())
        return stage

    def _finished(
        self,
        plan: StagePlan,
        stage: BuiltStage,
        built: Built,
        since: int,
        cached: CachedStep | None,
    ) -> BuiltStage:
        """Return *stage* at rest, and forget the trees that nobody needs any more.

        Args:
            plan: what was to be done.
            stage: after its last instruction.
            built: the stages before it.
            since: how many entries its history had before its own.
            cached: what all instructions made, where that was known.
        """
        number = plan.stage.number
        needed = self.plan.needed(number, plan, built) or self.origins.is_materialized(plan)
        pack, state, now = None, stage.state, datetime.now(UTC)
        layered = any(not entry.empty_layer for entry in state.config.history[since:])
        if cached is not None:
            created = history.time(cached.created, self.epoch)
            empty = changes_nothing(cached.layer)
            state = squashed_history(state, since, created, empty=empty)
        elif layered and self._is_squashed(plan):
            state = squashed_history(state, since, history.time(now, self.epoch))
            pack = self._new_packer(plan, stage, plan.stage.start)
        tree = self.origins.trees.finish(stage.tree, pack, needed=needed)
        for other in plan.needs:
            if not self.plan.needed(other, plan, built):
                self.origins.trees.drop(built[other].tree)
        layer = None if pack is None else pack.layer
        return replace(stage, state=state, tree=tree, layer=layer, made=now)

    def _after(
        self,
        plan: StagePlan,
        stage: BuiltStage,
        position: int,
        built: Built,
        whole: CachedStep | None,
    ) -> tuple[BuiltStage, bool]:
        """Return *stage* after an instruction, and whether its result was known.

        *whole* is what all the stage's instructions made, where that was known.
        """
        instruction = plan.instructions[position]
        state = configure(stage.state, instruction, self.build_args)
        if not changes_files(instruction, state):
            if self.epoch is not None:
                state = stamped(state, stage.state, history.now(self.epoch))
            return replace(stage, state=state), False
        step = self._step(plan, position, stage, built)
        with self._turn(step):
            cached = self._taken(step, instruction)
            known = cached or whole
            if known is None:
                made = self._made(plan, stage, instruction, state, step=step, built=built)
                return (made if step is None else self._noted(step, made, None)), False
        state = stamped(state, stage.state, history.time(known.created, self.epoch))
        if step is not None and cached is not None:
            if changes_nothing(cached.layer):
                state = unlayered(state)
            stage = self._noted(step, self._stacked(plan, stage, cached), cached)
        return replace(stage, state=state), True

    def _made(
        self,
        plan: StagePlan,
        stage: BuiltStage,
        instruction: Instruction,
        state: StageState,
        *,
        step: Step | None,
        built: Built,
    ) -> BuiltStage:
        """Return *stage* after an instruction that is done now; *state* is that after it."""
        pack = self._packer(plan, stage, instruction, step)
        match instruction:
            case Run():
                find = partial(self.origins.find, plan=plan, built=built)
                tree = self.commands.run(
                    instruction, state, stage.tree, find, label=plan.stage.label, pack=pack
                )
            case Copy() | Add():
                source = self.origins.source(instruction, plan, built)
                tree = self._put(stage, self._copied(stage, instruction, source), pack)
            case _:
                entries = workdir_entries(state, stage.tree.view, epoch=self.epoch)
                tree = self._put(stage, entries, pack)
        now = datetime.now(UTC)
        state = stamped(state, stage.state, history.time(now, self.epoch))
        layer = None if pack is None else pack.layer
        return replace(stage, state=state, tree=tree, layer=layer, made=now)

    def _step(self, plan: StagePlan, position: int, stage: BuiltStage, built: Built) -> Step | None:
        """Return the step at *position*, where there is a layer cache."""
        if self.reused is None or stage.lineage is None:
            return None
        lineages = {number: s.lineage for number, s in built.items() if s.lineage is not None}
        return self.reused.step(plan.stage.number, position, stage.lineage, lineages)

    def _turn(self, step: Step | None) -> AbstractContextManager[object]:
        if self.reused is None or step is None:
            return nullcontext()
        return self.reused.reuse.turn(step.key)

    def _taken(self, step: Step | None, instruction: Instruction | From) -> CachedStep | None:
        if self.reused is None or step is None:
            return None
        return self.reused.taken(step, instruction.source)

    def _noted(self, step: Step, stage: BuiltStage, cached: CachedStep | None) -> BuiltStage:
        """Return *stage*, the one after *step*, with what is known of it by that.

        Where the step was done anew, *cached* is None, and it is given to the layer cache.
        """
        known = None if cached is None else lambda: cached
        layer = stage.layer if cached is None else None
        if self.reused is not None and layer is not None and stage.made is not None:
            text = next(e for e in reversed(stage.state.config.history) if not e.empty_layer)
            made = Made(layer, stage.made, text.created_by, stage.state.config.platform)
            known = partial(step.cached, made)
            self.reused.keep(step, made, self.origins.delivery)
        steps = stage.steps if known is None else (*stage.steps, known)
        return replace(stage, lineage=step.after(cached, layer), steps=steps)

    def _stacked(self, plan: StagePlan, stage: BuiltStage, cached: CachedStep) -> BuiltStage:
        """Return *stage* with the layer of an earlier build on top."""
        layer, delivery = cached.layer, self.origins.delivery
        if changes_nothing(layer):
            return stage
        if plan.stage.number in self.plan.packed:
            # What the image is like does not depend on how an earlier build was told to be.
            wanted = self.image.compression or Compression.GZIP
            if wanted is not Compression.of_media_type(layer.descriptor.media_type):
                layer = self._recompressed(stage, layer, wanted)
            elif isinstance(layer, Housed) and self.origins.is_read_twice(layer.repository):
                layer = spooled_layer(layer, lambda: self.workspace.fresh("blobs"))
            delivery.offer(layer, self.plan.image_of(plan.stage.number))
        return replace(stage, tree=stage.tree.stacked(layer))

    def _recompressed(self, stage: BuiltStage, layer: Layer, wanted: Compression) -> Layer:
        """Return *layer*, which an earlier build compressed otherwise, as it is wanted now."""
        return recompress(
            layer,
            self.workspace.fresh("blobs"),
            compression=wanted,
            level=self.image.compression_level,
            docker=stage.docker,
        )

    def _is_squashed(self, plan: StagePlan) -> bool:
        """Whether all that the stage's instructions do becomes one layer."""
        is_packed = plan.stage.number in self.plan.packed
        return self.options.single_snapshot and is_packed and plan.changes_files

    def _packer(
        self,
        plan: StagePlan,
        stage: BuiltStage,
        instruction: Instruction | From,
        step: Step | None,
    ) -> Packer | None:
        """Return what makes a layer of an instruction; None where none is to be made."""
        if self._is_squashed(plan):
            return None
        # What a command made, everything that was cached on top of it is compared with.
        wanted = step is not None and (step.is_command or step.is_kept)
        if plan.stage.number not in self.plan.packed and not wanted:
            return None
        return self._new_packer(plan, stage, instruction)

    def _new_packer(
        self, plan: StagePlan, stage: BuiltStage, instruction: Instruction | From
    ) -> Packer:
        packed = plan.stage.number in self.plan.packed
        return Packer(
            self.workspace,
            self.options,
            plan.stage.label,
            instruction,
            docker=stage.docker,
            delivery=self.origins.delivery if packed else None,
            target=self.plan.image_of(plan.stage.number) if packed else 0,
            contents=self.reused is not None,
            image=self.image,
            latest=self.epoch if self.image.reproducible else None,
        )

    def _put(self, stage: BuiltStage, entries: Sequence[Entry], pack: Packer | None) -> Tree:
        return stage.tree.copied(list(in_whole_seconds(entries)), pack)

    def _copied(
        self, stage: BuiltStage, instruction: Copy | Add, source: CopySource
    ) -> list[Entry]:
        # Imported here, because builds without COPY need none of it.
        from kaniko_core.builder.copy import copy_entries

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
