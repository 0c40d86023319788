"""COPY, and ADD of local files: what they put into a layer, as entries.

Nothing is copied: the entries name files of the source, and the layer is packed from them.
Where BuildKit and the Dockerfile reference say the same, this does it; where BuildKit fails
although the reference promises an outcome (a directory where a symbolic link was, or the
reverse), the reference wins: conflicts are resolved in favour of what is added.
Source: https://docs.docker.com/reference/dockerfile/#copy; BuildKit's fsutil.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kaniko_core.builder.add import is_archive, unpack_archive
from kaniko_core.builder.configure import StageState, expand, located
from kaniko_core.builder.destination import DIRECTORY_MODE, Defaults, Destination, printable
from kaniko_core.builder.files import Changes, FileCopier
from kaniko_core.builder.source import CopySource, Match, reading
from kaniko_core.context.ignore import IgnorePatterns
from kaniko_core.dockerfile.instructions import Add, Copy
from kaniko_core.dockerfile.paths import destination_path
from kaniko_core.errors import ContentError, KanikoError
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.rootfs.tree import Rootfs
from kaniko_core.rootfs.users import Accounts

__all__ = ["CopySource", "copy_entries"]


def copy_entries(
    instruction: Copy | Add,
    state: StageState,
    origin: CopySource,
    below: Rootfs,
    *,
    spool: Callable[[], Path],
) -> list[Entry]:
    """Return the layer of a COPY or ADD: parents first, sorted by name, each name once.

    Args:
        instruction: as it was parsed; its words are expanded here.
        state: the stage before it.
        origin: where the sources are.
        below: the stage's tree before the instruction.
        spool: names a new file for what an archive holds; it must last as long as the entries.

    Raises:
        DockerfileError: the instruction cannot be done: a missing source, an unknown user, …
        ContextError: a source cannot be read.
        ContentError: an archive is damaged, or a file cannot be stored in a layer.
    """
    instruction = expand(state, instruction)
    with located(instruction.source):
        owner = Accounts.of(below).owner(instruction.chown) if instruction.chown else None
        changes = Changes(
            owner or (None if origin.keep_owners else (0, 0)), instruction.chmod or None
        )
        defaults = Defaults(owner or (0, 0), _mode_on_the_way(changes))
        target = _Target(
            Destination(below, defaults, follow=not instruction.link),
            state.workdir,
            instruction.destination,
        )
        if len(instruction.sources) > 1 and not target.must_be_directory:
            raise KanikoError(
                f"{len(instruction.sources)} sources need a directory to go to, and "
                f'"{instruction.destination}" does not end in a slash',
                hint=f"write {instruction.destination}/",
            )
        copier = _Copier(instruction, origin, target, changes, owner, spool)
        for source in instruction.sources:
            copier.copy(source)
        return target.destination.entries()


def _mode_on_the_way(changes: Changes) -> int:
    """Return the mode of directories made on the way: an octal ``--chmod``'s, as with BuildKit."""
    mode = changes.mode(DIRECTORY_MODE, True) & 0o777
    return mode if changes.chmod and changes.chmod[0].isdigit() else DIRECTORY_MODE


class _Target:
    """Where an instruction's destination is."""

    def __init__(self, destination: Destination, workdir: str, text: str) -> None:
        self.destination = destination
        self.must_be_directory = text in ("", ".") or text.endswith(("/", "/."))
        self.path = destination.resolve(destination_path(workdir, text))

    @property
    def is_directory(self) -> bool:
        return self.destination.kind(self.path) is Kind.DIRECTORY

    def directory(self, mtime_ns: int) -> bytes:
        """Return the directory that takes the contents of another, made if need be.

        A new one has the time of the other, but neither its mode nor its owner, as with BuildKit.
        """
        if not self.is_directory:
            defaults = self.destination.defaults
            self.destination.make_directories(self.path.rpartition(b"/")[0])
            self.destination.make_directories(
                self.path, Defaults(defaults.owner, defaults.mode, mtime_ns)
            )
        return self.path

    def file(self, name: bytes) -> bytes:
        """Return what a file called *name* becomes; its parents are made if need be."""
        path = self.path
        if self.must_be_directory:
            self.destination.make_directories(path)
        if self.is_directory:
            path = path + b"/" + name if path else name
        else:
            self.destination.make_directories(path.rpartition(b"/")[0])
        if self.destination.kind(path) is Kind.DIRECTORY:
            raise KanikoError(
                f"/{printable(path)} is a directory; a file cannot take its place",
                hint="choose another destination, or remove it with an earlier RUN",
            )
        return path


@dataclass(frozen=True, slots=True)
class _Copier:
    instruction: Copy | Add
    origin: CopySource
    target: _Target
    changes: Changes
    owner: tuple[int, int] | None
    spool: Callable[[], Path]

    def copy(self, source: str) -> None:
        found = self.origin.find(source)
        files = [match for match in found if not match.is_directory]
        if len(found) > 1 and files and not self.target.must_be_directory:
            self._refuse_one_file_for_several(source, len(found))
        exclude = self.instruction.exclude
        for match in found:
            copier = FileCopier(
                self.origin,
                self.target.destination,
                self.changes,
                IgnorePatterns(exclude) if exclude else None,
            )
            if match.is_directory:
                copier.contents(match, self.target.directory(match.status.st_mtime_ns))
            elif copier.wants(match) and not self._unpacked(match):
                copier.file(match, self.target.file(match.path.rpartition(b"/")[2]))

    def _refuse_one_file_for_several(self, source: str, count: int) -> None:
        if not self.target.is_directory:
            raise KanikoError(
                f'"{source}" matches {count} sources, and they cannot all become '
                f'"{self.instruction.destination}"',
                hint=f"write {self.instruction.destination}/ to copy them into a directory",
            )

    def _unpacked(self, match: Match) -> bool:
        if not isinstance(self.instruction, Add) or self.instruction.unpack is False:
            return False
        if not stat.S_ISREG(match.status.st_mode):
            return False
        path = Path(os.fsdecode(self.origin.root.host_path(match.resolved)))
        with reading(self.origin, match.path):
            with path.open("rb") as stream:
                if not is_archive(stream):
                    return False
            with path.open("rb") as stream:
                self._unpack(stream, match)
        return True

    def _unpack(self, stream: BinaryIO, match: Match) -> None:
        try:
            unpack_archive(
                stream,
                self.target.destination,
                self.target.path,
                owner=self.owner,
                spool=self.spool(),
            )
        except ContentError as error:
            raise ContentError(
                f'cannot unpack "{printable(match.path)}" of {self.origin.name}: {error}',
                hint=error.hint,
            ) from error
