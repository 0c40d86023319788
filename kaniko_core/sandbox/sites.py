"""Where the sandbox server runs commands: in roots that it mounts, or in place.

Both start a process that ends with its command's status, and see to it that nothing of the
command is alive when its end is told.
"""

from __future__ import annotations

import os

from kaniko_core import linux
from kaniko_core.sandbox.command import Channels, run_in_place, run_init
from kaniko_core.sandbox.descendants import end_descendants
from kaniko_core.sandbox.mounting import (
    Root,
    mount_root,
    remove_tree,
    try_lower,
    try_overlay,
    unmount_root,
)
from kaniko_core.sandbox.wire import Socket, described, send, tell

TYPE_CHECKING = False  # typing's own constant would cost an import of typing
if TYPE_CHECKING:
    from typing import Any, Protocol

    from kaniko_core.sandbox.wire import MountRequest, RunRequest

    class Site(Protocol):
        """Where commands run."""

        def start(self, request: RunRequest, channels: Channels) -> int:
            """Start a command, and return the process that will end with its status."""

        def clear(self, pid: int) -> None:
            """Remove what is left of the command whose process *pid* was, now that it ended."""

        def answer(self, name: str, request: Any, reply: Socket) -> None:
            """Answer any request but one to run a command."""


# All ids that a file of an image may have in practice; `nobody` is 65534.
_IDS = 65535


class Roots:
    """Commands each in a mounted root, with namespaces of their own.

    Args:
        directory: an empty directory; only the server will see what is in it.
        userxattr: whether overlays keep their notes in ``user.`` attributes.
    """

    def __init__(self, directory: str, *, userxattr: bool) -> None:
        self._directory = directory
        self._userxattr = userxattr
        self._roots: dict[int, Root] = {}
        self._scratch: dict[int, str] = {}  # by the process of a command
        self._count = 0
        self._pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY)

    def start(self, request: RunRequest, channels: Channels) -> int:
        """Start a command; its process is the first of a PID namespace, which ends with it."""
        self._count += 1
        scratch = f"{self._directory}/run-{self._count}"
        os.mkdir(scratch, 0o700)  # noqa: PTH102 - pathlib would slow the start
        linux.unshare(linux.CLONE_NEWPID)
        try:
            pid = os.fork()
            if pid == 0:
                run_init(request, self._roots, scratch, channels)
        finally:
            # unshare was about the children to come; this takes it back.
            linux.setns(self._pid_namespace, linux.CLONE_NEWPID)
        self._scratch[pid] = scratch
        return pid

    def clear(self, pid: int) -> None:
        """Remove what was mounted for the command alone."""
        remove_tree(self._scratch.pop(pid))

    def answer(self, name: str, request: Any, reply: Socket) -> None:
        """Mount, unmount, or try something.

        Raises:
            OSError: the kernel refuses.
        """
        if name == "mount":
            self._mount(request, reply)
        elif name == "unmount":
            unmount_root(self._roots.pop(request))
            tell(reply, ("done",))
        elif name == "check":
            good = try_lower(request, self._directory, userxattr=self._userxattr)
            send(reply, ("checked", good))

    def _mount(self, request: MountRequest, reply: Socket) -> None:
        self._count += 1
        number = self._count
        root = mount_root(
            f"{self._directory}/{number}", request, self._roots, userxattr=self._userxattr
        )
        self._roots[number] = root
        paths = [root.path] if root.path == root.below else [root.path, root.below]
        fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in paths]
        tell(reply, ("mounted", number), fds)
        for fd in fds:
            os.close(fd)


class InPlace:
    """Commands in the root, and among the processes, of the server itself."""

    def __init__(self) -> None:
        self._running: set[int] = set()

    def start(self, request: RunRequest, channels: Channels) -> int:
        """Start a command; its process adopts what the command leaves behind, and ends that."""
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            run_in_place(request, server, channels)
        self._running.add(pid)
        return pid

    def clear(self, pid: int) -> None:
        """End what is left of a command whose process was killed: it is ours now."""
        self._running.remove(pid)
        end_descendants(spared=self._running)

    def answer(self, name: str, request: Any, reply: Socket) -> None:
        """Leave *reply* without an answer: there is nothing to ask for."""


def prepare_roots(directory: str, *, user_namespace: bool) -> tuple[Any, ...]:
    """Make the mounts private, and try what a build needs; return what to tell the builder.

    Args:
        directory: holds the empty directories ``mounts`` and ``probe``.
        user_namespace: whether this process is in one of its own.
    """
    if os.geteuid() != 0 or not (_all_ids("uid") and _all_ids("gid")):
        return ("refused", "ids", 0, "")
    step = "mount"
    try:
        linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
        linux.mount("tmpfs", f"{directory}/mounts", "tmpfs", 0, "mode=700")
        step = "overlay"
        kinds = ("user",) if user_namespace else ("trusted", "user")
        for kind in kinds:
            place = f"{directory}/probe/{kind}"
            os.mkdir(place)  # noqa: PTH102 - pathlib would slow the start
            try:
                whiteout = try_overlay(place, userxattr=kind == "user")
            except PermissionError:
                if kind == kinds[-1]:
                    raise
                continue  # a user namespace's root may not write trusted attributes
            return ("ready", kind) if whiteout else ("refused", "whiteout", 0, "")
        raise AssertionError
    except OSError as error:
        return ("refused", step, *described(error))


def prepare_in_place(directory: str) -> tuple[Any, ...]:
    """Adopt orphans, and move out of the root's way; return what to tell the builder.

    Args:
        directory: what stays where it is during the build.
    """
    try:
        linux.adopt_orphans()
        # What a process writes where it happens to be, such as a core, is not for the image.
        os.chdir(directory)
        os.stat("/proc/self/stat")
    except OSError as error:
        return ("refused", "place", *described(error))
    return ("ready", "")


def _all_ids(kind: str) -> bool:
    """Return whether files of every usual owner can be made here."""
    covered = 0
    with open(f"/proc/self/{kind}_map") as file:  # noqa: PTH123 - pathlib would slow the start
        for line in sorted(file, key=lambda line: int(line.split()[0])):
            first, _, count = (int(word) for word in line.split())
            if first <= covered:
                covered = max(covered, first + count)
    return covered >= _IDS
