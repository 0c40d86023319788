"""Trees in a sandbox: the base's unpacked layers below, one directory per instruction on top.

Nothing is unpacked or mounted before somebody looks: a stage that only copies files into an
image never writes them to disk unpacked.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import field, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path

from kaniko_core.builder.changes import squashed
from kaniko_core.builder.trees import Output, Pack, Tree
from kaniko_core.builder.workspace import Workspace, discard
from kaniko_core.errors import disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.oci.entry import Entry
from kaniko_core.oci.image import Image, Layer
from kaniko_core.oci.layer import FileLayer, open_tar
from kaniko_core.rootfs.beneath import Whiteouts
from kaniko_core.rootfs.filling import unpack_entries
from kaniko_core.rootfs.overlay import upper_entries
from kaniko_core.rootfs.tree import Rootfs
from kaniko_core.rootfs.unpack import unpack
from kaniko_core.sandbox.client import Mounted
from kaniko_core.sandbox.runner import BindMount, Mount, Process


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
                try:
                    self._fill(self._path)
                except BaseException:
                    # Another stage may ask too, and is to fail by the same, not by what is there.
                    discard(self._path)
                    raise
                self._fill = None
        return self._path


@dataclass(frozen=True, slots=True)
class Step:
    """What one instruction made: a directory for later steps, and a layer for the image.

    ``layer`` is None where the stage is no part of the image, or has one layer for all steps.
    """

    directory: StepDirectory
    entries: Callable[[], Iterable[Entry]]
    layer: Future[FileLayer] | None


@dataclass(frozen=True, slots=True)
class Stacked:
    """What an instruction made in an earlier build: a layer, and the directory to unpack it to.

    Directly above the base the store has the directory, for later builds too.
    """

    directory: StepDirectory
    ready: Layer


@dataclass(frozen=True)
class OverlayTree:
    """A tree that is mounted as an overlay; see :class:`~kaniko_core.builder.trees.Tree`."""

    workspace: Workspace
    name: str
    base: Image | None = None
    steps: tuple[Step | Stacked, ...] = ()
    mark: OverlayTree | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False)

    def layers(self) -> tuple[Layer, ...]:
        """Return all layers, bottom first, waiting for those that are still being packed."""
        own: list[Layer] = []
        for step in self.steps:
            if isinstance(step, Stacked):
                own.append(step.ready)
            elif step.layer is not None:
                own.append(step.layer.result())
        return (*(self.base.layers if self.base else ()), *own)

    def lowers(self) -> tuple[Path, ...]:
        """Return the unpacked directories, bottom first."""
        below: tuple[Path, ...] = ()
        ready = tuple(takewhile(lambda step: isinstance(step, Stacked), self.steps))
        layers = [*(self.base.layers if self.base else ())]
        layers += (step.ready for step in ready if isinstance(step, Stacked))
        if layers:
            below = self.workspace.store.directories(
                layers, progress=self.workspace.progress, name=self.name
            )
        own = (step.directory.path() for step in self.steps[len(ready) :])
        return (*below, *own)

    @property
    def view(self) -> Rootfs:
        """The merged tree, to read from; it stays mounted until the build ends."""
        with self._lock:
            return self._view

    @cached_property
    def _view(self) -> Rootfs:
        return self.workspace.keep(Rootfs(self._mounted.fd))

    @cached_property
    def _mounted(self) -> Mounted:
        return self.workspace.keep(self.workspace.sandbox.mounted(self.lowers()))

    def copied(self, entries: Sequence[Entry], pack: Pack | None) -> OverlayTree:
        """Return the tree with *entries* on top, unpacked if anybody asks for them."""

        def fill(directory: Path) -> None:
            with disk_errors("unpack copied files to", directory):
                directory.mkdir()
                unpack_entries(
                    entries,
                    directory,
                    whiteouts=self.workspace.whiteouts,
                    check=self.workspace.check,
                    below=self._below,
                )

        directory = StepDirectory(self.workspace.fresh("steps"), fill)
        return self._with(directory, lambda: entries, pack)

    def stacked(self, layer: Layer) -> OverlayTree:
        """Return the tree with a ready *layer* on top."""

        def fill(directory: Path) -> None:
            with disk_errors("unpack a cached layer to", directory), open_tar(layer) as tar:
                directory.mkdir()
                unpack(tar, directory, whiteouts=self.workspace.whiteouts, below=self._below)

        directory = StepDirectory(self.workspace.fresh("steps"), fill)
        return self._on((*self.steps, Stacked(directory, layer)))

    def _below(self) -> tuple[Path, ...]:
        return tuple(reversed(self.lowers()))

    def ran(
        self,
        mounts: Sequence[Mount],
        command: Callable[[Rootfs], Process],
        output: Output,
        pack: Pack | None,
    ) -> OverlayTree:
        """Return the tree with what a command changed on top."""
        directory = self.workspace.fresh("steps")
        mounted = writable(self.workspace, self.lowers(), directory, mounts)
        with mounted, Rootfs(mounted.below) as below:
            self.workspace.sandbox.run(command(below), mounted, output)
            if pack is not None:
                self._see(mounted.below)
            mounted.leave()
        upper = directory / "upper"
        return self._with(StepDirectory(upper), lambda: upper_entries(upper, self.view), pack)

    def _see(self, fd: int) -> None:
        """Read from *fd*, the open root of these very files: nothing need be mounted for it."""
        with self._lock:
            if "_view" not in self.__dict__:
                self.__dict__["_view"] = self.workspace.keep(_duplicate(fd))

    def shown(self, path: str, target: str, stack: ExitStack, *, write: bool) -> BindMount:
        """Return the mount that shows *path* at *target* in another tree."""
        if not write:
            with self._lock:
                return BindMount(target, self._mounted.number, path)
        number = _written(self.workspace, self.lowers(), stack)
        return BindMount(target, number, path, writable=True)

    def marked(self) -> OverlayTree:
        """Return the tree, from which on its changes are counted."""
        return OverlayTree(self.workspace, self.name, self.base, self.steps, self)

    def packed(self, pack: Pack) -> OverlayTree:
        """Return the tree with one layer of all steps since the mark."""
        start = self.mark
        assert start is not None
        count = len(start.steps)
        # Where a stage has one layer, none of its steps is cached for itself.
        steps = [step for step in self.steps[count:] if isinstance(step, Step)]
        layer = pack(lambda: squashed((s.entries() for s in steps), start.view, self.view))
        last = [replace(step, layer=layer) for step in steps[-1:]]
        return self._on((*self.steps[: len(self.steps) - len(last)], *last))

    def _with(
        self,
        directory: StepDirectory,
        entries: Callable[[], Iterable[Entry]],
        pack: Pack | None,
    ) -> OverlayTree:
        layer = None if pack is None else pack(entries)
        return self._on((*self.steps, Step(directory, entries, layer)))

    def _on(self, steps: tuple[Step | Stacked, ...]) -> OverlayTree:
        # A lock of its own, and nothing mounted yet.
        return OverlayTree(self.workspace, self.name, self.base, steps, self.mark)


@contextmanager
def _duplicate(fd: int) -> Iterator[Rootfs]:
    """Keep open what is unmounted elsewhere: the kernel keeps it as long as that."""
    copy = os.dup(fd)
    try:
        yield Rootfs(copy)
    finally:
        os.close(copy)


@dataclass(frozen=True, slots=True)
class OverlayTrees:
    """Makes trees in a sandbox; see :class:`~kaniko_core.builder.trees.Trees`."""

    workspace: Workspace
    concurrent: bool = True
    unpacks_once: bool = True
    lends_paths: bool = False

    @property
    def whiteouts(self) -> Whiteouts:
        """As the sandbox's overlays need them."""
        return self.workspace.whiteouts

    def start(self, name: str, image: Image | None = None, *, runs: bool = False) -> Tree:
        """Return the tree of *image*, or an empty one."""
        return OverlayTree(self.workspace, name, image)

    def follow(self, tree: Tree, *, shared: bool, runs: bool) -> Tree:
        """Return *tree*, which does not change by what is put on top of it."""
        return tree

    def finish(self, tree: Tree, pack: Pack | None, *, needed: bool) -> Tree:
        """Return *tree*, with one layer of all its steps if *pack* makes one."""
        assert isinstance(tree, OverlayTree)
        return tree if pack is None else tree.packed(pack)

    def drop(self, tree: Tree) -> None:
        """Keep *tree* until the build ends: others may lie on it."""

    def bound(self, directory: Path, target: str, stack: ExitStack, *, write: bool) -> BindMount:
        """Return the mount that shows *directory*."""
        if not write:
            return BindMount(target, directory)
        return BindMount(target, _written(self.workspace, [directory], stack), writable=True)

    def close(self) -> None:
        """Leave the machine as it was found; nothing is read from the trees any more."""

    def cancel(self) -> None:
        """End every command that runs, now."""
        self.workspace.cancel()


def _written(workspace: Workspace, lowers: Sequence[Path], stack: ExitStack) -> int:
    """Mount *lowers* to be written to, until *stack* ends; return the root's number."""
    directory = workspace.fresh("writes")
    stack.callback(discard, directory)
    return stack.enter_context(writable(workspace, lowers, directory, bare=True)).number


def writable(
    workspace: Workspace,
    lowers: Sequence[Path],
    directory: Path,
    mounts: Sequence[Mount] = (),
    *,
    bare: bool = False,
) -> Mounted:
    """Mount *lowers* with ``upper`` below the new *directory* on top.

    Args:
        workspace: whose sandbox does it.
        lowers: unpacked directories, bottom first.
        directory: where changes go; it is made.
        mounts: what a command finds there beside.
        bare: no command runs there: it is bound into another root.
    """
    upper, work = directory / "upper", directory / "work"
    with disk_errors("make a directory for a command's changes in", directory.parent):
        directory.mkdir()
        upper.mkdir()
        work.mkdir()
    return workspace.sandbox.mounted(lowers, upper=upper, work=work, mounts=mounts, bare=bare)
