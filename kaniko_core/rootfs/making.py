"""New files in a tree that a layer is unpacked into, with all that belongs to them.

Most of a layer is small files, and most of their time is system calls: what a new file has
already is not set again. That is its owner, as long as neither the mount nor a directory hands
down another; and its mode, as far as neither the process's umask nor a default ACL takes bits away.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kaniko_core.errors import DiskError
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.oci.tarheader import readable
from kaniko_core.rootfs.descent import names_in
from kaniko_core.rootfs.tree import XATTR_REFUSED

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PRIVATE = 0o600
_ALL = 0o7777
# Writing to a file may take them away, and so does giving it another owner.
_SPECIAL = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
_DEFAULT_ACL = "system.posix_acl_default"
_NODES = {
    Kind.CHARACTER: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
    Kind.FIFO: stat.S_IFIFO,
}
# overlayfs would take them for its own.
_OVERLAY_XATTRS = (b"trusted.overlay.", b"user.overlay.")


class Making:
    """Makes the files of one tree, and collects what could not be made of them.

    Args:
        root: the tree's directory.
        fresh: nothing but this process's files will be in the tree.
        may_lose_devices: device nodes that may not be made are left out.

    Attributes:
        lost_xattrs: names of extended attributes that some file did not get.
        lost_devices: names of device nodes that could not be made.
    """

    def __init__(self, root: int, *, fresh: bool, may_lose_devices: bool) -> None:
        self._owner: tuple[int, int] | None = None
        self._taken = _ALL
        status = os.fstat(root)
        us = (os.geteuid(), os.getegid())
        # Some mounts give every file an owner of their own, and on some every directory hands
        # its group down, and not only those that say so.
        ours = (status.st_uid, status.st_gid) == us and not status.st_mode & stat.S_ISGID
        if fresh and ours and not names_in(root):
            self._owner = us
            if not _hands_down_an_acl(root):
                self._taken = _umask() | _SPECIAL
        self._may_lose_devices = may_lose_devices
        self.lost_xattrs: set[bytes] = set()
        self.lost_devices: list[bytes] = []

    def file(self, at: int, name: bytes, entry: Entry, fill: Callable[[int, int], None]) -> None:
        """Make the regular file *name* in the open directory *at*.

        Args:
            at: its file descriptor.
            name: without slashes.
            entry: what it shall be like.
            fill: writes the content to a file descriptor, so many bytes; not called for none.

        Raises:
            FileExistsError: something of that name is there; it was not touched.
            OSError: the disk refused.
        """
        mode = entry.mode
        owned = self._owner == (entry.uid, entry.gid)
        given = owned and not mode & self._taken
        fd = os.open(name, _NEW_FILE, mode if given else _PRIVATE, dir_fd=at)
        try:
            if entry.size:
                fill(fd, entry.size)
            if not given or entry.xattrs:
                self.set_metadata(fd, entry)
            else:
                os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def set_metadata(self, fd: int, entry: Entry) -> None:
        """Give an open file or directory its owner, mode, attributes and time.

        In this order: a new owner takes set-user-ID and capabilities away.
        """
        if self._owner != (entry.uid, entry.gid):
            os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)
        for key, value in entry.xattrs.items():
            self._set_xattr(lambda key, value: os.setxattr(fd, key, value), key, value)
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))

    def node(self, at: int, name: bytes, entry: Entry) -> None:
        """Make the symbolic link, device or FIFO *name* in the open directory *at*.

        Raises:
            FileExistsError: something of that name is there; it was not touched.
            DiskError: this process may not make devices.
        """
        if not self._make_node(at, name, entry):
            return
        if self._owner != (entry.uid, entry.gid):
            os.chown(name, entry.uid, entry.gid, dir_fd=at, follow_symlinks=False)
        if entry.kind is not Kind.SYMLINK:
            os.chmod(name, entry.mode, dir_fd=at)
        path = b"/proc/self/fd/%d/%b" % (at, name)
        for key, value in entry.xattrs.items():
            self._set_xattr(
                lambda key, value: os.setxattr(path, key, value, follow_symlinks=False), key, value
            )
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(name, ns=times, dir_fd=at, follow_symlinks=False)

    def _make_node(self, at: int, name: bytes, entry: Entry) -> bool:
        if entry.kind is Kind.SYMLINK:
            os.symlink(entry.link, name, dir_fd=at)
            return True
        try:
            device = os.makedev(*entry.device)
            os.mknod(name, _PRIVATE | _NODES[entry.kind], device, dir_fd=at)
        except PermissionError as error:
            if self._may_lose_devices:
                self.lost_devices.append(entry.name)
                return False
            raise DiskError(
                f"cannot make the device node /{readable(entry.name)}: {error.strerror}",
                hint="this takes root with CAP_MKNOD, outside of a user namespace",
            ) from error
        return True

    def _set_xattr(self, set_one: Callable[[bytes, bytes], None], key: bytes, value: bytes) -> None:
        if key.startswith(_OVERLAY_XATTRS):
            return
        try:
            set_one(key, value)
        except OSError as error:
            if error.errno not in XATTR_REFUSED:
                raise
            self.lost_xattrs.add(key)


def _hands_down_an_acl(directory: int) -> bool:
    try:
        os.getxattr(directory, _DEFAULT_ACL)
    except OSError:
        return False
    return True


def _umask() -> int:
    """Return the process's umask, without changing it for a moment; all bits if it is unknown.

    Source: proc(5), /proc/[pid]/status, since Linux 4.7.
    """
    with suppress(OSError):
        for line in Path("/proc/thread-self/status").read_text(errors="replace").splitlines():
            if line.startswith("Umask:"):
                return int(line.partition(":")[2], 8)
    return _ALL
