"""Mount root file systems and run commands in them, in namespaces that are not the builder's.

    with open_sandbox(work) as sandbox:
        with sandbox.mounted(lowers, upper=upper, work=upper_work) as root:
            sandbox.run(process, root, output)

Everything happens in the sandbox server (``server.py``); this module asks it to. The builder's
own mounts and namespaces stay as they are, so its threads can work meanwhile: every method
here may be called from several threads at once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from errno import E2BIG, EINVAL
from pathlib import Path
from typing import Any, Self

from kaniko_core.errors import DiskError, SandboxError
from kaniko_core.lean import dataclass
from kaniko_core.sandbox.conversation import Conversation
from kaniko_core.sandbox.encode import mount_request, run_request
from kaniko_core.sandbox.runner import Mount, Process
from kaniko_core.sandbox.start import Started, Whiteouts, file_system, start_server
from kaniko_core.sandbox.streams import Output

_LOCAL_NAMES = "127.0.0.1\tlocalhost {}\n::1\tlocalhost ip6-localhost\n"
_LAYER_LIMIT = 450  # the kernel stacks 500


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What sandboxing looks like here.

    Attributes:
        whiteouts: which extended attributes mark opaque directories.
        user_namespace: whether a user namespace is needed.
    """

    whiteouts: Whiteouts
    user_namespace: bool


class Mounted:
    """A mounted root, until it is closed.

    Attributes:
        fd: its directory, open in this process, to be read from.
        below: the same of its lower directories alone, without the upper one.
        number: how :class:`~kaniko_core.sandbox.runner.BindMount` refers to it.
    """

    def __init__(self, sandbox: Sandbox, number: int, fds: tuple[int, int]) -> None:
        self._sandbox = sandbox
        self._open = True
        self.number = number
        self.fd, self.below = fds

    def close(self) -> None:
        """Unmount it; closing twice is allowed."""
        self._close(wait=True)

    def leave(self) -> None:
        """Close it without waiting: it is unmounted before whatever the sandbox is asked next.

        A kernel forgets some hundred thousand files in a second, and who only wants to read the
        upper directory need not know when it is done: nobody writes there any more.
        """
        self._close(wait=False)

    def _close(self, *, wait: bool) -> None:
        if self._open:
            self._open = False
            for fd in {self.fd, self.below}:
                os.close(fd)
            self._sandbox._unmount(self.number, wait=wait)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Sandbox:
    """A running sandbox server."""

    def __init__(self, started: Started) -> None:
        self._started = started
        self._conversation = Conversation(started)

    @property
    def whiteouts(self) -> Whiteouts:
        """Which extended attributes the overlays understand: ``trusted`` or ``user``."""
        return self._started.whiteouts

    def mounted(
        self,
        lowers: Sequence[Path],
        *,
        upper: Path | None = None,
        work: Path | None = None,
        mounts: Sequence[Mount] = (),
        bare: bool = False,
    ) -> Mounted:
        """Mount an overlay of *lowers*, bottom first, and return its open root.

        Args:
            lowers: unpacked layers; none for an empty root.
            upper: where changes go; None for a read-only root. An existing directory, that
                no other mount uses. It gets the mode, owner and times of the root below.
            work: an empty directory beside *upper*, for the kernel; required with it.
            mounts: what a command will find mounted there beside /proc, /sys and /dev.
            bare: nothing will run there: it is to be bound into another root.

        Raises:
            SandboxError: the kernel refuses, or a mount has no possible place.
        """
        if (upper is None) != (work is None):
            raise ValueError("upper and work belong together")
        request = mount_request(lowers, upper, work, mounts, bare=bare)
        message, fds = self._conversation.ask("mount", request)
        if message[0] != "mounted":
            raise _mount_failed(message, len(lowers))
        return Mounted(self, message[1], (fds[0], fds[-1]))

    def check_lower(self, directory: Path) -> None:
        """Make sure that layers unpacked below *directory*, which exists, can be mounted.

        Raises:
            DiskError: they cannot, or *directory* cannot be written to.
        """
        import tempfile

        try:
            with tempfile.TemporaryDirectory(prefix=".tmp-", dir=directory.absolute()) as place:
                message, _ = self._conversation.ask("check", place)
        except OSError as error:
            message = ("failed", error.errno or 0, "")
        if message == ("checked", True):
            return
        reason = f": {os.strerror(message[1])}" if message[0] == "failed" else ""
        kind = file_system(directory)
        raise DiskError(
            f"layers cannot be unpacked in {directory}, which is on {kind or 'an unknown disk'}"
            f"{reason}",
            hint="name a directory on another file system, such as a volume",
        )

    def run(
        self,
        process: Process,
        mounted: Mounted,
        output: Output,
        *,
        hosts: bytes | None = None,
        resolv_conf: bytes | None = None,
    ) -> None:
        """Run *process* in *mounted*, and return when nothing of it is alive any more.

        Args:
            process: the command.
            mounted: its root, with an upper directory if it shall be able to write.
            output: called in this thread with what the command writes, as it comes.
            hosts: the content of its ``/etc/hosts``; None for a copy of ours.
            resolv_conf: the content of its ``/etc/resolv.conf``; None for a copy of ours.

        Raises:
            CommandFailed: it ended with another status than 0, or could not be started.
            SandboxError: the kernel refuses something that the sandbox needs.
        """
        request = run_request(process, mounted.number)
        request["hosts"] = _hosts(process) if hosts is None else hosts
        request["resolv_conf"] = (
            _content(Path("/etc/resolv.conf")) if resolv_conf is None else resolv_conf
        )
        self._conversation.run(process, request, output)

    def close(self) -> None:
        """Kill what runs, unmount everything, end the server. Closing twice is allowed."""
        self._conversation.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _unmount(self, number: int, *, wait: bool) -> None:
        # Without a server there are no mounts; whoever loses it has been told otherwise.
        with suppress(SandboxError):
            if wait:
                self._conversation.ask("unmount", number)
            else:
                self._conversation.tell("unmount", number)


def open_sandbox(directory: Path) -> Sandbox:
    """Start a sandbox whose upper directories will be below *directory*; the caller closes it.

    Raises:
        SandboxError: the kernel does not let us; the hint names the missing right.
        DiskError: *directory* cannot be written to.
    """
    return Sandbox(start_server(directory))


def probe(directory: Path) -> Capabilities:
    """Find out whether sandboxing works with upper directories below *directory*, by trying.

    Raises:
        SandboxError: it does not; the message and the hint say why.
        DiskError: *directory* cannot be written to.
    """
    started = start_server(directory)
    started.stop()
    return Capabilities(started.whiteouts, started.user_namespace)


def _mount_failed(message: Sequence[Any], layers: int) -> SandboxError:
    number, path = message[1], message[2]
    if layers > _LAYER_LIMIT and number in (EINVAL, E2BIG):
        return SandboxError(f"{layers} layers are more than the kernel can stack")
    return SandboxError(f"a root cannot be mounted: {path}: {os.strerror(number)}")


def _hosts(process: Process) -> bytes:
    """Return the host names for *process*: ours where it shares our network."""
    local = _LOCAL_NAMES.format(process.hostname).encode()
    return _content(Path("/etc/hosts")) + local if process.network else local


def _content(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return b""
    return data if data.endswith(b"\n") or not data else data + b"\n"
