"""Progress as lines of text.

    [builder] FROM debian:bookworm-slim
    pulled debian:bookworm-slim 9f86d081884c (28.2 MB in 1.4s)
    [builder 1/2] RUN make
    cc -o app app.c
    [builder 1/2] done in 12.4s

A command's lines bear their stage's name while more than one stage is being built.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import field
from typing import assert_never

from kaniko_core.console.stream import OutputLines, Writer
from kaniko_core.console.words import (
    MOVED,
    MOVING,
    Failure,
    duration,
    heading,
    printable,
    size,
    timestamp,
)
from kaniko_core.lean import dataclass
from kaniko_core.progress import (
    BytesMoved,
    Direction,
    Event,
    Noted,
    Output,
    StageFinished,
    StageStarted,
    StepFinished,
    StepStarted,
    Warned,
)

# An instruction or transfer that is shorter needs no line to say that it goes on, or has ended.
_WORTH_TELLING = 1.0  # seconds
# Long enough for a log to stay short, short enough for CI systems that end silent jobs.
_STILL_MOVING = 30.0  # seconds
_RESET = "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Style:
    """The SGR parameters (ECMA-48) of what is coloured."""

    error: str = "1;31"
    warning: str = "1;33"
    hint: str = "36"
    stage: str = "1;34"
    faint: str = "2"


_STYLE = Style()


@dataclass(slots=True)
class _Transfer:
    started: float
    told: float


@dataclass(slots=True)
class TextLines:
    """Writes events as lines of text.

    Args:
        sink: where to.
        color: whether escape sequences may be used.
        stamps: whether lines begin with the time.
        transfers: whether to tell of transfers that go on.
        wall: seconds since the epoch.
        clock: seconds that never go back.
    """

    sink: Writer
    color: bool = False
    stamps: bool = False
    transfers: bool = True
    wall: Callable[[], float] = time.time
    clock: Callable[[], float] = time.monotonic
    _output: OutputLines = field(default_factory=OutputLines)
    _moving: dict[tuple[Direction, str], _Transfer] = field(default_factory=dict)
    _stages: set[str] = field(default_factory=set)
    _headings: dict[str, str] = field(default_factory=dict)
    # Reentrant: a signal handler's exception may pass through while it is held.
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __call__(self, event: Event, /) -> None:
        """Write the lines that *event* is worth."""
        with self._lock:
            match event:
                case Output():
                    self._write_output(event.stage, self._output.lines(event))
                case BytesMoved():
                    self._move(event)
                case StageStarted() | StageFinished() | StepStarted() | StepFinished():
                    self._advance(event)
                case Noted():
                    self._put(printable(event.message).split("\n"))
                case Warned():
                    self._say("warning", _STYLE.warning, event.message)
                    if event.hint:
                        self._say("hint", _STYLE.hint, event.hint)
                case _:
                    assert_never(event)

    def fail(self, failure: Failure) -> None:
        """Write why the program ends."""
        with self._lock:
            self.close()
            self._put(printable(failure.traceback).splitlines())
            self._say("error", _STYLE.error, failure.message)
            for note in failure.notes:
                self._say("note", _STYLE.faint, note)
            if failure.hint:
                self._say("hint", _STYLE.hint, failure.hint)

    def log(self, level: str, logger: str, message: str) -> None:
        """Write a log record of the library."""
        self._say(level, _STYLE.faint, f"{logger}: {message}")

    def close(self) -> None:
        """Write lines of commands that have begun and will not end."""
        with self._lock:
            for stage, _, line in self._output.rest():
                self._write_output(stage, [line])

    def _advance(self, event: StageStarted | StageFinished | StepStarted | StepFinished) -> None:
        """Tell that a stage or an instruction begins or is done."""
        for stage, _, line in self._output.rest(event.stage):
            self._write_output(stage, [line])
        match event:
            case StageStarted(stage, base):
                self._stages.add(stage)
                self._tell(f"[{stage}]", f"FROM {base}")
            case StageFinished(stage, seconds):
                self._stages.discard(stage)
                self._tell(f"[{stage}]", f"built in {duration(seconds)}")
            case StepStarted(stage, number, steps, text):
                self._headings[stage] = f"[{stage} {number}/{steps}]"
                self._tell(self._headings[stage], heading(text))
            case StepFinished(stage, _, seconds, cached):
                label = self._headings.pop(stage, f"[{stage}]")
                if cached:
                    self._tell(label, "cached")
                elif seconds >= _WORTH_TELLING:
                    self._tell(label, f"done in {duration(seconds)}")

    def _move(self, event: BytesMoved) -> None:
        """Tell of a transfer once it has ended, and now and then while it goes on."""
        now = self.clock()
        key = (event.direction, event.what)
        if event.total and event.done >= event.total:
            self._end(event, now)
            return
        transfer = self._moving.setdefault(key, _Transfer(now, now))
        patience = _WORTH_TELLING if transfer.told == transfer.started else _STILL_MOVING
        if self.transfers and now - transfer.told >= patience:
            transfer.told = now
            of = f" of {size(event.total)}" if event.total else ""
            text = f"{MOVING[event.direction]} {event.what}: {size(event.done)}{of}"
            self._put([printable(text)])

    def _end(self, event: BytesMoved, now: float) -> None:
        transfer = self._moving.pop((event.direction, event.what), None)
        lasted = now - transfer.started if transfer else 0.0
        if event.direction in (Direction.PULL, Direction.PUSH) or lasted >= _WORTH_TELLING:
            after = f" in {duration(lasted)}" if transfer else ""
            text = f"{MOVED[event.direction]} {event.what} ({size(event.total)}{after})"
            self._put([printable(text)])

    def _write_output(self, stage: str, lines: Iterable[str]) -> None:
        prefix = ""
        if len(self._stages) > 1:
            prefix = self._painted(f"[{stage}]", _STYLE.stage) + " "
        self._put([prefix + line for line in lines])

    def _tell(self, label: str, text: str) -> None:
        self._put([f"{self._painted(printable(label), _STYLE.stage)} {printable(text)}"])

    def _say(self, label: str, style: str, message: str) -> None:
        first, *more = printable(message).split("\n")
        self._put([f"{self._painted(label + ':', style)} {first}", *more])

    def _painted(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}{_RESET}" if self.color else text

    def _put(self, lines: list[str]) -> None:
        if lines:
            stamp = f"{timestamp(self.wall())} " if self.stamps else ""
            self.sink.write("".join(f"{stamp}{line}\n" for line in lines))
