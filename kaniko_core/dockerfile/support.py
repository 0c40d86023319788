"""What this version parses and does not build, in one table.

The stable language is built whole. What belongs to its labs channel is refused before anything is
fetched, because a build that leaves something out silently is worse than none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from kaniko_core.dockerfile.instructions import Instruction, Run
from kaniko_core.errors import DockerfileError

_LABS = "it is of the labs channel; build this Dockerfile with BuildKit"

# What is refused: for which instruction, when, what to call it, and what to do instead.
_REFUSED: tuple[tuple[type[Instruction], Callable[..., bool], str, str], ...] = (
    (Run, lambda run: bool(run.devices), "RUN --device", _LABS),
)


def refuse_unsupported(instructions: Iterable[Instruction]) -> None:
    """Refuse the first of *instructions* that is not of the stable language.

    Raises:
        DockerfileError: names it.
    """
    for instruction in instructions:
        for what, hint in _unsupported(instruction):
            source = instruction.source
            raise DockerfileError(
                f"{what} is not supported: it is not part of the stable Dockerfile language",
                path=source.path,
                line=source.line,
                source=source.text,
                hint=hint,
            )


def _unsupported(instruction: Instruction) -> Iterator[tuple[str, str]]:
    for kind, wanted, what, hint in _REFUSED:
        if isinstance(instruction, kind) and wanted(instruction):
            yield what, hint
