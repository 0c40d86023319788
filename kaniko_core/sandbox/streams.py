"""The builder's end of a running command: its output, its ending, and giving it up."""

from __future__ import annotations

import os
from collections.abc import Callable
from select import POLLIN, poll
from typing import Self

from kaniko_core.errors import SandboxError
from kaniko_core.sandbox import wire
from kaniko_core.sandbox.failures import Ending

# What a command writes: the bytes as they came, and whether on standard error.
Output = Callable[[bytes, bool], None]

_READ_SIZE = 65536  # bytes; what a pipe holds
_PATIENCE = 10_000  # milliseconds to wait for a killed command


def server_gone() -> SandboxError:
    """Return the error for a server that does not answer."""
    return SandboxError("the sandbox was closed, or its server was killed")


class Streams:
    """The ends of one command's pipes and answers; a context manager that leaves none open."""

    def __init__(self) -> None:
        self._reply, theirs = wire.channel()
        self._server_reply: wire.Socket | None = theirs
        self._stdout, stdout = os.pipe()
        self._stderr, stderr = os.pipe()
        self.server_ends = (theirs.fileno(), stdout, stderr)
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_server_ends()
        try:
            if not self._ended:
                self._give_up()
        finally:
            self._reply.close()
            os.close(self._stdout)
            os.close(self._stderr)

    def close_server_ends(self) -> None:
        """Close the server's ends here, so that only the command holds them."""
        if self._server_reply is not None:
            self._server_reply.close()
            self._server_reply = None
            for fd in self.server_ends[1:]:
                os.close(fd)

    def follow(self, output: Output) -> Ending:
        """Hand on what the command writes until it has ended; return how."""
        ending = Ending()
        watched = poll()
        for fd in (self._stdout, self._stderr, self._reply.fileno()):
            os.set_blocking(fd, False)
            watched.register(fd, POLLIN)
        while not self._ended:
            for fd, _ in watched.poll():
                if fd == self._reply.fileno():
                    ending = self._answer(ending)
                elif not self._hand_on(fd, output):
                    watched.unregister(fd)
        # Nothing that could write is alive now: what is in the pipes is all.
        for fd in (self._stdout, self._stderr):
            while self._hand_on(fd, output):
                pass
        return ending

    def _answer(self, ending: Ending) -> Ending:
        message, _ = wire.receive(self._reply)
        if message:
            self._ended = message[0] == "ended"
            return ending.after(message)
        self._ended = True
        if not ending.word:
            raise server_gone()
        # The server could not even begin, and has said why.
        return ending.after(("ended", 1))

    def _hand_on(self, fd: int, output: Output) -> bool:
        try:
            data = os.read(fd, _READ_SIZE)
        except BlockingIOError:
            return False
        if data:
            output(data, fd == self._stderr)
        return bool(data)

    def _give_up(self) -> None:
        """Have the command killed, and wait until it is."""
        watched = poll()
        watched.register(self._reply.fileno(), POLLIN)
        try:
            wire.send(self._reply, ("cancel",))
            while watched.poll(_PATIENCE):
                message, _ = wire.receive(self._reply)
                if not message or message[0] == "ended":
                    return
        except (BrokenPipeError, ConnectionResetError):
            return  # it had not begun, or the server is gone
