"""What the user sees: progress and failures on stderr.

``textlines.py`` writes lines for logs, ``live.py`` shows them on a terminal above what is going
on, and ``jsonlines.py`` writes objects for machines.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol, TextIO

from kaniko_core.console.jsonlines import JsonLines
from kaniko_core.console.stream import Sink, silence
from kaniko_core.console.textlines import TextLines
from kaniko_core.console.words import Failure
from kaniko_core.lean import dataclass
from kaniko_core.options import LogFormat, LogOptions, Verbosity
from kaniko_core.progress import Event, Progress, Warned

_LIBRARY = "kaniko_core"
_QUIET = frozenset({Verbosity.PANIC, Verbosity.FATAL, Verbosity.ERROR})
_TALKATIVE = frozenset({Verbosity.DEBUG, Verbosity.TRACE})


class Renderer(Progress, Protocol):
    """A Progress that can tell of failures and log records, too."""

    def fail(self, failure: Failure) -> None:
        """Show why the program ends."""

    def log(self, level: str, logger: str, message: str) -> None:
        """Show a log record."""

    def close(self) -> None:
        """Show what has been held back."""


@dataclass(frozen=True, slots=True)
class Terminal:
    """What the other end of a stream can do.

    Attributes:
        color: understands colours, and the user does not mind them.
        live: lines can be drawn anew.
    """

    color: bool = False
    live: bool = False


def wants_details(options: LogOptions) -> bool:
    """Whether log records and tracebacks are asked for."""
    return options.verbosity in _TALKATIVE


def renderer(options: LogOptions, stream: TextIO | None, terminal: Terminal) -> Renderer:
    """Return what writes lines to *stream* as *options* say; nothing is drawn live."""
    sink = Sink(stream)
    if options.log_format is LogFormat.JSON:
        return JsonLines(sink)
    color = terminal.color and options.log_format is not LogFormat.TEXT
    return TextLines(sink, color=color, stamps=options.log_timestamp)


@contextmanager
def open_console(
    options: LogOptions, stream: TextIO | None, terminal: Terminal
) -> Iterator[Progress]:
    """Show events on *stream* while the block lasts; None is a stream that is closed."""
    shown: Renderer
    with ExitStack() as stack:
        animated = terminal.live and options.log_format in (LogFormat.AUTO, LogFormat.COLOR)
        if animated and stream is not None and options.verbosity not in _QUIET | {Verbosity.WARN}:
            from kaniko_core.console.live import live_display

            shown = stack.enter_context(live_display(options, stream, color=terminal.color))
        else:
            shown = renderer(options, stream, terminal)
        stack.callback(shown.close)
        stack.enter_context(_records(shown, options))
        yield _filtered(shown, options.verbosity)


def _filtered(shown: Renderer, verbosity: Verbosity) -> Progress:
    if verbosity not in _QUIET | {Verbosity.WARN}:
        return shown

    def warnings(event: Event, /) -> None:
        if isinstance(event, Warned) and verbosity is Verbosity.WARN:
            shown(event)

    return warnings


class _Records(logging.Handler):
    """Shows the log records that the user asked for."""

    def __init__(self, shown: Renderer, options: LogOptions) -> None:
        super().__init__()
        self._shown = shown
        self._wanted = wants_details(options)

    def emit(self, record: logging.LogRecord) -> None:
        """Show *record*, where details are wanted; without them, it is for maintainers."""
        if self._wanted:
            self._shown.log(record.levelname.lower(), record.name, self.format(record))


@contextmanager
def _records(shown: Renderer, options: LogOptions) -> Iterator[None]:
    # On the root logger: without any handler there, Python would write other libraries'
    # warnings to stderr itself, into the middle of a display or of JSON lines.
    root, library = logging.getLogger(), logging.getLogger(_LIBRARY)
    handler = _Records(shown, options)
    level = library.level
    root.addHandler(handler)
    if wants_details(options):
        library.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        library.setLevel(level)
        root.removeHandler(handler)


__all__ = [
    "Failure",
    "Renderer",
    "Terminal",
    "open_console",
    "renderer",
    "silence",
    "wants_details",
]
