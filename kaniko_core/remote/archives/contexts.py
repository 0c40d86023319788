"""Archives as contexts: a tar, plain or compressed, becomes a directory while it arrives."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from kaniko_core.context.leaving import IgnoreFiles
from kaniko_core.errors import (
    ContentError,
    ContextError,
    DiskError,
    UnsafeEntry,
    disk_errors,
)
from kaniko_core.lean import dataclass
from kaniko_core.oci.archive import read_entries
from kaniko_core.oci.compression import decompressed
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.entry import SECOND
from kaniko_core.oci.tarheader import BLOCK
from kaniko_core.oci.tarreader import TarReader
from kaniko_core.options.build import LARGEST_CONTEXT
from kaniko_core.progress import Progress, Warned, silent
from kaniko_core.remote.archives.kinds import HEAD, NotAnArchive, check_archive
from kaniko_core.remote.archives.leaving import Leaving, OnceMore, Pass
from kaniko_core.remote.archives.members import FILES, ContextMembers
from kaniko_core.remote.archives.source import open_tar_file
from kaniko_core.remote.archives.stream import ArchiveStream
from kaniko_core.remote.incoming import Incoming
from kaniko_core.rootfs.beneath import Whiteouts
from kaniko_core.rootfs.descent import delete_contents, open_directory
from kaniko_core.rootfs.ignore import IgnoreRules
from kaniko_core.rootfs.unpack import unpack

_MODE = 0o755
_MIB = 1 << 20
_NOTHING = IgnoreRules()


@dataclass(frozen=True, slots=True)
class UnpackedContext:
    """What became of an archive.

    Attributes:
        digest: sha256 of all its bytes, as they were fetched.
        newest: when the newest of its files was modified, in seconds since 1970, also of those
            that were left out; None if it has none.
    """

    digest: Digest
    newest: int | None


def unpack_context(
    opened: Callable[[], Incoming],
    directory: Path,
    *,
    leaving: IgnoreFiles | None = None,
    limit: int = LARGEST_CONTEXT,
    again: bool = True,
    progress: Progress = silent,
) -> UnpackedContext:
    """Unpack an archive into *directory*, while it arrives.

    Its files become this process's: in an image they are root's whoever they belonged to.
    Modes and times are the archive's. After an error the directory is as it was.

    Args:
        opened: begins the transfer; called once more where files were left out that are needed.
        directory: empty, or made where it is missing.
        leaving: what is not needed of the archive; None for unpacking everything. Whoever
            copies from the directory applies the patterns all the same.
        limit: how many bytes may come out of the archive, with headers and padding; so it
            bounds the number of its members too.
        again: whether *opened* may be called again.
        progress: told of what is left out because no build can use it.

    Raises:
        NotAnArchive: it is none; *directory* was not touched.
        ContextError: it cannot be fetched, or would have to be fetched again.
        ContentError: it is damaged, hostile or too large, or has what no context has: a
            layer's deletions.
        DiskError: *directory* cannot be written, or its disk is too small.
    """
    how = Pass()
    while True:
        incoming = opened()
        try:
            return _Unpacking(incoming, directory, leaving, limit, how).run(progress)
        except OnceMore as wish:
            if not again:
                raise ContextError(
                    f"cannot unpack {incoming.name}: {wish}", hint=wish.hint
                ) from None
            how = wish.then


def newest_file(archive: BinaryIO) -> int | None:
    """Return when the newest file of an archive was modified, in seconds since 1970.

    None for what is damaged, has no files, or is no archive at all.
    """
    entries = (entry for entry, _ in read_entries(decompressed(archive)))
    try:
        times = (entry.mtime_ns // SECOND for entry in entries if entry.kind in FILES)
        return max(times, default=None)
    except ContentError:
        return None


@dataclass(frozen=True, slots=True)
class _Unpacking:
    """One pass over an archive."""

    incoming: Incoming
    directory: Path
    leaving: IgnoreFiles | None
    limit: int
    how: Pass

    def run(self, progress: Progress) -> UnpackedContext:
        name = self.incoming.name
        with ExitStack() as stack:
            stream = stack.enter_context(ArchiveStream(self.incoming.stream, self.limit))
            try:
                _check(name, stream)
                stack.enter_context(_emptied_on_failure(self.directory))
                members = self._unpack(stream)
            except ContentError as error:
                if error is stream.failure:  # it names the source
                    raise
                kind = UnsafeEntry if isinstance(error, UnsafeEntry) else ContentError
                raise kind(f"cannot unpack {name}: {error}", hint=error.hint) from error
            digest = stream.digest
        if members.special:
            progress(
                Warned(
                    f"devices and pipes of {name} are left out: {members.special} of them, "
                    f"such as {members.example}",
                    hint="a build has no use for them; make them in a RUN instruction",
                )
            )
        newest = members.newest
        return UnpackedContext(digest, None if newest is None else newest // SECOND)

    def _unpack(self, stream: ArchiveStream) -> ContextMembers:
        chosen: list[ContextMembers] = []

        def choose(reader: TarReader) -> ContextMembers:
            leaving = None
            if self.leaving is not None:
                leaving = Leaving(self.leaving, self.directory, self.how)
            chosen.append(ContextMembers(reader, leaving, self.limit, self._check_room))
            return chosen[0]

        tar = cast("BinaryIO", stream)
        unpack(tar, self.directory, whiteouts=Whiteouts.APPLY, chosen=choose)
        return chosen[0]

    def _check_room(self) -> None:
        """Refuse an archive that cannot fit; compressed, it takes more than its size."""
        size = self.incoming.size
        if size is None:
            return
        with disk_errors("unpack a context into", self.directory):
            disk = os.statvfs(self.directory)
        free = disk.f_bavail * disk.f_frsize
        if size > free:
            raise DiskError(
                f"cannot unpack {self.incoming.name} into {self.directory}: it takes "
                f"{size // _MIB} MiB or more, and {free // _MIB} MiB are free there",
                hint="free some space, name a larger disk with --kaniko-dir, or leave files out "
                "with a .dockerignore that comes first in the archive",
            )


def _check(name: str, stream: ArchiveStream) -> None:
    head = stream.peek(BLOCK)
    if not any(head):
        head = stream.peek(HEAD)
    check_archive(name, head, compressed=stream.compressed())


@contextmanager
def _emptied_on_failure(directory: Path) -> Iterator[None]:
    """Make *directory* where it is missing, and leave nothing in it if the block fails."""
    made = False
    with disk_errors("unpack a context into", directory):
        if not directory.exists():
            directory.mkdir(_MODE)
            made = True
    try:
        yield
    except BaseException:
        with suppress(OSError):
            fd = open_directory(directory)
            try:
                delete_contents(fd, b"", _NOTHING, _ignore)
            finally:
                os.close(fd)
            if made:
                directory.rmdir()
        raise


def _ignore(_: bytes, error: OSError) -> None:
    """Do nothing: another error is being told, and the workspace is emptied in the end."""


__all__ = [
    "LARGEST_CONTEXT",
    "NotAnArchive",
    "UnpackedContext",
    "newest_file",
    "open_tar_file",
    "unpack_context",
]
