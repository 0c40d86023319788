"""WORKDIR: the directories that it makes."""

from __future__ import annotations

from kaniko_core.builder.configure import StageState
from kaniko_core.builder.destination import Defaults, Destination
from kaniko_core.errors import KanikoError
from kaniko_core.oci.entry import SECOND, Entry
from kaniko_core.rootfs.tree import Rootfs
from kaniko_core.rootfs.users import Accounts


def workdir_entries(state: StageState, below: Rootfs, *, epoch: int | None = None) -> list[Entry]:
    """Return the layer of a WORKDIR: what is missing of it, owned by USER, mode 0755.

    Args:
        state: the stage after it; its USER owns the directories.
        below: the stage's tree before the instruction.
        epoch: the time of what is made, in seconds since 1970; None for that of its parent.

    Raises:
        KanikoError: something on the way is no directory.
    """
    mtime_ns = None if epoch is None else epoch * SECOND
    defaults = Defaults(_owner(state.user, below), mtime_ns=mtime_ns)
    destination = Destination(below, defaults, top_mtime_ns=state.top_mtime_ns)
    destination.make_directories(destination.resolve(state.workdir))
    return destination.entries()


def _owner(user: str, below: Rootfs) -> tuple[int, int]:
    if not user:
        return 0, 0
    try:
        return Accounts.of(below).owner(user)
    except KanikoError:
        # USER may name somebody whom only a later base, or nobody, knows; whoever runs a
        # command as them will hear of it. The directory is root's, as with BuildKit.
        return 0, 0
