"""The sandbox server: a single-threaded process that owns the mounts of a build.

The builder has threads, so it can neither enter namespaces nor fork safely. This process can:

    keeper    unshares user (where needed), mount and PID namespace, then only waits
    └── server    process 1 of that PID namespace: serves requests, mounts, forks
        └── init      one per running command, process 1 of the command's own namespaces

It ends when the builder does, however that ends, and the kernel then ends everything below
it. Its mounts are in a namespace of its own and disappear with it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from errno import EINVAL
from select import POLLIN, poll

from kaniko_core import linux
from kaniko_core.sandbox.command import Channels, run_init
from kaniko_core.sandbox.mounting import (
    Root,
    mount_root,
    remove_tree,
    try_lower,
    try_overlay,
    unmount_root,
)
from kaniko_core.sandbox.wire import Socket, described, receive, send, unpack_request

TYPE_CHECKING = False  # typing's own constant would cost an import of typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from kaniko_core.sandbox.wire import MountRequest, RunRequest

_SIGKILL = 9
# All ids that a file of an image may have in practice; `nobody` is 65534.
_IDS = 65535


class Running:
    """A command that runs."""

    def __init__(self, pid: int, reply: Socket, scratch: str) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.reply = reply
        self.scratch = scratch


class Server:
    """Answers requests until the builder is gone.

    Args:
        control: where requests come from.
        builder: a pidfd of the builder.
        directory: an empty directory; only the server will see what is in it.
        userxattr: whether overlays keep their notes in ``user.`` attributes.
    """

    def __init__(self, control: Socket, builder: int, directory: str, *, userxattr: bool) -> None:
        self._control = control
        self._builder = builder
        self._directory = directory
        self._userxattr = userxattr
        self._roots: dict[int, Root] = {}
        self._running: dict[int, Running] = {}  # by each of the two descriptors to watch
        self._count = 0
        self._poll = poll()
        self._pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY)

    def serve(self) -> None:
        """Serve until the builder closes its socket or ends."""
        self._poll.register(self._control.fileno(), POLLIN)
        self._poll.register(self._builder, POLLIN)
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._builder:
                    return
                if fd == self._control.fileno():
                    if not self._accept():
                        return
                elif (running := self._running.get(fd)) is not None:
                    if fd == running.pidfd:
                        self._finish(running)
                    else:
                        self._abandon(running)

    def _accept(self) -> bool:
        message, fds = receive(self._control)
        if not message:
            return False
        reply = Socket(fileno=fds[0])
        name, request = unpack_request(fds[1])
        kept = False
        try:
            if name == "run":
                self._run(request, Channels(reply, fds[2], fds[3]))
                kept = True
            elif name == "mount":
                self._mount(request, reply)
            elif name == "unmount":
                unmount_root(self._roots.pop(request))
                send(reply, ("done",))
            elif name == "check":
                good = try_lower(request, self._directory, userxattr=self._userxattr)
                send(reply, ("checked", good))
        except OSError as error:
            _tell(reply, ("failed", *described(error)))
        except ValueError:
            # A path with a zero byte, for Python. The other commands of the build go on.
            _tell(reply, ("failed", EINVAL, ""))
        if not kept:
            reply.close()
        for fd in fds[2:]:
            os.close(fd)
        return True

    def _mount(self, request: MountRequest, reply: Socket) -> None:
        self._count += 1
        number = self._count
        root = mount_root(
            f"{self._directory}/{number}", request, self._roots, userxattr=self._userxattr
        )
        self._roots[number] = root
        paths = [root.path] if root.path == root.below else [root.path, root.below]
        fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in paths]
        _tell(reply, ("mounted", number), fds)
        for fd in fds:
            os.close(fd)

    def _run(self, request: RunRequest, channels: Channels) -> None:
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
        running = Running(pid, channels.reply, scratch)
        for fd in (running.pidfd, channels.reply.fileno()):
            self._running[fd] = running
            self._poll.register(fd, POLLIN)

    def _abandon(self, running: Running) -> None:
        """Kill a command whose caller has sent a word, or has gone; _finish follows."""
        self._poll.unregister(running.reply.fileno())
        del self._running[running.reply.fileno()]
        os.kill(running.pid, _SIGKILL)

    def _finish(self, running: Running) -> None:
        """Tell how a command ended; nothing of it is alive."""
        _, status = os.waitpid(running.pid, 0)
        self._poll.unregister(running.pidfd)
        del self._running[running.pidfd]
        if self._running.pop(running.reply.fileno(), None) is not None:
            self._poll.unregister(running.reply.fileno())
        os.close(running.pidfd)
        remove_tree(running.scratch)
        _tell(running.reply, ("ended", os.waitstatus_to_exitcode(status)))
        running.reply.close()


def _tell(reply: Socket, message: tuple[object, ...], fds: Sequence[int] = ()) -> None:
    # Who has stopped listening does not want to know.
    with suppress(BrokenPipeError, ConnectionResetError):
        send(reply, message, fds)


def main(argv: Sequence[str]) -> None:
    """Start a server: the keeper's whole life.

    Args:
        argv: the control socket's and the builder's descriptors, a directory that holds empty
            directories ``mounts`` and ``probe``, and ``plain`` or ``user``.
    """
    control, builder, directory = Socket(fileno=int(argv[0])), int(argv[1]), argv[2]
    user_namespace = argv[3] == "user"
    try:
        flags = linux.CLONE_NEWNS | linux.CLONE_NEWPID
        linux.unshare(flags | linux.CLONE_NEWUSER if user_namespace else flags)
        if user_namespace:
            send(control, ("map",))
            receive(control)
        server = os.fork()
    except OSError as error:
        _tell(control, ("refused", "namespaces", *described(error)))
        return
    if server != 0:
        control.close()
        os.waitpid(server, 0)
        return
    linux.set_parent_death_signal(_SIGKILL)
    answer = _prepare(directory, user_namespace=user_namespace)
    _tell(control, answer)
    if answer[0] == "ready":
        userxattr = answer[1] == "user"
        Server(control, builder, f"{directory}/mounts", userxattr=userxattr).serve()


def _prepare(directory: str, *, user_namespace: bool) -> tuple[Any, ...]:
    """Make the mounts private, and try what a build needs; return what to tell the builder."""
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


def _all_ids(kind: str) -> bool:
    """Return whether files of every usual owner can be made here."""
    covered = 0
    with open(f"/proc/self/{kind}_map") as file:  # noqa: PTH123 - pathlib would slow the start
        for line in sorted(file, key=lambda line: int(line.split()[0])):
            first, _, count = (int(word) for word in line.split())
            if first <= covered:
                covered = max(covered, first + count)
    return covered >= _IDS
