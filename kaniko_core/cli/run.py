"""From a program's start to its exit status, and every way in between that it may end."""

from __future__ import annotations

import difflib
import gc
import os
import select
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, TextIO

import typer
import typer.main

from kaniko_core.cli import completion
from kaniko_core.cli.flags import go_booleans, spellings_of
from kaniko_core.cli.notices import Called, notices
from kaniko_core.cli.pages import WIDEST
from kaniko_core.cli.program import command_for
from kaniko_core.cli.variables import variable_of
from kaniko_core.console import (
    Failure,
    Terminal,
    open_console,
    renderer,
    silence,
    wants_details,
)
from kaniko_core.errors import KanikoError, UsageError, disk_error, reason_of
from kaniko_core.options import LogFormat, LogOptions, Verbosity
from kaniko_core.progress import Progress
from kaniko_core.tracing import Trace, traced
from kaniko_core.values import boolean

# What shells report of a program that a signal has ended.
_BY_SIGNAL = 128
# Values of TERM for terminals that cannot go back to a line.
_DUMB = frozenset({"dumb", "unknown"})
# The library whose threads know nothing of the interpreter's end.
_NATIVE = "obstore"
# Columns. No page is narrower: a word has to have room.
_NARROWEST = 30
# typer brings click along, under a name that changes between versions: this is click's
# ClickException, the ancestor of BadParameter and UsageError.
_ClickError: Any = typer.BadParameter.__mro__[2]


class _Ended(KeyboardInterrupt):
    """A signal asks the program to end: what Ctrl-C would undo is undone."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run(app: typer.Typer, argv: Sequence[str], *, name: str) -> int:
    """Run *app* and return the program's exit status; whatever ends it is told on stderr.

    Args:
        app: its commands take options with :func:`~kaniko_core.cli.with_options`.
        argv: without the program's name.
        name: the program's, such as ``kaniko-executor``.
    """
    asked = completion.is_asked(name, os.environ)
    command = typer.main.get_command(app) if asked else command_for(app, argv)
    try:
        with _ended_by(signal.SIGTERM, signal.SIGHUP):
            if asked:
                status = completion.answer(command, name, os.environ)
            else:
                status = _invoke(app, command, argv, name)
            _flush(sys.stdout)
            return status
    except (Exception, KeyboardInterrupt) as error:
        if _broken(sys.stdout) and isinstance(error, BrokenPipeError):
            return _BY_SIGNAL + signal.SIGPIPE
        return _report(command, argv, error)


def leave(status: int) -> int:
    """Return the exit *status*, or end the process with it at once.

    That is for threads of a library that could be in the way. Those of obstore want the
    interpreter for an instant even after the last answer. Who wants it while it is taken down is
    ended by it, which Rust takes for a crash: it aborts the process.
    """
    if _NATIVE in sys.modules:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                _flush(stream)
        os._exit(status)
    # On its way out the interpreter looks for cycles in all that is left, again and again: after a
    # build with many files, for a tenth of a second that nobody has anything of.
    gc.freeze()
    return status


@contextmanager
def console(
    options: LogOptions, stream: TextIO | None = None, *, trace: Trace | None = None
) -> Iterator[Progress]:
    """Show progress as *options* say while the block lasts; on stderr unless *stream* is given.

    ::

        with console(log) as progress:
            build(…, progress=progress)

    Where *trace* says what the block is, and the environment asks for it, it is traced, too.
    """
    stream = stream or sys.stderr
    with open_console(options, stream, _terminal(stream)) as progress:
        if trace is None:
            yield progress
        else:
            with traced(progress, trace, os.environ) as both:
                yield both


def _terminal(stream: TextIO | None) -> Terminal:
    """Find out what *stream* can do, and what the user wants (https://no-color.org)."""
    try:
        live = stream is not None and stream.isatty() and os.environ.get("TERM") not in _DUMB
    except ValueError:
        live = False  # closed
    return Terminal(color=live and not os.environ.get("NO_COLOR"), live=live)


def _invoke(app: typer.Typer, command: Any, argv: Sequence[str], name: str) -> int:
    """Run the command that *argv* asks for; raise KanikoError for what typer complains about."""
    words = go_booleans(argv, *spellings_of(command))
    everything = partial(typer.main.get_command, app)
    _tell(Called(name, command, words, os.environ, everything), argv)
    columns = min(shutil.get_terminal_size().columns, WIDEST)
    width = max(columns - 2, _NARROWEST)
    try:
        with command.make_context(name, words, terminal_width=width) as context:
            command.invoke(context)
    except typer.Exit as ended:
        return ended.exit_code
    except _ClickError as error:
        raise _explained(error, name) from error
    return 0


def _tell(called: Called, argv: Sequence[str]) -> None:
    """Show what the user should know before anything else."""
    options = _log_options(called.command, argv)
    told = list(notices(called, argv, details=wants_details(options)))
    if told:
        with console(options) as progress:
            for notice in told:
                progress(notice)


def _explained(error: Any, name: str) -> UsageError:
    """Return a complaint of typer's as one of ours."""
    option = getattr(error, "option_name", None)
    if option is None or not hasattr(error, "possibilities"):
        message = error.format_message().rstrip(".")
        return UsageError(message[:1].lower() + message[1:], hint=f"{name} --help tells more")
    known = [
        spelling
        for parameter in error.ctx.command.params
        for spelling in parameter.opts
        if not getattr(parameter, "hidden", False)
    ]
    close = difflib.get_close_matches(option, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"{name} --help lists all options"
    return UsageError(f"no such option {option}", hint=hint)


# --- ends ----------------------------------------------------------------------------------


@contextmanager
def _ended_by(*numbers: signal.Signals) -> Iterator[None]:
    """Let signals that would end the program at once raise, so that everything is cleared away."""

    def end(number: int, _: object) -> None:
        for other in before:
            # Asking twice would only interrupt the clearing away.
            signal.signal(other, signal.SIG_IGN)
        raise _Ended(number)

    # One that is ignored, as under nohup, stays so.
    before = [n for n in numbers if signal.getsignal(n) is signal.SIG_DFL]
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in before:
            signal.signal(number, signal.SIG_DFL)


def _report(command: Any, argv: Sequence[str], error: BaseException) -> int:
    """Tell on stderr why the program ends, and return its exit status."""
    options = _log_options(command, argv)
    failure, status = _described(error, details=wants_details(options))
    renderer(options, sys.stderr, _terminal(sys.stderr)).fail(failure)
    return status


def _described(error: BaseException, *, details: bool) -> tuple[Failure, int]:
    notes = tuple(getattr(error, "__notes__", ()))
    text = "".join(traceback.format_exception(error)) if details else ""
    match error:
        case KanikoError():
            return Failure(str(error), error.hint, notes), error.exit_status
        case _Ended():
            return Failure("interrupted", None, notes), _BY_SIGNAL + error.number
        case KeyboardInterrupt():
            return Failure("interrupted", None, notes), _BY_SIGNAL + signal.SIGINT
        case MemoryError():
            return Failure("there is not enough memory", None, notes), 1
        case OSError(filename=str() | bytes() | os.PathLike() as path):
            known = disk_error(error, "use", os.fsdecode(path))
            return Failure(str(known), known.hint, notes), 1
        case OSError():
            message = f"the system refused something: {reason_of(error)}"
            hint = None if details else "--verbosity=debug shows where"
            return Failure(message, hint, notes, text), 1
        case _:
            message = f"unexpected {type(error).__name__}: {error}"
            hint = "report it" if details else "run again with --verbosity=debug and report it"
            return Failure(message, f"this is a bug; {hint}", notes, text), 1


def _log_options(command: Any, argv: Sequence[str]) -> LogOptions:
    """Return what *argv*, or the environment, says of logs, however wrong the rest of it is."""
    switches, valued = spellings_of(command)
    try:
        words = go_booleans(argv, switches, valued)
    except UsageError:
        words = go_booleans(argv, {}, valued)
    given = {name: value for name, _, value in (word.partition("=") for word in words)}

    def said(flag: str) -> str:
        return given.get(flag) or os.environ.get(variable_of(flag).name, "")

    options = LogOptions(log_timestamp=boolean(said("--log-timestamp")) is True)
    with suppress(ValueError):
        options = replace(options, log_format=LogFormat(said("--log-format").lower()))
    with suppress(ValueError):
        options = replace(options, verbosity=Verbosity(said("--verbosity").lower()))
    return options


def _broken(stream: TextIO | None) -> bool:
    """Whether what was written to *stream* cannot reach anybody; then it is left alone."""
    try:
        _flush(stream)
        if stream is None or not _unread(stream):
            return False
    except (OSError, ValueError):
        pass
    if stream is not None:
        silence(stream)
    return True


def _unread(stream: TextIO) -> bool:
    """Whether *stream* is a pipe that nobody reads: what a failed write held may be gone."""
    watched = select.poll()
    try:
        watched.register(stream, 0)
    except (OSError, ValueError):
        return False  # no file at all
    return any(event & select.POLLERR for _, event in watched.poll(0))


def _flush(stream: TextIO | None) -> None:
    if stream is not None:
        stream.flush()
