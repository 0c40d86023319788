"""SSH agents that commands may talk to: those of the user, or one that holds the user's keys.

    command ── its own socket ──▶ relay, a thread of ours ──▶ the agent's socket

An agent serves only its own user and root, and its socket has one owner; a command may run as
anybody. So each mount gets a socket of its own, with the owner and mode that it asks for.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import field
from pathlib import Path
from select import POLLIN, poll

from kaniko_core.errors import UsageError, disk_errors, reason_of
from kaniko_core.lean import dataclass
from kaniko_core.sandbox.agent import start_agent
from kaniko_core.values import SshAgent

_READ_SIZE = 65536  # bytes
_WAITING = 16  # connections that are not accepted yet
_PATIENCE = 10.0  # seconds for an end that does not take what the other one says


@dataclass(frozen=True, slots=True)
class Agents:
    """The sockets of agents, by id."""

    sockets: Mapping[str, Path] = field(default_factory=dict)

    @contextmanager
    def offered(
        self, id_: str, directory: Path, *, mode: int, owner: tuple[int, int]
    ) -> Iterator[Path]:
        """Yield a new socket that leads to the agent as long as the block lasts.

        Args:
            id_: one of ``sockets``.
            directory: where the socket is to be made; it is made itself.
            mode: permission bits of the socket.
            owner: its user and group.

        Raises:
            DiskError: the socket cannot be made there.
        """
        with disk_errors("make a socket for an SSH agent in", directory):
            directory.mkdir(mode=0o700)
            path = directory / "agent"
            relay = _Relay(path, self.sockets[id_])
            try:
                os.chown(path, *owner)
                path.chmod(mode)
            except OSError:
                relay.close()
                raise
        try:
            yield path
        finally:
            relay.close()


@contextmanager
def open_agents(given: Sequence[SshAgent], directory: Path) -> Iterator[Agents]:
    """Find the sockets, and start an agent for each set of keys; those end with the block.

    Args:
        given: what the user named; of two with one id, the later one counts.
        directory: where sockets of new agents are made; it is made itself if need be.

    Raises:
        UsageError: there is no such agent, or a key cannot be used.
        SandboxError: keys are given and there is no ``ssh-agent``.
    """
    wanted = {agent.id: agent for agent in given}
    with ExitStack() as stack:
        sockets: dict[str, Path] = {}
        for number, agent in enumerate(wanted.values()):
            if not agent.paths:
                raise UsageError(
                    f"there is no SSH agent to forward as {agent.id}: SSH_AUTH_SOCK is not set",
                    hint=f"start one with ssh-agent, or name a key with --ssh {agent.id}=FILE",
                )
            if _is_socket(agent):
                sockets[agent.id] = agent.paths[0].absolute()
                continue
            with disk_errors("make a socket for an SSH agent in", directory):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            started = start_agent(directory / f"keys-{number}", agent.paths)
            sockets[agent.id] = stack.enter_context(started).socket
        yield Agents(sockets)


def _is_socket(agent: SshAgent) -> bool:
    found = []
    for path in agent.paths:
        try:
            found.append(stat.S_ISSOCK(path.stat().st_mode))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"the SSH agent or key {path} cannot be used: {reason_of(error)}",
                hint="name an agent's socket, or files of private keys",
            ) from error
    if any(found) and len(found) > 1:
        raise UsageError(
            f"the SSH agent {agent.id} has a socket and something else",
            hint="name one socket, or files of private keys only",
        )
    return found[0]


class _Relay:
    """Hands everything on between connections to a new socket, and connections to *agent*."""

    def __init__(self, path: Path, agent: Path) -> None:
        self._agent = agent
        self._peers: dict[int, tuple[socket.socket, socket.socket]] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short(path) as name:
                self._listener.bind(name)
            self._listener.listen(_WAITING)
        except OSError:
            self._listener.close()
            raise
        self._stopped, self._stop = os.pipe()
        self._watched = poll()
        for fd in (self._listener.fileno(), self._stopped):
            self._watched.register(fd, POLLIN)
        self._thread = threading.Thread(target=self._serve, name="ssh-agent", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End every connection, and wait until nothing of it runs."""
        os.close(self._stop)
        self._thread.join()
        for ours, _ in list(self._peers.values()):
            ours.close()
        self._listener.close()
        os.close(self._stopped)

    def _serve(self) -> None:
        while True:
            for fd, _ in self._watched.poll():
                if fd == self._stopped:
                    return
                if fd == self._listener.fileno():
                    self._accept()
                elif fd in self._peers:
                    self._hand_on(*self._peers[fd])

    def _accept(self) -> None:
        agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        command, _ = self._listener.accept()
        for end in (command, agent):
            end.settimeout(_PATIENCE)
        try:
            with _short(self._agent) as name:
                agent.connect(name)
        except OSError:
            # The command is told as if there were no agent.
            command.close()
            agent.close()
            return
        for end, other in ((command, agent), (agent, command)):
            self._peers[end.fileno()] = (end, other)
            self._watched.register(end.fileno(), POLLIN)

    def _hand_on(self, end: socket.socket, other: socket.socket) -> None:
        data = b""
        with suppress(OSError):
            data = end.recv(_READ_SIZE)
            other.sendall(data)
            if data:
                return
        for item in (end, other):
            self._watched.unregister(item.fileno())
            del self._peers[item.fileno()]
            item.close()


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Yield another name of *path* for a socket, whose name must not be long."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
