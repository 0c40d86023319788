"""What a copy of a single file takes: its content, and all that belongs to it beside that."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from errno import EBADF, EINVAL, ENOSYS, ENOTSUP, ENXIO, EPERM, EXDEV

from kaniko_core.rootfs.tree import XATTR_REFUSED, extended_attributes

_COPIED = 8 << 20  # bytes that the kernel copies per call
# Another file system, or one that has no such call; seccomp filters that do not know it.
_NO_SHORT_CUT = frozenset({EXDEV, EINVAL, ENOSYS, ENOTSUP, EPERM, EBADF})


def _nothing() -> None: ...


def copy_content(source: int, target: int, size: int, check: Callable[[], None] = _nothing) -> bool:
    """Copy *size* bytes of an open file into a new one; its holes stay holes.

    What is copied is shared with the source where the file system can do that.

    Args:
        source: is read from its beginning.
        target: an empty file, which has *size* bytes afterwards.
        size: in bytes.
        check: called before each piece; what it raises ends the copying.

    Returns:
        Whether the source has so many: what it ended too early for reads as zeros.

    Raises:
        OSError: it cannot be read, or there is no room.
    """
    end, whole = 0, True
    while end < size and whole:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
            # What the source has grown by does not count.
            end = min(size, os.lseek(source, start, os.SEEK_HOLE))
        except OSError as error:
            if error.errno == ENXIO:
                break
            if error.errno != EINVAL:
                raise
            start, end = end, size  # such a file system tells of no holes
        whole = _copy_range(source, target, start, end, check)
    os.ftruncate(target, size)
    return whole


def _copy_range(source: int, target: int, start: int, end: int, check: Callable[[], None]) -> bool:
    with_short_cut = True
    while start < end and with_short_cut:
        check()
        try:
            count = os.copy_file_range(source, target, min(end - start, _COPIED), start, start)
        except OSError as error:
            if error.errno not in _NO_SHORT_CUT:
                raise
            count = 0
        start += count
        with_short_cut = count > 0
    os.lseek(target, start, os.SEEK_SET)
    while start < end and (count := os.sendfile(target, source, start, min(end - start, _COPIED))):
        start += count
        check()
    return start >= end


def copy_metadata(like: os.stat_result, source: bytes, target: bytes) -> None:
    """Give *target* the owner, mode and times of *like*, and the attributes that *source* has.

    Paths of this host; links are not followed. What a file system has no room for, or does not
    let us set, is left out.

    Raises:
        OSError: the owner, the mode or the times cannot be set.
    """
    # In this order: a new owner takes set-user-ID and capabilities away, and an access control
    # list changes the mode.
    os.chown(target, like.st_uid, like.st_gid, follow_symlinks=False)
    wanted = extended_attributes(source)
    there = extended_attributes(target) if stat.S_ISDIR(like.st_mode) else {}
    for key in there.keys() - wanted.keys():
        with suppress(OSError):
            os.removexattr(target, key, follow_symlinks=False)
    for key, value in wanted.items():
        if there.get(key) == value:
            continue
        try:
            os.setxattr(target, key, value, follow_symlinks=False)
        except OSError as error:
            if error.errno not in XATTR_REFUSED:
                raise
    if not stat.S_ISLNK(like.st_mode):
        os.chmod(target, stat.S_IMODE(like.st_mode))  # noqa: PTH101 - no Path has bytes
    times = (like.st_atime_ns, like.st_mtime_ns)
    os.utime(target, ns=times, follow_symlinks=False)
