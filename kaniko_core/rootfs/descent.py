"""Going down into trees of any depth, and deleting them, with few directories open.

A tree may be deeper than Python recurses, than a path can say, and than a process may have open
files; none of this must keep us from deleting it. Links are never followed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import EBUSY, EEXIST, ENOENT, ENOTEMPTY, ESTALE
from pathlib import Path

from kaniko_core.rootfs.ignore import IgnoreRules

# Directories kept open above the current one; further up, ".." leads back to them.
_MOST_OPEN = 32
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OURS = 0o700
# Something covered is in a directory that would go otherwise, or is that directory.
_STAYS = frozenset({ENOTEMPTY, EEXIST, EBUSY})

Failed = Callable[[bytes, OSError], None]  # gets the path from the root of what cannot be deleted


class Descent:
    """An open directory, from which one can go down and up again.

    Args:
        top: a file descriptor of the highest one, which stays the caller's.
        path: where it is, relative to the root of a tree.
    """

    def __init__(self, top: int, path: bytes = b"") -> None:
        self._fds: list[int | None] = [top]
        self._identities = [_identity(top)]
        self._names = [path]

    @property
    def fd(self) -> int:
        """The file descriptor of the current directory, open until the next step."""
        fd = self._fds[-1]
        assert fd is not None
        return fd

    @property
    def path(self) -> bytes:
        """Where the current directory is."""
        names = self._names if self._names[0] else self._names[1:]
        return b"/".join(names)

    @property
    def depth(self) -> int:
        """How many steps down the current directory is; 0 for the top."""
        return len(self._fds) - 1

    def child(self, name: bytes) -> bytes:
        """Return where the entry *name* of the current directory is."""
        path = self.path
        return path + b"/" + name if path else name

    def down(self, name: bytes) -> None:
        """Enter the directory *name*, with whichever mode; its mode may be changed for that.

        Raises:
            OSError: it is no directory, or cannot be entered. The current one is as before.
        """
        fd = open_directory(name, self.fd)
        self._names.append(name)
        self._fds.append(fd)
        self._identities.append(_identity(fd))
        if (oldest := len(self._fds) - 1 - _MOST_OPEN) > 0:
            above = self._fds[oldest]
            assert above is not None
            self._fds[oldest] = None
            os.close(above)

    def up(self) -> bytes:
        """Go back to the directory above; return the name of the one that was left.

        Raises:
            OSError: somebody else has moved the directory away.
        """
        left = self._fds.pop()
        assert left is not None
        name = self._names.pop()
        self._identities.pop()
        try:
            if self._fds[-1] is None:
                above = os.open(b"..", _OPEN, dir_fd=left)
                self._fds[-1] = above
                if _identity(above) != self._identities[-1]:
                    raise OSError(ESTALE, "the directory was moved away meanwhile", self.path)
        finally:
            os.close(left)
        return name

    def close(self) -> None:
        """Close everything but the top."""
        for fd in self._fds[1:]:
            if fd is not None:
                os.close(fd)
        del self._fds[1:], self._names[1:], self._identities[1:]

    def elsewhere(self) -> bool:
        """Whether the current directory is on another file system than the top: it is a mount."""
        return self._identities[-1][0] != self._identities[0][0]


def delete(name: bytes, at: int, path: bytes, rules: IgnoreRules, failed: Failed) -> None:
    """Delete *name* in the open directory *at*, and what is in it; it may be missing.

    What is covered stays, and so do the directories that it is in. Mounts that no rule covers
    are not entered.

    Args:
        name: what to delete.
        at: a file descriptor.
        path: where *name* is, for the rules.
        rules: what to leave alone.
        failed: told about everything that cannot be deleted; the rest is.
    """
    if rules.covers(path):
        return
    descent = Descent(at, path.rpartition(b"/")[0])
    try:
        _Deleting(descent, rules, failed).delete([name])
    finally:
        descent.close()


def delete_contents(at: int, path: bytes, rules: IgnoreRules, failed: Failed) -> None:
    """Delete what is in the open directory *at*, as :func:`delete` does; *path* is where it is."""
    if rules.covers(path):
        return
    descent = Descent(at, path)
    try:
        _Deleting(descent, rules, failed).delete(names_in(at))
    except OSError as error:
        failed(path, error)
    finally:
        descent.close()


class _Deleting:
    """A deletion under way."""

    def __init__(self, descent: Descent, rules: IgnoreRules, failed: Failed) -> None:
        self._descent = descent
        self._rules = rules
        self._failed = failed
        # For each level whether something covered is below: elsewhere the rules need no look.
        self._sheltering = [rules.shelters(descent.path)]

    def delete(self, names: list[bytes]) -> None:
        """Delete *names* in the current directory."""
        waiting = [names]
        while waiting:
            if waiting[-1]:
                deeper = self._one(waiting[-1].pop())
                if deeper is not None:
                    waiting.append(deeper)
                continue
            waiting.pop()
            if waiting:
                self._leave()

    def _one(self, name: bytes) -> list[bytes] | None:
        """Delete *name*; if it is a directory, enter it and return the names in it."""
        if self._sheltering[-1] and self._rules.covers(self._descent.child(name)):
            return None
        try:
            self._persist(os.unlink, name)
        except IsADirectoryError:
            return self._enter(name)
        except OSError as error:
            if error.errno != ENOENT:
                self._failed(self._descent.child(name), error)
        return None

    def _enter(self, name: bytes) -> list[bytes] | None:
        descent = self._descent
        try:
            descent.down(name)
        except OSError as error:
            self._failed(descent.child(name), error)
            return None
        try:
            if descent.elsewhere():
                raise OSError(EBUSY, os.strerror(EBUSY))
            names = names_in(descent.fd)
        except OSError as error:
            self._failed(descent.path, error)
            descent.up()
            return None
        self._sheltering.append(self._sheltering[-1] and self._rules.shelters(descent.path))
        return names

    def _leave(self) -> None:
        sheltering = self._sheltering.pop()
        name = self._descent.up()
        try:
            self._persist(os.rmdir, name)
        except OSError as error:
            # Somebody else may tidy up in it, too: the sandbox does, after a command.
            if error.errno != ENOENT and not (sheltering and error.errno in _STAYS):
                self._failed(self._descent.child(name), error)

    def _persist(self, removing: Callable[..., None], name: bytes) -> None:
        """Remove *name*, if need be after making the directory writable."""
        descent = self._descent
        try:
            removing(name, dir_fd=descent.fd)
        except PermissionError:
            if self._sheltering[-1] or not descent.depth:
                raise
            os.fchmod(descent.fd, _OURS)
            removing(name, dir_fd=descent.fd)


def open_directory(name: bytes | Path, at: int | None = None) -> int:
    """Open a directory of whichever mode, which may be changed for that; links are not followed.

    Raises:
        OSError: it is none, or cannot be opened.
    """
    try:
        return os.open(name, _OPEN, dir_fd=at)
    except PermissionError:
        look = os.open(name, _LOOK, dir_fd=at)
        try:
            Path(f"/proc/self/fd/{look}").chmod(_OURS)
        finally:
            os.close(look)
        return os.open(name, _OPEN, dir_fd=at)


def names_in(fd: int) -> list[bytes]:
    """Return the names in an open directory, in no order."""
    return [os.fsencode(name) for name in os.listdir(fd)]


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


__all__ = ["Descent", "Failed", "delete", "delete_contents", "names_in", "open_directory"]
