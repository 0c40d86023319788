"""Copies of files and trees with everything that belongs to them, as ``cp -a`` makes them."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from errno import EBADF, EINVAL, ENOSYS, ENOTSUP, EPERM, EXDEV

_CHUNK = 1 << 30  # bytes to ask the kernel for at once
# Another file system, or one that has no such call; seccomp filters that do not know it.
_NO_SHORT_CUT = frozenset({EXDEV, EINVAL, ENOSYS, ENOTSUP, EPERM, EBADF})


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
        copy_metadata(old, new, status)
    # Afterwards, because a directory's times change with what is made in it.
    for old, new, status in reversed(directories):
        copy_metadata(old, new, status)


def copy_metadata(source: bytes, target: bytes, status: os.stat_result) -> None:
    """Give *target* the attributes of *source*, and the owner, mode and times of *status*.

    Raises:
        OSError: the owner, the mode or the times cannot be set.
    """
    # In this order: a new owner takes capabilities and the set-user-id bit away, and an
    # access control list changes the mode.
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    for name in _attributes(source):
        # What the file system cannot hold (an SELinux label) is not worth failing for.
        with suppress(OSError):
            value = os.getxattr(source, name, follow_symlinks=False)
            os.setxattr(target, name, value, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))  # noqa: PTH101
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(target, ns=times, follow_symlinks=False)


def _attributes(path: bytes) -> list[str]:
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError:
        return []


def _clone_file(source: bytes, target: bytes, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)  # noqa: PTH115, PTH211
    elif stat.S_ISREG(status.st_mode):
        _clone_content(source, target)
    else:
        os.mknod(target, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev)


def _clone_content(source: bytes, target: bytes) -> None:
    with open(source, "rb") as old, open(target, "xb") as new:  # noqa: PTH123
        try:
            while os.copy_file_range(old.fileno(), new.fileno(), _CHUNK):
                pass
        except OSError as error:
            if error.errno not in _NO_SHORT_CUT:
                raise
            shutil.copyfileobj(old, new)
