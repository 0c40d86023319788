"""What a layer's whiteouts do to the tree that it is unpacked into: mark, or delete.

A whiteout is about the layers beneath only, wherever in its layer it stands: what the same layer
adds stays. Source: OCI image-spec v1.1, layer.md, "Whiteouts".
"""

from __future__ import annotations

import os
import stat
from typing import Protocol

from kaniko_core.errors import DiskError
from kaniko_core.oci.tarheader import readable
from kaniko_core.rootfs.beneath import Beneath, is_whiteout
from kaniko_core.rootfs.directories import Directories, Directory, status_of


class Hiding(Protocol):
    """Carries out whiteouts."""

    def added(self, real: bytes) -> None:
        """Note that the layer adds something at *real*."""

    def remove(self, parent: Directory, name: bytes) -> None:
        """Hide what the layers beneath have as *name* in *parent*."""

    def empty(self, directory: Directory) -> None:
        """Hide everything that the layers beneath have in *directory*."""

    def finish(self) -> None:
        """Tidy up, when every entry has been seen."""


class _Added:
    """What a layer has added, and the directories that it is in."""

    def __init__(self) -> None:
        self._names: set[bytes] = {b""}

    def add(self, real: bytes) -> None:
        """Note *real*; once for each file of a layer, and so the loop seldom runs twice."""
        names = self._names
        while real not in names:
            names.add(real)
            real = real.rpartition(b"/")[0]

    def __contains__(self, real: bytes) -> bool:
        return real in self._names


class Marks:
    """Whiteouts as overlayfs has them, in a directory of the layer's own."""

    def __init__(self, directories: Directories, beneath: Beneath) -> None:
        self._directories = directories
        self._beneath = beneath
        self._added = _Added()
        self._whiteouts: list[bytes] = []

    def added(self, real: bytes) -> None:
        """Keep *real*, and the directories that it is in, from later whiteouts."""
        self._added.add(real)

    def remove(self, parent: Directory, name: bytes) -> None:
        """Put a whiteout, unless the layer has added something of that name itself."""
        real, path = parent.child(name), parent.path
        status = status_of(parent, name)
        if status is not None and real in self._added:
            if stat.S_ISDIR(status.st_mode):
                self._make_opaque(real)
            return
        if status is not None and self._directories.remove(parent, name):
            parent = self._directories.open(path)
        if self._directories.hidden(real):
            return
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent.fd)
        except PermissionError as error:
            raise DiskError(
                f"cannot make a whiteout for /{readable(parent.child(name))}: {error.strerror}",
                hint="it takes root, or Linux 5.8 in a user namespace, on a local disk",
            ) from error
        self._whiteouts.append(real)
        self._directories.made(real)

    def empty(self, directory: Directory) -> None:
        """Make *directory* opaque."""
        if directory.path:
            self._make_opaque(directory.path)
            return
        # overlayfs has no opaque root directories.
        for name in sorted(self._beneath.top_names()):
            self.remove(directory, name)

    def finish(self) -> None:
        """Remove the whiteouts that hide nothing.

        overlayfs shows the name of a whiteout in a directory that only one layer has.
        """
        for real in self._whiteouts:
            if self._beneath.find(real) is not None:
                continue
            where, _, name = real.rpartition(b"/")
            parent = self._directories.exactly(where)
            status = status_of(parent, name) if parent is not None else None
            if parent is not None and status is not None and is_whiteout(status):
                self._directories.remove(parent, name)

    def _make_opaque(self, path: bytes) -> None:
        self._forget_earlier(path)
        try:
            self._directories.make_opaque(self._directories.open(path))
        except OSError as error:
            raise DiskError(
                f"cannot mark /{readable(path)} as opaque: {error.strerror}",
                hint="the file system must hold extended attributes; trusted ones take root",
            ) from error

    def _forget_earlier(self, path: bytes) -> None:
        """Remove whiteouts, and the directories that were copied up only to hold them."""
        for name in os.listdir(self._directories.open(path).fd):
            # Each removal may close what is open.
            parent, child = self._directories.open(path), os.fsencode(name)
            real = parent.child(child)
            if real not in self._added:
                self._directories.remove(parent, child)
            elif stat.S_ISDIR(os.stat(child, dir_fd=parent.fd, follow_symlinks=False).st_mode):
                self._forget_earlier(real)


class Deletions:
    """Whiteouts carried out on a tree that holds the layers beneath."""

    def __init__(self, directories: Directories) -> None:
        self._directories = directories
        self._added = _Added()

    def added(self, real: bytes) -> None:
        """Keep *real*, and the directories that it is in, from later whiteouts."""
        self._added.add(real)

    def remove(self, parent: Directory, name: bytes) -> None:
        """Delete *name*, but for what is covered, and what the layer has added in it."""
        real = parent.child(name)
        status = status_of(self._directories.side(parent, name), name)
        if status is None:
            return
        if real not in self._added:
            self._directories.remove(parent, name)
        elif stat.S_ISDIR(status.st_mode):
            self.empty(self._directories.open(real))

    def empty(self, directory: Directory) -> None:
        """Delete what *directory* has, but for what is covered, and what the layer has added."""
        path = directory.path
        for name in self._directories.names(directory):
            # Each deletion may close what is open.
            self.remove(self._directories.open(path), name)

    def finish(self) -> None:
        """Do nothing: what was deleted is gone."""
