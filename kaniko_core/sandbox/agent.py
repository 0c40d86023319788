"""A private ``ssh-agent`` that holds keys as long as a build needs them.

    builder ── pipe ──▶ watcher ── parent of ──▶ ssh-agent, on its socket

Started with a command, ``ssh-agent`` lives as long as that command. Ours does nothing but wait
for the end of its standard input, which comes when the builder closes it or ends, however it
ends; so no agent outlives its build.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from kaniko_core.errors import SandboxError, UsageError, reason_of
from kaniko_core.home import interpreter, program

_WATCH = "import os, sys; print(os.environ['SSH_AGENT_PID'], flush=True); sys.stdin.read()"
_PROGRAMS = ("ssh-agent", "ssh-add")
_INSTALL = "install openssh-client, or name the socket of an agent that runs"
# Bytes of a key file; the largest real ones have some thousands.
_LARGEST_KEY = 1 << 20
_PATIENCE = 10.0  # seconds


class KeyAgent:
    """A running agent; closing it ends it, and its keys are gone."""

    def __init__(self, watcher: subprocess.Popen[bytes], socket: Path, adder: str) -> None:
        self._watcher = watcher
        self._agent: int | None = None
        self._adder = adder
        self.socket = socket

    def wait(self) -> None:
        """Wait until the agent listens."""
        assert self._watcher.stdout is not None
        line = self._watcher.stdout.readline()
        if not line:
            raise SandboxError("ssh-agent did not start", hint=_INSTALL)
        with suppress(ProcessLookupError):
            self._agent = os.pidfd_open(int(line))

    def add(self, key: bytes, path: Path) -> None:
        """Give the agent a private key, which came from *path*.

        Raises:
            UsageError: it is none, or has a passphrase.
        """
        environment = {"SSH_AUTH_SOCK": self.socket.name, "SSH_ASKPASS_REQUIRE": "never"}
        try:
            # From its standard input, because a file that others may read is refused, and in a
            # pod the files of secrets often are such.
            subprocess.run(
                [self._adder, "-q", "-"],
                check=True,
                input=key if key.endswith(b"\n") else key + b"\n",
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=self.socket.parent,
                env=environment,
                start_new_session=True,  # without a terminal to ask for a passphrase
                timeout=_PATIENCE,
            )
        except (subprocess.SubprocessError, OSError) as error:
            raise UsageError(
                f"the SSH key {path} cannot be used: it is no private key, or has a passphrase",
                hint="name a key without a passphrase, or the socket of an agent that has it",
            ) from error

    def close(self) -> None:
        """End the agent; closing twice is allowed."""
        if self._agent is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._agent, signal.SIGTERM)
            os.close(self._agent)
            self._agent = None
        # Its standard input ends here, and it with that.
        self._watcher.communicate()
        self.socket.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start_agent(socket: Path, keys: Sequence[Path]) -> KeyAgent:
    """Start an agent with *keys* that listens at the new file *socket*; the caller closes it.

    Raises:
        UsageError: a key cannot be read or used.
        SandboxError: ``ssh-agent`` is not installed, or does not start.
    """
    contents = [_read(path) for path in keys]
    agent, adder = (program(name) for name in _PROGRAMS)
    if agent is None or adder is None:
        raise SandboxError(
            "SSH keys need the programs ssh-agent and ssh-add, which are not installed here",
            hint=_INSTALL,
        )
    try:
        watcher = subprocess.Popen(
            [agent, "-a", socket.name, *interpreter(), "-I", "-S", "-c", _WATCH],
            # The name of a socket must not be long: unix(7).
            cwd=socket.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            # Ctrl-C is for the builder, which then ends the agent in good order.
            start_new_session=True,
        )
    except OSError as error:
        raise SandboxError(f"ssh-agent cannot be started: {reason_of(error)}") from error
    running = KeyAgent(watcher, socket, adder)
    try:
        running.wait()
        for path, content in zip(keys, contents, strict=True):
            running.add(content, path)
    except BaseException:
        running.close()
        raise
    return running


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_KEY + 1)
    except OSError as error:
        raise UsageError(f"the SSH key {path} cannot be read: {reason_of(error)}") from error
    if len(content) > _LARGEST_KEY:
        raise UsageError(f"{path} is too large for an SSH key")
    return content
