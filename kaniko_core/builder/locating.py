"""Where an error happened, as a note: the stage and the instruction that were being worked on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kaniko_core.dockerfile.instructions import From, Instruction
from kaniko_core.errors import KanikoError


def locate(error: KanikoError, label: str, instruction: Instruction | From) -> None:
    """Note with *error* that it happened at *instruction* of stage *label*, unless it says so."""
    source = instruction.source
    if f"{source.path}:{source.line}:" not in str(error):
        note = f"{source.path}:{source.line}: in stage {label}: {source.text}"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)


@contextmanager
def locating(label: str, instruction: Instruction | From) -> Iterator[None]:
    """Note with any KanikoError of the block where it happened."""
    try:
        yield
    except KanikoError as error:
        locate(error, label, instruction)
        raise
