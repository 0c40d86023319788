"""What a command finds in the place of a mount, where nothing can be mounted.

A cache, and the socket of an agent, is shown by a link, because what happens to it must stay;
everything else is a copy that the command may do to what it likes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from errno import EPERM, EXDEV
from functools import partial
from pathlib import Path
from typing import assert_never

from kaniko_core.builder.clones import clone
from kaniko_core.lean import dataclass
from kaniko_core.rootfs.tree import Rootfs
from kaniko_core.sandbox.runner import BindMount, FileMount, Mount, TmpfsMount


@dataclass(frozen=True, slots=True)
class StandIn:
    """What is put at the place of a mount: *make* makes it, under a name that is free."""

    make: Callable[[bytes], None]
    is_directory: bool


def stand_in(mount: Mount) -> StandIn:
    """Return what a command finds in the place of *mount*.

    Raises:
        OSError: what it shows is not there.
    """
    match mount:
        case BindMount():
            source = _source(mount)
            is_directory = stat.S_ISDIR(os.lstat(source).st_mode)
            if is_lent(mount):
                return StandIn(partial(_lend, source, is_directory=is_directory), is_directory)
            return StandIn(partial(clone, source), is_directory)
        case TmpfsMount():
            return StandIn(partial(_make_directory, mode=mount.mode), is_directory=True)
        case FileMount():
            return StandIn(partial(_make_file, mount), is_directory=False)
        case _:
            assert_never(mount)


def is_lent(mount: Mount) -> bool:
    """Whether a command writes to the very source of *mount*, by a link."""
    return isinstance(mount, BindMount) and mount.lasting and mount.writable


def _source(mount: BindMount) -> bytes:
    assert isinstance(mount.base, Path), "in place there are no mounted roots"
    with Rootfs(mount.base) as base:
        return base.host_path(base.resolve(mount.source)).rstrip(b"/")


def _lend(source: bytes, path: bytes, *, is_directory: bool) -> None:
    if not is_directory:
        # Another name of it is there for users, too, who may not enter the source's directory.
        try:
            os.link(source, path)
        except OSError as error:
            if error.errno not in {EXDEV, EPERM}:
                raise
        else:
            return
    os.symlink(source, path)  # noqa: PTH211 - no Path has bytes


def _make_directory(path: bytes, *, mode: int) -> None:
    os.mkdir(path, 0o700)  # noqa: PTH102 - no Path has bytes
    os.chmod(path, mode)  # noqa: PTH101


def _make_file(mount: FileMount, path: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(mount.data)
        os.fchown(fd, mount.uid, mount.gid)
        os.fchmod(fd, mount.mode)
