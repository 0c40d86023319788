"""Where COPY and ADD take files from: the build context, another stage, an image.

Sources are looked up as BuildKit does: ``..`` stops at the root, symbolic links are followed
inside it, wildcards are matched name by name, and what .dockerignore excludes does not exist.
"""

from __future__ import annotations

import difflib
import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kaniko_core.builder.destination import printable
from kaniko_core.context.ignore import IgnorePatterns
from kaniko_core.dockerfile.wildcards import has_wildcard, matches
from kaniko_core.errors import ContextError, DiskError, KanikoError, reason_of
from kaniko_core.lean import dataclass
from kaniko_core.rootfs.tree import Rootfs

_IGNORED = "is excluded by .dockerignore"
# How many names a hint lists.
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class CopySource:
    """A tree that is copied from.

    Attributes:
        root: the tree.
        name: for messages: ``the build context``, ``stage builder``, ``image alpine:3``.
        ignore: patterns of .dockerignore; None for anything but the build context.
        keep_owners: whether files keep their owner where ``--chown`` does not say otherwise.
            The build context's are the accident of whose checkout it is: they become root's.
    """

    root: Rootfs
    name: str
    ignore: IgnorePatterns | None = None
    keep_owners: bool = True

    def find(self, source: str) -> list[Match]:
        """Return what the source word *source* names, sorted.

        A wildcard may match nothing; a name without wildcards must exist.

        Raises:
            KanikoError: there is no such file.
            ContextError: a directory cannot be read.
        """
        with self._looking():
            return self._find(source, _tidied(source))

    def expect(self, source: str, top: Match, name: str) -> None:
        """Make sure that *name*, below the directory *top*, is there: *source* asks for it.

        Raises:
            KanikoError: it is not, or a symbolic link is on the way to it.
        """
        path = top.resolved + b"/" + _encoded(name) if top.resolved else _encoded(name)
        if self.root.lstat(path) is None or self._excluded(path):
            raise self._missing(source, _decoded(path))
        real = self.root.resolve_parent(path)
        if real != path:
            raise KanikoError(
                f'source "{source}" leads through a symbolic link of {self.name}, and --parents '
                "copies links as they are",
                hint=f"write {printable(real)}, or leave --parents out",
            )

    def named(self, source: str) -> Match:
        """Return what *source* names, in which wildcards are characters like any other.

        Raises:
            KanikoError: there is no such file.
            ContextError: a directory cannot be read.
        """
        with self._looking():
            return self._existing(source, _tidied(source))

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Say of which tree the disk speaks, where it refuses."""
        try:
            yield
        except DiskError as error:
            raise ContextError(f"in {self.name}: {error}", hint=error.hint) from error

    def _find(self, source: str, path: str) -> list[Match]:
        parts = path.split("/") if path else []
        wild = next((i for i, part in enumerate(parts) if has_wildcard(part)), len(parts))
        start = self._existing(source, "/".join(parts[:wild]))
        if wild == len(parts):
            return [start]
        if not start.is_directory:
            return []
        return list(self._matching(start.path, parts[wild:]))

    def _existing(self, source: str, path: str) -> Match:
        match = self._match(_encoded(path))
        if match is None:
            raise self._missing(source, path)
        return match

    def _match(self, path: bytes) -> Match | None:
        """Return what *path* leads to; None where nothing is, or the context excludes it."""
        if self.root.lstat(path) is None or self._excluded(path):
            return None
        resolved = self.root.resolve(path)
        status = self.root.lstat(resolved)
        if status is None or (resolved != path and self._excluded(resolved)):
            raise KanikoError(
                f'"{printable(path)}" in {self.name} is a symbolic link to '
                f'"{printable(resolved)}", which {"is not there" if status is None else _IGNORED}',
                hint="a link that is named is followed; copy its directory to keep it a link",
            )
        return Match(path, resolved, status)

    def _matching(self, directory: bytes, patterns: Sequence[str]) -> Iterator[Match]:
        for name in self.root.listdir(directory):
            if not matches(patterns[0], _decoded(name)):
                continue
            path = directory + b"/" + name if directory else name
            if len(patterns) == 1:
                match = self._match(path)
                if match is not None:
                    yield match
                continue
            # Wildcards do not look behind links: they would find files twice, or without end.
            status = self.root.lstat(path)
            if status is not None and stat.S_ISDIR(status.st_mode):
                yield from self._matching(path, patterns[1:])

    def _excluded(self, path: bytes) -> bool:
        """Whether .dockerignore takes *path* out of the context, with all that is below."""
        if self.ignore is None or not path or not self.ignore.ignored(_decoded(path)):
            return False
        return not (self.ignore.may_include_below(_decoded(path)) and self._has_included(path))

    def _has_included(self, path: bytes) -> bool:
        """Whether anything below the ignored directory *path* is in the context nevertheless."""
        status = self.root.lstat(path)
        if status is None or not stat.S_ISDIR(status.st_mode):
            return False
        return any(not self._excluded(path + b"/" + name) for name in self.root.listdir(path))

    def _missing(self, source: str, path: str) -> KanikoError:
        where = self.name
        if posixpath.normpath(source).startswith("../"):
            return KanikoError(
                f'source "{source}" is outside {where}',
                hint="only files below it can be copied; choose another context directory",
            )
        if self.root.lstat(_encoded(path)) is not None:
            return KanikoError(
                f'source "{source}" is excluded from {where} by .dockerignore',
                hint=f"add !{path} to the end of .dockerignore to copy it nevertheless",
            )
        return KanikoError(f'source "{source}" does not exist in {where}', hint=self._hint(path))

    def _hint(self, path: str) -> str:
        directory, _, name = path.rpartition("/")
        parent = self.root.stat(directory)
        if parent is None or not stat.S_ISDIR(parent.st_mode):
            return f"there is no directory {directory} either"
        names = [_decoded(item) for item in self.root.listdir(directory)]
        close = difflib.get_close_matches(name, names, 1)
        if close:
            return f"did you mean {posixpath.join(directory, close[0])}?"
        shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
        return f"{directory or 'it'} has {shown or 'no files'}"


@dataclass(frozen=True, slots=True)
class Match:
    """A file or directory that a source word names.

    Attributes:
        path: as it was named: its last part is the name that the copy gets.
        resolved: where that led, relative to the origin's root.
        status: of what is there; never a symbolic link.
    """

    path: bytes
    resolved: bytes
    status: os.stat_result

    @property
    def is_directory(self) -> bool:
        """Whether its contents are copied, not itself."""
        return stat.S_ISDIR(self.status.st_mode)


@dataclass(frozen=True, slots=True)
class LocalWord:
    """A source word, expanded, that names files of the instruction's :class:`CopySource`."""

    text: str


@dataclass(frozen=True, slots=True)
class InlineFile:
    """A here-document: *name* is its word, *content* what the file holds, expanded."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A file that ADD fetched from a URL.

    Attributes:
        path: where it is on this host; it must last as long as the entries.
        name: what it is called in a destination that is a directory.
        mode: permission bits.
        mtime_ns: nanoseconds since the epoch.
        unpack: whether an archive is unpacked; anything else is copied all the same.
    """

    path: Path
    name: str
    mode: int = 0o600
    mtime_ns: int = 0
    unpack: bool = False


@dataclass(frozen=True, slots=True)
class FetchedTree:
    """A tree that ADD fetched, such as a repository: the contents of its root are copied."""

    tree: CopySource


# What one source of COPY or ADD turned out to be.
SourceItem = LocalWord | InlineFile | FetchedFile | FetchedTree


def _tidied(source: str) -> str:
    """Return a source word relative to the root, which it cannot leave."""
    return posixpath.normpath(f"/{source}").lstrip("/")


def _encoded(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _decoded(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


@contextmanager
def reading(origin: CopySource, path: bytes) -> Iterator[None]:
    """Turn what the disk says against reading *path* of *origin* into a sentence."""
    try:
        yield
    except OSError as error:
        raise unreadable(origin, path, error) from error


def unreadable(origin: CopySource, path: bytes, error: OSError) -> ContextError:
    """Return the error for a source that cannot be read."""
    return ContextError(
        f'cannot read "{printable(path) or "."}" in {origin.name}: {reason_of(error)}',
        hint="the build runs as a user who must be able to read everything that it copies",
    )
