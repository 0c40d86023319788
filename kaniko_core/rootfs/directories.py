"""The directories of a tree that a layer is being unpacked into, kept open.

Names in a layer are resolved here, one component at a time and relative to an open directory,
so that nothing in an archive can lead out of the tree: not ``..``, not a symbolic link, absolute
or relative, not one that the same archive made a moment ago.

A tree may have covered places (`ignore.py`). What a layer has there is in a second directory,
the shadow, under the same name; so is whatever but a directory it has where the tree must keep a
directory because something covered is in it. Such a thing is *displaced*: names that lead
through it go where it says, not into the directory that stays.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from errno import ELOOP, ENOENT, ENOTDIR

from kaniko_core.errors import ContentError
from kaniko_core.lean import dataclass
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.oci.tarheader import readable
from kaniko_core.rootfs.beneath import Beneath, Whiteouts
from kaniko_core.rootfs.descent import delete, names_in
from kaniko_core.rootfs.ignore import IgnoreRules
from kaniko_core.rootfs.tree import MOST_LINKS, file_entry

# Directories kept open. Several layers are unpacked at once, and 1024 is a common limit.
_MOST_OPEN = 150
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Nobody else may look in before the layer's own mode is set.
_NEW = 0o700
_IMPLIED_MODE = 0o755
_NOTHING = IgnoreRules()


class Directory:
    """An open directory, and where it really is: relative to the root, without links.

    Attributes:
        root: the file descriptor that its path begins at: the tree's, or the shadow's.
        sheltering: something covered is below it, and some of its names are in the shadow.
    """

    __slots__ = ("fd", "path", "root", "sheltering")

    def __init__(self, fd: int, path: bytes, root: int, *, sheltering: bool = False) -> None:
        self.fd = fd
        self.path = path
        self.root = root
        self.sheltering = sheltering

    def child(self, name: bytes) -> bytes:
        """Return where the entry *name* of this directory is."""
        return self.path + b"/" + name if self.path else name


@dataclass(frozen=True, slots=True)
class Cover:
    """Which places of the tree are not ours, and the open directory that stands in for them."""

    rules: IgnoreRules
    shadow: int


class Directories:
    """Opens directories by their names in a layer, and makes those that it implies.

    What a new directory shall be like is collected, and set at the end by :meth:`pending`'s
    user: until then it can be written into, and passes nothing on to its children.

    Attributes:
        pending: metadata still to be set, by real path.
    """

    def __init__(
        self, root: int, whiteouts: Whiteouts, beneath: Beneath, cover: Cover | None = None
    ) -> None:
        self._rules = cover.rules if cover is not None else _NOTHING
        self._root = Directory(root, b"", root, sheltering=self._rules.shelters(b""))
        shadow = cover.shadow if cover is not None else root
        self._shadow = Directory(shadow, b"", shadow)
        self._twins: dict[bytes, Directory] = {}
        self._whiteouts = whiteouts
        self._beneath = beneath
        self._open: dict[bytes, Directory] = {b"": self._root}
        self._followed: set[bytes] = set()
        self._opaque: set[bytes] = set()
        self.pending: dict[bytes, Entry] = {}

    def close(self) -> None:
        """Close every directory but the root."""
        for fd in {directory.fd for directory in self._open.values()} - {self._root.fd}:
            os.close(fd)
        for twin in self._twins.values():
            os.close(twin.fd)
        self._open = {b"": self._root}
        self._twins.clear()
        self._followed.clear()

    def open(self, path: bytes) -> Directory:
        """Return the directory *path*, made where it is missing.

        It stays open until the next call. Links are followed, also those of the layers beneath.

        Raises:
            ContentError: links lead in a circle.
            OSError: the disk refused.
        """
        found = self._open.get(path)
        return found if found is not None else self._resolve(path, make=True)

    def find(self, path: bytes) -> Directory | None:
        """Return the directory *path*, or None where neither this layer nor one beneath has it."""
        found = self._open.get(path)
        if found is not None:
            return found
        try:
            return self._resolve(path, make=False)
        except FileNotFoundError:
            return None

    def exactly(self, path: bytes) -> Directory | None:
        """Return the directory whose real path is *path*; None where it is gone, or a link now."""
        if len(self._open) > _MOST_OPEN:
            self.close()
        here = self._root
        for name in path.split(b"/") if path else ():
            real = here.child(name)
            child = self._open.get(real)
            if child is None or child.path != real:
                try:
                    child = self._opened(self.side(here, name), name)
                except OSError as error:
                    if error.errno not in {ENOENT, ELOOP, ENOTDIR}:
                        raise
                    return None
                self._open[real] = child
            here = child
        return here

    def make(self, parent: Directory, name: bytes, entry: Entry) -> None:
        """Make the directory *name*, or keep the one that is there; what else is there goes."""
        real = parent.child(name)
        at = self.side(parent, name).fd
        try:
            os.mkdir(name, _NEW, dir_fd=at)
        except FileExistsError:
            status = os.stat(name, dir_fd=at, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                self._replace(parent, name, real)
        self.pending[real] = entry
        self.made(real)

    def side(self, parent: Directory, name: bytes) -> Directory:
        """Return the open directory in which *name* of *parent* is: that one, or its shadow's."""
        if not parent.sheltering:
            return parent
        real = parent.child(name)
        if self._rules.covers(real) or self._displaced(parent, name, real):
            return self._twin(parent)
        return parent

    def room(self, parent: Directory, name: bytes) -> Directory:
        """Return the open directory for a new *name* of *parent* that is to be no directory.

        What comes in the place of a sheltering directory is displaced. The directory is emptied,
        or made: also where nothing covered is in it now, as in a tree that has been moved aside.
        """
        if not parent.sheltering:
            return parent
        path, real = parent.path, parent.child(name)
        if self._rules.covers(real):
            return self._twin(parent)
        if not self._rules.shelters(real):
            return parent
        self.remove(parent, name)
        parent = self.open(path)
        with suppress(FileExistsError):
            os.mkdir(name, _IMPLIED_MODE, dir_fd=parent.fd)
        return self._twin(parent)

    def names(self, directory: Directory) -> list[bytes]:
        """Return the names in *directory*, and in its shadow."""
        found = names_in(directory.fd)
        if directory.sheltering:
            found = list({*found, *names_in(self._twin(directory).fd)})
        return found

    def made(self, real: bytes) -> None:
        """Note that the layer has something of its own at *real*, where a link may have led on.

        What is open may be closed by it.
        """
        if real in self._followed:
            self.close()

    def make_opaque(self, directory: Directory) -> None:
        """Hide what the layers beneath have in *directory*; what is open may be closed by it.

        Raises:
            OSError: the file system cannot hold the attribute, or it may not be set.
        """
        path = directory.path
        os.setxattr(directory.fd, self._whiteouts.opaque_xattr, b"y")
        self._opaque.add(path)
        if any(link.startswith(path + b"/") for link in self._followed):
            # Links of the layers beneath, which do not lead anywhere any more.
            self.close()

    def remove(self, parent: Directory, name: bytes) -> bool:
        """Remove *name* with everything in it; return whether *parent* must be opened again.

        What is covered stays, and the directories that it is in.
        """
        real = parent.child(name)
        if parent.sheltering:
            if self._rules.shelters(real) and not self._rules.covers(real):
                delete(name, self._twin(parent).fd, real, _NOTHING, _refuse)
                delete(name, parent.fd, real, self._rules, _refuse)
                self._forget(real)
                return True
            parent = self.side(parent, name)
        try:
            os.unlink(name, dir_fd=parent.fd)
        except IsADirectoryError:
            delete(name, parent.fd, real, _NOTHING, _refuse)
            self._forget(real)
            return True
        if real in self._followed:
            self.close()
            return True
        return False

    def hidden(self, real: bytes) -> bool:
        """Whether this layer hides what the layers beneath have at *real*."""
        while real and self._opaque:
            real = real.rpartition(b"/")[0]
            if real in self._opaque:
                return True
        return False

    def _forget(self, real: bytes) -> None:
        self.close()
        self._opaque.discard(real)
        below = real + b"/"
        for path in [path for path in self.pending if path == real or path.startswith(below)]:
            del self.pending[path]

    def _resolve(self, path: bytes, *, make: bool) -> Directory:
        if len(self._open) > _MOST_OPEN:
            self.close()
        here = self._root
        waiting = path.split(b"/")[::-1]
        links = 0
        while waiting:
            name = waiting.pop()
            if name in {b"", b"."}:
                continue
            if name == b"..":
                above = here.path.rpartition(b"/")[0]
                here = self._open.get(above) or self._resolve(above, make=make)
                continue
            real = here.child(name)
            child = self._open.get(real) or self._enter(here, name, make=make)
            if isinstance(child, Directory):
                here = self._open[real] = child
                continue
            links += 1
            if links > MOST_LINKS:
                raise ContentError(f"/{readable(path)} leads through too many symbolic links")
            self._followed.add(real)
            if child.startswith(b"/"):
                here = self._root
            waiting += child.split(b"/")[::-1]
        self._open[path] = here
        return here

    def _enter(self, parent: Directory, name: bytes, *, make: bool) -> Directory | bytes:
        """Return the directory *name* of *parent*, or the target where it is a symbolic link."""
        real, at = parent.child(name), self.side(parent, name)
        try:
            return self._opened(at, name)
        except FileNotFoundError:
            return self._imply(at, name, make=make)
        except OSError as error:
            if error.errno not in {ELOOP, ENOTDIR}:
                raise
        status = os.stat(name, dir_fd=at.fd, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            return os.readlink(name, dir_fd=at.fd)
        if not make:
            raise FileNotFoundError(real)
        self._replace(parent, name, real)
        self.pending[real] = _implied(real)
        return self._opened(self.side(parent, name), name)

    def _opened(self, at: Directory, name: bytes) -> Directory:
        real = at.child(name)
        fd = os.open(name, _OPEN, dir_fd=at.fd)
        # Inside the shadow everything is the shadow's, also where one mount is below another.
        sheltering = at.sheltering and self._rules.shelters(real)
        return Directory(fd, real, at.root, sheltering=sheltering)

    def _imply(self, parent: Directory, name: bytes, *, make: bool) -> Directory | bytes:
        """Make a directory that the layer has no entry for, like the one beneath."""
        real = parent.child(name)
        found = None
        if self._whiteouts is not Whiteouts.APPLY and not self.hidden(real):
            found = self._beneath.find(real)
        entry = None if found is None else file_entry(real, found.status, found.host_path)
        if entry is not None and entry.kind is Kind.SYMLINK:
            return entry.link
        if entry is None or entry.kind is not Kind.DIRECTORY:
            if not make:
                raise FileNotFoundError(real)
            entry = _implied(real)
        os.mkdir(name, _NEW, dir_fd=parent.fd)
        self.pending[real] = entry
        return self._opened(parent, name)

    def _replace(self, parent: Directory, name: bytes, real: bytes) -> None:
        """Put a new directory in the place of something else that the layer had there."""
        at = self.side(parent, name)
        os.unlink(name, dir_fd=at.fd)
        if at is not parent and not self._rules.covers(real):
            # It was displaced. The directory that had to stay counts again, as an empty one.
            delete(name, parent.fd, real, self._rules, _refuse)
            with suppress(FileExistsError):
                os.mkdir(name, _NEW, dir_fd=parent.fd)
            return
        os.mkdir(name, _NEW, dir_fd=at.fd)
        if self._whiteouts is not Whiteouts.APPLY:
            # A whiteout, or a file that hid a directory beneath: the new one begins empty.
            fd = os.open(name, _OPEN, dir_fd=parent.fd)
            try:
                self.make_opaque(Directory(fd, real, self._root.fd))
            finally:
                os.close(fd)

    def _displaced(self, parent: Directory, name: bytes, real: bytes) -> bool:
        if not self._rules.shelters(real):
            return False
        status = status_of(self._twin(parent), name)
        return status is not None and not stat.S_ISDIR(status.st_mode)

    def _twin(self, directory: Directory) -> Directory:
        """Return the directory of the shadow that stands in for *directory*."""
        here = self._shadow
        for name in directory.path.split(b"/") if directory.path else ():
            real = here.child(name)
            child = self._twins.get(real)
            if child is None:
                with suppress(FileExistsError):
                    os.mkdir(name, _IMPLIED_MODE, dir_fd=here.fd)
                child = self._twins[real] = self._opened(here, name)
            here = child
        return here


def status_of(directory: Directory, name: bytes) -> os.stat_result | None:
    """Return the status of *name* itself in *directory*; None where nothing is."""
    try:
        return os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _refuse(_: bytes, error: OSError) -> None:
    raise error


def _implied(real: bytes) -> Entry:
    # The epoch, so that unpacking twice gives the same tree.
    return Entry(real, Kind.DIRECTORY, _IMPLIED_MODE, os.geteuid(), os.getegid())
