"""The builder's end of the conversation with a sandbox server: requests, from any thread."""

from __future__ import annotations

import os
import threading
from typing import Any, Protocol

from kaniko_core.sandbox import wire
from kaniko_core.sandbox.failures import failure
from kaniko_core.sandbox.runner import Process
from kaniko_core.sandbox.streams import Output, Streams, server_gone


class Partner(Protocol):
    """A server that has started."""

    @property
    def control(self) -> wire.Socket:
        """Where it listens."""

    def stop(self) -> None:
        """End it with everything that runs in it, and wait for that."""


class Conversation:
    """Asks a server, and ends it; every method may be called from several threads at once."""

    def __init__(self, server: Partner) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._open = True

    def ask(self, name: str, request: object) -> tuple[tuple[Any, ...], list[int]]:
        """Return the answer to the request *name*, with its descriptors.

        Raises:
            SandboxError: the server is gone.
        """
        ours, theirs = wire.channel()
        try:
            try:
                self._send(name, request, (theirs.fileno(),))
            finally:
                theirs.close()
            message, fds = wire.receive(ours)
        finally:
            ours.close()
        if not message:
            raise server_gone()
        return message, fds

    def tell(self, name: str, request: object) -> None:
        """Make the request *name*, whose answer nobody waits for.

        It is served before those that come after it.

        Raises:
            SandboxError: the server is gone.
        """
        ours, theirs = wire.channel()
        try:
            self._send(name, request, (theirs.fileno(),))
        finally:
            theirs.close()
            ours.close()

    def run(self, process: Process, request: wire.RunRequest, output: Output) -> None:
        """Run a command, and return when nothing of it is alive any more.

        Args:
            process: for messages: what *request* asks for.
            request: the command, as the server wants it.
            output: called in this thread with what the command writes, as it comes.

        Raises:
            CommandFailed: it ended with another status than 0, or could not be started.
            SandboxError: the kernel refuses something, or the server is gone.
        """
        with Streams() as streams:
            self._send("run", request, streams.server_ends)
            streams.close_server_ends()
            ending = streams.follow(output)
        if ending.status != 0:
            raise failure(process, ending)

    def close(self) -> None:
        """End the server and all that runs in it. Closing twice is allowed."""
        with self._lock:
            if not self._open:
                return
            self._open = False
        self._server.stop()

    def _send(self, name: str, request: object, fds: tuple[int, ...]) -> None:
        reply, *others = fds
        memory = wire.pack_request(name, request)
        try:
            with self._lock:
                if not self._open:
                    raise server_gone()
                wire.send(self._server.control, ("?",), (reply, memory, *others))
        except (BrokenPipeError, ConnectionResetError) as error:
            raise server_gone() from error
        finally:
            os.close(memory)
