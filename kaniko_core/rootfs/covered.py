"""A read-only view of a tree that is partly covered, with what an image has in those places.

What is covered is as the shadow has it, or not there. A directory that something covered is in is
as the tree has it; but if the shadow has anything but a directory there, that is the truth: it is
displaced. The rest is as the tree has it.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from errno import ENOENT, ENOTDIR
from pathlib import Path

from kaniko_core.errors import disk_errors
from kaniko_core.rootfs.ignore import IgnoreRules
from kaniko_core.rootfs.tree import Rootfs, reading

# Nanoseconds since the epoch: a time that no image has.
_FOREIGN_TIME = 1_000_000_007


class CoveredRootfs(Rootfs):
    """A tree whose covered and displaced paths are the shadow's.

    Nothing that is mounted at a covered path can be reached through it, and directories that are
    there only because something covered is in them do not show: see :func:`mark_foreign`.

    Args:
        root: the tree.
        rules: what is covered in it.
        shadow: where `unpack` puts what the layers have there; may be missing.

    Raises:
        DiskError: *root* is no directory that can be opened.
    """

    def __init__(self, root: Path, rules: IgnoreRules, shadow: Path) -> None:
        super().__init__(root)
        self._rules = rules
        self._shadow_prefix = os.fsencode(shadow.absolute()).rstrip(b"/") + b"/"

    def listdir(self, path: str | bytes) -> list[bytes]:
        """Return the names in a directory, sorted.

        Raises:
            DiskError: it is no directory, or cannot be read.
        """
        directory = self.resolve(path)
        with reading(path):
            return sorted(child.name for child in self.scan(directory))

    def host_path(self, relative: bytes) -> bytes:
        """Return a path by which this process can open *relative*, which is resolved already.

        What is *in* a directory must be asked here again: the path is no way to it.
        """
        return (self._shadow_prefix if self._shadowed(relative) else self._prefix) + relative

    def scan(self, directory: bytes) -> list[os.DirEntry[bytes]]:
        """Return what is in *directory*, which is resolved already, in no order."""
        if self._shadowed(directory):
            return _entries(self._shadow_prefix + directory)
        found = _entries(self._prefix + directory)
        if not self._rules.shelters(directory):
            return found
        start = directory + b"/" if directory else b""
        found = [
            child
            for child in found
            if not self._shadowed(start + child.name) and not self._foreign(start + child.name)
        ]
        with suppress(FileNotFoundError):
            instead = _entries(self._shadow_prefix + directory)
            found += [child for child in instead if self._shadowed(start + child.name)]
        return found

    def _open(self, path: str | bytes, flags: int) -> int:
        # The kernel cannot resolve it: it does not know that the two trees are one.
        resolved = self._walk(path, follow_last=not flags & os.O_NOFOLLOW)
        if self._foreign(resolved):
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT))
        return os.open(self.host_path(resolved), flags | os.O_NOFOLLOW | os.O_CLOEXEC)

    def _link(self, resolved: bytes) -> bytes | None:
        try:
            return os.readlink(self.host_path(resolved))  # noqa: PTH115 - no Path has bytes
        except OSError:
            return None

    def _shadowed(self, resolved: bytes) -> bool:
        """Whether the shadow is asked for *resolved*: it, or what it is in, is hidden by it."""
        end = 0
        while end >= 0:
            end = resolved.find(b"/", end + 1)
            above = resolved if end < 0 else resolved[:end]
            if self._rules.covers(above):
                return True
            if not self._rules.shelters(above):
                return False
            if self._displaced(above):
                return True
        return False

    def _foreign(self, resolved: bytes) -> bool:
        """Whether *resolved* is a directory that only the container has."""
        if not resolved or not self._rules.shelters(resolved) or self._shadowed(resolved):
            return False
        try:
            status = os.lstat(self._prefix + resolved)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if os.path.lexists(self._shadow_prefix + resolved):
            return False  # the image has something in it, if only in the shadow
        return status.st_mtime_ns == _FOREIGN_TIME and stat.S_ISDIR(status.st_mode)

    def _displaced(self, sheltering: bytes) -> bool:
        try:
            status = os.stat(self._shadow_prefix + sheltering, follow_symlinks=False)
        except OSError as error:
            if error.errno in {ENOENT, ENOTDIR}:
                return False
            raise
        return not stat.S_ISDIR(status.st_mode)


def mark_foreign(root: Path, rules: IgnoreRules) -> None:
    """Remember of the directories that something covered is in that no image has put them there.

    A view does not show them until something is done to them: an image's entry sets their time,
    and so does whatever is made in them.

    Raises:
        DiskError: the time of one cannot be set.
    """
    for path in sorted(rules.sheltering - {b""}):
        if rules.covers(path):
            continue
        directory = root / os.fsdecode(path)
        with disk_errors("set the time of", directory), suppress(FileNotFoundError):
            if not directory.is_symlink():
                os.utime(directory, ns=(_FOREIGN_TIME, _FOREIGN_TIME))


def _entries(host_path: bytes) -> list[os.DirEntry[bytes]]:
    with os.scandir(host_path) as children:
        return list(children)
