"""The root file system of a stage: the base's layers below, one layer per step on top.

A tree is a value: a step gives a new one. Nothing is unpacked or mounted before somebody
looks: a stage that only copies files into an image never writes them to disk unpacked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from kaniko_core.builder.workspace import Workspace
from kaniko_core.errors import disk_errors
from kaniko_core.oci.entry import Entry
from kaniko_core.oci.image import Image, Layer
from kaniko_core.oci.layer import open_entries
from kaniko_core.rootfs.tree import Rootfs
from kaniko_core.rootfs.unpack import unpack
from kaniko_core.sandbox.client import Mounted
from kaniko_core.sandbox.runner import Mount


class StepDirectory:
    """The directory that holds one step's changes as an overlay's lower directory."""

    def __init__(self, path: Path, fill: Callable[[Path], None] | None = None) -> None:
        self._path = path
        self._fill = fill
        self._lock = threading.Lock()

    def path(self) -> Path:
        """Return the directory, filled by the first who asks."""
        with self._lock:
            if self._fill is not None:
                self._fill(self._path)
                self._fill = None
        return self._path


@dataclass(frozen=True, slots=True)
class Step:
    """What one instruction made: a directory for later steps, and a layer for the image.

    ``layer`` is None where the stage is no part of the image: it is only copied from.
    """

    directory: StepDirectory
    layer: Future[Layer] | None


@dataclass(frozen=True)
class Tree:
    """A stage's file system after some of its steps; *name* is its base's, for messages."""

    workspace: Workspace
    name: str
    base: Image | None = None
    steps: tuple[Step, ...] = ()
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False)

    def with_step(self, step: Step) -> Tree:
        """Return this tree with *step* on top."""
        return Tree(self.workspace, self.name, self.base, (*self.steps, step))

    def layers(self) -> tuple[Layer, ...]:
        """Return all layers, bottom first, waiting for those that are still being packed."""
        own = (step.layer.result() for step in self.steps if step.layer is not None)
        return (*(self.base.layers if self.base else ()), *own)

    def lowers(self) -> tuple[Path, ...]:
        """Return the unpacked directories, bottom first."""
        below: tuple[Path, ...] = ()
        if self.base is not None and self.base.layers:
            below = self.workspace.store.directories(
                self.base.layers, progress=self.workspace.progress, name=self.name
            )
        own = tuple(step.directory.path() for step in self.steps)
        return (*below, *own)

    @property
    def view(self) -> Rootfs:
        """The merged tree, to read from; it stays mounted until the build ends."""
        with self._lock:
            return self._view

    @property
    def mounted(self) -> Mounted:
        """The merged tree, to be bound into other roots; it stays mounted until the build ends."""
        with self._lock:
            return self._mounted

    @cached_property
    def _view(self) -> Rootfs:
        return self.workspace.keep(Rootfs(self._mounted.fd))

    @cached_property
    def _mounted(self) -> Mounted:
        return self.workspace.keep(self.workspace.sandbox.mounted(self.lowers()))

    def writable(
        self, directory: Path, mounts: Sequence[Mount] = (), *, bare: bool = False
    ) -> Mounted:
        """Mount the tree with ``upper`` below the new *directory* on top.

        Args:
            directory: where changes go; it is made.
            mounts: what a command finds there beside.
            bare: no command runs there: it is bound into another root.
        """
        return writable(self.workspace, self.lowers(), directory, mounts, bare=bare)

    def directory_of(self, entries: Sequence[Entry]) -> StepDirectory:
        """Return a directory that will hold *entries* if anybody asks for it."""

        def fill(directory: Path) -> None:
            with disk_errors("unpack copied files to", directory):
                directory.mkdir()
                with open_entries(entries) as tar:
                    unpack(
                        tar,
                        directory,
                        whiteouts=self.workspace.whiteouts,
                        below=lambda: tuple(reversed(self.lowers())),
                    )

        return StepDirectory(self.workspace.fresh("steps"), fill)


def writable(
    workspace: Workspace,
    lowers: Sequence[Path],
    directory: Path,
    mounts: Sequence[Mount] = (),
    *,
    bare: bool = False,
) -> Mounted:
    """Mount *lowers* with ``upper`` below the new *directory* on top; see :class:`Tree`."""
    upper, work = directory / "upper", directory / "work"
    with disk_errors("make a directory for a command's changes in", directory.parent):
        directory.mkdir()
        upper.mkdir()
        work.mkdir()
    return workspace.sandbox.mounted(lowers, upper=upper, work=work, mounts=mounts, bare=bare)
