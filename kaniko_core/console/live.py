"""Progress on a terminal: lines that scroll, and below them what is going on now.

Imported only where there is a terminal: rich takes as long to import as all the rest.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import field
from typing import IO, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from kaniko_core.console.stream import Sink
from kaniko_core.console.textlines import TextLines
from kaniko_core.console.words import MOVING, Failure, duration, heading, printable, size
from kaniko_core.lean import dataclass
from kaniko_core.options import LogOptions
from kaniko_core.progress import (
    BytesMoved,
    Direction,
    Event,
    StageFinished,
    StageStarted,
    StepFinished,
    StepStarted,
)

_REFRESHES = 8  # a second
# Escape sequences (ECMA-48, 5.4; OSC: 8.3.89) and control characters. Colours may stay; what
# moves the cursor would tear the display, which is drawn below.
_COLORS = re.compile(r"\x1b\[[0-9;:]*m")
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?|[\x00-\x08\x0b-\x1f\x7f]"
)
_RESET = "\x1b[0m"


@dataclass(frozen=True, slots=True)
class _Doing:
    text: str
    since: float


@dataclass(frozen=True, slots=True)
class _Transfer:
    done: int
    total: int
    since: float


@dataclass(slots=True)
class Activity:
    """What is going on: each stage's instruction, and each transfer; a renderable of rich.

    Nothing is called while its lock is held, so it may be drawn and told of events at once.
    """

    clock: Callable[[], float] = time.monotonic
    _stages: dict[str, _Doing] = field(default_factory=dict)
    _transfers: dict[tuple[Direction, str], _Transfer] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, event: Event, /) -> None:
        """Keep in mind what *event* says."""
        now = self.clock()
        with self._lock:
            match event:
                case StageStarted(stage, base):
                    self._stages[stage] = _Doing(f"[{stage}] FROM {base}", now)
                case StageFinished(stage):
                    self._stages.pop(stage, None)
                case StepStarted(stage, number, steps, text):
                    label = f"[{stage} {number}/{steps}]"
                    self._stages[stage] = _Doing(f"{label} {heading(text)}", now)
                case StepFinished(stage):
                    self._stages.pop(stage, None)
                case BytesMoved(direction, what, done, total):
                    key = (direction, what)
                    if total and done >= total:
                        self._transfers.pop(key, None)
                    else:
                        known = self._transfers.get(key)
                        since = known.since if known else now
                        self._transfers[key] = _Transfer(done, total, since)
                case _:
                    pass

    def lines(self) -> list[str]:
        """Return one line for each stage and transfer, those that last longest first."""
        now = self.clock()
        with self._lock:
            stages = sorted(self._stages.values(), key=lambda item: item.since)
            transfers = sorted(self._transfers.items(), key=lambda item: item[1].since)
        doing = [f"{duration(now - item.since):>7} {printable(item.text)}" for item in stages]
        return doing + [_moving(*key, item, now) for key, item in transfers]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the lines, as many as leave half of the terminal to what scrolls."""
        lines = self.lines()
        room = max(options.max_height // 2, 1) if options.max_height else len(lines)
        if len(lines) > room:
            lines[room - 1 :] = [f"        and {len(lines) - room + 1} more"]
        for line in lines:
            yield Text(line, style="dim", no_wrap=True, overflow="ellipsis")


def _moving(direction: Direction, what: str, transfer: _Transfer, now: float) -> str:
    seconds = now - transfer.since
    of = f" of {size(transfer.total)}" if transfer.total else ""
    speed = f", {size(int(transfer.done / seconds))}/s" if seconds >= 1 else ""
    text = f"{MOVING[direction]} {what}: {size(transfer.done)}{of}{speed}"
    return f"{duration(seconds):>7} {printable(text)}"


@dataclass(frozen=True, slots=True)
class _Raw:
    """Text that rich passes on as it is."""

    text: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Segment(self.text)


@dataclass(frozen=True, slots=True)
class _Above:
    """A Writer of lines that scroll above the display."""

    console: Console
    color: bool

    def write(self, text: str, /) -> None:
        self.console.print(_Raw(tame(text, color=self.color)), soft_wrap=True)


def tame(text: str, *, color: bool) -> str:
    """Return *text* without escape sequences, but for colours; they end with the line."""
    if "\x1b" not in text:
        return _ESCAPES.sub("", text)
    return "".join(
        _tame_line(line, color=color) if "\x1b" in line else _ESCAPES.sub("", line)
        for line in text.splitlines(keepends=True)
    )


def _tame_line(line: str, *, color: bool) -> str:
    def kept(match: re.Match[str]) -> str:
        return match[0] if color and _COLORS.fullmatch(match[0]) else ""

    tamed = _ESCAPES.sub(kept, line)
    body = tamed.removesuffix("\n")
    if "\x1b" not in body or body.endswith(_RESET):
        return tamed
    return f"{body}{_RESET}{tamed[len(body) :]}"


@dataclass(frozen=True, slots=True)
class LiveLines:
    """Writes events as lines, and keeps what is drawn below them up to date."""

    activity: Activity
    text: TextLines

    def __call__(self, event: Event, /) -> None:
        """Show *event*."""
        self.activity(event)
        self.text(event)

    def fail(self, failure: Failure) -> None:
        """Show why the program ends."""
        self.text.fail(failure)

    def log(self, level: str, logger: str, message: str) -> None:
        """Show a log record."""
        self.text.log(level, logger, message)

    def close(self) -> None:
        """Show what has been held back."""
        self.text.close()


@contextmanager
def live_display(options: LogOptions, stream: TextIO, *, color: bool) -> Iterator[LiveLines]:
    """Draw on the terminal *stream* while the block lasts; the display is gone afterwards."""
    console = Console(
        # rich needs no more of a file than what a Sink has.
        file=cast(IO[str], Sink(stream)),
        force_terminal=True,
        no_color=not color,
        highlight=False,
        emoji=False,
    )
    activity = Activity()
    text = TextLines(
        _Above(console, color), color=color, stamps=options.log_timestamp, transfers=False
    )
    with Live(
        get_renderable=lambda: activity,
        console=console,
        refresh_per_second=_REFRESHES,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ):
        yield LiveLines(activity, text)
