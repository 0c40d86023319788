"""Progress as JSON lines: one object each, for machines.

Every object has ``time`` (RFC 3339), ``level``, ``event`` and ``msg``, a sentence; what else it
has is the event's own fields. ``msg`` and ``level`` are where Go kaniko's JSON has them.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import field
from typing import Any, assert_never

from kaniko_core.console.stream import OutputLines, Writer
from kaniko_core.console.words import MOVED, MOVING, Failure, duration, heading, size, timestamp
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

# Between two objects about one transfer.
_PATIENCE = 1.0  # seconds


@dataclass(slots=True)
class JsonLines:
    """Writes events as JSON, one object a line.

    Args:
        sink: where to.
        wall: seconds since the epoch.
        clock: seconds that never go back.
    """

    sink: Writer
    wall: Callable[[], float] = time.time
    clock: Callable[[], float] = time.monotonic
    _output: OutputLines = field(default_factory=OutputLines)
    _told: dict[tuple[Direction, str], float] = field(default_factory=dict)
    # Reentrant: a signal handler's exception may pass through while it is held.
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __call__(self, event: Event, /) -> None:
        """Write the object of *event*, or those of the lines that it completes."""
        with self._lock:
            match event:
                case Output(stage, _, stderr):
                    for line in self._output.lines(event):
                        self._write_output(stage, stderr, line)
                case BytesMoved():
                    self._move(event)
                case StageStarted() | StageFinished() | StepStarted() | StepFinished():
                    self._advance(event)
                case Noted(message):
                    self._put("info", "noted", message)
                case Warned(message, hint):
                    self._put("warning", "warned", message, **({"hint": hint} if hint else {}))
                case _:
                    assert_never(event)

    def fail(self, failure: Failure) -> None:
        """Write why the program ends."""
        fields: dict[str, Any] = {
            "hint": failure.hint,
            "notes": list(failure.notes),
            "traceback": failure.traceback,
        }
        self.close()
        self._put("error", "failed", failure.message, **{k: v for k, v in fields.items() if v})

    def log(self, level: str, logger: str, message: str) -> None:
        """Write a log record of the library."""
        self._put(level, "logged", message, logger=logger)

    def close(self) -> None:
        """Write lines of commands that have begun and will not end."""
        with self._lock:
            self._flush(None)

    def _advance(self, event: StageStarted | StageFinished | StepStarted | StepFinished) -> None:
        self._flush(event.stage)
        match event:
            case StageStarted(stage, base, steps):
                text = f"[{stage}] FROM {base}"
                self._put("info", "stage_started", text, stage=stage, base=base, steps=steps)
            case StageFinished(stage, seconds):
                text = f"[{stage}] built in {duration(seconds)}"
                self._put("info", "stage_finished", text, stage=stage, seconds=round(seconds, 3))
            case StepStarted(stage, number, steps, text):
                words = f"[{stage} {number}/{steps}] {heading(text)}"
                fields = {"stage": stage, "number": number, "steps": steps, "text": text}
                self._put("info", "step_started", words, **fields)
            case StepFinished(stage, number, seconds, cached):
                words = "cached" if cached else f"done in {duration(seconds)}"
                fields = {"stage": stage, "number": number, "cached": cached}
                fields["seconds"] = round(seconds, 3)
                self._put("info", "step_finished", f"[{stage} {number}] {words}", **fields)

    def _move(self, event: BytesMoved) -> None:
        key = (event.direction, event.what)
        now = self.clock()
        ended = bool(event.total) and event.done >= event.total
        if ended:
            self._told.pop(key, None)
        elif now - self._told.get(key, float("-inf")) < _PATIENCE:
            return
        else:
            self._told[key] = now
        verb = (MOVED if ended else MOVING)[event.direction]
        self._put(
            "info",
            "bytes_moved",
            f"{verb} {event.what}: {size(event.done)}",
            direction=event.direction.value,
            what=event.what,
            done=event.done,
            total=event.total,
        )

    def _flush(self, stage: str | None) -> None:
        for name, stderr, line in self._output.rest(stage):
            self._write_output(name, stderr, line)

    def _write_output(self, stage: str, stderr: bool, line: str) -> None:
        stream = "stderr" if stderr else "stdout"
        self._put("info", "output", line, stage=stage, stream=stream)

    def _put(self, level: str, event: str, message: str, **fields: Any) -> None:
        data = {"time": timestamp(self.wall()), "level": level, "event": event, "msg": message}
        # ASCII, so that no terminal, locale or log collector can spoil it.
        self.sink.write(json.dumps(data | fields) + "\n")
