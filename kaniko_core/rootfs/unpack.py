"""Unpacking one layer: into a directory of its own, or onto the layers beneath it.

    of its own   an overlayfs lower directory; whiteouts become overlayfs's, and what the layer
                 takes for granted (parent directories, targets of hard links) is copied up
    onto         a tree that holds the layers beneath; whiteouts delete. What others have in the
                 tree is left alone, and a second tree, the shadow, gets what the layer has there

Directories get their owner, mode, attributes and time when everything else is in place: before,
they would pass a group on to their files, refuse them, or lose their time to them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from errno import EBUSY, EISDIR, EPERM
from pathlib import Path
from typing import BinaryIO, Protocol

from kaniko_core.errors import ContentError, disk_error, disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.oci.tarheader import readable
from kaniko_core.oci.tarreader import TarReader
from kaniko_core.rootfs.beneath import Beneath, Found, Whiteouts, is_whiteout
from kaniko_core.rootfs.copying import copy_content
from kaniko_core.rootfs.directories import Cover, Directories, Directory, status_of
from kaniko_core.rootfs.hiding import Deletions, Hiding, Marks
from kaniko_core.rootfs.ignore import IgnoreRules
from kaniko_core.rootfs.making import Making
from kaniko_core.rootfs.tree import file_entry

_ROOT_MODE = 0o755
_HINTS = {
    EPERM: "owners and devices take root; so do files that are not this user's",
    EBUSY: "something is mounted there since the build began, or the kernel uses it",
}
NOTHING = IgnoreRules()


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What became of a layer.

    Attributes:
        entries: how many it had.
        lost_xattrs: names of extended attributes that could not be set on some file, sorted.
            The layer still has them; what runs on the unpacked tree does not see them.
        lost_devices: names of device nodes that could not be made, in the layer's order; only
            for ``OVERLAY_USER``, as a user namespace can have no device nodes.
    """

    entries: int
    lost_xattrs: tuple[str, ...]
    lost_devices: tuple[str, ...]


class Members(Protocol):
    """What is unpacked, entry by entry: a TarReader, or what stands before one and chooses."""

    def next(self) -> Entry | None:
        """Return the next entry; None at the end, before directories get their metadata."""

    def copy_to(self, fd: int, size: int) -> None:
        """Write the content of the entry, a file that is not empty, to *fd*."""


def _all(reader: TarReader) -> Members:
    return reader


def unpack(
    tar: BinaryIO,
    directory: Path,
    *,
    whiteouts: Whiteouts,
    below: Callable[[], Sequence[Path]] = tuple,
    covered: IgnoreRules = NOTHING,
    shadow: Path | None = None,
    chosen: Callable[[TarReader], Members] = _all,
) -> Unpacked:
    """Unpack the uncompressed *tar* of a layer into *directory*, which exists.

    The tar is read to its very end, and not closed. After an error, half of the layer may be
    there.

    Args:
        tar: a stream whose reads may be short.
        directory: an empty one, but for ``Whiteouts.APPLY``.
        whiteouts: what to do with whiteouts.
        below: gives the unpacked directories of the layers beneath, topmost first. Called at
            most once, when the layer takes something in them for granted, or at the end when it
            has whiteouts; may block.
        covered: what must stay as it is, whatever the layer has; only for ``Whiteouts.APPLY``.
        shadow: gets what the layer has at covered paths, and whatever but a directory it has
            where something covered keeps a directory from being replaced. Needed with *covered*;
            the same for every layer of a tree, empty at the first; made where it is missing.
        chosen: what to unpack of the tar, and how; everything as it is, unless given.

    Raises:
        ContentError: the archive is damaged, or links to what is not there.
        UnsafeEntry: a name could leave *directory*.
        DiskError: the disk refused, or this process may not do what the layer asks for.
    """
    members = chosen(TarReader(tar))
    return unpack_members(
        members, directory, whiteouts=whiteouts, below=below, covered=covered, shadow=shadow
    )


def unpack_members(
    members: Members,
    directory: Path,
    *,
    whiteouts: Whiteouts,
    below: Callable[[], Sequence[Path]],
    covered: IgnoreRules,
    shadow: Path | None,
) -> Unpacked:
    """Unpack *members*, wherever they come from, as :func:`unpack` does those of a tar."""
    with ExitStack() as stack:
        root = _opened(directory, stack)
        cover = None
        if covered.covered:
            assert shadow is not None and whiteouts is Whiteouts.APPLY
            with disk_errors("make", shadow):
                shadow.mkdir(parents=True, exist_ok=True)
            cover = Cover(covered, _opened(shadow, stack))
            if covered.covers(b""):
                root = cover.shadow
        unpacker = _Unpacker(root, whiteouts, Beneath(below, whiteouts), cover)
        stack.callback(unpacker.close)
        try:
            return unpacker.unpack(members)
        except OSError as error:
            doing = f"unpack /{readable(unpacker.current)} into"
            failure = disk_error(error, doing, directory)
            failure.hint = _HINTS.get(error.errno or 0, failure.hint)
            raise failure from error


def _opened(directory: Path, stack: ExitStack) -> int:
    """Return a file descriptor of *directory*, which *stack* closes."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise disk_error(error, "unpack a layer into", directory) from error
    stack.callback(os.close, fd)
    return fd


@dataclass(frozen=True, slots=True)
class _Source:
    """The target of a hard link: its real path, from the open directory *root*."""

    root: int
    path: bytes


class _Unpacker:
    """One layer being unpacked; *current* is the name of the entry, for messages."""

    def __init__(
        self, root: int, whiteouts: Whiteouts, beneath: Beneath, cover: Cover | None
    ) -> None:
        self._root = root
        self._whiteouts = whiteouts
        self._beneath = beneath
        self._directories = Directories(root, whiteouts, beneath, cover)
        self._hiding: Hiding
        if whiteouts is Whiteouts.APPLY:
            self._hiding = Deletions(self._directories)
        else:
            self._hiding = Marks(self._directories, beneath)
        self._making = Making(
            root,
            fresh=cover is None,
            # A user namespace cannot have any; a container in place has its own /dev.
            may_lose_devices=whiteouts is Whiteouts.OVERLAY_USER or cover is not None,
        )
        self.current = b""

    def close(self) -> None:
        self._directories.close()

    def unpack(self, reader: Members) -> Unpacked:
        count = 0
        while (entry := reader.next()) is not None:
            count += 1
            self.current = entry.name
            self._put(entry, reader)
        self._hiding.finish()
        self._finish_directories()
        return Unpacked(
            count,
            tuple(sorted(map(readable, self._making.lost_xattrs))),
            tuple(map(readable, self._making.lost_devices)),
        )

    def _put(self, entry: Entry, reader: Members) -> None:
        kind = entry.kind
        if kind is Kind.OPAQUE:
            directory = self._directories.find(entry.name)
            if directory is not None:
                self._hiding.empty(directory)
            return
        where, _, name = entry.name.rpartition(b"/")
        if kind is Kind.WHITEOUT:
            found = self._directories.find(where)
            if found is not None:
                self._hiding.remove(found, name)
            return
        if not name:
            self._directories.pending[b""] = entry
            return
        source = self._link_source(entry) if kind is Kind.HARDLINK else None
        parent = self._directories.open(where)
        # Most names lead through no links.
        real = entry.name if parent.path == where else parent.child(name)
        itself = source is not None and source.path == real
        if parent.sheltering and kind is not Kind.DIRECTORY and not itself:
            parent = self._directories.room(parent, name)
        if kind is Kind.FILE:
            self._file(parent, name, entry, reader.copy_to)
        elif kind is Kind.DIRECTORY:
            self._directories.make(parent, name, entry)
        elif source is not None:
            self._link(parent, name, source)
        else:
            self._node(parent, name, entry)
        self._hiding.added(real)
        if kind is not Kind.DIRECTORY:
            self._directories.made(real)

    def _file(
        self, parent: Directory, name: bytes, entry: Entry, fill: Callable[[int, int], None]
    ) -> None:
        try:
            self._making.file(parent.fd, name, entry, fill)
        except FileExistsError:
            parent = self._cleared(parent, name)
            self._making.file(parent.fd, name, entry, fill)

    def _node(self, parent: Directory, name: bytes, entry: Entry) -> None:
        """Make a symbolic link, device or FIFO."""
        try:
            self._making.node(parent.fd, name, entry)
        except FileExistsError:
            parent = self._cleared(parent, name)
            self._making.node(parent.fd, name, entry)

    def _link(self, parent: Directory, name: bytes, source: _Source) -> None:
        """Make another name for the file *source*, or a copy if the shadow has one of the two."""
        if source.path == parent.child(name):
            return
        if source.root != parent.root:
            host_path = b"/proc/self/fd/%d/%b" % (source.root, source.path)
            status = os.stat(host_path, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):  # since a moment ago: a link to what is above it
                raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
            self._copy_up(parent, name, Found(host_path, status))
            return
        # A path from the root, for opening its directory could close *parent*.
        at = source.root
        try:
            os.link(source.path, name, src_dir_fd=at, dst_dir_fd=parent.fd, follow_symlinks=False)
        except FileExistsError:
            parent = self._cleared(parent, name)
            os.link(source.path, name, src_dir_fd=at, dst_dir_fd=parent.fd, follow_symlinks=False)

    def _link_source(self, entry: Entry) -> _Source:
        """Return a hard link's target, copied up from beneath if need be."""
        where, _, name = entry.link.rpartition(b"/")
        directory = self._directories.find(where)
        if directory is not None:
            directory = self._directories.side(directory, name)
            real = directory.child(name)
            status = status_of(directory, name)
            own_tree = self._whiteouts is Whiteouts.APPLY
            if status is None and not own_tree and not self._directories.hidden(real):
                found = self._beneath.find(real)
                if found is not None and not stat.S_ISDIR(found.status.st_mode):
                    self._copy_up(directory, name, found)
                    return _Source(directory.root, real)
            elif status is not None and (own_tree or not is_whiteout(status)):
                if stat.S_ISDIR(status.st_mode):
                    raise ContentError(
                        f"/{readable(entry.name)} is a hard link to /{readable(entry.link)}, "
                        "which is a directory"
                    )
                return _Source(directory.root, real)
        raise ContentError(
            f"/{readable(entry.name)} is a hard link to /{readable(entry.link)}, which is not there"
        )

    def _copy_up(self, parent: Directory, name: bytes, found: Found) -> None:
        entry = file_entry(parent.child(name), found.status, found.host_path)
        if entry is None:
            return
        if entry.kind is Kind.FILE:
            self._file(parent, name, entry, lambda fd, size: _copy(found.host_path, fd, size))
        else:
            self._node(parent, name, entry)

    def _cleared(self, parent: Directory, name: bytes) -> Directory:
        """Remove *name* for what the layer puts there, and return its directory again."""
        path = parent.path
        if self._directories.remove(parent, name):
            return self._directories.side(self._directories.open(path), name)
        return parent

    def _finish_directories(self) -> None:
        pending = self._directories.pending
        if self._whiteouts is not Whiteouts.APPLY and b"" not in pending:
            self._making.set_metadata(
                self._root, Entry(b"", Kind.DIRECTORY, _ROOT_MODE, os.geteuid(), os.getegid())
            )
        # Children first: their parents may end up closed to us.
        for path in sorted(pending, reverse=True):
            self.current = path
            directory = self._directories.exactly(path)
            if directory is not None:
                self._making.set_metadata(directory.fd, pending[path])


def _copy(host_path: bytes, fd: int, size: int) -> None:
    source = os.open(host_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        copy_content(source, fd, size)
    finally:
        os.close(source)


__all__ = ["NOTHING", "Members", "Unpacked", "Whiteouts", "unpack", "unpack_members"]
