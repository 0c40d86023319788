"""What is said to a sandbox server, and what is waited for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from kaniko_core.errors import SandboxError
from kaniko_core.sandbox import wire
from kaniko_core.sandbox.conversation import Conversation


@dataclass
class _Server:
    """The other end of a control socket, at which nobody answers."""

    control: wire.Socket
    end: wire.Socket

    def stop(self) -> None:
        self.end.close()
        self.control.close()

    def served(self) -> tuple[str, object]:
        """Return the next request, and answer it: it does not matter that nobody listens."""
        _, (reply, memory) = wire.receive(self.end)
        channel = wire.Socket(fileno=reply)
        wire.tell(channel, ("done",))
        channel.close()
        return wire.unpack_request(memory)


@pytest.fixture
def server() -> Iterator[_Server]:
    started = _Server(*wire.channel())
    yield started
    started.stop()


def test_what_is_told_is_not_waited_for_and_served_in_order(server: _Server) -> None:
    conversation = Conversation(server)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3):
        conversation.tell("unmount", number)
    assert [server.served() for _ in range(3)] == [("unmount", number) for number in range(3)]
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_server_that_is_gone_cannot_be_told_anything(server: _Server) -> None:
    conversation = Conversation(server)
    conversation.close()
    with pytest.raises(SandboxError):
        conversation.tell("unmount", 1)
