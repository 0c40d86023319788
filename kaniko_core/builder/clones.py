"""Copies of files and trees with everything that belongs to them, as ``cp -a`` makes them."""

from __future__ import annotations

import os
import stat

from kaniko_core.rootfs.copying import copy_content, copy_metadata


def clone(source: bytes, target: bytes) -> None:
    """Copy *source*, a file or a directory with all that is in it, to the new name *target*.

    Owners, modes, times, attributes, symbolic and hard links, and special files are kept; the
    content is shared with the source where the file system can do that.

    Raises:
        OSError: something cannot be read or made; what was made until then stays.
    """
    top: os.stat_result | None = None
    first_names: dict[tuple[int, int], bytes] = {}
    directories: list[tuple[bytes, bytes, os.stat_result]] = []
    waiting = [(source, target)]
    while waiting:
        old, new = waiting.pop()
        status = os.lstat(old)
        if stat.S_ISDIR(status.st_mode):
            if top is not None and os.path.samestat(status, top):
                continue  # the target is in the source
            os.mkdir(new, 0o700)  # noqa: PTH102 - no Path has bytes
            top = top or os.lstat(new)
            directories.append((old, new, status))
            waiting += ((old + b"/" + name, new + b"/" + name) for name in os.listdir(old))
            continue
        if status.st_nlink > 1:
            first = first_names.setdefault((status.st_dev, status.st_ino), new)
            if first != new:
                os.link(first, new, follow_symlinks=False)
                continue
        _clone_file(old, new, status)
        copy_metadata(status, old, new)
    # Afterwards, because a directory's times change with what is made in it.
    for old, new, status in reversed(directories):
        copy_metadata(status, old, new)


def _clone_file(source: bytes, target: bytes, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)  # noqa: PTH115, PTH211
    elif stat.S_ISREG(status.st_mode):
        _clone_content(source, target, status.st_size)
    else:
        os.mknod(target, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev)


def _clone_content(source: bytes, target: bytes, size: int) -> None:
    with open(source, "rb") as old, open(target, "xb") as new:  # noqa: PTH123
        copy_content(old.fileno(), new.fileno(), size)
