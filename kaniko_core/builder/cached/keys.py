"""The keys of all steps of a plan, known before anything is built.

    start ──▶ step 1 ──▶ step 2 ──▶ … ──▶ final      each holds the key of what is below it:
                ▲                         │           the files after the step before
                │  COPY --from, mounts    ▼
              final of another stage    FROM stage, COPY --from in others

A step is an instruction that can change files: RUN, COPY, ADD, and WORKDIR but of ``/``. What is
read from contexts is read once, side by side; nothing of an image but its config is needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import field, replace

from kaniko_core.builder.cached.fingerprints import Contents, FileParts, Fingerprints
from kaniko_core.builder.cached.inputs import Inputs, OriginPart, Piece
from kaniko_core.builder.configure import (
    StageState,
    changes_files,
    configure,
    expand,
    follow_stage,
    scratch,
    start_stage,
)
from kaniko_core.builder.locating import locating
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
from kaniko_core.builder.planner import named_in
from kaniko_core.builder.remote import RemoteSources
from kaniko_core.builder.source import CopySource
from kaniko_core.cache.key import Part, key_of
from kaniko_core.dockerfile.instructions import Add, Copy, From, Instruction, Run, Workdir
from kaniko_core.dockerfile.words import Lexer
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image
from kaniko_core.oci.reference import SCRATCH
from kaniko_core.options import BuildOptions
from kaniko_core.rootfs.store import chain_ids

# Steps whose files are looked at side by side: most wait for a disk or a server.
_AT_ONCE = 8
# Owners that are the same in every image.
_NUMBERS = re.compile(r"(?:root|[0-9]*)(?::[0-9]*)?")
# Parts whose names are for people.
_NAMED_FOR_PEOPLE = frozenset({"stage", "image", "url", "git"})


@dataclass(frozen=True, slots=True)
class StepKey:
    """What the layer of one instruction is known by.

    Attributes:
        key: 64 hexadecimal digits.
        parts: what it is the key of; the names of stages, images and addresses do not count.
        hints: variables that the instruction's words use; for people, no part of the key.
        stages: the numbers of the stages whose files the instruction reads.
        independent: whether the layer does not depend on the files below it.
        unchanged: whether the files of contexts, as far as they were looked at, still are what
            the key says: where somebody wrote to them since, nothing may be kept by it.
    """

    key: str
    parts: tuple[Part, ...]
    hints: tuple[Part, ...] = ()
    stages: frozenset[int] = frozenset()
    independent: bool = False
    unchanged: Callable[[], bool] = field(default=lambda: True, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class StageKeys:
    """What the files of one stage are known by.

    Attributes:
        start: the key of those that it starts from.
        start_parts: what that is the key of; of a stage that starts from another, that one's key.
        steps: by the position of the instruction in the plan, of those that can change files.
        final: the key of the files after the last step.
    """

    start: str
    start_parts: tuple[Part, ...]
    steps: Mapping[int, StepKey]
    final: str


@dataclass(frozen=True, slots=True)
class _Draft:
    """What is known of a step before the keys of other stages are."""

    instruction: Instruction | From
    pieces: Sequence[Piece]
    hints: tuple[Part, ...] = ()
    stages: frozenset[int] = frozenset()
    independent: bool = False


@dataclass(frozen=True, slots=True)
class _StageDraft:
    """A stage whose files are still being read; *state* is that after its last instruction."""

    plan: StagePlan
    start: _Draft | None
    steps: Mapping[int, _Draft]
    state: StageState


def graph_keys(
    plan: Plan,
    *,
    escape: str,
    build_args: Mapping[str, str],
    images: Callable[[ImageBase | LayoutBase], Image],
    context: CopySource,
    files: Callable[[ContextBase], CopySource],
    remote: RemoteSources,
    epoch: int | None,
    rewritten: bool = False,
    options: BuildOptions,
) -> Mapping[int, StageKeys]:
    """Return the keys of every stage of *plan*, by its number.

    Args:
        plan: all stages that are to have keys.
        escape: the Dockerfile's escape character.
        build_args: values given for ARGs.
        images: finds an image; only its config is used.
        context: the build context.
        files: returns the files of a named context.
        remote: fetches the sources of ADD that are not known by a checksum.
        epoch: seconds since 1970 that stand for the present time (``SOURCE_DATE_EPOCH``).
        rewritten: whether no file of a layer is younger than that.
        options: what else the user wants of layers.

    Raises:
        KanikoError: as the build would raise it, with a note that names stage and instruction.
    """
    with (
        Contents() as contents,
        ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="key") as pool,
    ):
        inputs = Inputs(
            context,
            files,
            remote,
            epoch,
            options,
            build_args,
            Fingerprints(contents),
            pool,
            rewritten,
        )
        drafts: dict[int, _StageDraft] = {}
        keys = _Keys(images)
        try:
            reader = _Reader(plan, escape, build_args, inputs, images, drafts)
            order = list(plan.order().static_order())
            for number in order:
                drafts[number] = reader.stage(plan.stages[number])
            keys.fetch(pool, drafts.values())
            for number in order:
                keys.add(number, drafts[number])
        except BaseException:
            # What was begun for other steps is of no use.
            contents.stop()
            remote.cancel()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return keys.stages


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the instructions of stages, and has the files looked at that they name."""

    plan: Plan
    escape: str
    build_args: Mapping[str, str]
    inputs: Inputs
    images: Callable[[ImageBase | LayoutBase], Image]
    drafts: Mapping[int, _StageDraft]

    def stage(self, plan: StagePlan) -> _StageDraft:
        label = plan.stage.label
        with locating(label, plan.stage.start):
            state, start = self._start(plan)
        steps = {}
        for position, instruction in enumerate(plan.instructions):
            with locating(label, instruction):
                after = configure(state, instruction, self.build_args)
                draft = self._draft(plan, instruction, state, after)
            if draft is not None:
                steps[position] = draft
            state = after
        return _StageDraft(plan, start, steps, state)

    def _start(self, plan: StagePlan) -> tuple[StageState, _Draft | None]:
        """Return the state of a stage before its first instruction, and what it starts from."""
        arguments = self.plan.arguments
        platform = Part("platform", "", str(plan.platform))
        match plan.base:
            case StageBase(number):
                return follow_stage(self.drafts[number].state), None
            case ImageBase() | LayoutBase() as base:
                config = self.images(base).config
                part = Part("base", "", _chain(config.diff_ids))
                draft = _Draft(plan.stage.start, (platform, part))
                return start_stage(config, arguments, self.escape), draft
            case Scratch():
                state = start_stage(scratch(plan.platform), arguments, self.escape)
                return state, _Draft(plan.stage.start, (platform, Part("base", "", _chain(()))))
            case ContextBase() as context:
                state = start_stage(scratch(plan.platform), arguments, self.escape)
                everything = Copy(plan.stage.start.source, (".",), "/")
                pieces = (platform, *self.inputs.started(everything, state, context))
                return state, _Draft(plan.stage.start, pieces)

    def _draft(
        self, plan: StagePlan, instruction: Instruction, before: StageState, after: StageState
    ) -> _Draft | None:
        """Return what a step follows from; None where the instruction changes no files."""
        if not changes_files(instruction, after):
            return None
        hints: tuple[Part, ...] = ()
        match instruction:
            case Run():
                pieces = self.inputs.run(instruction, after, plan.origins)
            case Copy() | Add():
                pieces = self.inputs.copied(instruction, before, plan.origins)
                hints = tuple(_hints(instruction, before))
            case Workdir():
                pieces = self.inputs.workdir(after)
                hints = tuple(_hints(instruction, before))
            case _:
                raise AssertionError(instruction)
        origins = [plan.origins[name.lower()] for name in named_in(instruction)]
        stages = frozenset(item.number for item in origins if isinstance(item, StageBase))
        independent = _is_independent(instruction, before)
        return _Draft(instruction, tuple(pieces), hints, stages, independent)


class _Keys:
    """The keys of the stages so far, each after those that it needs."""

    def __init__(self, images: Callable[[ImageBase | LayoutBase], Image]) -> None:
        self._images = images
        self._chains: dict[ImageBase | LayoutBase, Future[str]] = {}
        self._labels: dict[int, str] = {}
        self.stages: dict[int, StageKeys] = {}

    def fetch(self, pool: Executor, drafts: Iterable[_StageDraft]) -> None:
        """Begin to ask for the images that are copied or mounted from."""
        for draft in drafts:
            for origin in draft.plan.origins.values():
                if isinstance(origin, ImageBase | LayoutBase) and origin not in self._chains:
                    self._chains[origin] = pool.submit(self._chain, origin)

    def add(self, number: int, draft: _StageDraft) -> None:
        """Add the keys of a stage, waiting for its files to be read."""
        label = self._labels[number] = draft.plan.stage.label
        start, start_parts = self._start(draft)
        now = start
        steps = {}
        for position, step in draft.steps.items():
            with locating(label, step.instruction):
                found = self._parts(step.pieces)
            parts = tuple(found.parts)
            below = Part("after", "", now)
            if not step.independent:
                parts = (below, *parts)
            key = key_of(_anonymous(parts))
            steps[position] = StepKey(
                key, parts, step.hints, step.stages, step.independent, found.unchanged
            )
            now = key_of((below, Part("layer", "", key))) if step.independent else key
        self.stages[number] = StageKeys(start, start_parts, steps, now)

    def _start(self, draft: _StageDraft) -> tuple[str, tuple[Part, ...]]:
        base = draft.plan.base
        if draft.start is None:
            part = self._origin(base)
            return str(part.value), (part,)
        with locating(draft.plan.stage.label, draft.start.instruction):
            parts = tuple(self._parts(draft.start.pieces).parts)
        return key_of(parts), parts

    def _parts(self, pieces: Sequence[Piece]) -> FileParts:
        parts: list[Part] = []
        seen: list[tuple[bytes, int, int]] = []
        for piece in pieces:
            match piece:
                case Part():
                    parts.append(piece)
                case Future():
                    read = piece.result()
                    parts += read.parts
                    seen += read.seen
                case OriginPart(origin):
                    parts.append(self._origin(origin))
        return FileParts(parts, seen)

    def _origin(self, origin: Origin) -> Part:
        """Return the part that stands for all files of *origin*."""
        match origin:
            case StageBase(number):
                return Part("stage", self._labels[number], self.stages[number].final)
            case ImageBase() | LayoutBase():
                return Part("image", origin.name, self._chains[origin].result())
            case Scratch():
                return Part("image", SCRATCH, _chain(()))
            case ContextBase():
                raise ValueError(f"the files of {origin.name} are parts of their own")

    def _chain(self, origin: ImageBase | LayoutBase) -> str:
        return _chain(self._images(origin).config.diff_ids)


def _chain(diff_ids: Sequence[Digest]) -> str:
    """Return what tells the files of an image; empty where it has none."""
    return str(chain_ids(diff_ids)[-1]) if diff_ids else ""


def _anonymous(parts: Iterable[Part]) -> Iterator[Part]:
    for part in parts:
        yield replace(part, name="") if part.kind in _NAMED_FOR_PEOPLE else part


def _is_independent(instruction: Instruction, state: StageState) -> bool:
    """Whether a step makes the same layer whatever is below it."""
    if not isinstance(instruction, Copy | Add) or not instruction.link or instruction.chmod:
        return False
    # A name has the number that the image's /etc/passwd gives it.
    return _NUMBERS.fullmatch(expand(state, instruction).chown or "") is not None


def _hints(instruction: Copy | Add | Workdir, state: StageState) -> Iterator[Part]:
    """Yield the variables that the words of *instruction* use."""
    variables = state.scope.variables
    names: set[str] = set()
    if isinstance(instruction, Workdir):
        words = [instruction.path]
    else:
        flags = (instruction.chown or "", instruction.chmod or "", *instruction.exclude)
        checksum = (instruction.checksum or "") if isinstance(instruction, Add) else ""
        words = [*instruction.sources, instruction.destination, *flags, checksum]
        bodies = Lexer("\\", skip_quotes=True)
        for heredoc in instruction.heredocs:
            if heredoc.expand:
                names |= bodies.process(heredoc.body, variables).matched
    lexer = Lexer(state.escape)
    for word in words:
        names |= lexer.process(word, variables).matched
    env = state.config.config.variables()
    for name in sorted(names):
        yield Part("variable" if name in env else "argument", name, variables[name])
