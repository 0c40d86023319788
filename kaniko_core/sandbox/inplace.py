"""Run commands in place: in the very root, and among the processes, that the builder has.

For containers without any privilege. There are no namespaces, so a command sees the builder and
can harm it; but nothing of it outlives it (``descendants.py``), whatever it starts.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Self

from kaniko_core.errors import SandboxError
from kaniko_core.lean import dataclass
from kaniko_core.sandbox import wire
from kaniko_core.sandbox.conversation import Conversation
from kaniko_core.sandbox.encode import run_request
from kaniko_core.sandbox.runner import Process
from kaniko_core.sandbox.start import Refusal, explained, launch
from kaniko_core.sandbox.streams import Output

_NO_ROOT = 0  # commands in place have no root that would need a number


@dataclass(frozen=True)
class _Started:
    """A server that is ready."""

    process: subprocess.Popen[bytes]
    control: wire.Socket

    def stop(self) -> None:
        """End the server with everything that runs below it, and wait for that."""
        self.control.close()
        self.process.wait()


class InPlaceRunner:
    """A running server that starts commands; every method may be called from several threads."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    def run(self, process: Process, output: Output) -> None:
        """Run *process*, and return when nothing of it is alive any more.

        Its host name and the network are the container's own, and a privileged one has the
        rights that the builder has.

        Args:
            process: the command.
            output: called in this thread with what the command writes, as it comes.

        Raises:
            CommandFailed: it ended with another status than 0, or could not be started.
            SandboxError: it needs what cannot be had in place, or the server is gone.
        """
        if not process.network:
            raise SandboxError(
                "RUN --network=none cannot be had in place: the command would share the network "
                "of the builder",
                hint="build where sandbox mode works, or leave --network=none out",
            )
        self._conversation.run(process, run_request(process, _NO_ROOT), output)

    def close(self) -> None:
        """Kill what runs, and end the server. Closing twice is allowed."""
        self._conversation.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_in_place(directory: Path) -> InPlaceRunner:
    """Start a server that runs commands in place; the caller closes it.

    Args:
        directory: one that stays where it is meanwhile: that of the build.

    Raises:
        SandboxError: the kernel does not let us.
    """
    process, control = launch(directory.absolute(), "in-place")
    message, _ = wire.receive(control)
    started = _Started(process, control)
    if not message or message[0] != "ready":
        started.stop()
        raise explained(Refusal(*(message[1:] or ("start", 0, ""))), directory)
    return InPlaceRunner(Conversation(started))
