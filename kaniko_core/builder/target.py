"""Where the sources of a COPY or ADD go: a file, or into a directory.

COPY a /x     the file x; or into x, where that is a directory
COPY a /x/    into x
COPY d /x     the contents of d, into x
"""

from __future__ import annotations

from dataclasses import replace

from kaniko_core.builder.destination import Defaults, Destination, printable
from kaniko_core.dockerfile.paths import destination_path
from kaniko_core.errors import KanikoError
from kaniko_core.oci.entry import Kind


class Target:
    """An instruction's destination.

    Args:
        destination: takes the entries.
        workdir: what a relative *text* is below.
        text: as it was written, expanded.
        borrows: whether directories on the way have the time of the first thing that is put
            into them, because the tree that they are made in is not known.

    Attributes:
        path: where *text* leads, all symbolic links followed.
        must_be_directory: whether *text* says so, whatever is there.
    """

    def __init__(
        self, destination: Destination, workdir: str, text: str, *, borrows: bool = False
    ) -> None:
        self.destination = destination
        self.must_be_directory = text in ("", ".") or text.endswith(("/", "/."))
        self.path = destination.resolve(destination_path(workdir, text))
        self._borrows = borrows

    @property
    def is_directory(self) -> bool:
        """Whether a directory is there."""
        return self.destination.kind(self.path) is Kind.DIRECTORY

    def made(self, mtime_ns: int) -> Defaults:
        """Return what directories on the way are like, for something of the time *mtime_ns*."""
        defaults = self.destination.defaults
        if self._borrows and defaults.mtime_ns is None:
            return replace(defaults, mtime_ns=mtime_ns)
        return defaults

    def directory(self, mtime_ns: int, mode: int | None = None) -> bytes:
        """Return the directory that takes the contents of another, made if need be.

        A new one has the time of the other, but neither its owner nor, unless *mode* is given,
        its mode, as with BuildKit.
        """
        if not self.is_directory:
            made = self.made(mtime_ns)
            self.destination.make_directories(self.path.rpartition(b"/")[0], made)
            mode = made.mode if mode is None else mode
            self.destination.make_directories(self.path, Defaults(made.owner, mode, mtime_ns))
        return self.path

    def file(self, name: bytes, mtime_ns: int) -> bytes:
        """Return what a file called *name* becomes; its parents are made if need be."""
        path = self.path
        if self.must_be_directory:
            self.destination.make_directories(path, self.made(mtime_ns))
        if self.is_directory:
            path = path + b"/" + name if path else name
        else:
            parent = path.rpartition(b"/")[0]
            self.destination.make_directories(parent, self.made(mtime_ns))
        if self.destination.kind(path) is Kind.DIRECTORY:
            raise KanikoError(
                f"/{printable(path)} is a directory; a file cannot take its place",
                hint="choose another destination, or remove it with an earlier RUN",
            )
        return path
