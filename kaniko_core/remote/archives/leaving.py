"""What .dockerignore leaves out of an archive while it is being unpacked.

The patterns come from outside, or are in the archive itself. Then nothing is left out before
they have come, and what they would have left out is removed at the end.

    .dockerignore   build/a.o   src/a.c                    build/ is never written
    build/a.o   .dockerignore   src/a.c                    build/ is written, and removed
    .dockerignore   build/a.o   Dockerfile.dockerignore    the latter counts, and may want
                                                           build/: again, with its patterns

Only what the final context's own patterns leave out may be missing; so where an archive is too
strange to tell, it is unpacked again, and looked through afterwards.
"""

from __future__ import annotations

import os
import posixpath
import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from kaniko_core.context.ignore import IgnorePatterns
from kaniko_core.context.leaving import IgnoreFiles, read_patterns
from kaniko_core.errors import KanikoError
from kaniko_core.lean import dataclass
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.oci.tarheader import readable
from kaniko_core.rootfs.descent import Descent, delete
from kaniko_core.rootfs.ignore import IgnoreRules
from kaniko_core.rootfs.tree import MOST_LINKS, Rootfs

LARGEST_PATTERNS = 4 << 20  # bytes; nobody has written a larger file with patterns
# Names that are remembered until patterns come: in most archives that is soon.
_MOST_EARLY = 1000
_NOTHING = IgnoreRules()
_IMPLIED_MODE = 0o755
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Pass:
    """How an archive is gone through: at first, believing the first patterns that come.

    Attributes:
        found: what the file with patterns holds that counts, as an earlier pass has seen.
        everything: leave out nothing before the end.
    """

    found: bytes | None = None
    everything: bool = False


class OnceMore(Exception):  # noqa: N818 - no error, but a wish
    """What was left out is needed: the archive must be unpacked again.

    Attributes:
        hint: what to do where it cannot be had again.
        then: how to go through it.
    """

    def __init__(self, reason: str, hint: str, then: Pass) -> None:
        super().__init__(reason)
        self.hint = hint
        self.then = then


class Leaving:
    """Decides for each entry of an archive, in their order.

    Args:
        files: where patterns come from.
        directory: what the archive is unpacked into, empty at first.
        how: what is known from earlier passes.

    Attributes:
        patterns: those that count now; None as long as there are none.
    """

    def __init__(self, files: IgnoreFiles, directory: Path, how: Pass) -> None:
        self._files = files
        self._directory = directory
        self._how = how
        self._inside = files.known is None
        # The file that the patterns are from: what is in it, and its precedence.
        self._data = how.found if self._inside else None
        self._rank = len(files.names)
        self._names: dict[bytes, int] = {}
        self.patterns: IgnorePatterns | None = None
        if not how.everything:
            self.patterns = files.known
            if self._inside and how.found is not None:
                self.patterns = _parsed(how.found)
            elif self._inside:
                self._names = {_encoded(name): rank for rank, name in enumerate(files.names)}
        # What was let through without patterns, and whether it must be looked at again.
        self._early: list[tuple[bytes, bool]] = []
        self._look_again = how.everything
        self._links: dict[bytes, bytes] = {}
        self._left_out = False
        # Directories of what was left out: they are there even if the archive does not say so.
        self._parents: set[bytes] = set()
        self._gone = b"\0"  # a directory that is left out, with its slash

    def wants(self, entry: Entry) -> bool:
        """Whether what is in *entry* must be given to :meth:`came`."""
        rank = self._names.get(entry.name)
        return rank is not None and rank <= self._rank

    def came(self, name: bytes, data: bytes | None) -> None:
        """Take the patterns of a file; None where it cannot be said what is in it.

        Raises:
            OnceMore: other patterns have left something out.
        """
        rank = self._names[name]
        if rank == self._rank and data == self._data:
            return
        if self._left_out:
            raise OnceMore(
                f"{readable(name)} comes after files that other patterns have left out",
                f"put it first: tar c {readable(name)} …",
                Pass(data, everything=data is None),
            )
        # What came through a link may be in a place that is left out.
        self._look_again = self._look_again or self.patterns is not None or bool(self._links)
        self._rank, self._data = rank, data
        self.patterns = None if data is None else _parsed(data)
        if self.patterns is not None:
            self._look_again = self._look_again or any(
                self._files.leaves_out(self.patterns, _decoded(early), directory=directory)
                for early, directory in self._early
            )
            self._early.clear()

    def leaves_out(self, entry: Entry) -> bool:
        """Whether *entry* is not to be unpacked.

        Raises:
            OnceMore: it needs what was left out, or it cannot be said where it really is.
        """
        name, kind = entry.name, entry.kind
        if kind is Kind.SYMLINK:
            self._links[name] = entry.link
            if _decoded(name) in self._files.kept:
                self._keep(entry)
        elif self._links:
            self._links.pop(name, None)
        if self.patterns is None:
            self._let_through(name, directory=kind is Kind.DIRECTORY)
            return False
        if not self._ignored(self.patterns, name, directory=kind is Kind.DIRECTORY):
            if kind is Kind.HARDLINK and self._ignored(self.patterns, entry.link):
                self._need(entry)
            if self._links and not self._look_again:
                # It may be written to a place that is left out.
                self._look_again = self._leads_through_link(name)
            return False
        if self._links and self._leads_through_link(name):
            raise OnceMore(
                f"{readable(name)} is to be left out, but leads through a symbolic link",
                "pack the directory itself in place of the link",
                Pass(everything=True),
            )
        self._left_out = True
        where = name.rpartition(b"/")[0]
        if where and not where.startswith(self._gone) and where + b"/" != self._gone:
            self._parents.add(where)
        return True

    def finish(self) -> None:
        """Remove what the patterns leave out and was written before they came.

        Raises:
            OnceMore: the patterns that count in the end are not those that have left files out.
            OSError: something cannot be removed.
        """
        patterns = self._files.known if not self._inside else self._final()
        self._imply(patterns)
        if patterns is not None and self._look_again:
            self._remove(patterns)

    def _final(self) -> IgnorePatterns | None:
        data = self._read()
        if data == self._data:
            return None if data is None else self.patterns or _parsed(data)
        if self._left_out:
            unknown = data is None or self._how.found is not None
            raise OnceMore(
                "the patterns that have left out files are not those of the whole",
                f"put the file with patterns first, and only once: tar c {self._files.names[0]} …",
                Pass(None if unknown else data, everything=unknown),
            )
        self._look_again = True
        return None if data is None else _parsed(data)

    def _read(self) -> bytes | None:
        """Return what is in the file with patterns that counts; None if there is no plain one."""
        try:
            with Rootfs(self._directory) as root:
                for name in self._files.names:
                    status = root.lstat(name)
                    if root.resolve(name) != _encoded(name):
                        return None
                    if status is None:
                        continue
                    if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_PATTERNS:
                        return None
                    with root.open(name) as file:
                        return file.read()
        except KanikoError:
            return None  # whoever opens the context will say what is wrong
        return None

    def _let_through(self, name: bytes, *, directory: bool) -> None:
        if self._look_again or not name:
            return
        self._early.append((name, directory))
        if len(self._early) > _MOST_EARLY:
            self._look_again = True
            self._early.clear()

    def _ignored(self, patterns: IgnorePatterns, name: bytes, *, directory: bool = False) -> bool:
        if name.startswith(self._gone):
            return True
        ignored = self._files.leaves_out(patterns, _decoded(name), directory=directory)
        if ignored and directory:
            self._gone = name + b"/"
        return ignored

    def _keep(self, entry: Entry) -> None:
        """Keep also what a link leads to that is needed: a Dockerfile may be one."""
        target = entry.name
        for _ in range(MOST_LINKS):
            link = self._links.get(target)
            if link is None:
                break
            target = posixpath.normpath(posixpath.join(b"/", posixpath.dirname(target), link))[1:]
        if self.patterns is not None and self._ignored(self.patterns, target) and self._left_out:
            raise OnceMore(
                f"{readable(entry.name)} is a link to {readable(target)}, which is left out",
                f"name the file itself, or put the link first: tar c {readable(entry.name)} …",
                Pass(everything=True),
            )
        self._files = replace(self._files, kept=self._files.kept | {_decoded(target)})

    def _need(self, entry: Entry) -> None:
        """Make sure that the target of a hard link is not missing."""
        if self._left_out:
            raise OnceMore(
                f"{readable(entry.name)} is a hard link to {readable(entry.link)}, "
                "which is left out",
                "pack files in place of hard links: tar c --hard-dereference …",
                Pass(everything=True),
            )

    def _leads_through_link(self, name: bytes) -> bool:
        end = name.find(b"/")
        while end > 0:
            if name[:end] in self._links:
                return True
            end = name.find(b"/", end + 1)
        return False

    def _imply(self, patterns: IgnorePatterns | None) -> None:
        """Make the directories of what was left out, as if that had been written and removed.

        Raises:
            OnceMore: something else is called so, and it cannot be said what came last.
        """
        for name in sorted(self._parents):
            if patterns is not None and self._ignored(patterns, name, directory=True):
                continue
            fd = os.open(self._directory, _DIRECTORY)
            try:
                for part in name.split(b"/"):
                    fd = _entered(fd, part)
            except NotADirectoryError:  # also for a link
                raise OnceMore(
                    f"{readable(name)} is a directory, and something else too",
                    "pack the directory or what is else called so, not both",
                    Pass(everything=True),
                ) from None
            finally:
                os.close(fd)

    def _remove(self, patterns: IgnorePatterns) -> None:
        top = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        descent = Descent(top)
        try:
            waiting = [_names(top)]
            while waiting:
                if not waiting[-1]:
                    waiting.pop()
                    if waiting:
                        descent.up()
                    continue
                name, directory = waiting[-1].pop()
                path = descent.child(name)
                if self._files.leaves_out(patterns, _decoded(path), directory=directory):
                    delete(name, descent.fd, path, _NOTHING, _refuse)
                elif directory:
                    descent.down(name)
                    waiting.append(_names(descent.fd))
        finally:
            descent.close()
            os.close(top)


def _entered(at: int, name: bytes) -> int:
    """Open the directory *name* in *at*, made where nothing is; *at* is closed then.

    A new one is like those that are made for files, and *at* keeps its time.
    """
    time = os.fstat(at).st_mtime_ns
    with suppress(FileExistsError):
        os.mkdir(name, _IMPLIED_MODE, dir_fd=at)
        os.chmod(name, _IMPLIED_MODE, dir_fd=at)
        os.utime(name, ns=(0, 0), dir_fd=at)
        os.utime(at, ns=(time, time))
    fd = os.open(name, _DIRECTORY, dir_fd=at)
    os.close(at)
    return fd


def _names(fd: int) -> list[tuple[bytes, bool]]:
    """Return the names in an open directory, and which of them are directories."""
    with os.scandir(fd) as found:
        return [(os.fsencode(item.name), item.is_dir(follow_symlinks=False)) for item in found]


def _refuse(_: bytes, error: OSError) -> None:
    raise error


def _parsed(data: bytes) -> IgnorePatterns | None:
    """Return the patterns in *data*; None where one is none, as whoever opens the context says."""
    try:
        return read_patterns(data, "")
    except KanikoError:
        return None


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
