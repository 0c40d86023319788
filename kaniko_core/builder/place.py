"""One tree on disk, without any mount: unpacked into a directory, or into the container's root."""

from __future__ import annotations

import io
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import field
from pathlib import Path
from typing import BinaryIO, cast

from kaniko_core.errors import disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.oci.image import Layer
from kaniko_core.oci.layer import open_tar
from kaniko_core.progress import Progress, Warned
from kaniko_core.rootfs.beneath import Whiteouts
from kaniko_core.rootfs.covered import CoveredRootfs
from kaniko_core.rootfs.filling import unpack_entries
from kaniko_core.rootfs.ignore import IgnoreRules
from kaniko_core.rootfs.moving import move_contents
from kaniko_core.rootfs.scan import Scanner
from kaniko_core.rootfs.tree import Rootfs
from kaniko_core.rootfs.unpack import unpack

# Nanoseconds by which a file's time may be behind the clock: twice the longest tick of a kernel.
_TICK = 20_000_000


@dataclass(slots=True)
class Place:
    """One tree on disk.

    Attributes:
        home: the directory that holds ``tree`` and ``shadow``.
        root: where the tree is now: ``tree``, or the container's root.
        settle: waits for what is being read from the tree by others.
        check: raises when the build is given up.
        waiting: what is still to be unpacked, in order.
        scanner: knows the tree as it was before the next command; None before the first.
        unseen: where a stage has one layer: what was copied to where the scanner does not look;
            and *touched*, the names that its commands' mounts have disturbed.
        crooked: whether a command may have put something where the image has a link.
        under_mounts: the covered paths below which instructions have put files.
        stages: how many have their tree here: one that goes on from another takes its place.
    """

    home: Path
    root: Path
    rules: IgnoreRules
    settle: Callable[[], None]
    check: Callable[[], None]
    waiting: list[Callable[[], None]] = field(default_factory=list)
    scanner: Scanner | None = None
    unseen: list[Entry] | None = None
    touched: frozenset[bytes] = frozenset()
    stages: int = 1
    crooked: bool = False
    under_mounts: set[bytes] = field(default_factory=set)

    @property
    def shadow(self) -> Path:
        """What the image has where the root has something of the container's."""
        return self.home / "shadow"

    @property
    def stash(self) -> Path:
        """Where the tree is as long as it is not in the container's root."""
        return self.home / "tree"

    def ready(self) -> None:
        """Unpack what is still to be unpacked."""
        if self.waiting or self.crooked:
            self.settle()
        if self.crooked:
            self._straighten()
        while self.waiting:
            self.waiting[0]()
            del self.waiting[0]

    def view(self) -> Rootfs:
        """Return the files, to be read as long as the tree stays where and as it is."""
        self.ready()
        return CoveredRootfs(self.root, self.rules, self.shadow)

    def unpack_layer(self, layer: Layer, progress: Progress, name: str) -> None:
        """Unpack *layer* of the image *name* onto what is there.

        Raises:
            KanikoError: it cannot be fetched or unpacked.
        """
        with open_tar(layer) as tar, _time_kept(self.root):
            done = unpack(
                cast(BinaryIO, _Watched(tar, self.check)),
                self.root,
                whiteouts=Whiteouts.APPLY,
                covered=self.rules,
                shadow=self.shadow,
            )
        # After a command, a cached layer: what is there now is no change of the next command.
        self.scanner = None
        lost = [name for name in done.lost_devices if not self._hidden(os.fsencode(name))]
        if lost:
            progress(Warned(f"commands do not see the devices {', '.join(lost)} of {name}"))
        if done.lost_xattrs:
            progress(
                Warned(
                    f"commands do not see the extended attributes {', '.join(done.lost_xattrs)} "
                    f"of {name}: they cannot be set here"
                )
            )

    def unpack_entries(self, entries: Sequence[Entry]) -> None:
        """Put *entries* onto what is there.

        Raises:
            DiskError: there is no room for them.
        """
        with disk_errors("unpack copied files to", self.root), _time_kept(self.root):
            unpack_entries(
                entries,
                self.root,
                whiteouts=Whiteouts.APPLY,
                check=self.check,
                covered=self.rules,
                shadow=self.shadow,
            )
        self.under_mounts |= {
            covered
            for entry in entries
            if entry.kind is not Kind.DIRECTORY
            and (covered := self.rules.over(entry.name)) is not None
        }
        if self.unseen is not None:
            self.unseen += (entry for entry in entries if self._hidden(entry.name))
        elif self.scanner is not None:
            self.scanner.refresh(entry.name for entry in entries)

    def _hidden(self, name: bytes) -> bool:
        return self.rules.covers(name) or self.rules.shelters(name)

    def scan(self) -> Scanner:
        """Return what knows the tree as it is now, or as it was when this was called first."""
        self.ready()
        if self.scanner is None:
            self.scanner = Scanner(self.root, self.rules, self._aliases())
            self.scanner.remember()
        return self.scanner

    def move_to(self, root: Path) -> None:
        """Move the tree to *root*, which is empty and becomes like it.

        Raises:
            DiskError: something cannot be moved.
        """
        move_contents(self.root, root, self.rules)
        # What was renamed counts as changed, and is not where it was.
        self.root, self.scanner = root, None

    def has_run(self) -> None:
        """Note that a command ran, whose changes are being read."""
        self.crooked = bool(self._aliases())

    def _straighten(self) -> None:
        """Move what was made in a directory that stands where the image has a link to its place.

        A command sees ``/var/run`` as a directory, if the container has mounts in it; for the
        image, and for whoever looks next, it is ``/run``.
        """
        self.crooked = False
        for path, target in self._aliases().items():
            # What the image has at a covered path is in the shadow, and the rest is not ours.
            top = self.shadow if self.rules.covers(target) else self.root
            where, there = self.root / os.fsdecode(path), top / os.fsdecode(target)
            if not target or not there.is_dir() or there.is_symlink():
                continue
            rules = self.rules.below(path, target)
            ways = sorted(there / os.fsdecode(name) for name in rules.sheltering if name)
            made = [way for way in ways if not os.path.lexists(way)]
            like, names = there.stat(), {*os.listdir(there)}
            move_contents(where, there, rules)
            # It did not become what the container's directory is.
            os.chown(there, like.st_uid, like.st_gid)
            there.chmod(stat.S_IMODE(like.st_mode))
            for way in reversed(made):
                with suppress(OSError):  # it is not empty
                    way.rmdir()
            # Its time also tells whether it is the image's: see mark_foreign.
            changed = time.time_ns() if names != {*os.listdir(there)} else like.st_mtime_ns
            os.utime(there, ns=(like.st_atime_ns, changed))
            if self.scanner is not None and self.unseen is None:
                self.scanner.refresh([path, target])

    def _aliases(self) -> dict[bytes, bytes]:
        """Return the directories that stand where the image has links, and where those lead."""
        found: dict[bytes, bytes] = {}
        with CoveredRootfs(self.root, self.rules, self.shadow) as view:
            for path in sorted(self.rules.sheltering - {b""}):
                if any(path.startswith(above + b"/") for above in found):
                    continue  # the image has nothing there: a link is on the way
                link = self.shadow / os.fsdecode(path)
                if link.is_symlink():
                    found[path] = view.resolve(path)
        return found


class _Watched(io.RawIOBase):
    """A stream that is read for as long as *check* does not raise."""

    def __init__(self, source: BinaryIO, check: Callable[[], None]) -> None:
        super().__init__()
        self._source = source
        self._check = check

    def read(self, size: int | None = -1) -> bytes:
        self._check()
        return self._source.read(-1 if size is None else size)


@contextmanager
def _time_kept(root: Path) -> Iterator[None]:
    """Give *root* the time that a layer has for it, or none: that of unpacking means nothing."""
    begun = time.time_ns() - _TICK
    yield
    if root.stat().st_mtime_ns >= begun:
        os.utime(root, ns=(0, 0))
