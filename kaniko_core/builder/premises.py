"""The root directory of a container, lent to a build and put back afterwards.

    <place>/                 in the build's base directory, or /.kaniko-in-place
    ├── state                a link to what is going on: "emptying", "building" or "restoring"
    ├── covered              what the build leaves alone, which a later one may not know
    ├── aside/               what was in / before the build
    ├── <number>/{tree,shadow}   trees of stages that are not in /
    └── trash-XXXX/          what nobody needs any more

Everything moves by rename, so that it costs nothing, and works where the disk is full: so does
making a link. What a build that was killed has left is put in order by the next one; the state
says where it stopped. A build holds the lock of the root itself: another one in the same
container may have another place.
"""

from __future__ import annotations

import itertools
import os
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import field
from pathlib import Path

from kaniko_core.errors import DiskError, KanikoError, disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.progress import Noted, Progress
from kaniko_core.rootfs.copying import copy_metadata
from kaniko_core.rootfs.ignore import IgnoreRules
from kaniko_core.rootfs.moving import clear, move_contents, remove

_NAME = "in-place"
_MARK = "state"
_TRASH = "trash-"
_LOCK_WAIT = 0.1  # seconds between two looks at whether what is waited for is done
_EMPTYING, _BUILDING, _RESTORING = "emptying", "building", "restoring"


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """What becomes of the files in ``/`` that are not the build's, and of those that are.

    Attributes:
        forget: remove what is there before the build, and put nothing back.
        tidy: remove everything of the build at its end.
        leave: leave the last tree in ``/``.
    """

    forget: bool = False
    tidy: bool = False
    leave: bool = False


@dataclass(slots=True)
class Premises:
    """A root, from when it is first entered until :meth:`close`.

    Attributes:
        root: ``/``, or a directory in tests.
        place: where trees are kept, on the same file system.
        rules: what of the root is left alone; *place* is.
        check: raises when the build is given up; asked while something is waited for.
    """

    root: Path
    place: Path
    rules: IgnoreRules
    housekeeping: Housekeeping
    progress: Progress
    check: Callable[[], None]
    _occupied: bool = False
    _phase: str = ""
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _stack: ExitStack = field(default_factory=ExitStack)
    _removals: list[threading.Thread] = field(default_factory=list)

    def fresh(self) -> Path:
        """Return a new empty directory for a tree that is not in the root."""
        with disk_errors("keep a stage's files in", self.place):
            self._occupy()
            path = self.place / str(next(self._numbers))
            path.mkdir()
        return path

    def recover(self) -> None:
        """Put back what a build that was killed, or has left its files, took out of the root.

        Raises:
            DiskError: something cannot be moved.
        """
        if was_lent(self.place):
            with disk_errors("put back the files of / from", self.place):
                self._occupy()

    def enter(self) -> None:
        """Empty the root, keeping aside what is there; the second time, do nothing.

        Raises:
            DiskError: something cannot be moved.
        """
        if self._phase:
            return
        with disk_errors("keep the files of / in", self.place):
            self._occupy()
            # What an earlier build has left takes room on the disk that this one may need.
            self._wait_for_removals()
            aside = self.place / "aside"
            aside.mkdir(exist_ok=True)
            # At once, too: should this end here, the next build moves everything back.
            copy_metadata(self.root.stat(), os.fsencode(self.root), os.fsencode(aside))
            self._covered.write_bytes(b"\0".join(sorted(self.rules.covered)))
            self._note(_EMPTYING)
            if self.housekeeping.forget:
                clear(self.root, self.rules)
            else:
                move_contents(self.root, aside, self.rules)
            self._note(_BUILDING)

    def _empty(self, rules: IgnoreRules) -> None:
        """Take everything out of the root that is not to be left alone, and throw it away."""
        try:
            move_contents(self.root, self._trash(), rules)
        except DiskError:
            # No room for another directory: it is removed at once.
            clear(self.root, rules)

    def throw_away(self, path: Path) -> None:
        """Remove the tree *path*, in the background if it can be put aside."""
        try:
            trash = self._trash()
        except DiskError:
            remove(path)
            return
        with disk_errors("remove files in", path.parent), suppress(FileNotFoundError):
            path.rename(trash / "tree")
        self._remove(trash)

    def close(self) -> None:
        """Put the root back as it was, unless the last tree is to be left there.

        Raises:
            DiskError: something cannot be moved.
        """
        try:
            with disk_errors("put back the files of / from", self.place):
                self._leave()
        finally:
            self._occupied, self._phase = False, ""
            self._stack.close()

    def _leave(self) -> None:
        entered = self._phase != ""
        built = self._phase == _BUILDING
        if entered and not (built and self.housekeeping.leave):
            if built:
                self._empty(self.rules)
            # Else what is in the root is not the build's: moving it aside was interrupted.
            self._restore(self.rules)
        if self._occupied and not (entered and not self.housekeeping.tidy):
            try:
                self._wait_for_removals()
            except KanikoError:
                return  # given up, and to end soon: the next build removes what is left
            remove(self.place)

    def _occupy(self) -> None:
        if self._occupied:
            return
        try:
            # First the lock: who had it may have removed the place at its end.
            self._lock()
            self.place.mkdir(mode=0o711, parents=True, exist_ok=True)
            self._recover()
        except BaseException:
            # What is kept here is not ours to remove, nor to put back without the lock.
            self._phase = ""
            self._stack.close()
            raise
        self._occupied = True

    def _restore(self, rules: IgnoreRules) -> None:
        aside = self.place / "aside"
        self._note(_RESTORING)
        if aside.is_dir():
            move_contents(aside, self.root, rules)
        self._mark.unlink(missing_ok=True)
        self._phase = ""

    def _recover(self) -> None:
        """Finish what a build that was killed, or left its files, has begun."""
        if state := self._state:
            # Its context, say, is still in the root, and no file of an image.
            names = self._covered.read_bytes().split(b"\0") if self._covered.is_file() else []
            rules = self.rules.and_paths(name for name in names if name)
            if state == _BUILDING:
                self.progress(Noted("removing what an earlier build has left in /"))
                self._empty(rules)
            self._restore(rules)
        for path in [*self.place.iterdir()]:
            if path.name.startswith(_TRASH):
                self._remove(path)
            else:
                self.throw_away(path)

    def _remove(self, path: Path) -> None:
        thread = threading.Thread(target=_removed, args=(path,), name="remove", daemon=True)
        thread.start()
        self._removals.append(thread)

    def _wait_for_removals(self) -> None:
        for thread in self._removals:
            while thread.is_alive():
                self.check()
                thread.join(_LOCK_WAIT)

    @property
    def _covered(self) -> Path:
        return self.place / "covered"

    @property
    def _mark(self) -> Path:
        return self.place / _MARK

    @property
    def _state(self) -> str:
        return str(self._mark.readlink()) if self._mark.is_symlink() else ""

    def _note(self, state: str) -> None:
        self._phase = state
        new = self._mark.with_name("state.new")
        new.unlink(missing_ok=True)
        new.symlink_to(state)
        new.replace(self._mark)

    def _trash(self) -> Path:
        path = self.place / f"{_TRASH}{secrets.token_hex(4)}"
        with disk_errors("remove files in", self.place):
            path.mkdir()
        return path

    def _lock(self) -> None:
        import fcntl

        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._stack.callback(os.close, fd)
        told = False
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if not told:
                    told = True
                    self.progress(
                        Noted("another build is in place in this container; waiting for it")
                    )
            except OSError:
                return  # a file system without locks
            self.check()
            time.sleep(_LOCK_WAIT)


def place_for(base: Path, root: Path) -> Path:
    """Return where trees can be kept so that moving them to *root* is a rename.

    Nothing can be moved to a root that is read-only: what runs no command needs none.

    Args:
        base: the build's base directory, which exists.
        root: the root directory.
    """
    if os.stat(base).st_dev == os.stat(root).st_dev or not os.access(root, os.W_OK):
        return base / _NAME
    return root / f".kaniko-{_NAME}"


def was_lent(place: Path) -> bool:
    """Whether a build was killed here, or has left its files: so there could be a build."""
    return (place / _MARK).is_symlink()


def _removed(path: Path) -> None:
    # What cannot be removed now is tried again by the next build.
    with suppress(Exception):
        remove(path)
