"""What a command is, and what it finds mounted."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path

from kaniko_core.lean import dataclass

DEFAULT_HOSTNAME = "kaniko"


@dataclass(frozen=True, slots=True)
class Process:
    """A command of a RUN instruction, with everything it needs to know.

    Attributes:
        argv: the program and its arguments; a bare name is looked up on ``PATH`` of *env*,
            inside the root.
        env: ``NAME=value`` in order.
        cwd: absolute, inside the root; it is made for *uid* if it is not there.
        uid, gid, groups: numeric; *groups* are the supplementary ones.
        network: False for a network namespace with loopback only.
        hostname: what the machine is called.
        privileged: keeps every right of the builder: all capabilities, and /proc and /sys as
            they are.
        secret_env: more of *env*, which is shown nowhere.
    """

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    network: bool = True
    hostname: str = DEFAULT_HOSTNAME
    privileged: bool = False
    secret_env: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class BindMount:
    """Show *source* at *target*: a directory or a file.

    Attributes:
        target: absolute, inside the root of the command.
        base: a directory of the host, or a root that is mounted by the same sandbox (its
            number): what *source* is resolved inside, symbolic links too.
        source: a path inside *base*; the default is *base* itself.
        writable: what the command writes stays in *source*. To throw it away, mount an
            overlay of the source first, and bind that.
        lasting: *source* is a cache or a socket, which other commands use too. In place, where
            nothing can be mounted, everything else is copied.
    """

    target: str
    base: Path | int
    source: str = "/"
    writable: bool = False
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class TmpfsMount:
    """An empty directory in memory at *target*; *size* in bytes, 0 for half the memory."""

    target: str
    size: int = 0
    mode: int = 0o1777
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class FileMount:
    """A read-only file in memory at *target* that holds *data*, such as a secret."""

    target: str
    data: bytes
    mode: int = 0o400
    uid: int = 0
    gid: int = 0

    def __repr__(self) -> str:
        """Name the place, never the secret."""
        return f"FileMount({self.target!r}, {len(self.data)} bytes)"


Mount = BindMount | TmpfsMount | FileMount
