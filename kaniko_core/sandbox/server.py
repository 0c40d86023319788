"""The sandbox server: a single-threaded process that owns the commands and mounts of a build.

The builder has threads, so it can neither enter namespaces nor fork safely. This process can:

    keeper    unshares user (where needed), mount and PID namespace, then only waits
    └── server    process 1 of that PID namespace: serves requests, mounts, forks
        └── init      one per running command, process 1 of the command's own namespaces

It ends when the builder does, however that ends, and the kernel then ends everything below
it. Its mounts are in a namespace of its own and disappear with it.

In place the processes are the same, but there are no namespaces: each of the three adopts
orphans, and ends what is left below it when the one below it has ended.
"""

from __future__ import annotations

import os
from errno import EINVAL
from select import POLLIN, poll

from kaniko_core import linux
from kaniko_core.sandbox.command import Channels
from kaniko_core.sandbox.descendants import end_descendants
from kaniko_core.sandbox.sites import InPlace, Roots, prepare_in_place, prepare_roots
from kaniko_core.sandbox.wire import Socket, described, receive, send, tell, unpack_request

TYPE_CHECKING = False  # typing's own constant would cost an import of typing
if TYPE_CHECKING:
    from collections.abc import Sequence

    from kaniko_core.sandbox.sites import Site
    from kaniko_core.sandbox.wire import RunRequest

_SIGKILL = 9


class Running:
    """A command that runs."""

    def __init__(self, pid: int, reply: Socket) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.reply = reply


class Server:
    """Answers requests until the builder is gone.

    Args:
        control: where requests come from.
        builder: a pidfd of the builder.
        site: where commands run.
    """

    def __init__(self, control: Socket, builder: int, site: Site) -> None:
        self._control = control
        self._builder = builder
        self._site = site
        self._running: dict[int, Running] = {}  # by each of the two descriptors to watch
        self._poll = poll()

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
            else:
                self._site.answer(name, request, reply)
        except OSError as error:
            tell(reply, ("failed", *described(error)))
        except ValueError:
            # A path with a zero byte, for Python. The other commands of the build go on.
            tell(reply, ("failed", EINVAL, ""))
        if not kept:
            reply.close()
        for fd in fds[2:]:
            os.close(fd)
        return True

    def _run(self, request: RunRequest, channels: Channels) -> None:
        running = Running(self._site.start(request, channels), channels.reply)
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
        self._site.clear(running.pid)
        tell(running.reply, ("ended", os.waitstatus_to_exitcode(status)))
        running.reply.close()


def main(argv: Sequence[str]) -> None:
    """Start a server: the keeper's whole life.

    Args:
        argv: the control socket's and the builder's descriptors, a directory that holds empty
            directories ``mounts`` and ``probe``, and ``plain`` or ``user``; or any directory
            and ``in-place``.
    """
    control, builder, directory, mode = Socket(fileno=int(argv[0])), int(argv[1]), argv[2], argv[3]
    try:
        _set_apart(control, mode)
        server = os.fork()
    except OSError as error:
        tell(control, ("refused", "namespaces", *described(error)))
        return
    if server != 0:
        control.close()
        os.waitpid(server, 0)
        if mode == "in-place":
            end_descendants()
        return
    linux.set_parent_death_signal(_SIGKILL)
    if mode == "in-place":
        answer = prepare_in_place(directory)
    else:
        answer = prepare_roots(directory, user_namespace=mode == "user")
    tell(control, answer)
    if answer[0] != "ready":
        return
    site = Roots(f"{directory}/mounts", userxattr=answer[1] == "user") if answer[1] else InPlace()
    Server(control, builder, site).serve()


def _set_apart(control: Socket, mode: str) -> None:
    """Make the server's processes a world of their own, as far as the mode goes."""
    if mode == "in-place":
        linux.adopt_orphans()
        return
    flags = linux.CLONE_NEWNS | linux.CLONE_NEWPID
    linux.unshare(flags | linux.CLONE_NEWUSER if mode == "user" else flags)
    if mode == "user":
        send(control, ("map",))
        receive(control)
