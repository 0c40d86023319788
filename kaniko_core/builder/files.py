"""Files of a source tree as entries of a layer: the part of COPY that has to be fast.

A copied directory is walked once, with one ``lstat`` and one ``listxattr`` per file; what
.dockerignore excludes is not even looked into, unless something below may be included again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import field
from errno import EACCES

from kaniko_core.builder.destination import DESCRIPTIONS, Destination, printable
from kaniko_core.builder.source import CopySource, Match, reading, unreadable
from kaniko_core.context.ignore import IgnorePatterns
from kaniko_core.dockerfile.modes import apply_mode
from kaniko_core.errors import KanikoError
from kaniko_core.lean import dataclass
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.rootfs.tree import file_entry

_ACLS = b"system.posix_acl_"


@dataclass(slots=True)
class Changes:
    """What ``--chown`` and ``--chmod`` do to copied files; None leaves the source's.

    *chmod* is octal or symbolic, as :mod:`kaniko_core.dockerfile.modes` reads it.
    """

    owner: tuple[int, int] | None = None
    chmod: str | None = None
    _modes: dict[tuple[int, bool], int] = field(default_factory=dict)

    def mode(self, mode: int, is_directory: bool) -> int:
        """Return the permission bits that a file or directory with *mode* gets."""
        if self.chmod is None:
            return mode & 0o7777
        key = (mode & 0o7777, is_directory)
        if key not in self._modes:
            self._modes[key] = apply_mode(self.chmod, *key)
        return self._modes[key]


@dataclass(slots=True)
class _Directory:
    """A directory of the source that is being copied.

    Attributes:
        source: its name in the origin, which .dockerignore speaks of.
        relative: its name below the directory that was named, which the flags speak of.
        name: what it becomes.
        entry: to be put before anything in it; None where that was done.
        parent: the directory that it is in; None for the one that was named.
        implied: whether the flags ask for something in it, but not for itself.
    """

    source: bytes
    relative: bytes
    name: bytes
    entry: Entry | None
    parent: _Directory | None
    implied: bool = False


@dataclass(slots=True)
class FileCopier:
    """Puts the files of one source word into a destination.

    Attributes:
        filters: what ``--exclude`` and ``--parents`` leave out, for names relative to the
            copied directory.
    """

    origin: CopySource
    destination: Destination
    changes: Changes
    filters: tuple[IgnorePatterns, ...] = ()
    _seen: dict[tuple[int, int], object] = field(default_factory=dict)
    _privileged: bool = field(default_factory=lambda: os.geteuid() == 0)

    @property
    def _selective(self) -> bool:
        return self.origin.ignore is not None or bool(self.filters)

    def wants(self, match: Match) -> bool:
        """Whether ``--exclude`` leaves the file that *match* is."""
        name = os.fsdecode(match.path.rpartition(b"/")[2])
        return not any(patterns.ignored(name) for patterns in self.filters)

    def file(self, match: Match, name: bytes) -> None:
        """Put the file that *match* is at *name*, whose parent exists."""
        with reading(self.origin, match.path):
            self._file(self.origin.root.host_path(match.resolved), match.status, name)

    def contents(self, match: Match, name: bytes) -> None:
        """Put everything in the directory that *match* is into the directory *name*."""
        top = _Directory(match.resolved, b"", name, None, None)
        waiting = [(top, self._children(top))]
        # Not recursive: trees can be deeper than Python's stack.
        while waiting:
            directory = self._put_up_to_directory(*waiting[-1])
            if directory is None:
                waiting.pop()
            else:
                waiting.append((directory, self._children(directory)))

    def _children(self, directory: _Directory) -> Iterator[os.DirEntry[bytes]]:
        with reading(self.origin, directory.source):
            return iter(sorted(self.origin.root.scan(directory.source), key=_name))

    def _put_up_to_directory(
        self, into: _Directory, children: Iterator[os.DirEntry[bytes]]
    ) -> _Directory | None:
        """Put *children* until one of them is to be looked into: return it, or None at the end."""
        selective = self._selective
        start = into.name + b"/" if into.name else b""
        for child in children:
            if selective or child.is_dir(follow_symlinks=False):
                directory = self._child(into, child)
                if directory is not None:
                    return directory
                continue
            # Nothing is left out, so that all directories on the way have been put.
            try:
                self._file(child.path, child.stat(follow_symlinks=False), start + child.name)
            except OSError as error:
                raise unreadable(self.origin, _below(into.source, child.name), error) from error
        return None

    def _child(self, into: _Directory, child: os.DirEntry[bytes]) -> _Directory | None:
        """Put *child*, or return it where it is a directory to look into."""
        base = child.name
        source = _below(into.source, base)
        relative = _below(into.relative, base)
        is_directory = child.is_dir(follow_symlinks=False)
        left_out = self._left_out(source, relative) if self._selective else ()
        if left_out and not (
            is_directory and all(patterns.may_include_below(path) for patterns, path in left_out)
        ):
            return None
        name = _below(into.name, base)
        try:
            status = child.stat(follow_symlinks=False)
            if not is_directory:
                self._make(into)
                self._file(child.path, status, name)
                return None
            entry = file_entry(name, status, child.path)
        except OSError as error:
            raise unreadable(self.origin, source, error) from error
        if entry is not None:
            self._change(entry)
        implied = any(patterns is not self.origin.ignore for patterns, _ in left_out)
        directory = _Directory(source, relative, name, entry, into, implied)
        if not left_out:
            self._make(directory)
        return directory

    def _left_out(self, source: bytes, relative: bytes) -> list[tuple[IgnorePatterns, str]]:
        """Return the lists that leave a file out, each with the name that it knows it by."""
        ignore = self.origin.ignore
        names = os.fsdecode(source), os.fsdecode(relative)
        found = [(ignore, names[0])] if ignore is not None and ignore.ignored(names[0]) else []
        found += [(patterns, names[1]) for patterns in self.filters if patterns.ignored(names[1])]
        return found

    def _make(self, directory: _Directory | None) -> None:
        """Put the entries of *directory* and those above it, as far as that was not done yet."""
        missing = []
        while directory is not None and directory.entry is not None:
            missing.append(directory)
            directory = directory.parent
        for item in reversed(missing):
            if item.entry is not None:
                self._check_place(item.name)
                if item.implied and self.destination.kind(item.name) is Kind.DIRECTORY:
                    self.destination.set_mode(item.name, item.entry.mode)
                else:
                    self.destination.put(item.entry)
                item.entry = None

    def _check_place(self, name: bytes) -> None:
        there = self.destination.kind(name)
        if there not in (None, Kind.DIRECTORY, Kind.SYMLINK):
            raise KanikoError(
                f"/{printable(name)} is a directory in {self.origin.name} and "
                f"{DESCRIPTIONS[there]} in the image",
                hint="remove one of them, or choose another destination",
            )

    def _file(self, host: bytes, status: os.stat_result, name: bytes) -> None:
        entry = file_entry(name, status, host)
        if entry is None:
            return  # a socket: it means something only to the process that listens
        key = None
        if entry.kind is Kind.FILE:
            if status.st_nlink > 1:
                key = self._seen.setdefault((status.st_dev, status.st_ino), object())
            # It will be opened when the layer is packed; the person should hear of it now.
            if not self._privileged and not os.access(host, os.R_OK, effective_ids=True):
                raise PermissionError(EACCES, os.strerror(EACCES))
        self._change(entry)
        self.destination.put(entry, same_file=key)

    def _change(self, entry: Entry) -> None:
        if self.changes.owner is not None:
            entry.uid, entry.gid = self.changes.owner
        if self.changes.chmod is not None and entry.kind is not Kind.SYMLINK:
            entry.mode = self.changes.mode(entry.mode, entry.kind is Kind.DIRECTORY)
        if entry.xattrs and not self.origin.keep_owners:
            # Access control lists name users of the machine that the context comes from.
            entry.xattrs = {k: v for k, v in entry.xattrs.items() if not k.startswith(_ACLS)}


def _below(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name


def _name(entry: os.DirEntry[bytes]) -> bytes:
    return entry.name
