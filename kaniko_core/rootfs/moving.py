"""Moving the contents of one root into another place, and deleting them; what is covered stays.

Renaming costs nothing and keeps everything. The kernel refuses it across file systems, and for a
directory of an overlay's lower layers: then the directory is made anew and filled one by one, and
a file that cannot be renamed is copied.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from errno import EBUSY, EEXIST, EISDIR, ENOTDIR, ENOTEMPTY, EXDEV
from pathlib import Path

from kaniko_core.errors import DiskError, disk_error, disk_errors
from kaniko_core.oci.tarheader import readable
from kaniko_core.rootfs.copying import copy_content, copy_metadata
from kaniko_core.rootfs.descent import (
    Descent,
    delete,
    delete_contents,
    names_in,
    open_directory,
)
from kaniko_core.rootfs.ignore import IgnoreRules

_NOTHING = IgnoreRules()
_NEW = 0o700
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# The target has something of that name which a rename does not replace.
_IN_THE_WAY = frozenset({ENOTEMPTY, EEXIST, EISDIR, ENOTDIR})
# A directory that something covered is in, or that was mounted on, stays.
_STAYS = frozenset({ENOTEMPTY, EEXIST, EBUSY})


def move_contents(source: Path, target: Path, rules: IgnoreRules) -> None:
    """Move what is in *source* and not covered into *target*, which exists.

    What *target* has of the same names is replaced, directories are merged; where both have a
    directory, also the topmost, it becomes like the one of *source*. Owners, modes, attributes,
    times and hard links are kept. Directories that something covered is in stay in both.

    After an error, both have a part of it, and moving again continues.

    Args:
        source: a directory.
        target: another one, not below *source* unless that place is covered.
        rules: about paths below either of the two.

    Raises:
        DiskError: a file system refused.
    """
    with disk_errors("move files from", source):
        top = open_directory(source)
    try:
        with disk_errors("move files to", target):
            goal = open_directory(target)
        try:
            _Move(top, goal, rules).move(source, target)
        finally:
            os.close(goal)
    finally:
        os.close(top)


def clear(root: Path, rules: IgnoreRules) -> None:
    """Delete what is in *root* and not covered.

    Directories that something covered is in stay. Links are not followed; mounts that no rule
    covers are not entered. What cannot be deleted is left, and the rest is deleted.

    Raises:
        DiskError: something could not be deleted; it names the first.
    """
    failed: list[DiskError] = []

    def fail(path: bytes, error: OSError) -> None:
        if not failed:
            failed.append(disk_error(error, "delete", root / os.fsdecode(path)))

    with disk_errors("delete what is in", root):
        top = open_directory(root)
        try:
            delete_contents(top, b"", rules, fail)
        finally:
            os.close(top)
    if failed:
        raise failed[0]


def remove(path: Path) -> None:
    """Delete *path* with everything in it, whatever its depth and modes; it may be missing.

    Raises:
        DiskError: something could not be deleted; it names the first. The rest is.
    """
    try:
        path.unlink()
        return
    except FileNotFoundError:
        return
    except IsADirectoryError:
        pass
    except OSError as error:
        raise disk_error(error, "delete", path) from error
    with disk_errors("delete", path):
        path.chmod(_NEW)
    clear(path, _NOTHING)
    with disk_errors("delete", path):
        path.rmdir()


class _Move:
    """A move under way: the same directory of both trees is open."""

    def __init__(self, source: int, target: int, rules: IgnoreRules) -> None:
        self._from = Descent(source)
        self._to = Descent(target)
        self._top = target
        self._rules = rules
        # Where files with several names were copied to, by what they were.
        self._copies: dict[tuple[int, int], bytes] = {}
        self._name = b""

    def move(self, source: Path, target: Path) -> None:
        """Move everything; the two paths are for messages."""
        try:
            self._move()
        except OSError as error:
            here = readable(self._from.child(self._name))
            raise disk_error(error, f"move {source / here} to", target) from error
        finally:
            self._from.close()
            self._to.close()

    def _move(self) -> None:
        waiting = [names_in(self._from.fd)]
        sheltering = [self._rules.shelters(b"")]
        likeness = [os.fstat(self._from.fd)]
        while waiting:
            if waiting[-1]:
                name = self._name = waiting[-1].pop()
                path = self._from.child(name) if sheltering[-1] else b""
                if sheltering[-1] and self._rules.covers(path):
                    continue
                shelters = sheltering[-1] and self._rules.shelters(path)
                if self._one(name, whole=not shelters):
                    waiting.append(names_in(self._from.fd))
                    sheltering.append(shelters)
                    likeness.append(os.fstat(self._from.fd))
                continue
            waiting.pop()
            self._finish(likeness.pop(), stays=sheltering.pop(), top=not waiting)

    def _one(self, name: bytes, *, whole: bool) -> bool:
        """Move *name*; return whether it was entered, in both trees, to be moved one by one."""
        status = os.stat(name, dir_fd=self._from.fd, follow_symlinks=False)
        is_directory = stat.S_ISDIR(status.st_mode)
        if whole or not is_directory:
            if self._renamed(name, is_directory=is_directory):
                return False
            if not is_directory:
                self._copy(name, status)
                os.unlink(name, dir_fd=self._from.fd)
                return False
        self._enter(name)
        return True

    def _renamed(self, name: bytes, *, is_directory: bool) -> bool:
        """Rename *name*, or return False: it must be moved one by one, or copied."""
        try:
            self._rename(name)
        except OSError as error:
            if error.errno == EXDEV:
                return False
            if error.errno not in _IN_THE_WAY:
                raise
            if is_directory and self._is_directory(name):
                return False
            self._make_way(name)
            self._rename(name)
        return True

    def _rename(self, name: bytes) -> None:
        os.rename(name, name, src_dir_fd=self._from.fd, dst_dir_fd=self._to.fd)

    def _is_directory(self, name: bytes) -> bool:
        status = os.stat(name, dir_fd=self._to.fd, follow_symlinks=False)
        return stat.S_ISDIR(status.st_mode)

    def _make_way(self, name: bytes) -> None:
        """Delete what the target has as *name*, which cannot be if something covered is in it."""
        delete(name, self._to.fd, self._to.child(name), self._rules, _refuse)
        with suppress(FileNotFoundError):
            os.stat(name, dir_fd=self._to.fd, follow_symlinks=False)
            raise OSError(EBUSY, "a directory that must stay is in the way")

    def _enter(self, name: bytes) -> None:
        made = True
        try:
            os.mkdir(name, _NEW, dir_fd=self._to.fd)
        except FileExistsError:
            if self._is_directory(name):
                made = False
            else:
                self._make_way(name)
                os.mkdir(name, _NEW, dir_fd=self._to.fd)
        self._from.down(name)
        self._to.down(name)
        if made:
            # At once, too: should this end here, somebody moves everything back.
            like = os.fstat(self._from.fd)
            copy_metadata(like, _path(self._from.fd, b"."), _path(self._to.fd, b"."))
            os.fchmod(self._to.fd, stat.S_IMODE(like.st_mode) | _NEW)

    def _finish(self, like: os.stat_result, *, stays: bool, top: bool) -> None:
        """Leave the current directory, which is empty now but for what is covered."""
        copy_metadata(like, _path(self._from.fd, b"."), _path(self._to.fd, b"."))
        if top:
            return
        name = self._name = self._from.up()
        self._to.up()
        try:
            os.rmdir(name, dir_fd=self._from.fd)
        except OSError as error:
            if not (stays and error.errno in _STAYS):
                raise

    def _copy(self, name: bytes, status: os.stat_result) -> None:
        """Copy anything but a directory, with all its metadata."""
        identity = status.st_dev, status.st_ino
        first = self._copies.get(identity)
        try:
            if first is None:
                self._copy_first(name, status)
            else:
                self._link(first, name)
        except FileExistsError:
            self._make_way(name)
            self._copy_first(name, status) if first is None else self._link(first, name)
        if status.st_nlink > 1:
            self._copies[identity] = self._to.child(name)
        elif first is not None:
            del self._copies[identity]

    def _link(self, first: bytes, name: bytes) -> None:
        os.link(first, name, src_dir_fd=self._top, dst_dir_fd=self._to.fd, follow_symlinks=False)

    def _copy_first(self, name: bytes, status: os.stat_result) -> None:
        if stat.S_ISREG(status.st_mode):
            self._copy_content(name, status.st_size)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=self._from.fd), name, dir_fd=self._to.fd)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=self._to.fd)
        copy_metadata(status, _path(self._from.fd, name), _path(self._to.fd, name))

    def _copy_content(self, name: bytes, size: int) -> None:
        source = os.open(name, _READ, dir_fd=self._from.fd)
        try:
            target = os.open(name, _WRITE, 0o600, dir_fd=self._to.fd)
            try:
                copy_content(source, target, size)
            except OSError:
                os.unlink(name, dir_fd=self._to.fd)
                raise
            finally:
                os.close(target)
        finally:
            os.close(source)


def _path(directory: int, name: bytes) -> bytes:
    """Return a path of *name* in an open directory, for calls that take no descriptor."""
    return b"/proc/self/fd/%d/%b" % (directory, name)


def _refuse(_: bytes, error: OSError) -> None:
    raise error
