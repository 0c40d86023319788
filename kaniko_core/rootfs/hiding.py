"""What a layer's whiteouts do to the tree that it is unpacked into: mark, or delete.

A whiteout is about the layers beneath only, wherever in its layer it stands: what the same layer
adds stays. Source: OCI image-spec v1.1, layer.md, "Whiteouts".
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Protocol

from kaniko_core.errors import DiskError
from kaniko_core.oci.tarheader import readable
from kaniko_core.rootfs.beneath import Beneath
from kaniko_core.rootfs.directories import Directories, Directory


class Hiding(Protocol):
    """Carries out whiteouts."""

    def added(self, real: bytes) -> None:
        """Note that the layer adds something at *real*."""

    def remove(self, parent: Directory, name: bytes) -> None:
        """Hide what the layers beneath have as *name* in *parent*."""

    def empty(self, directory: Directory) -> None:
        """Hide everything that the layers beneath have in *directory*."""


class Marks:
    """Whiteouts as overlayfs has them, in a directory of the layer's own."""

    def __init__(self, directories: Directories, beneath: Beneath) -> None:
        self._directories = directories
        self._beneath = beneath

    def added(self, real: bytes) -> None:
        """Note nothing: whatever is in the directory, this layer has added."""

    def remove(self, parent: Directory, name: bytes) -> None:
        """Put a whiteout, unless the layer has something of that name itself."""
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent.fd)
        except FileExistsError:
            self._empty_own(parent, name)
        except PermissionError as error:
            raise DiskError(
                f"cannot make a whiteout for /{readable(parent.child(name))}: {error.strerror}",
                hint="it takes root, or Linux 5.8 in a user namespace, on a local disk",
            ) from error

    def empty(self, directory: Directory) -> None:
        """Make *directory* opaque."""
        if directory.path:
            self._opaque(directory)
            return
        # overlayfs has no opaque root directories.
        for name in sorted(self._beneath.top_names()):
            self.remove(directory, name)

    def _empty_own(self, parent: Directory, name: bytes) -> None:
        status = os.stat(name, dir_fd=parent.fd, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            self._opaque(self._directories.open(parent.child(name)))

    def _opaque(self, directory: Directory) -> None:
        try:
            self._directories.make_opaque(directory)
        except OSError as error:
            raise DiskError(
                f"cannot mark /{readable(directory.path)} as opaque: {error.strerror}",
                hint="the file system must hold extended attributes; trusted ones take root",
            ) from error


class Deletions:
    """Whiteouts carried out on a tree that holds the layers beneath."""

    def __init__(self, directories: Directories) -> None:
        self._directories = directories
        self._added: set[bytes] = set()

    def added(self, real: bytes) -> None:
        """Keep *real*, and the directories that it is in, from later whiteouts."""
        while real and real not in self._added:
            self._added.add(real)
            real = real.rpartition(b"/")[0]

    def remove(self, parent: Directory, name: bytes) -> None:
        """Delete *name*, but for what the layer has added in it."""
        real = parent.child(name)
        with suppress(FileNotFoundError):
            if real not in self._added:
                self._directories.remove(parent, name)
                return
            status = os.stat(name, dir_fd=parent.fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                self.empty(self._directories.open(real))

    def empty(self, directory: Directory) -> None:
        """Delete what *directory* has, but for what the layer has added."""
        path = directory.path
        for name in os.listdir(directory.fd):
            # Each deletion may close what is open.
            self.remove(self._directories.open(path), os.fsencode(name))
