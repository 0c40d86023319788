"""What a command is, and what can run one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Process:
    """A command of a RUN instruction, with everything it needs to know.

    Attributes:
        argv: the program and its arguments; a bare name is looked up on ``PATH`` of *env*,
            inside the root.
        env: ``NAME=value`` in order.
        cwd: absolute, inside the root; it is there already.
        uid, gid, groups: numeric; *groups* are the supplementary ones.
        network: False for a network namespace with loopback only.
    """

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    network: bool = True
