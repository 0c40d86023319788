"""The root directory of a container, lent to a build and put back afterwards.

    <place>/                 in the build's base directory, or /.kaniko-in-place
    ├── state                what is going on: "emptying", "building" or "restoring"
    ├── aside/               what was in / before the build
    ├── <number>/{tree,shadow}   trees of stages that are not in /
    └── trash-XXXX/          what nobody needs any more
    <place>.lock             held while a build is here

Everything moves by rename, so that it costs nothing. What a build that was killed has left is
put in order by the next one; the state says where it stopped.
"""

from __future__ import annotations

import itertools
import os
import secrets
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from kaniko_core.errors import disk_errors
from kaniko_core.progress import Noted, Progress
from kaniko_core.rootfs.ignore import IgnoreRules
from kaniko_core.rootfs.moving import clear, move_contents, remove

_NAME = "in-place"
_ROOT_MODE = 0o755
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
    """

    root: Path
    place: Path
    rules: IgnoreRules
    housekeeping: Housekeeping
    progress: Progress
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

    def enter(self) -> None:
        """Empty the root, keeping aside what is there; the second time, do nothing.

        Raises:
            DiskError: something cannot be moved.
        """
        if self._phase:
            return
        with disk_errors("keep the files of / in", self.place):
            self._occupy()
            aside = self.place / "aside"
            aside.mkdir(exist_ok=True)
            aside.chmod(_ROOT_MODE)
            self._note(_EMPTYING)
            if self.housekeeping.forget:
                clear(self.root, self.rules)
            else:
                move_contents(self.root, aside, self.rules)
            self._note(_BUILDING)

    def empty(self) -> None:
        """Take everything out of the root that is not to be left alone, and throw it away."""
        move_contents(self.root, self._trash(), self.rules)

    def throw_away(self, path: Path) -> None:
        """Remove the tree *path* in the background."""
        trash = self._trash()
        with disk_errors("remove files in", path.parent), suppress(FileNotFoundError):
            path.rename(trash / "tree")
        thread = threading.Thread(target=_removed, args=(trash,), name="remove", daemon=True)
        thread.start()
        self._removals.append(thread)

    def close(self) -> None:
        """Put the root back as it was, unless the last tree is to be left there.

        Raises:
            DiskError: something cannot be moved.
        """
        try:
            entered = self._phase != ""
            if entered and not self.housekeeping.leave:
                if self._phase == _BUILDING:
                    self.empty()
                # Else what is in the root is not the build's: moving it aside was interrupted.
                self._restore()
            if self._occupied and not (entered and not self.housekeeping.tidy):
                for thread in self._removals:
                    thread.join()
                remove(self.place)
        finally:
            self._occupied, self._phase = False, ""
            self._stack.close()

    def _occupy(self) -> None:
        if not self._occupied:
            self.place.mkdir(mode=0o711, parents=True, exist_ok=True)
            self._lock()
            self._occupied = True
            self._recover()

    def _restore(self) -> None:
        aside = self.place / "aside"
        self._note(_RESTORING)
        if aside.is_dir():
            move_contents(aside, self.root, self.rules)
        self._state.unlink(missing_ok=True)
        self._phase = ""

    def _recover(self) -> None:
        """Finish what a build that was killed, or left its files, has begun."""
        state = self._state.read_text() if self._state.is_file() else ""
        if state == _BUILDING:
            self.progress(Noted("removing what an earlier build has left in /"))
            self.empty()
        if state:
            self._restore()
        trash = self._trash()
        for path in [*self.place.iterdir()]:
            if path.name != self._state.name and path != trash:
                with suppress(FileNotFoundError):
                    path.rename(trash / path.name)
        thread = threading.Thread(target=_removed, args=(trash,), name="remove", daemon=True)
        thread.start()
        self._removals.append(thread)

    @property
    def _state(self) -> Path:
        return self.place / "state"

    def _note(self, state: str) -> None:
        self._phase = state
        new = self._state.with_name("state.new")
        new.write_text(state)
        new.replace(self._state)

    def _trash(self) -> Path:
        path = self.place / f"trash-{secrets.token_hex(4)}"
        path.mkdir()
        return path

    def _lock(self) -> None:
        from filelock import FileLock, Timeout

        lock = FileLock(f"{self.place}.lock", fallback_to_soft=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.progress(Noted("another build is in place in this container; waiting for it"))
            lock.acquire()
        self._stack.callback(lock.release)


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


def _removed(path: Path) -> None:
    # What cannot be removed now is tried again by the next build.
    with suppress(Exception):
        remove(path)
