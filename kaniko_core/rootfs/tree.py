"""A read-only view of a tree in which no path can lead out.

Every path is resolved inside the root: absolute links begin there, ``..`` stops there. The
kernel does it where it can (openat2), else a walk from link to link. Nothing but the root's
file descriptor is needed, so that the root may be a mount that only another namespace sees.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from errno import (
    E2BIG,
    EACCES,
    EINVAL,
    ELOOP,
    ENODATA,
    ENOENT,
    ENOSPC,
    ENOSYS,
    ENOTDIR,
    ENOTSUP,
    EPERM,
    ERANGE,
)
from pathlib import Path
from typing import BinaryIO, Self

from kaniko_core import linux
from kaniko_core.errors import ContentError, disk_error
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.oci.tarheader import readable

# As many as the kernel follows: path_resolution(7).
MOST_LINKS = 40

_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
}
# As stat.S_IFMT and stat.S_IMODE take a mode apart.
_FORMAT, _PERMISSIONS = 0o170000, 0o7777
# What a kernel or its security modules put on files by themselves. In a layer they would
# describe the machine that built it.
_HOST_XATTRS = (
    b"security.selinux",
    b"security.ima",
    b"security.evm",
    b"security.apparmor",
    b"security.SMACK",
    b"system.nfs4_acl",
    b"trusted.overlay.",
    b"user.overlay.",
)
# The file system has no such attributes, no room for them, or they are not for us to set.
XATTR_REFUSED = frozenset({ENOTSUP, EPERM, EACCES, EINVAL, E2BIG, ERANGE, ENOSPC})
_MISSING = frozenset({ENOENT, ENOTDIR})


class Rootfs:
    """A tree, from a directory of this host or from an open directory.

    Paths may be ``str`` or ``bytes``, absolute or relative: both mean from the root. A context
    manager; what is left open is closed when the object is forgotten.

    Args:
        root: a directory's path, or a file descriptor of one, which stays the caller's.

    Raises:
        DiskError: *root* is no directory that can be opened.
    """

    def __init__(self, root: Path | int) -> None:
        self._owned = not isinstance(root, int)
        if isinstance(root, int):
            self._fd = root
            self._prefix = b"/proc/self/fd/%d/" % root
        else:
            try:
                self._fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                self._owned = False
                raise disk_error(error, "open", root) from error
            self._prefix = os.fsencode(root.absolute()).rstrip(b"/") + b"/"
        self._kernel_resolves = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the root, if it was opened here."""
        if self._owned:
            self._owned = False
            os.close(self._fd)

    @property
    def fd(self) -> int:
        """The root's file descriptor, open as long as this object is."""
        return self._fd

    def resolve(self, path: str | bytes) -> bytes:
        """Return where *path* really is, relative to the root, all links followed inside it.

        Components that do not exist are kept as they are.

        Raises:
            ContentError: links lead in a circle.
        """
        return self._walk(path, follow_last=True)

    def resolve_parent(self, path: str | bytes) -> bytes:
        """Return what :meth:`resolve` does, but do not follow the last component."""
        return self._walk(path, follow_last=False)

    def lstat(self, path: str | bytes) -> os.stat_result | None:
        """Return the status of *path* itself; None where nothing is."""
        return self._status(path, os.O_PATH | os.O_NOFOLLOW)

    def stat(self, path: str | bytes) -> os.stat_result | None:
        """Return the status of what *path* leads to; None where nothing is."""
        return self._status(path, os.O_PATH)

    def listdir(self, path: str | bytes) -> list[bytes]:
        """Return the names in a directory, sorted.

        Raises:
            DiskError: it is no directory, or cannot be read.
        """
        with reading(path):
            fd = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                return sorted(os.fsencode(name) for name in os.listdir(fd))
            finally:
                os.close(fd)

    def readlink(self, path: str | bytes) -> bytes:
        """Return the target of a symbolic link as it is stored.

        Raises:
            DiskError: it is none.
        """
        with reading(path):
            fd = self._open(path, os.O_PATH | os.O_NOFOLLOW)
            try:
                return os.readlink(b"", dir_fd=fd)
            finally:
                os.close(fd)

    def open(self, path: str | bytes) -> BinaryIO:
        """Return a file's content as a stream, which the caller closes.

        Raises:
            DiskError: it is not there, no regular file, or cannot be read.
        """
        with reading(path):
            # Without O_NONBLOCK a FIFO would wait for its writer.
            fd = self._open(path, os.O_RDONLY | os.O_NONBLOCK)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                os.close(fd)
                raise OSError(ENOTSUP, "it is not a regular file")
            return os.fdopen(fd, "rb")

    def xattrs(self, path: str | bytes) -> dict[bytes, bytes]:
        """Return the extended attributes of *path* itself that belong into a layer.

        Raises:
            DiskError: it is not there, or cannot be read.
        """
        with reading(path):
            return extended_attributes(self.host_path(self.resolve_parent(path)))

    def host_path(self, relative: bytes) -> bytes:
        """Return a path by which this process can open *relative*, which is resolved already."""
        return self._prefix + relative

    def walk(self, path: str | bytes = b"") -> Iterator[tuple[bytes, os.stat_result]]:
        """Yield everything below the directory *path*: its name from the root, and its status.

        Sorted, parents before their children; links are not followed. What vanishes meanwhile
        is left out.

        Raises:
            DiskError: a directory cannot be read.
        """
        top = self.resolve(path)
        waiting = [iter(self._children(top))]
        while waiting:
            child = next(waiting[-1], None)
            if child is None:
                waiting.pop()
                continue
            yield child
            if stat.S_ISDIR(child[1].st_mode):
                waiting.append(iter(self._children(child[0])))

    def entry(
        self, path: bytes, status: os.stat_result, *, name: bytes | None = None
    ) -> Entry | None:
        """Return the entry that puts a file of this tree into a layer; None for a socket.

        Args:
            path: a resolved name, such as :meth:`walk` gives.
            status: of *path* itself.
            name: what the entry is called in the layer; *path* where it is None.

        Raises:
            DiskError: its link or attributes cannot be read.
        """
        with reading(path):
            return file_entry(path if name is None else name, status, self.host_path(path))

    def _children(self, directory: bytes) -> list[tuple[bytes, os.stat_result]]:
        found = []
        start = directory + b"/" if directory else b""
        with reading(directory):
            for child in self.scan(directory):
                try:
                    status = child.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                found.append((start + child.name, status))
        found.sort()
        return found

    def scan(self, directory: bytes) -> list[os.DirEntry[bytes]]:
        """Return what is in *directory*, which is resolved already, in no order.

        Raises:
            OSError: it is no directory, or cannot be read.
        """
        with os.scandir(self._prefix + directory) as children:
            return list(children)

    def _status(self, path: str | bytes, flags: int) -> os.stat_result | None:
        try:
            fd = self._open(path, flags)
        except OSError as error:
            if error.errno in _MISSING:
                return None
            if error.errno == ELOOP:
                raise _circle(path) from error
            raise disk_error(error, "look at", _shown(path)) from error
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def _open(self, path: str | bytes, flags: int) -> int:
        raw = os.fsencode(path)
        if self._kernel_resolves:
            try:
                return linux.openat2(self._fd, raw or b".", flags)
            except OSError as error:
                # Kernels before 5.6; seccomp filters that do not know the call.
                if error.errno not in {ENOSYS, EPERM}:
                    raise
                self._kernel_resolves = False
        resolved = self._walk(raw, follow_last=not flags & os.O_NOFOLLOW)
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(resolved or b".", flags, dir_fd=self._fd)

    def _walk(self, path: str | bytes, *, follow_last: bool) -> bytes:
        waiting = os.fsencode(path).split(b"/")[::-1]
        done: list[bytes] = []
        links = 0
        while waiting:
            part = waiting.pop()
            if part in {b"", b"."}:
                continue
            if part == b"..":
                del done[-1:]
                continue
            done.append(part)
            if not follow_last and not any(waiting):
                break
            target = self._link(b"/".join(done))
            if target is None:
                continue
            links += 1
            if links > MOST_LINKS:
                raise _circle(path)
            done.pop()
            if target.startswith(b"/"):
                done.clear()
            waiting += target.split(b"/")[::-1]
        return b"/".join(done)

    def _link(self, resolved: bytes) -> bytes | None:
        # All but the last component are known to be directories, or not to exist.
        try:
            return os.readlink(resolved, dir_fd=self._fd)
        except OSError:
            return None


def kind_of(mode: int) -> Kind | None:
    """Return what a file of this ``st_mode`` is in a layer; None for a socket: nothing."""
    return _KINDS.get(stat.S_IFMT(mode))


def file_entry(name: bytes, status: os.stat_result, host_path: bytes) -> Entry | None:
    """Return the entry *name* for the file at *host_path*; None for a socket.

    Raises:
        OSError: its link or attributes cannot be read.
    """
    mode = status.st_mode
    # What layers spend their time on, as soon as they have many files: no call too many.
    kind = _KINDS.get(mode & _FORMAT)
    if kind is None:
        return None
    size = status.st_size if kind is Kind.FILE else 0
    entry = Entry(
        name,
        kind,
        mode & _PERMISSIONS,
        status.st_uid,
        status.st_gid,
        size,
        status.st_mtime_ns,
        xattrs=extended_attributes(host_path),
        content=host_path if size else None,
    )
    if kind is Kind.SYMLINK:
        entry.link = os.readlink(host_path)  # noqa: PTH115 - no Path has bytes
    elif kind is Kind.CHARACTER or kind is Kind.BLOCK:
        entry.device = (os.major(status.st_rdev), os.minor(status.st_rdev))
    return entry


def extended_attributes(host_path: bytes) -> dict[bytes, bytes]:
    """Return what *host_path* itself has and a layer should; empty where there is no support.

    Raises:
        OSError: they cannot be read.
    """
    try:
        names = os.listxattr(host_path, follow_symlinks=False)
    except OSError as error:
        if error.errno == ENOTSUP:
            return {}
        raise
    found = {}
    for text in names:
        name = os.fsencode(text)
        if name.startswith(_HOST_XATTRS):
            continue
        try:
            found[name] = os.getxattr(host_path, text, follow_symlinks=False)
        except OSError as error:
            # Listed, and gone or not for us: NFS and some security modules do that.
            if error.errno not in {ENODATA, ENOTSUP, EPERM}:
                raise
    return found


@contextmanager
def reading(path: str | bytes) -> Iterator[None]:
    """Translate any OSError inside the block: *path* of the tree cannot be read."""
    try:
        yield
    except OSError as error:
        if error.errno == ELOOP:
            raise _circle(path) from error
        raise disk_error(error, "read", _shown(path)) from error


def _circle(path: str | bytes) -> ContentError:
    return ContentError(f"{_shown(path)} leads through too many symbolic links")


def _shown(path: str | bytes) -> str:
    """Return a path of the tree as people know it, from the root."""
    return "/" + readable(os.fsencode(path)).lstrip("/")
