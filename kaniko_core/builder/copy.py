"""COPY and ADD: what they put into a layer, as entries.

Nothing is copied: the entries name files of the source, and the layer is packed from them.
Where BuildKit and the Dockerfile reference say the same, this does it; where BuildKit fails
although the reference promises an outcome (a directory where a symbolic link was, or the
reverse), the reference wins: conflicts are resolved in favour of what is added.
Source: https://docs.docker.com/reference/dockerfile/#copy; BuildKit's fsutil.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import assert_never

from kaniko_core.builder.add import is_archive, unpack_archive
from kaniko_core.builder.configure import StageState, expand, located
from kaniko_core.builder.destination import DIRECTORY_MODE, Defaults, Destination, printable
from kaniko_core.builder.files import Changes, FileCopier
from kaniko_core.builder.parents import Pivot
from kaniko_core.builder.source import (
    CopySource,
    FetchedFile,
    FetchedTree,
    InlineFile,
    LocalWord,
    Match,
    SourceItem,
    reading,
)
from kaniko_core.builder.taken import (
    exclusions,
    inline_files,
    refuse_impossible,
    source_words,
    tops,
)
from kaniko_core.builder.target import Target
from kaniko_core.context.ignore import IgnorePatterns
from kaniko_core.dockerfile.instructions import Add, Copy
from kaniko_core.errors import ContentError, KanikoError
from kaniko_core.lean import dataclass
from kaniko_core.oci.entry import SECOND, Entry, Kind
from kaniko_core.rootfs.tree import Rootfs
from kaniko_core.rootfs.users import Accounts

__all__ = ["CopySource", "copy_entries"]

_INLINE_MODE = 0o644


def copy_entries(
    instruction: Copy | Add,
    state: StageState,
    origin: CopySource,
    below: Rootfs,
    *,
    spool: Callable[[], Path],
    sources: Sequence[SourceItem] | None = None,
    epoch: int | None = None,
) -> list[Entry]:
    """Return the layer of a COPY or ADD: parents first, sorted by name, each name once.

    Args:
        instruction: as it was parsed; its words are expanded here.
        state: the stage before it.
        origin: where local sources are.
        below: the stage's tree before the instruction.
        spool: names a new file for what an archive holds; it must last as long as the entries.
        sources: what the source words stand for, in order and without here-documents, which
            come after them; None where all of them name files of *origin*.
        epoch: the time of what has none of its own, in seconds since 1970: here-documents and
            directories made on the way. None for that of the directory that it is put in.

    Raises:
        DockerfileError: the instruction cannot be done: a missing source, an unknown user, …
        ContextError: a source cannot be read.
        ContentError: an archive is damaged, or a file cannot be stored in a layer.
    """
    instruction = expand(state, instruction)
    with located(instruction.source):
        items = _items(instruction, state, sources)
        refuse_impossible(instruction, items)
        owner = Accounts.of(below).owner(instruction.chown) if instruction.chown else None
        target = _target(instruction, state, below, owner, epoch)
        if len(items) > 1:
            _refuse_one_file_for_several(instruction, target)
        copier = _Copier(instruction, origin, target, owner, spool)
        for item in items:
            copier.put(item)
        return target.destination.entries()


def _items(
    instruction: Copy | Add, state: StageState, sources: Sequence[SourceItem] | None
) -> list[SourceItem]:
    if sources is None:
        sources = [LocalWord(word) for word in source_words(instruction)]
    return [*sources, *inline_files(instruction, state)]


def _target(
    instruction: Copy | Add,
    state: StageState,
    below: Rootfs,
    owner: tuple[int, int] | None,
    epoch: int | None,
) -> Target:
    # With --chmod, --link changes nothing, as with BuildKit.
    independent = instruction.link and not instruction.chmod
    defaults = Defaults(
        owner or (0, 0),
        _mode_on_the_way(instruction.chmod or ""),
        None if epoch is None else epoch * SECOND,
    )
    destination = Destination(
        None if independent else below, defaults, top_mtime_ns=state.top_mtime_ns
    )
    return Target(destination, state.workdir, instruction.destination, borrows=independent)


def _mode_on_the_way(chmod: str) -> int:
    """Return the mode of directories made on the way: an octal ``--chmod``'s, as with BuildKit."""
    if not chmod[:1].isdigit():
        return DIRECTORY_MODE
    return Changes(chmod=chmod).mode(DIRECTORY_MODE, True) & 0o777


def _refuse_one_file_for_several(instruction: Copy | Add, target: Target) -> None:
    parents = isinstance(instruction, Copy) and instruction.parents
    if target.must_be_directory or target.is_directory or parents:
        return
    raise KanikoError(
        f"{len(instruction.sources)} sources need a directory to go to, and "
        f'"{instruction.destination}" does not end in a slash',
        hint=f"write {instruction.destination}/",
    )


@dataclass(frozen=True, slots=True)
class _Copier:
    """Puts one source after the other into the target of an instruction."""

    instruction: Copy | Add
    origin: CopySource
    target: Target
    owner: tuple[int, int] | None
    spool: Callable[[], Path]

    def put(self, item: SourceItem) -> None:
        match item:
            case LocalWord(text) if isinstance(self.instruction, Copy) and self.instruction.parents:
                self._with_parents(text)
            case LocalWord(text):
                self._word(text)
            case InlineFile():
                self._inline(item)
            case FetchedFile():
                self._fetched(item)
            case FetchedTree(tree):
                top = tree.find("/")[0]
                mode = self._changes().mode(top.status.st_mode, True)
                directory = self.target.directory(top.status.st_mtime_ns, mode)
                self._files(tree, exclusions(self.instruction)).contents(top, directory)
            case _:
                assert_never(item)

    def _changes(self, origin: CopySource | None = None) -> Changes:
        keep = origin is not None and origin.keep_owners
        owner = self.owner or (None if keep else (0, 0))
        return Changes(owner, self.instruction.chmod or None)

    def _files(self, origin: CopySource, filters: tuple[IgnorePatterns, ...]) -> FileCopier:
        return FileCopier(origin, self.target.destination, self._changes(origin), filters)

    def _with_parents(self, word: str) -> None:
        pivot = Pivot.of(word)
        filters = (*exclusions(self.instruction), *pivot.filters)
        for top in tops(self.origin, word, pivot):
            directory = self.target.directory(top.status.st_mtime_ns)
            self._files(self.origin, filters).contents(top, directory)

    def _word(self, word: str) -> None:
        found = self.origin.find(word)
        exclude = exclusions(self.instruction)
        for match in found:
            copier = self._files(self.origin, exclude)
            mtime_ns = match.status.st_mtime_ns
            if match.is_directory:
                copier.contents(match, self.target.directory(mtime_ns))
            elif copier.wants(match) and not self._unpacked_match(match):
                self._refuse_one_file_for_matches(word, found)
                copier.file(match, self.target.file(match.path.rpartition(b"/")[2], mtime_ns))

    def _refuse_one_file_for_matches(self, word: str, found: Sequence[Match]) -> None:
        # An archive or directory that came first has made the directory.
        if len(found) < 2:
            return
        if not self.target.must_be_directory and not self.target.is_directory:
            raise KanikoError(
                f'"{word}" matches {len(found)} sources, and they cannot all become '
                f'"{self.instruction.destination}"',
                hint=f"write {self.instruction.destination}/ to copy them into a directory",
            )

    def _inline(self, item: InlineFile) -> None:
        destination = self.target.destination
        name = self.target.file(item.name.encode("utf-8", "surrogateescape"), 0)
        mtime_ns = destination.defaults.mtime_ns
        if mtime_ns is None:
            mtime_ns = destination.mtime_ns(name.rpartition(b"/")[0])
        entry = self._new_file(name, _INLINE_MODE, len(item.content), mtime_ns)
        entry.content = partial(io.BytesIO, item.content) if item.content else None
        destination.put(entry)

    def _fetched(self, item: FetchedFile) -> None:
        name = item.name.encode("utf-8", "surrogateescape")
        if item.unpack and self._unpacked(item.path, f'"{item.name}"', item.mtime_ns):
            return
        name = self.target.file(name, item.mtime_ns)
        size = item.path.stat().st_size
        entry = self._new_file(name, item.mode, size, item.mtime_ns)
        entry.content = os.fsencode(item.path) if size else None
        self.target.destination.put(entry)

    def _new_file(self, name: bytes, mode: int, size: int, mtime_ns: int) -> Entry:
        uid, gid = self.owner or (0, 0)
        mode = self._changes().mode(mode, False)
        return Entry(name, Kind.FILE, mode, uid, gid, size, mtime_ns)

    def _unpacked_match(self, match: Match) -> bool:
        if not isinstance(self.instruction, Add) or self.instruction.unpack is False:
            return False
        if not stat.S_ISREG(match.status.st_mode):
            return False
        path = Path(os.fsdecode(self.origin.root.host_path(match.resolved)))
        what = f'"{printable(match.path)}" of {self.origin.name}'
        with reading(self.origin, match.path):
            return self._unpacked(path, what, match.status.st_mtime_ns)

    def _unpacked(self, path: Path, what: str, mtime_ns: int) -> bool:
        """Put what the archive at *path* holds; False if it is none."""
        with path.open("rb") as stream:
            if not is_archive(stream):
                return False
        # --chmod is for files that are copied: an archive has modes of its own.
        made = replace(self.target.made(mtime_ns), mode=DIRECTORY_MODE)
        try:
            with path.open("rb") as stream:
                unpack_archive(
                    stream,
                    self.target.destination,
                    self.target.path,
                    owner=self.owner,
                    made=made,
                    spool=self.spool(),
                )
        except ContentError as error:
            raise ContentError(
                f"cannot unpack {what}: {error}",
                hint=error.hint,
            ) from error
        return True
