"""Traces of builds for OpenTelemetry, for those who ask for them by its variables.

    settings.py   environment ─▶ Settings, or nothing: most runs end here
    spans.py      events ─▶ spans
    sending.py    spans ─▶ OTLP over HTTP, in the background

OpenTelemetry is an extra of the package, and imported only when traces are wanted. Whatever goes
wrong with them is told once, as a warning: the build goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kaniko_core.lean import dataclass
from kaniko_core.progress import Event, Progress, Warned
from kaniko_core.tracing.settings import Settings, settings

if TYPE_CHECKING:
    from kaniko_core.tracing.sending import Sending

_TALKERS = ("opentelemetry", "urllib3")
_EXTRA = "pip install 'kaniko-py[otel]', or unset the variables that ask for traces"


@dataclass(frozen=True, slots=True)
class Trace:
    """What a trace is of.

    Attributes:
        name: of the whole: ``build`` or ``warm``.
        version: of the program.
    """

    name: str
    version: str


@contextmanager
def traced(progress: Progress, trace: Trace, environ: Mapping[str, str]) -> Iterator[Progress]:
    """Yield what takes events and makes a trace of the block, where *environ* asks for one.

    Args:
        progress: is given every event, and a warning where traces cannot be had.
        trace: what it is of.
        environ: the variables; OpenTelemetry reads the rest of its own from the process's.
    """
    wanted = settings(environ)
    for complaint in wanted.complaints:
        progress(complaint)
    if not wanted.on:
        yield progress
        return
    with _silenced():
        sending = _opened(wanted, progress, trace.version)
        if sending is None:
            yield progress
            return
        with _spans(sending, trace, progress, whole=not wanted.omit_text) as taking:
            yield taking


@contextmanager
def _spans(
    sending: Sending, trace: Trace, progress: Progress, *, whole: bool
) -> Iterator[Progress]:
    from kaniko_core.tracing.spans import Spans

    spans = Spans(sending.tracer, trace.name, sending.parent, whole=whole)

    def both(event: Event, /) -> None:
        progress(event)
        spans.take(event)

    try:
        yield both
    except BaseException as error:
        spans.fail(error)
        raise
    finally:
        spans.end()
        sending.close()


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep the libraries from writing of their troubles, and of what they were given."""
    silence = logging.NullHandler()
    before = [(logger, logger.propagate) for logger in map(logging.getLogger, _TALKERS)]
    for logger, _ in before:
        logger.addHandler(silence)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, propagate in before:
            logger.removeHandler(silence)
            logger.propagate = propagate


def _opened(wanted: Settings, progress: Progress, version: str) -> Sending | None:
    from kaniko_core.tracing.sending import open_sending

    try:
        return open_sending(wanted, progress, version)
    except ImportError as error:
        message = f"no traces are sent: OpenTelemetry is not installed ({error.name})"
        progress(Warned(message, hint=_EXTRA))
    except Exception as error:
        # Another's library must not end a build, nor say what it was given: a header, an address
        # with a password.
        progress(
            Warned(
                f"no traces are sent: OpenTelemetry failed with {type(error).__name__}",
                hint="look at the OTEL_ variables",
            )
        )
    return None


__all__ = ["Trace", "traced"]
