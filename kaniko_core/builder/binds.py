"""What RUN ``--mount=type=bind`` shows: files of the build context, of a stage, of an image.

Of the context a command must see what COPY would copy: nothing that .dockerignore excludes, and
everything owned by root. Where the directory is like that, it is shown itself; else a copy,
which is made once in a build.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from kaniko_core.builder.destination import Defaults, Destination
from kaniko_core.builder.files import Changes, FileCopier
from kaniko_core.builder.source import CopySource, Match, reading
from kaniko_core.builder.trees import Tree, Trees
from kaniko_core.builder.workspace import Workspace, discard
from kaniko_core.errors import KanikoError, SandboxError, disk_errors
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.rootfs.beneath import Whiteouts
from kaniko_core.rootfs.filling import unpack_entries
from kaniko_core.sandbox.runner import BindMount

_ROOT_MODE = 0o755  # of a context, whatever it has on the host
_FOR_ALL = 0o555
_CHUNK = 1 << 20  # bytes


class Binds:
    """The bind mounts of one build; safe to use from several threads."""

    def __init__(self, workspace: Workspace, trees: Trees) -> None:
        self._workspace = workspace
        self._trees = trees
        self._guard = threading.Lock()
        self._locks: dict[tuple[str, bytes], threading.Lock] = {}
        self._shown: dict[tuple[str, bytes], Path] = {}

    def files(
        self, origin: CopySource, source: str, target: str, stack: ExitStack, *, write: bool
    ) -> BindMount:
        """Return the mount that shows *source* of a context.

        Args:
            origin: the context; its name tells it from others.
            source: a path in it.
            target: where it is shown.
            stack: ends what lasts as long as the command.
            write: whether the command may write; what it writes is thrown away.

        Raises:
            KanikoError: there is no such file.
            ContextError: it cannot be read.
        """
        match = origin.named(source)
        path = self._path(origin, match)
        if not match.is_directory:
            if write:
                path = self._written_copy(path, stack)
            return BindMount(target, path.parent, path.name, writable=write)
        try:
            return self._trees.bound(path, target, stack, write=write)
        except SandboxError:
            # Not every file system can lie below another; ours can.
            path = self._copied(origin, match)
            return self._trees.bound(path, target, stack, write=write)

    def tree(
        self, tree: Tree, name: str, source: str, target: str, stack: ExitStack, *, write: bool
    ) -> BindMount:
        """Return the mount that shows *source* of a stage or image, called *name* in messages."""
        path = "/" + os.fsdecode(CopySource(tree.view, name).named(source).resolved)
        return tree.shown(path, target, stack, write=write)

    def _written_copy(self, path: Path, stack: ExitStack) -> Path:
        directory = self._workspace.fresh("writes")
        stack.callback(discard, directory)
        with disk_errors("copy a file for a command to", directory):
            directory.mkdir()
            shutil.copy2(path, directory / "file")
        return directory / "file"

    def _path(self, origin: CopySource, match: Match) -> Path:
        """Return where this host has what *match* shows, as a command is to see it."""
        key = (origin.name, match.resolved)
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._shown:
                plain = is_plain(origin, match)
                self._shown[key] = _host(origin, match) if plain else self._copy(origin, match)
            return self._shown[key]

    def _copied(self, origin: CopySource, match: Match) -> Path:
        """Return where there is a copy of the directory *match*, from now on for everybody."""
        key = (origin.name, match.resolved)
        with self._locks[key]:
            if self._shown[key] == _host(origin, match):
                self._shown[key] = self._copy(origin, match)
            return self._shown[key]

    def _copy(self, origin: CopySource, match: Match) -> Path:
        directory = self._workspace.fresh("binds")
        with disk_errors("copy files for a command to", directory):
            directory.mkdir()
            copy_files(
                copied_entries(origin, match),
                directory,
                self._trees.whiteouts,
                self._workspace.check,
            )
            if not match.is_directory:
                return directory / os.fsdecode(_base(match))
            directory.chmod(_mode(match))
            os.utime(directory, ns=(match.status.st_atime_ns, match.status.st_mtime_ns))
        return directory


def copied_entries(origin: CopySource, match: Match) -> list[Entry]:
    """Return what *match* has, as entries: the contents of a directory, or the one file."""
    destination = Destination(None, Defaults())
    changes = Changes(None if origin.keep_owners else (0, 0))
    copier = FileCopier(origin, destination, changes)
    if match.is_directory:
        copier.contents(match, b"")
    else:
        copier.file(match, _base(match))
    return destination.entries()


def copy_files(
    entries: Sequence[Entry], directory: Path, whiteouts: Whiteouts, check: Callable[[], None]
) -> None:
    """Put the files of *entries* into the empty *directory*, for as long as *check* lets us."""
    unpack_entries(entries, directory, whiteouts=whiteouts, check=check)


def fingerprint(entries: Sequence[Entry]) -> str:
    """Return a hash of all that *entries* are but their times, which differ in every build.

    Raises:
        DiskError: a file cannot be read.
    """
    hashed = hashlib.sha256()
    for entry in entries:
        attributes = sorted(entry.xattrs.items())
        fields = (entry.kind, entry.mode, entry.uid, entry.gid, entry.size, entry.device)
        hashed.update(repr((entry.name, entry.link, attributes, fields)).encode())
        if entry.kind is Kind.FILE and isinstance(entry.content, bytes):
            path = Path(os.fsdecode(entry.content))
            with disk_errors("read", path), path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    hashed.update(chunk)
    return hashed.hexdigest()


def is_plain(origin: CopySource, match: Match) -> bool:
    """Whether what is on the host is what a command is to see."""
    if origin.keep_owners or _host(origin, match).is_relative_to("/proc"):
        return False  # the sandbox cannot follow our descriptors
    if not _is_roots(match.status):
        return False
    if not match.is_directory:
        return True
    if not match.resolved and match.status.st_mode & _FOR_ALL != _FOR_ALL:
        return False
    waiting = [match.resolved]
    while waiting:
        directory = waiting.pop()
        with reading(origin, directory), os.scandir(origin.root.host_path(directory)) as children:
            for child in children:
                name = directory + b"/" + child.name if directory else child.name
                if origin.ignore is not None and origin.ignore.ignored(os.fsdecode(name)):
                    return False
                if not _is_roots(child.stat(follow_symlinks=False)):
                    return False
                if child.is_dir(follow_symlinks=False):
                    waiting.append(name)
    return True


def _is_roots(status: os.stat_result) -> bool:
    return (status.st_uid, status.st_gid) == (0, 0)


def _host(origin: CopySource, match: Match) -> Path:
    return Path(os.fsdecode(origin.root.host_path(match.resolved)))


def _base(match: Match) -> bytes:
    return match.resolved.rpartition(b"/")[2]


def _mode(match: Match) -> int:
    return stat.S_IMODE(match.status.st_mode) if match.resolved else _ROOT_MODE


def directory_named(origin: CopySource, source: str) -> Match:
    """Return the directory *source* of *origin*.

    Raises:
        KanikoError: there is no such directory.
    """
    match = origin.named(source)
    if not match.is_directory:
        raise KanikoError(
            f'"{source}" in {origin.name} is a file, and a cache is a directory',
            hint="name the directory that it is in",
        )
    return match
