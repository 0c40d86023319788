"""What a stage's file system is to the builder, however it comes about.

A tree is a value: an instruction gives a new one. There are two kinds. In a sandbox
(``overlays.py``) a tree is a stack of directories, mounted when somebody looks. In place
(``inplace.py``) it is in one directory, at times ``/`` itself, so that only the newest of a
chain can be used. The stage that is built sees no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from kaniko_core.oci.entry import Entry
from kaniko_core.oci.image import Image, Layer
from kaniko_core.oci.layer import FileLayer
from kaniko_core.rootfs.beneath import Whiteouts
from kaniko_core.rootfs.tree import Rootfs
from kaniko_core.sandbox.runner import BindMount, Mount, Process

# Packs what the function returns into a layer, in another thread.
Pack = Callable[[Callable[[], Iterable[Entry]]], Future[FileLayer]]
# Takes what a command writes, and whether it wrote it to standard error.
Output = Callable[[bytes, bool], None]


class Tree(Protocol):
    """A stage's file system after some of its instructions."""

    @property
    def name(self) -> str:
        """The name of its base, for messages."""
        ...

    @property
    def view(self) -> Rootfs:
        """The files, to be read; for as long as nothing else is done to the tree."""
        ...

    def layers(self) -> tuple[Layer, ...]:
        """Return all layers, bottom first, waiting for those that are still being packed."""
        ...

    def copied(self, entries: Sequence[Entry], pack: Pack | None) -> Tree:
        """Return the tree with *entries* put into it; *pack* makes a layer of them."""
        ...

    def stacked(self, layer: Layer) -> Tree:
        """Return the tree with a ready *layer* put onto it, unpacked when somebody looks."""
        ...

    def ran(
        self,
        mounts: Sequence[Mount],
        command: Callable[[Rootfs], Process],
        output: Output,
        pack: Pack | None,
    ) -> Tree:
        """Return the tree after a command.

        Args:
            mounts: what the command finds there beside.
            command: gives the command, told the files that it will find.
            output: called with what it writes, as it comes.
            pack: makes a layer of what it changed; None where nobody wants one.

        Raises:
            CommandFailed: it ended with another status than 0, or could not be started.
            SandboxError: something that it needs cannot be had.
        """
        ...

    def marked(self) -> Tree:
        """Return the tree, from which on :meth:`Trees.finish` counts the changes of a stage."""
        ...

    def shown(self, path: str, target: str, stack: ExitStack, *, write: bool) -> BindMount:
        """Return the mount that shows *path*, which has no links, at *target* in another tree.

        What is written there is thrown away when *stack* ends.
        """
        ...


class Trees(Protocol):
    """Makes the trees of one build."""

    @property
    def concurrent(self) -> bool:
        """Whether several stages can be built at once."""
        ...

    @property
    def unpacks_once(self) -> bool:
        """Whether the layers of an image are read once, however many trees have them."""
        ...

    @property
    def lends_paths(self) -> bool:
        """Whether commands, of any user, reach what they are lent by its path on this machine."""
        ...

    @property
    def whiteouts(self) -> Whiteouts:
        """How files are unpacked for these trees."""
        ...

    def start(self, name: str, image: Image | None = None, *, runs: bool = False) -> Tree:
        """Return the tree of *image*, or an empty one; *runs* if it must be where commands run."""
        ...

    def follow(self, tree: Tree, *, shared: bool, runs: bool) -> Tree:
        """Return a tree that goes on from *tree*, which somebody else will use if *shared*."""
        ...

    def finish(self, tree: Tree, pack: Pack | None, *, needed: bool) -> Tree:
        """Return the tree of a stage that is done.

        Args:
            tree: after the last instruction.
            pack: makes one layer of all changes since :meth:`Tree.marked`; None where it was
                not called.
            needed: whether a later stage will look at it.
        """
        ...

    def drop(self, tree: Tree) -> None:
        """Forget a finished tree that nobody will look at any more."""
        ...

    def bound(self, directory: Path, target: str, stack: ExitStack, *, write: bool) -> BindMount:
        """Return the mount that shows a directory of this host; writes are thrown away.

        Raises:
            SandboxError: the directory's file system cannot be used so.
        """
        ...

    def close(self) -> None:
        """Leave the machine as it was found; nothing is read from the trees any more."""
        ...

    def cancel(self) -> None:
        """End every command that runs, now."""
        ...
