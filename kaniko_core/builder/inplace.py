"""Trees without any privilege: one directory each, and ``/`` of this container for commands.

A stage whose instructions run commands is in ``/`` from its beginning to its end; then it is
moved aside, where later stages copy from it, if one needs it. So stages are built one after
another, and what is in a tree now is all that there is of it.

What the container needs itself (mounts, our own files) is covered by the ignore rules: whatever
the image has there is in the tree's *shadow*, a directory beside it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from kaniko_core.builder.binds import copied_entries, copy_files
from kaniko_core.builder.clones import clone
from kaniko_core.builder.place import Place
from kaniko_core.builder.premises import Premises
from kaniko_core.builder.source import CopySource
from kaniko_core.builder.swap import swapped_in
from kaniko_core.builder.trees import Output, Pack, Tree
from kaniko_core.builder.workspace import Workspace
from kaniko_core.errors import SandboxError, disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.oci.entry import Entry
from kaniko_core.oci.image import Image, Layer
from kaniko_core.oci.layer import FileLayer
from kaniko_core.progress import Warned
from kaniko_core.rootfs.beneath import Whiteouts
from kaniko_core.rootfs.changeset import by_component
from kaniko_core.rootfs.covered import mark_foreign
from kaniko_core.rootfs.tree import Rootfs
from kaniko_core.sandbox.inplace import InPlaceRunner, open_in_place
from kaniko_core.sandbox.runner import BindMount, Mount, Process

_ROOT_MODE = 0o755


@dataclass(frozen=True, slots=True)
class PlacedTree:
    """A tree in a place; see :class:`~kaniko_core.builder.trees.Tree`."""

    trees: InPlaceTrees
    name: str
    place: Place
    base: Image | None = None
    steps: tuple[Future[FileLayer] | Layer, ...] = ()

    @property
    def view(self) -> Rootfs:
        """The files, to be read; for as long as nothing else is done to the tree."""
        return self.place.view()

    def layers(self) -> tuple[Layer, ...]:
        """Return all layers, bottom first, waiting for those that are still being packed."""
        own = (step.result() if isinstance(step, Future) else step for step in self.steps)
        return (*(self.base.layers if self.base else ()), *own)

    def copied(self, entries: Sequence[Entry], pack: Pack | None) -> PlacedTree:
        """Return the tree with *entries* in it, unpacked when somebody looks."""
        self.place.waiting.append(lambda: self.place.unpack_entries(entries))
        return self._with(None if pack is None else self.trees.packing(pack, lambda: entries))

    def stacked(self, layer: Layer) -> PlacedTree:
        """Return the tree with a ready *layer* in it, unpacked when somebody looks."""
        self.place.waiting.append(self.trees.unpacking(layer, self.place, self.name))
        return replace(self, steps=(*self.steps, layer))

    def ran(
        self,
        mounts: Sequence[Mount],
        command: Callable[[Rootfs], Process],
        output: Output,
        pack: Pack | None,
    ) -> PlacedTree:
        """Return the tree after a command."""
        place = self.place
        place.ready()
        self.trees.settle()
        self.trees.warn_of_mounts(place)
        scanner = None if pack is None else place.scan()
        if scanner is not None:
            scanner.settle()
        touched = self.trees.run(place, mounts, command, output)
        if place.unseen is not None:
            place.touched |= touched
        changes = [] if scanner is None else scanner.changes(touched)
        place.has_run()
        if pack is None:
            return self
        return self._with(self.trees.packing(pack, lambda: changes))

    def marked(self) -> PlacedTree:
        """Return the tree, from which on its changes are counted."""
        self.place.scan().settle()
        self.place.unseen = []
        return self

    def packed(self, pack: Pack) -> PlacedTree:
        """Return the tree with one layer of all that was changed since the mark."""
        place = self.place
        scanner = place.scan()
        changes = [*scanner.changes(place.touched), *(place.unseen or ())]
        changes.sort(key=lambda entry: by_component(entry.name))
        place.unseen, place.touched = None, frozenset()
        return self._with(self.trees.packing(pack, lambda: changes))

    def shown(self, path: str, target: str, stack: ExitStack, *, write: bool) -> BindMount:
        """Return the mount that shows *path* at *target*: a copy, which is thrown away."""
        with self.place.view() as view:
            name = os.fsencode(path.strip("/"))
            host = Path(os.fsdecode(view.host_path(name)))
            if self.place.rules.shelters(name):
                host = self.trees.copy(CopySource(view, self.name), path)
        if not host.is_dir():
            return BindMount(target, host.parent, host.name, writable=write)
        return BindMount(target, host, writable=write)

    def _with(self, layer: Future[FileLayer] | None) -> PlacedTree:
        return self if layer is None else replace(self, steps=(*self.steps, layer))


class InPlaceTrees:
    """Makes trees without any privilege; see :class:`~kaniko_core.builder.trees.Trees`.

    Args:
        workspace: the build's own directory.
        premises: the root that commands run in.
        allowed: called once, before the root is touched; raises where that must not be.
    """

    concurrent = False
    unpacks_once = False
    lends_paths = True
    whiteouts = Whiteouts.APPLY

    def __init__(
        self, workspace: Workspace, premises: Premises, allowed: Callable[[], None]
    ) -> None:
        self._workspace = workspace
        self._premises = premises
        self._allowed = allowed
        self._runner: InPlaceRunner | None = None
        self._lock = threading.Lock()  # of the runner
        self._active: Place | None = None
        self._packing: list[Future[FileLayer]] = []
        self._told: set[bytes] = set()

    def start(self, name: str, image: Image | None = None, *, runs: bool = False) -> PlacedTree:
        """Return the tree of *image*, or an empty one; in the root if commands will run in it."""
        place = self._new()
        for layer in image.layers if image is not None else ():
            place.waiting.append(self.unpacking(layer, place, name))
        if runs:
            self._activate(place)
        return PlacedTree(self, name, place, image)

    def follow(self, tree: Tree, *, shared: bool, runs: bool) -> PlacedTree:
        """Return a tree that goes on from *tree*: in its place, or in a copy of it."""
        assert isinstance(tree, PlacedTree)
        place = tree.place
        if shared:
            place = self._copy(tree)
        else:
            place.stages += 1
        if runs:
            self._activate(place)
        return replace(tree, place=place)

    def finish(self, tree: Tree, pack: Pack | None, *, needed: bool) -> PlacedTree:
        """Return *tree*, unpacked if a later stage needs it: its sources may be gone by then."""
        assert isinstance(tree, PlacedTree)
        if pack is not None:
            tree = tree.packed(pack)
        if needed:
            tree.place.ready()
        return tree

    def drop(self, tree: Tree) -> None:
        """Remove the tree; if it is in the root, when another one comes there."""
        assert isinstance(tree, PlacedTree)
        place = tree.place
        place.stages -= 1
        if place.stages == 0 and place is not self._active:
            self.settle()
            self._premises.throw_away(place.home)

    def bound(self, directory: Path, target: str, stack: ExitStack, *, write: bool) -> BindMount:
        """Return the mount that shows *directory*: a copy, which is thrown away."""
        return BindMount(target, directory, writable=write)

    def unpacking(self, layer: Layer, place: Place, name: str) -> Callable[[], None]:
        """Return what unpacks *layer*, of the image or stage *name*, to *place*."""
        return partial(place.unpack_layer, layer, self._workspace.progress, name)

    def run(
        self,
        place: Place,
        mounts: Sequence[Mount],
        command: Callable[[Rootfs], Process],
        output: Output,
    ) -> frozenset[bytes]:
        """Run a command in the root, and return the names that lending it mounts has touched."""
        assert place is self._active
        runner = self._running()
        with ExitStack() as stack:
            process = command(stack.enter_context(place.view()))
            if process.privileged:
                raise SandboxError("RUN --security=insecure needs a sandbox")
            aside = self._workspace.fresh("swapped")
            aside.mkdir()
            touched = stack.enter_context(swapped_in(place.root, mounts, aside, place.rules))
            runner.run(process, output)
        return frozenset(touched)

    def warn_of_mounts(self, place: Place) -> None:
        """Say once of each mount that a command sees it, and not the files that the image has."""
        for name in sorted(place.under_mounts - self._told):
            self._told.add(name)
            path = os.fsdecode(name)
            self._workspace.progress(
                Warned(
                    f"commands do not see what was copied to /{path}: this container has a mount "
                    "there, or an option names it; what they write there is not in the image",
                    hint="mount the volume elsewhere, for example below /kaniko",
                )
            )

    def copy(self, source: CopySource, path: str) -> Path:
        """Copy a directory, part of which is not where the rest is."""
        directory = self._workspace.fresh("shown")
        with disk_errors("copy files for a command to", directory):
            directory.mkdir()
            entries = copied_entries(source, source.named(path))
            copy_files(entries, directory, self.whiteouts, self._workspace.check)
        return directory

    def packing(self, pack: Pack, entries: Callable[[], Iterable[Entry]]) -> Future[FileLayer]:
        """Begin to pack *entries*, whose files must stay as they are until :meth:`settle`."""
        future = pack(entries)
        self._packing.append(future)
        return future

    def settle(self) -> None:
        """Wait for everything that is being packed, before files change."""
        while self._packing:
            self._packing.pop().result()

    def close(self) -> None:
        """Put the root back as it was."""
        # A build that failed may still pack: it must not read what comes in the files' place.
        wait([future for future in self._packing if not future.cancel()])
        if self._runner is not None:
            self._runner.close()
            self._runner = None
        self._premises.close()

    def cancel(self) -> None:
        """End every command that runs, now; and no other one begins."""
        self._workspace.cancel()
        with self._lock:
            if self._runner is not None:
                self._runner.close()

    def _running(self) -> InPlaceRunner:
        with self._lock:
            self._workspace.check()
            if self._runner is None:
                self._runner = open_in_place(self._workspace.directory)
            return self._runner

    def _new(self) -> Place:
        home = self._premises.fresh()
        place = Place(home, home / "tree", self._premises.rules, self.settle, self._workspace.check)
        with disk_errors("keep a stage's files in", home):
            place.shadow.mkdir()
            place.stash.mkdir()
            place.stash.chmod(_ROOT_MODE)
            os.utime(place.stash, ns=(0, 0))
        return place

    def _activate(self, place: Place) -> None:
        """Bring *place* into the root; what is there goes to its own directory."""
        if place is self._active:
            return
        if self._runner is None:
            # Before the first file is replaced: what shows that it may be is in the root too,
            # and nothing has to be found there later.
            self._allowed()
            self._running()
        self._premises.enter()
        self.settle()
        root = self._premises.root
        if (last := self._active) is not None:
            last.move_to(last.stash)
            if last.stages == 0:
                self._premises.throw_away(last.home)
        mark_foreign(root, place.rules)
        self._active = place
        place.move_to(root)

    def _copy(self, tree: PlacedTree) -> Place:
        """Return a copy of the place of *tree*, not in the root."""
        self.settle()
        original, place = tree.place, self._new()
        original.ready()
        if original is self._active:
            original.move_to(original.stash)
            self._active = None
        with disk_errors("copy a stage's files to", place.home):
            for source, target in (
                (original.stash, place.stash),
                (original.shadow, place.shadow),
            ):
                target.rmdir()
                clone(os.fsencode(source), os.fsencode(target))
        return place
