"""Find what a command changed in a root by walking it: what was remembered against what is there.

A file is the same as before if all of its status is: also the time of its last change, which a
program cannot set. So no content is read, before or after; :meth:`Scanner.settle` sees to it
that a change must get a time of its own.

    remember ─▶ settle ─▶ (a command runs) ─▶ changes ─▶ settle ─▶ (the next one) ─▶ …
                                                 └ refresh: what was put there meanwhile, by us
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from kaniko_core.errors import disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.oci.entry import SECOND, Entry
from kaniko_core.rootfs.beneath import is_whiteout
from kaniko_core.rootfs.changeset import Changeset, by_component, inode_of
from kaniko_core.rootfs.ignore import IgnoreRules
from kaniko_core.rootfs.tree import extended_attributes

# The clock that file systems take times from: linux/time.h. Python has no name for it.
_CLOCK_REALTIME_COARSE = 5
# Nanoseconds. Some file systems cut times to microseconds, or (whole) to seconds.
_FINEST = 1_000_000
_LONGEST_WAIT = 2 * SECOND
_PAUSE = 0.001  # seconds
# A stamp is a number: the time of the last change in its low bits, above it everything else.
_TIME_BITS = 64
_TIME = (1 << _TIME_BITS) - 1

_NO_ALIASES: Mapping[bytes, bytes] = MappingProxyType({})
# Mode, owner, group and attributes of a directory: what of it is news.
_Metadata = tuple[int, int, int, dict[bytes, bytes]]


@dataclass(slots=True)
class _Listing:
    """What is remembered of a directory.

    Attributes:
        stamps: of the *names*, in the order in which the kernel listed them.
        directories: the paths of those that are directories.
    """

    names: list[bytes]
    stamps: list[int]
    directories: list[bytes]


class Scanner:
    """Remembers a root, and tells what became of it.

    Nothing may change in the root during a call.

    Args:
        root: the directory; its own metadata is never told.
        rules: what is covered is not looked at.
        aliases: directories whose content is told under another name (``{b"var/run": b"run"}``);
            they themselves are not.
    """

    def __init__(
        self, root: Path, rules: IgnoreRules, aliases: Mapping[bytes, bytes] = _NO_ALIASES
    ) -> None:
        self._root = root
        self._prefix = os.fsencode(root.absolute()).rstrip(b"/") + b"/"
        self._rules = rules
        self._aliases = aliases
        self._listings: dict[bytes, _Listing] = {}
        self._metadata: dict[bytes, _Metadata] = {}
        self._newest = 0

    def remember(self) -> None:
        """Take the root as it is: later changes are told against it.

        Raises:
            DiskError: a directory cannot be read.
        """
        with disk_errors("read", self._root):
            self._forget(b"")
            self._newest = 0
            self._remember(b"")

    def refresh(self, names: Iterable[bytes]) -> None:
        """Take *names* as they are, with the directories they are in and all that is in them.

        They may be gone, or new. Of a directory that was there before, all that is in it is taken
        only if nothing in it is named too: so the names of a changeset do not make us walk over
        every directory that it goes through.

        Raises:
            DiskError: one cannot be read.
        """
        named = frozenset(names)
        wanted: dict[bytes, set[bytes]] = {}
        for name in named:
            path = name
            while path:
                directory, _, last = path.rpartition(b"/")
                wanted.setdefault(directory, set()).add(last)
                path = directory
        whole = named - wanted.keys()
        if b"" in whole:
            self.remember()
            return
        with disk_errors("read", self._root):
            walked: set[bytes] = set()
            for directory in sorted(wanted, key=by_component):
                if directory in self._listings and directory not in walked:
                    walked |= self._retake(directory, wanted[directory], whole)

    def settle(self) -> None:
        """Wait until whatever changes from now on gets a later time than all that is remembered.

        Takes a tick of the clock after a change (a second where times are whole seconds), two
        seconds at most.
        """
        newest = self._newest
        start = _now()
        if newest > start + _LONGEST_WAIT:
            # The clock was set back. No change can get this time soon; but maybe the next one.
            stamps = (stamp for listing in self._listings.values() for stamp in listing.stamps)
            times = (stamp & _TIME for stamp in stamps)
            newest = max((moment for moment in times if moment <= start + _LONGEST_WAIT), default=0)
        safe = newest + (_FINEST if newest % SECOND else SECOND)
        while start <= _now() < min(safe, start + _LONGEST_WAIT):
            time.sleep(_PAUSE)

    def changes(self, touched: Collection[bytes] = ()) -> list[Entry]:
        """Return what changed since the last call, or :meth:`remember`, as a changeset.

        Parents first, sorted as a walk gives them. Hard links are told as such, linked to the
        first name that is told. Sockets are taken for nothing, as they mean nothing in an image.

        Args:
            touched: names whose times of change are no news, for they were moved away and back.

        Raises:
            DiskError: something cannot be read.
        """
        with disk_errors("read what a command changed in", self._root):
            comparison = _Comparison(
                Changeset(self._prefix, self._aliases), frozenset(touched), self._inodes(touched)
            )
            waiting = [b""]
            while waiting:
                path = waiting.pop()
                known = self._listings.get(path)
                if known is None or self._stamps(path) != known.stamps:
                    known = self._compare(path, comparison)
                waiting += known.directories
            self._tell_further_names(comparison.told)
            return comparison.told.entries()

    def _children(
        self, path: bytes, found: Iterable[os.DirEntry[bytes]]
    ) -> Iterable[os.DirEntry[bytes]]:
        """Return those of a directory's entries that are not covered."""
        if not self._rules.shelters(path):
            return found
        covered = self._rules.covered
        return (child for child in found if _join(path, child.name) not in covered)

    def _stamps(self, path: bytes) -> list[int] | None:
        """Return the stamps of all in a directory; None where something vanishes meanwhile.

        All the time of a scan is spent here.
        """
        try:
            with os.scandir(self._prefix + path) as found:
                return [
                    _stamp(child.name, child.stat(follow_symlinks=False))
                    for child in self._children(path, found)
                ]
        except FileNotFoundError:
            return None

    def _look(self, path: bytes) -> dict[bytes, os.stat_result]:
        """Return what is in a directory now, but for what a layer cannot hold."""
        seen = {}
        with os.scandir(self._prefix + path) as found:
            for child in self._children(path, found):
                try:
                    status = child.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if not _is_nothing(status):
                    seen[child.name] = status
        return seen

    def _take(self, path: bytes, seen: Mapping[bytes, os.stat_result]) -> _Listing:
        """Remember what is in a directory."""
        listing = _Listing(
            list(seen),
            [_stamp(name, status) for name, status in seen.items()],
            [_join(path, name) for name, status in seen.items() if stat.S_ISDIR(status.st_mode)],
        )
        self._listings[path] = listing
        newest = max((status.st_ctime_ns for status in seen.values()), default=0)
        self._newest = max(self._newest, newest)
        return listing

    def _remember(self, path: bytes) -> set[bytes]:
        """Remember a directory and everything below it; return each directory on the way."""
        walked = set()
        waiting = [path]
        while waiting:
            directory = waiting.pop()
            walked.add(directory)
            seen = self._look(directory)
            for name, status in seen.items():
                if stat.S_ISDIR(status.st_mode):
                    self._is_news(_join(directory, name), status)
            waiting += self._take(directory, seen).directories
        return walked

    def _is_news(self, path: bytes, status: os.stat_result) -> bool:
        """Remember a directory's metadata; return whether they are others than before."""
        metadata = (
            status.st_mode,
            status.st_uid,
            status.st_gid,
            extended_attributes(self._prefix + path),
        )
        before = self._metadata.get(path)
        self._metadata[path] = metadata
        return metadata != before

    def _forget(self, path: bytes) -> None:
        """Forget a directory with everything below it; anything else is no harm."""
        waiting = [path]
        while waiting:
            directory = waiting.pop()
            self._metadata.pop(directory, None)
            listing = self._listings.pop(directory, None)
            if listing is not None:
                waiting += listing.directories

    def _retake(
        self, directory: bytes, names: Iterable[bytes], whole: Collection[bytes]
    ) -> set[bytes]:
        """Remember some *names* of a known directory anew; return the directories walked over.

        Those walked over are the new ones, and those to be taken as a *whole*.
        """
        listing = self._listings[directory]
        stamps = dict(zip(listing.names, listing.stamps, strict=True))
        directories = dict.fromkeys(listing.directories)
        walked: set[bytes] = set()
        for name in names:
            path = _join(directory, name)
            status = None if self._rules.covers(path) else self._status(path)
            if status is not None and stat.S_ISDIR(status.st_mode):
                if path in whole or path not in self._listings:
                    self._forget(path)
                    walked |= self._remember(path)
                self._is_news(path, status)
                directories[path] = None
            else:
                self._forget(path)
                directories.pop(path, None)
            if status is None:
                stamps.pop(name, None)
            else:
                stamps[name] = _stamp(name, status)
                self._newest = max(self._newest, status.st_ctime_ns)
        self._listings[directory] = _Listing(list(stamps), list(stamps.values()), list(directories))
        return walked

    def _status(self, path: bytes) -> os.stat_result | None:
        try:
            status = os.lstat(self._prefix + path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return None if _is_nothing(status) else status

    def _compare(self, path: bytes, comparison: _Comparison) -> _Listing:
        """Tell what changed in one directory, and remember it as it is."""
        listing = self._listings.get(path, _EMPTY)
        before = dict(zip(listing.names, listing.stamps, strict=True))
        seen = self._look(path)
        for name, status in seen.items():
            child = _join(path, name)
            old = before.pop(name, None)
            new = _stamp(name, status)
            if old == new:
                continue
            if stat.S_ISDIR(status.st_mode):
                news = self._is_news(child, status)
            else:
                self._forget(child)
                news = old is None or not comparison.is_same(child, status, old, new)
            if news:
                comparison.told.tell(child, status)
        for name in before:
            self._tell_gone(_join(path, name), comparison.told)
        return self._take(path, seen)

    def _tell_gone(self, path: bytes, told: Changeset) -> None:
        listing = self._listings.get(path)
        if listing is not None and self._rules.shelters(path):
            # Something covered was in it, and a whiteout would hide that too.
            for name in listing.names:
                self._tell_gone(_join(path, name), told)
        else:
            told.gone(path)
        self._forget(path)

    def _tell_further_names(self, told: Changeset) -> None:
        """Tell all names of a file if one is told: in a layer, no link leads to another layer.

        A file that changed is told under each of them; but a directory that was moved may have
        brought along only some.
        """
        wanted = told.with_further_names()
        if not wanted:
            return
        for directory, listing in self._listings.items():
            for name in listing.names:
                path = _join(directory, name)
                status = self._status(path)
                if status is not None and inode_of(status) in wanted:
                    told.tell(path, status)

    def _inodes(self, names: Iterable[bytes]) -> frozenset[tuple[int, int]]:
        """Return the inodes of *names* that have further names."""
        found = (self._status(name) for name in names)
        return frozenset(inode_of(status) for status in found if status and status.st_nlink > 1)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """What one comparison tells, and which names and inodes have new times for no reason."""

    told: Changeset
    touched: frozenset[bytes]
    inodes: frozenset[tuple[int, int]]

    def is_same(self, path: bytes, status: os.stat_result, old: int, new: int) -> bool:
        """Return whether a file whose stamp is another is the same nevertheless."""
        if path not in self.touched and inode_of(status) not in self.inodes:
            return False
        return old >> _TIME_BITS == new >> _TIME_BITS


_EMPTY = _Listing([], [], [])


def _stamp(name: bytes, status: os.stat_result) -> int:
    """Return a number that is another for another name or status, times of reading aside."""
    # The first seven are mode, inode, device, links, owner, group and size. The name is in it,
    # because POSIX lets file systems rename without a new time of change.
    rest = hash((name, status[:7], status.st_mtime_ns, status.st_rdev))
    return (rest << _TIME_BITS) + status.st_ctime_ns


def _is_nothing(status: os.stat_result) -> bool:
    """Return whether a layer has no way to hold this, or an overlay no way to show it."""
    return stat.S_ISSOCK(status.st_mode) or is_whiteout(status)


def _join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name


def _now() -> int:
    return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)
