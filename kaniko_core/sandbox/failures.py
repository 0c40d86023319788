"""How a command ended, and the sentence for it."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Sequence
from dataclasses import replace
from errno import EACCES, ENOENT, ENOEXEC, ENOTDIR, EROFS
from typing import Any

from kaniko_core.errors import CommandFailed, KanikoError, SandboxError
from kaniko_core.lean import dataclass
from kaniko_core.sandbox.runner import Process

# A command in a message is for recognising it; the Dockerfile has all of it.
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Ending:
    """What the server told about a command's end.

    Attributes:
        status: what the first process of its namespaces exited with; negative for a signal.
        signal: the one that ended the command, or 0.
        word: what could not be done before it ran: ``failed``, ``cannot become``, ``cannot
            enter``, ``cannot execute``, or nothing.
        number: errno of that.
        path: the file that *word* is about, or nothing.
    """

    status: int = 0
    signal: int = 0
    word: str = ""
    number: int = 0
    path: str = ""

    def after(self, message: Sequence[Any]) -> Ending:
        """Return what is known once *message* has been heard, too."""
        word, *values = message
        match word:
            case "ended":
                return replace(self, status=values[0])
            case "signal":
                return replace(self, signal=values[0])
            case _:
                return replace(self, word=word, number=values[0], path=values[1])


def failure(process: Process, ending: Ending) -> KanikoError:
    """Return the error for a command that did not end with status 0."""
    command = shown(process.argv)
    status = ending.status if ending.status >= 0 else 128 - ending.status
    if ending.word == "cannot execute":
        return _not_executed(process, ending, status)
    reason = os.strerror(ending.number)
    if ending.word == "cannot become":
        return SandboxError(
            f"the command {command} cannot be run as user {process.uid} and group {process.gid}: "
            f"{reason}",
            hint="the builder needs the capabilities SETUID, SETGID and SETPCAP, which "
            "containers have unless they are dropped",
        )
    if ending.word == "cannot enter":
        return CommandFailed(
            f"the command {command} cannot start in the directory {process.cwd}: {reason}",
            argv=process.argv,
            exit_status=status,
            hint="user and working directory do not fit; see USER and WORKDIR",
        )
    if ending.word:
        where = f" at {ending.path}" if ending.path else ""
        text = f"the root for the command {command} cannot be made{where}: {reason}"
        inside = "a mount inside another needs a place there: make it, or mount the outer one rw"
        return SandboxError(text, hint=inside if ending.number == EROFS else None)
    number = ending.signal or max(-ending.status, 0)
    if not number:
        text = f"the command {command} ended with exit status {status}"
        return CommandFailed(text, argv=process.argv, exit_status=status)
    return CommandFailed(
        f"the command {command} was ended by signal {number} ({_signal_name(number)})",
        argv=process.argv,
        exit_status=status,
        hint="the kernel does this when memory is short" if number == signal.SIGKILL else None,
    )


def _not_executed(process: Process, ending: Ending, status: int) -> CommandFailed:
    program = process.argv[0]
    hint = None
    if not ending.path:
        text = f"{program} is not in the image"
        if "/" not in program:
            text = f"{program} is not in any directory of PATH in the image"
        elif program.endswith("sh"):
            hint = "RUN needs a shell for a command that is not a JSON list; see also SHELL"
    elif ending.number in (ENOENT, ENOTDIR):
        text = f"{ending.path} cannot be executed: its interpreter or loader is not in the image"
        hint = "look at its first line (#!), or whether it was linked for another C library"
    elif ending.number == ENOEXEC:
        text = f"{ending.path} cannot be executed: it is no program for this machine"
        hint = "it was built for another platform, or is a script whose first line lacks #!"
    elif ending.number == EACCES:
        text = f"{ending.path} may not be executed by this user"
        hint = "its mode lacks an x, or it is no file; see chmod and COPY --chmod"
    else:
        text = f"{ending.path} cannot be executed: {os.strerror(ending.number)}"
    return CommandFailed(text, argv=process.argv, exit_status=status, hint=hint)


def shown(argv: Sequence[str]) -> str:
    """Return the command for a message: on one line, and not too long."""
    words = argv[2:] if len(argv) == 3 and argv[1] == "-c" else argv
    text = " ".join(words) if len(words) == 1 else shlex.join(words)
    lines = text.strip().splitlines() or [""]
    text = lines[0]
    if len(lines) > 1 or len(text) > _SHOWN:
        text = text[:_SHOWN] + " …"
    return f"`{text}`"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "a real-time signal"
