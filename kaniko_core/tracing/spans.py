"""Events become spans: one for the whole, and below it stages, instructions and transfers.

Names of spans and attributes are those of Go kaniko's traces where it has them.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kaniko_core.errors import CommandFailed
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

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

_STAGE = "Stage"
_COMMAND = "Command"
_UNFINISHED = "it did not finish"
_Values = Mapping[str, str | int | bool]


class Spans:
    """The spans of one trace; safe to use from several threads at once.

    Args:
        tracer: begins them.
        name: of the whole.
        parent: what the whole belongs to.
        whole: whether texts are told that may quote the Dockerfile.
    """

    def __init__(self, tracer: Tracer, name: str, parent: Context, *, whole: bool) -> None:
        self._tracer = tracer
        self._whole = whole
        self._lock = threading.Lock()
        self._root = tracer.start_span(name, parent)
        self._stages: dict[str, Span] = {}
        self._steps: dict[str, Span] = {}
        self._transfers: dict[tuple[Direction, str], Span] = {}

    def take(self, event: Event) -> None:
        """Begin or end what *event* tells of."""
        with self._lock:
            match event:
                case StageStarted(stage, base, steps):
                    _close(self._steps, stage)
                    _close(self._stages, stage)
                    values = {"kaniko.stage.name": stage, "kaniko.stage.base": base}
                    self._stages[stage] = self._begin(_STAGE, None, values)
                    self._stages[stage].set_attribute("kaniko.stage.steps", steps)
                case StageFinished(stage):
                    _finish(self._stages, stage)
                case StepStarted():
                    self._step(event)
                case StepFinished(stage, cached=cached):
                    if stage in self._steps:
                        self._steps[stage].set_attribute("kaniko.cache.hit", cached)
                    _finish(self._steps, stage)
                case BytesMoved():
                    self._transfer(event)
                case Warned(message):
                    self._root.add_event("warning", {"message": message} if self._whole else {})
                case Noted() | Output():
                    pass

    def fail(self, error: BaseException) -> None:
        """Note that *error* ends everything."""
        with self._lock:
            kind = type(error).__name__
            # Without a stack: it is of use to us, not to those who look at builds.
            values: dict[str, str | int] = {"exception.type": kind}
            if self._whole:
                values["exception.message"] = str(error)
            if isinstance(error, CommandFailed):
                values["kaniko.exit_status"] = error.exit_status
            self._root.add_event("exception", values)
            message = str(error) if self._whole else kind
            _set_error(self._root, message)

    def end(self) -> None:
        """End everything."""
        with self._lock:
            for running in (self._transfers, self._steps, self._stages):
                for span in running.values():
                    _break_off(span)
                running.clear()
            self._root.end()

    def _step(self, event: StepStarted) -> None:
        _close(self._steps, event.stage)
        values: dict[str, str | int] = {
            "kaniko.stage.name": event.stage,
            "kaniko.instruction.index": event.number,
            "kaniko.instruction.name": (event.text.split(maxsplit=1) or [""])[0].upper(),
        }
        if self._whole:
            values["kaniko.command"] = event.text
        parent = self._stages.get(event.stage)
        self._steps[event.stage] = self._begin(_COMMAND, parent, values)

    def _transfer(self, event: BytesMoved) -> None:
        key = event.direction, event.what
        span = self._transfers.get(key)
        if span is None:
            values: _Values = {
                "kaniko.transfer.what": event.what,
                "kaniko.transfer.total": event.total,
            }
            span = self._transfers[key] = self._begin(event.direction.value, None, values)
        if event.done == event.total:
            span.set_attribute("kaniko.transfer.bytes", event.done)
            del self._transfers[key]
            span.end()

    def _begin(self, name: str, parent: Span | None, values: _Values) -> Span:
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        context = set_span_in_context(self._root if parent is None else parent, Context())
        return self._tracer.start_span(name, context, attributes=values)


def _finish(running: dict[str, Span], key: str) -> None:
    span = running.pop(key, None)
    if span is not None:
        span.end()


def _close(running: dict[str, Span], key: str) -> None:
    """End what begins anew: the build started over without a layer that it lost."""
    span = running.pop(key, None)
    if span is not None:
        _break_off(span)


def _break_off(span: Span) -> None:
    _set_error(span, _UNFINISHED)
    span.end()


def _set_error(span: Span, message: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_status(Status(StatusCode.ERROR, message))
