"""The files of a commit, written out of its repository: those that are wanted, and no others."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import IO

from kaniko_core.context.ignore import IgnorePatterns
from kaniko_core.context.leaving import IgnoreFiles, read_patterns
from kaniko_core.errors import UsageError, disk_errors
from kaniko_core.home import home as carried
from kaniko_core.lean import dataclass
from kaniko_core.remote.git.clone import Clone, alternatives
from kaniko_core.remote.git.run import Access, GitFailed

_LINK, _REPOSITORY = b"120000", b"160000"
_ATTRIBUTES = ".gitattributes"
_PIECE = 1 << 20  # bytes of a listing that are read at once
_LARGEST_IGNORE_FILE = 16 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one commit.

    Attributes:
        clone: has the commit.
        commit: which one.
        top: the directory that is wanted; empty for everything.
        leaving: what need not be written; None for nothing.
        submodules: returns how submodules are reached; None where they are not wanted.
    """

    clone: Clone
    commit: str
    top: str
    leaving: IgnoreFiles | None
    submodules: Callable[[], Access] | None

    def write_all(self) -> None:
        """Write all files, and make this commit the one that is checked out.

        Raises:
            GitFailed: a submodule cannot be fetched.
        """
        # With links in the way of the directory that is wanted, files may still be missing here.
        self.clone.talk("checkout", "--quiet", "--force", "--detach", self.commit)
        if (self.clone.directory / ".gitmodules").is_file():
            self._submodules()

    def write(self) -> Sequence[str]:
        """Write the files that are wanted; return submodules among them.

        Raises:
            GitFailed: a submodule cannot be fetched, or files that the server left out before.
            UsageError: the directory that is wanted is not there.
            ContextError: a pattern of what is to be left out is none.
        """
        git = self.clone
        with ExitStack() as stack:
            listing = stack.enter_context(
                git.git.answer(
                    *(git.access, "ls-tree", "-r", "-z", "--full-tree", self.commit),
                    directory=git.directory,
                )
            )
            if self._linked(listing):
                self.write_all()
                return ()
            names, hashes = (stack.enter_context(git.git.scratch()) for _ in range(2))
            chosen = self._choose(listing, names, hashes)
            git.ask("update-ref", "--no-deref", "HEAD", self.commit)
            git.ask("read-tree", self.commit)
            self._bring(hashes)
            git.talk("checkout-index", "--quiet", "--force", "-z", "--stdin", lines=names)
        self._make(chosen.directories, chosen.patterns)
        if chosen.submodules:
            self._submodules("--", *chosen.submodules)
        return chosen.submodules

    def _linked(self, listing: IO[bytes]) -> bool:
        """Whether a link leads to the directory that is wanted; it has to be followed on disk."""
        if not self.top:
            return False
        there = False
        for mode, _, name in _entries(listing):
            if mode == _LINK and _within(self.top, name):
                return True
            there = there or name.startswith(f"{self.top}/")
            there = there or (mode == _REPOSITORY and _within(self.top, name))
        if not there:
            raise self.no_directory()
        return False

    def no_directory(self) -> UsageError:
        """Return the error for a directory that is not there."""
        git = self.clone
        listing = git.ask("ls-tree", "-d", "-r", "-z", "--name-only", "--full-tree", self.commit)
        return UsageError(
            f"it has no directory {git.reference.subdirectory}",
            hint=alternatives(self.top, filter(None, listing.split("\0")))
            or "it is what follows the colon after #, or subdir= in the query",
        )

    def _choose(self, listing: IO[bytes], names: IO[bytes], hashes: IO[bytes]) -> _Chosen:
        """Write what of *listing* is wanted into *names* and *hashes*."""
        leaving = self.leaving or IgnoreFiles()
        patterns = self._patterns(listing)
        directories: set[str] = set()
        submodules: list[str] = []
        for mode, value, name in _entries(listing):
            inside = not self.top or name.startswith(f"{self.top}/")
            module = mode == _REPOSITORY
            wanted = inside and not (
                patterns is not None and leaving.leaves_out(patterns, name, directory=module)
            )
            if wanted or (module and _within(self.top, name)):
                names.write(os.fsencode(name) + b"\0")
                if module:
                    submodules.append(name)
            elif inside:
                directories.add(posixpath.dirname(name))
            # How a file is written may be said in any directory above it.
            if not module and (wanted or posixpath.basename(name) == _ATTRIBUTES):
                hashes.write(value + b"\n")
        names.seek(0)
        return _Chosen(patterns, frozenset(directories - {""}), tuple(submodules))

    def _patterns(self, listing: IO[bytes]) -> IgnorePatterns | None:
        if self.leaving is None or self.leaving.known is not None:
            return None if self.leaving is None else self.leaving.known
        there = {
            name: (mode, value)
            for mode, value, name in _entries(listing)
            if name in self.leaving.names
        }
        for name in self.leaving.names:
            if name in there:
                mode, value = there[name]
                # Where a link leads is for whoever reads the files.
                return None if mode == _LINK else read_patterns(self._content(value), name)
        return None

    def _content(self, value: bytes) -> bytes:
        git = self.clone
        with git.git.answer(
            git.access, "cat-file", "blob", value.decode(), directory=git.directory
        ) as answer:
            return answer.read(_LARGEST_IGNORE_FILE)

    def _bring(self, hashes: IO[bytes]) -> None:
        """Fetch the files with these *hashes* at once, if the server left them out before."""
        git = self.clone
        if not self.top or not self._files_are_missing():
            return
        git.talk(
            *("-c", "fetch.negotiationAlgorithm=noop", "fetch", "--quiet", "--no-tags"),
            *("--no-write-fetch-head", "--no-recurse-submodules", "--filter=blob:none"),
            *("--stdin", "origin"),
            lines=hashes,
        )

    def _files_are_missing(self) -> bool:
        git = self.clone
        listing = ("rev-list", "--objects", "--no-object-names", "--missing=print", "--max-count=1")
        with git.git.answer(git.access, *listing, self.commit, directory=git.directory) as answer:
            return any(line.startswith(b"?") for line in answer)

    def _make(self, directories: frozenset[str], patterns: IgnorePatterns | None) -> None:
        """Make the directories that have nothing but files that are left out."""
        leaving = self.leaving or IgnoreFiles()
        above = {
            "/".join(parts[:length])
            for parts in (name.split("/") for name in directories)
            for length in range(1, len(parts) + 1)
        }
        with disk_errors("write the files of a git repository into", self.clone.directory):
            for name in sorted(above):
                if patterns is None or not leaving.leaves_out(patterns, name, directory=True):
                    self._make_one(name)

    def _make_one(self, name: str) -> None:
        """Make a directory, and those above it, through no link: a bad tree has both at a place."""
        path = self.clone.directory
        for part in name.split("/"):
            path = path / part
            with suppress(FileExistsError):
                path.mkdir()
            if not stat.S_ISDIR(path.lstat().st_mode):
                raise UsageError(f"it has two different things at {name}")

    def _submodules(self, *paths: str) -> None:
        if self.submodules is None:
            return
        git, access = self.clone, self.submodules()
        # Without a shell, there is but the program that git's script for submodules starts.
        command = ("submodule",) if carried() is None else ("submodule--helper",)
        update = (*command, "update", "--quiet", "--init", "--recursive")
        try:
            git.talk(*update, *git.depth, *paths, access=access)
        except GitFailed:
            # Some servers give away what a branch or tag is at only.
            git.talk(*update, "--force", *paths, access=access)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What of a commit is wanted: *directories* have files that are not."""

    patterns: IgnorePatterns | None
    directories: frozenset[str]
    submodules: tuple[str, ...]


def _within(name: str, directory: str) -> bool:
    return name == directory or name.startswith(f"{directory}/")


def _entries(listing: IO[bytes]) -> Iterator[tuple[bytes, bytes, str]]:
    """Yield mode, hash and name of each line of ``ls-tree -z``, from its beginning."""
    listing.seek(0)
    rest = b""
    while piece := listing.read(_PIECE):
        *lines, rest = (rest + piece).split(b"\0")
        for line in lines:
            head, _, name = line.partition(b"\t")
            mode, _, value = head.split(b" ")
            yield mode, value, os.fsdecode(name)
