"""What happens during a build or a warming, as values; ``console`` shows them.

The library never prints. It calls a :class:`Progress` with events; events come from several
threads at once, so a Progress must be safe to call from any of them.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from kaniko_core.lean import dataclass


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage begins; *stage* is its name, or its number when it has none."""

    stage: str
    base: str
    steps: int


@dataclass(frozen=True, slots=True)
class StageFinished:
    """A stage is built."""

    stage: str
    seconds: float


@dataclass(frozen=True, slots=True)
class StepStarted:
    """Instruction *number* (from 1) of a stage begins; *text* is as the user wrote it."""

    stage: str
    number: int
    steps: int
    text: str


@dataclass(frozen=True, slots=True)
class StepFinished:
    """An instruction is done; *cached* when its result was known already."""

    stage: str
    number: int
    seconds: float
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """Bytes that a RUN command wrote, as they came: not necessarily whole lines."""

    stage: str
    data: bytes
    stderr: bool = False


class Direction(Enum):
    """Which way bytes move."""

    PULL = "pull"
    PUSH = "push"
    UNPACK = "unpack"


@dataclass(frozen=True, slots=True)
class BytesMoved:
    """*done* of *total* bytes of something; total 0 where it is not known. Done == total ends it.

    *what* is for people and identifies the transfer within a run, such as ``sha256:1a2b3c4d5e6f``
    preceded by the image's name.
    """

    direction: Direction
    what: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Noted:
    """A sentence worth showing."""

    message: str


@dataclass(frozen=True, slots=True)
class Warned:
    """A sentence worth reading: something is not as the user would wish, and we go on."""

    message: str
    hint: str | None = None


Event = (
    StageStarted | StageFinished | StepStarted | StepFinished | Output | BytesMoved | Noted | Warned
)


class Progress(Protocol):
    """Takes events; called from any thread."""

    def __call__(self, event: Event, /) -> None:
        """Show, record or ignore *event*; must not raise."""


def silent(event: Event, /) -> None:
    """Ignore *event*: the Progress of library users who did not ask for one."""
