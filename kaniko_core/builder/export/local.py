"""Files of an image in a directory of this machine, beside what is there already.

They belong to whoever runs the build, as BuildKit has it for this output: owners are kept in a
tar. Names are made one below the other in open directories, so that no link, of the image or of
the directory, leads elsewhere. What is in the way is replaced, but for directories with
something in them in the place of a file: those are somebody's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import field
from errno import EACCES, EMLINK, ENOTSUP, EPERM, EXDEV
from pathlib import Path

from kaniko_core.builder.export.kept import Content, Contents
from kaniko_core.errors import DiskError, disk_error, disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.oci.tarheader import readable
from kaniko_core.rootfs.descent import Descent
from kaniko_core.rootfs.tree import XATTR_REFUSED

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Nobody else may look in before the image's own mode is set.
_NEW = 0o700
_ANOTHER_IDENTITY = stat.S_ISUID | stat.S_ISGID
# The file system has no links, or not so many; or a directory on the way does not let us through.
_NO_LINKS = frozenset({EACCES, EMLINK, ENOTSUP, EPERM, EXDEV})
_NODES = {
    Kind.CHARACTER: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
    Kind.FIFO: stat.S_IFIFO,
}


@dataclass(slots=True)
class Lost:
    """What could not be had here.

    Attributes:
        xattrs: names of extended attributes that some file did not get.
        devices: names of device nodes that were not made.
        identities: names of files that would have run as another user, and do not.
    """

    xattrs: set[str] = field(default_factory=set)
    devices: list[str] = field(default_factory=list)
    identities: list[str] = field(default_factory=list)


def write_files(
    found: Iterable[tuple[Entry, Content | None]], contents: Contents, directory: Path
) -> Lost:
    """Write files into *directory*, which exists.

    After an error, some of them are there.

    Args:
        found: parents before their children, and what is in a directory before what is beside it.
        contents: of the files.
        directory: may be a link to one.

    Raises:
        DiskError: the disk refused, or something is in the way.
    """
    with disk_errors("write files into", directory):
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    writing = _Writing(root, contents)
    try:
        for entry, content in found:
            writing.put(entry, content)
        writing.leave_until(b"")
    except OSError as error:
        doing = f"write /{readable(writing.current)} into"
        raise disk_error(error, doing, directory) from error
    except DiskError as error:
        error.add_note(f"while writing files into {directory}")
        raise
    finally:
        writing.close()
        os.close(root)
    return writing.lost


class _Writing:
    """Files being written; *current* is the name of the last one, for messages."""

    def __init__(self, root: int, contents: Contents) -> None:
        self._root = root
        self._contents = contents
        self._descent = Descent(root)
        # Directories that are open, and get what they shall be like when they are left: before,
        # they could refuse their files, and would lose their time to them.
        self._open: list[Entry] = []
        self._owner = (os.geteuid(), os.getegid())
        self.lost = Lost()
        self.current = b""

    def close(self) -> None:
        self._descent.close()

    def put(self, entry: Entry, content: Content | None) -> None:
        where, _, name = entry.name.rpartition(b"/")
        self.leave_until(where)
        self.current = entry.name
        match entry.kind:
            case Kind.DIRECTORY:
                self._enter(name, entry)
            case Kind.FILE:
                self._file(name, entry, content)
            case Kind.HARDLINK:
                self._link(name, entry, content)
            case _:
                self._node(name, entry)

    def leave_until(self, path: bytes) -> None:
        """Go up until the current directory is *path*."""
        while self._descent.path != path:
            entry = self._open.pop()
            self.current = entry.name
            self._set_metadata(self._descent.fd, entry)
            self._descent.up()

    def _enter(self, name: bytes, entry: Entry) -> None:
        at = self._descent.fd
        try:
            os.mkdir(name, _NEW, dir_fd=at)
        except FileExistsError:
            status = os.stat(name, dir_fd=at, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                os.unlink(name, dir_fd=at)
                os.mkdir(name, _NEW, dir_fd=at)
        self._descent.down(name)
        self._open.append(entry)
        if os.fstat(self._descent.fd).st_mode & _NEW != _NEW:
            os.fchmod(self._descent.fd, _NEW)

    def _file(self, name: bytes, entry: Entry, content: Content | None) -> None:
        fd = self._making(name, lambda at: os.open(name, _NEW_FILE, 0o600, dir_fd=at))
        try:
            if content is not None:
                self._contents.copy_to(content, fd)
            self._set_metadata(fd, entry)
        finally:
            os.close(fd)

    def _link(self, name: bytes, entry: Entry, content: Content | None) -> None:
        def link(at: int) -> int:
            # All directories on the way are our own doing by now, and none is a link.
            os.link(entry.link, name, src_dir_fd=self._root, dst_dir_fd=at, follow_symlinks=False)
            return at

        try:
            self._making(name, link)
        except OSError as error:
            if error.errno not in _NO_LINKS or content is None:
                raise
            self._file(name, entry, content)

    def _node(self, name: bytes, entry: Entry) -> None:
        """Make a symbolic link, device or FIFO."""
        try:
            at = self._making(name, lambda at: _make_node(name, entry, at))
        except PermissionError:
            if entry.kind not in {Kind.CHARACTER, Kind.BLOCK}:
                raise
            self.lost.devices.append(readable(entry.name))
            return
        if entry.kind is not Kind.SYMLINK:
            os.chmod(name, self._mode(entry), dir_fd=at)
        path = b"/proc/self/fd/%d/%b" % (at, name)
        self._set_xattrs(entry, lambda k, v: os.setxattr(path, k, v, follow_symlinks=False))
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(name, ns=times, dir_fd=at, follow_symlinks=False)

    def _making(self, name: bytes, make: Callable[[int], int]) -> int:
        """Make *name* by *make*, which is given the directory; what is in the way is removed."""
        at = self._descent.fd
        try:
            return make(at)
        except FileExistsError:
            status = os.stat(name, dir_fd=at, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(name, dir_fd=at)
            return make(at)
        try:
            os.rmdir(name, dir_fd=at)
        except OSError as error:
            raise DiskError(
                f"/{readable(self.current)} cannot be written: a directory of that name is there",
                hint="remove it, or name another directory",
            ) from error
        return make(at)

    def _mode(self, entry: Entry) -> int:
        """Return the mode of a file that is ours now."""
        borrowed = entry.mode & _ANOTHER_IDENTITY
        if not borrowed or self._owner == (entry.uid, entry.gid) or entry.kind is Kind.DIRECTORY:
            return entry.mode
        # It was to run as somebody else, and would run as us.
        self.lost.identities.append(readable(entry.name))
        return entry.mode & ~_ANOTHER_IDENTITY

    def _set_metadata(self, fd: int, entry: Entry) -> None:
        os.fchmod(fd, self._mode(entry))
        self._set_xattrs(entry, lambda key, value: os.setxattr(fd, key, value))
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))

    def _set_xattrs(self, entry: Entry, set_one: Callable[[bytes, bytes], None]) -> None:
        for key, value in entry.xattrs.items():
            try:
                set_one(key, value)
            except OSError as error:
                if error.errno not in XATTR_REFUSED:
                    raise
                self.lost.xattrs.add(readable(key))


def _make_node(name: bytes, entry: Entry, at: int) -> int:
    """Make what *entry* says in the open directory *at*, and return that."""
    if entry.kind is Kind.SYMLINK:
        os.symlink(entry.link, name, dir_fd=at)
    else:
        device = os.makedev(*entry.device)
        os.mknod(name, 0o600 | _NODES[entry.kind], device, dir_fd=at)
    return at
