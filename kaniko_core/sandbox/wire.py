"""What the builder and its sandbox server say to each other.

    builder                                            server
      control socket   reply socket, memfd, pipes…     ─▶      one message per request
      reply socket     (word, values…), descriptors    ◀─      one or more answers
                       ("cancel",), or closed          ─▶      the request is given up

A request lies in a memfd, because a socket would limit its size: the script of a here-document
is an argument of the command. Both ends run the same Python, so ``marshal`` is the quickest
codec, and costs the server no import. This module imports next to nothing for the same reason.
"""

from __future__ import annotations

import marshal
import os
from _socket import (
    AF_UNIX,
    CMSG_SPACE,
    MSG_CMSG_CLOEXEC,
    SCM_RIGHTS,
    SOCK_CLOEXEC,
    SOCK_SEQPACKET,
    SOL_SOCKET,
    socket,
    socketpair,
)
from contextlib import suppress
from struct import pack, unpack

TYPE_CHECKING = False  # typing's own constant would cost an import of typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypedDict

    class ExtraMount(TypedDict):
        """A mount beside the standard ones: *kind* is bind, tmpfs or file.

        *root* is the number of a mounted root that *source* is in; -1 for the path *base*.
        """

        kind: str
        target: bytes
        root: int
        base: bytes
        source: bytes
        writable: bool
        data: bytes
        mode: int
        uid: int
        gid: int
        size: int

    class MountRequest(TypedDict):
        """Mount an overlay; *lowers* bottom first, *mounts* those at ``/a`` before ``/a/b``.

        *bare* leaves out the mount points of what every command finds.
        """

        lowers: list[bytes]
        upper: bytes | None
        work: bytes | None
        mounts: list[ExtraMount]
        bare: bool

    class RunRequest(TypedDict):
        """Run a command in the mounted root with the number *root*."""

        root: int
        argv: list[bytes]
        env: list[bytes]
        cwd: bytes
        uid: int
        gid: int
        groups: list[int]
        network: bool
        hostname: str
        privileged: bool
        hosts: bytes
        resolv_conf: bytes


# The class behind socket.socket: importing that module would cost a quarter of the start.
Socket = socket

_MAX_MESSAGE = 65536
_MAX_FDS = 8


def channel() -> tuple[Socket, Socket]:
    """Return two connected sockets that keep the bounds of messages."""
    # The C function is documented in socket, which gives the ends its own class.
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)


def send(end: Socket, message: tuple[Any, ...], fds: Sequence[int] = ()) -> None:
    """Send *message* with copies of *fds*, all at once or not at all.

    Raises:
        OSError: EPIPE or ECONNRESET when the other end is gone.
    """
    rights = [(SOL_SOCKET, SCM_RIGHTS, pack(f"{len(fds)}i", *fds))] if fds else []
    end.sendmsg([marshal.dumps(message)], rights)


def tell(end: Socket, message: tuple[Any, ...], fds: Sequence[int] = ()) -> None:
    """Send *message*, unless the other end is gone: who does not listen does not want to know."""
    with suppress(BrokenPipeError, ConnectionResetError):
        send(end, message, fds)


def receive(end: Socket) -> tuple[tuple[Any, ...], list[int]]:
    """Wait for a message; return it with its close-on-exec descriptors, ``()`` at the end."""
    try:
        data, rights, _, _ = end.recvmsg(_MAX_MESSAGE, CMSG_SPACE(_MAX_FDS * 4), MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return (), []
    fds: list[int] = []
    for level, kind, packed in rights:
        if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
            fds.extend(unpack(f"{len(packed) // 4}i", packed))
    return (marshal.loads(data) if data else ()), fds


def pack_request(name: str, request: Any) -> int:
    """Return a memfd that holds the request; the caller closes it."""
    fd = os.memfd_create("kaniko-request", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "wb") as file:
        marshal.dump((name, request), file)
    return fd


def unpack_request(fd: int) -> tuple[str, Any]:
    """Read what :func:`pack_request` wrote, and close *fd*."""
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        name, request = marshal.load(file)
        return name, request


def described(error: OSError) -> tuple[int, str]:
    """Return *error* as a part of a message: its number and the path it was about, or nothing."""
    path = "" if error.filename is None else os.fsdecode(error.filename)
    return error.errno or 0, path
