"""What a build takes from the layer cache, and what it gives to it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import datetime
from functools import partial

from kaniko_core.builder.cached.choice import (
    WHOLE,
    Choice,
    Place,
    choose,
    fits,
    is_command,
    whole_stage,
)
from kaniko_core.builder.cached.explain import Outcome
from kaniko_core.builder.cached.keys import StageKeys, StepKey
from kaniko_core.builder.cached.lineage import Lineage, Unsound, copied
from kaniko_core.builder.output import Delivery
from kaniko_core.builder.plan import Plan
from kaniko_core.dockerfile.instructions import Add, Copy, Instruction, Run, Source, Workdir
from kaniko_core.lean import dataclass
from kaniko_core.oci.layer import FileLayer
from kaniko_core.oci.platform import Platform
from kaniko_core.options import LayerCacheOptions
from kaniko_core.progress import Noted, Progress, Warned
from kaniko_core.steps.cache import LayerCache
from kaniko_core.steps.step import CachedStep, MadeStep, Missing


class Reuse:
    """The layer cache of one build, however often it starts over; safe between threads.

    Args:
        cache: finds and keeps layers by their keys.
        options: which instructions' layers are cached.
        plan: all that the target needs.
        keys: of all its stages.
        whole: the stages that have one layer each.
        progress: told why something that was found is not used.
    """

    def __init__(
        self,
        cache: LayerCache,
        options: LayerCacheOptions,
        plan: Plan,
        keys: Mapping[int, StageKeys],
        *,
        whole: frozenset[int],
        progress: Progress,
    ) -> None:
        self.cache = cache
        self.plan = plan
        self.progress = progress
        self.steps = {
            number: {WHOLE: whole_stage(of)} if number in whole else of.steps
            for number, of in keys.items()
        }
        self._lock = threading.Lock()
        self._warned = False
        self._starts = {number: of.start for number, of in keys.items()}
        self._kept = {
            step.key
            for number, steps in self.steps.items()
            for position, step in steps.items()
            if _is_cached(options, plan.stages[number].instructions, position)
        }
        times = Counter(step.key for steps in self.steps.values() for step in steps.values())
        self._turns = {key: threading.Lock() for key in self._kept if times[key] > 1}
        self._made: dict[str, Callable[[], CachedStep]] = {}

    def chosen(self) -> Reused:
        """Ask the cache for everything that it was not asked for yet, and choose.

        Where nothing changed, this is all that a build does.
        """
        # What an attempt before this one made is among it, unless that was in vain.
        self._made.clear()
        self.cache.look_up(sorted(self._kept))
        return Reused(self, choose(self.plan, self.steps, self._starts, self.found))

    def is_kept(self, step: StepKey) -> bool:
        """Whether layers of such steps are cached."""
        return step.key in self._kept

    def found(self, step: StepKey) -> CachedStep | None:
        """Return what the cache has of *step*."""
        return self.cache.found(step.key) if self.is_kept(step) else None

    def turn(self, step: StepKey) -> AbstractContextManager[object]:
        """Wait until no other stage is at the same step: what one makes, the others take.

        Done twice, a command could give two results, of which one would be cached and the other
        be in the image.
        """
        return self._turns.get(step.key, nullcontext())

    def note(self, step: StepKey, made: Callable[[], CachedStep]) -> None:
        """Remember what this build makes of *step*, for those who are at it next."""
        if step.key in self._turns:
            self._made[step.key] = made

    def made(self, step: StepKey) -> CachedStep | None:
        """Return what this build has made of *step* in another place, once it is packed.

        Raises:
            Unsound: nobody can say what it was made on.
        """
        made = self._made.get(step.key)
        return None if made is None else made()

    def warn_of_changes(self) -> None:
        """Say once why some of what is built cannot be cached."""
        with self._lock:
            known, self._warned = self._warned, True
        if not known:
            self.progress(
                Warned(
                    "files of a context changed while the build read them: what was made of them "
                    "is not cached",
                    hint="let nothing write to the context while it is built",
                )
            )

    def begun(self, number: int) -> Lineage:
        """Return the lineage of what stage *number* starts from, if that is no stage."""
        return Lineage(lambda: self._starts[number])


@dataclass(frozen=True, slots=True)
class Made:
    """The layer that a step made, and when."""

    layer: Future[FileLayer]
    created: datetime
    text: str
    platform: Platform


@dataclass(frozen=True, slots=True)
class Step:
    """A step that is being built.

    Attributes:
        before: the lineage of the stage so far.
        origins: those of the stages that it reads, as far as they are built.
        is_command: whether only what it made tells what it made.
        is_kept: whether layers of such steps are cached.
    """

    place: Place
    key: StepKey
    before: Lineage
    origins: Mapping[int, Lineage]
    is_command: bool
    is_kept: bool

    def there(self) -> list[str | None]:
        """Return the lineages that it depends on, None for those of stages that are not built.

        Raises:
            Unsound: one of them cannot be told.
        """
        stages = sorted(self.key.stages)
        origins = [self.origins[n].digest() if n in self.origins else None for n in stages]
        return [None if self.key.independent else self.before.digest(), *origins]

    def made_on(self) -> tuple[str, ...]:
        """Return what it is made on, as caches note it; this may wait for layers.

        Raises:
            Unsound: what it read was changed meanwhile, or is not known.
        """
        if not self.key.unchanged():
            raise Unsound("files were changed while they were read")
        first = "" if self.key.independent else self.before.digest()
        return (first, *(self.origins[n].digest() for n in sorted(self.key.stages)))

    def cached(self, made: Made) -> CachedStep:
        """Return what *made* is cached as, waiting for its layer."""
        layer = made.layer.result()
        return CachedStep(self.key.key, layer, made.created, str(layer.contents), self.made_on())

    def after(self, cached: CachedStep | None, layer: Future[FileLayer] | None) -> Lineage:
        """Return the lineage after the step: *cached*, or done anew, with its *layer* if any."""
        if cached is not None:
            made = copied(self.key.key, cached.made_on[1:])
            return self.before.after(cached.contents if self.is_command else made)
        if self.is_command and layer is not None:
            return self.before.after_command(layer)
        origins = [self.origins[number] for number in sorted(self.key.stages)]

        def sound() -> bool:
            if layer is not None:
                layer.result()  # as long as it is packed, files are read
            return self.key.unchanged()

        return self.before.after_copy(self.key.key, origins, sound)


@dataclass(frozen=True, slots=True)
class Reused:
    """What one attempt at a build takes from the cache."""

    reuse: Reuse
    choice: Choice

    def step(
        self, number: int, position: int, before: Lineage, lineages: Mapping[int, Lineage]
    ) -> Step | None:
        """Return the step at a place; None where the instruction changes no files.

        Args:
            number: of the stage.
            position: of the instruction, or ``WHOLE``.
            before: the stage's lineage so far.
            lineages: of the stages that were built.
        """
        key = self.reuse.steps[number].get(position)
        if key is None:
            return None
        origins = {n: lineages[n] for n in key.stages if n in lineages}
        instructions = self.reuse.plan.stages[number].instructions
        return Step(
            (number, position),
            key,
            before,
            origins,
            is_command=is_command(instructions, position),
            is_kept=self.reuse.is_kept(key),
        )

    def taken(self, step: Step, source: Source) -> CachedStep | None:
        """Return what *step* made earlier, or another like it, if that goes with what is there."""
        cached = self.choice.steps.get(step.place)
        if step.place in self.choice.sure:
            return cached
        with suppress(Unsound):
            cached = self.reuse.made(step.key) or cached
            if cached is None or fits(step.key, cached, step.there()):
                return cached
        if cached is None:
            return None
        self.reuse.progress(
            Noted(
                f"{source.path}:{source.line}: what is cached was made on other files than a "
                "command before it has made this time; it is done anew"
            )
        )
        return None

    def keep(self, step: Step, made: Made, delivery: Delivery) -> None:
        """Put what *step* made into the cache, in the background."""
        if not step.is_kept:
            return
        self.reuse.note(step.key, partial(step.cached, made))
        self.reuse.cache.keep(
            MadeStep(
                key=step.key.key,
                text=made.text,
                platform=made.platform,
                layer=made.layer,
                created=made.created,
                made_on=lambda: self._made_on(step),
                known_in=lambda: delivery.homes(made.layer.result()),
            )
        )

    def _made_on(self, step: Step) -> tuple[str, ...]:
        try:
            return step.made_on()
        except Unsound:
            self.reuse.warn_of_changes()
            raise

    def outcomes(self) -> Mapping[Place, Outcome]:
        """Return what became of the look-up of each step of the stages that are needed."""
        return {
            (number, position): self._outcome((number, position), step)
            for number in self.choice.plan.stages
            for position, step in self.reuse.steps[number].items()
        }

    def _outcome(self, place: Place, step: StepKey) -> Outcome:
        if not self.reuse.is_kept(step):
            return Outcome(Missing.OFF)
        if place in self.choice.refused:
            return Outcome(culprit=self._culprit(*place, step))
        if self.reuse.found(step) is not None:
            return Outcome(None)
        return Outcome(self.reuse.cache.why(step.key))

    def _culprit(self, number: int, position: int, step: StepKey) -> str:
        """Name what gave another result than the one that a cached step was made on."""
        stage = self.reuse.plan.stages[number]
        before = stage.instructions[: max(position, 0)]
        commands = [item for item in before if isinstance(item, Run)]
        if commands:
            return f"line {commands[-1].source.line}"
        stages = [self.reuse.plan.stages[n].stage.label for n in sorted(step.stages)]
        return f"stage {stages[-1] if stages else stage.stage.start.image}"


def _is_cached(
    options: LayerCacheOptions, instructions: Sequence[Instruction], position: int
) -> bool:
    """Whether the layer of the instruction at *position* is cached."""
    if position == WHOLE:
        return options.cache_run_layers
    match instructions[position]:
        case Copy() | Add():
            return options.cache_copy_layers
        case Run() | Workdir():
            return options.cache_run_layers
        case _:
            return False
