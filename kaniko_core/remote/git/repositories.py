"""Git repositories: one commit of them, as a tree of files.

No more is fetched than that commit, where the server allows it, and no more is written than what
the context keeps. What comes out depends on the commit alone: files have modes 0644 or 0755, and
the time of the commit unless ``mtime=checkout`` asks for that of the build; ``.git`` is left out,
or kept without what this machine adds to it.

Source: BuildKit v0.32 for what a reference means: a full name first, then a branch, then a tag.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from functools import partial
from pathlib import Path

from kaniko_core.addresses.git import GitReference, is_commit
from kaniko_core.errors import ContextError, KanikoError, RegistryError, UsageError, disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.oci.entry import SECOND
from kaniko_core.progress import Noted, Progress
from kaniko_core.registry.hosts import Trust
from kaniko_core.registry.pacing import Pacing
from kaniko_core.registry.session import origin_of
from kaniko_core.remote.git.access import (
    TOKEN,
    TOKEN_SECRET,
    Accounts,
    settled,
)
from kaniko_core.remote.git.checkout import Files
from kaniko_core.remote.git.clone import Checkout, Clone
from kaniko_core.remote.git.run import Access, GitFailed, GitProgram
from kaniko_core.remote.lfs.files import LargeFiles
from kaniko_core.remote.lfs.places import Checkout as LargeCheckout
from kaniko_core.remote.web.netrc import Netrc

_HEX = re.compile(r"[0-9A-Fa-f]+")
# What git-check-ref-format(1) forbids in names.
_NO_NAME = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/.]|/\.|[/.]$|\.lock(?:/|$)")
_LATEST = 253_402_300_799  # the last second that has a year of four digits
# Not any 401: there may be one in a port, or in a commit.
_REFUSED = re.compile(
    r"could not read (?:Username|Password)|Authentication failed|returned (?:error: )?40[13]\b"
)


@dataclass(frozen=True, slots=True)
class GitTree:
    """A commit's files.

    Attributes:
        directory: their root.
        commit: its full hash.
        time: when it was made, in seconds since 1970.
        ref: the full name of the branch, tag or other reference that led there, or a hash.
        large_files: how many of the files Git LFS had.
    """

    directory: Path
    commit: str
    time: int
    ref: str = ""
    large_files: int = 0


@dataclass(frozen=True, slots=True)
class Repositories:
    """Fetches repositories; safe to use from several threads.

    Attributes:
        program: finds git, when it is needed first.
        secrets: values by id; see ``HEADER_SECRET`` and ``TOKEN_SECRET``.
        trust: returns whose certificates are believed for a host (with port).
        ssh_socket: returns the socket of the user's SSH agent, if there is to be one.
        progress: told which commit it is.
        stopped: set by whoever gives everything up.
        pacing: how often a server is asked again, and when.
        environment: variables with credentials for repositories that the user named himself;
            his HOME, for keys and ``.netrc``.
        own_host: the host (with port) that GIT_USERNAME, GIT_PASSWORD and GIT_TOKEN are for.
        netrc: passwords by host.
        large_files: fetches what pointers of Git LFS stand for; None leaves them what they are.
    """

    program: Callable[[], GitProgram]
    secrets: Mapping[str, bytes] = field(repr=False)
    trust: Callable[[str], Trust]
    ssh_socket: Callable[[], Path | None]
    progress: Progress
    stopped: threading.Event
    pacing: Pacing
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    own_host: str | None = None
    netrc: Netrc = field(default_factory=Netrc)
    large_files: LargeFiles | None = None

    def fetch(
        self, reference: GitReference, directory: Path, how: Checkout | None = None
    ) -> GitTree:
        """Fetch what *reference* means into the new *directory*, as *how* says.

        Raises:
            ContextError: it cannot be fetched; nothing is left.
            DiskError: *directory* cannot be written.
        """
        how = how or Checkout()
        ref = reference.ref or how.options.branch
        named = f"{reference.name}#{ref}" if ref else reference.name
        try:
            _check(reference, ref)
            tree = self._tree(self._settled(reference), directory, how)
        except (GitFailed, RegistryError, UsageError) as error:
            shutil.rmtree(directory, ignore_errors=True)
            hint = error.hint or _hint(reference, error, own=how.own)
            raise ContextError(f"cannot fetch {named}: {error}", hint=hint) from error
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        self.progress(Noted(f"{named} is commit {tree.commit}"))
        return tree

    def _settled(self, reference: GitReference) -> GitReference:
        found = settled(reference)
        if found is not reference:
            self.progress(Noted(f"{reference.name} is fetched as {found.name}"))
        return found

    def _tree(self, reference: GitReference, directory: Path, how: Checkout) -> GitTree:
        """Fetch it in the first way that the server lets us in, or else fail as the first did."""
        program = self.program()
        accounts = Accounts(
            *(self.secrets, self.trust, self.ssh_socket),
            *(self.environment, self.own_host),
            self.netrc,
        )
        first: GitFailed | None = None
        for access in accounts.ways(
            reference, program.home, own=how.own, verified=not how.options.insecure_skip_tls
        ):
            clone = Clone(
                program, access, directory, reference, how.options, self.pacing, self.stopped
            )
            try:
                return _Fetching(clone, how, accounts, self.large_files).tree()
            except GitFailed as error:
                shutil.rmtree(directory, ignore_errors=True)
                first = first or error
                if not _REFUSED.search(error.said):
                    break
        assert first is not None
        raise first


def _check(reference: GitReference, ref: str) -> None:
    """Refuse what git could take for an option, and names that no branch can have."""
    url = reference.url
    host = reference.remote.rpartition("@")[2] if url is None else url.host
    user = url.user[0] if url is not None and url.user is not None else ""
    if any(text.startswith("-") for text in (reference.remote, host, user)):
        raise UsageError("a host or user cannot begin with a dash")
    if ref and _NO_NAME.search(ref):
        raise UsageError(
            f'"{ref}" is no name of a branch or tag, nor a commit',
            hint="write it after the #, as in https://example.com/code.git#main",
        )
    if reference.checksum and not _HEX.fullmatch(reference.checksum):
        raise UsageError(
            f'the checksum "{reference.checksum}" is not hexadecimal',
            hint="for a git repository it is a commit, or how its hash begins",
        )
    if reference.fetch_by_commit and not is_commit(reference.checksum):
        raise UsageError("fetch-by-commit needs a checksum that is a whole commit")


@dataclass(frozen=True, slots=True)
class _Fetching:
    """One repository on its way into its directory.

    Attributes:
        accounts: says who we are for submodules, and for servers of large files.
    """

    clone: Clone
    how: Checkout
    accounts: Accounts
    large_files: LargeFiles | None

    def tree(self) -> GitTree:
        """Fetch everything and return the tree that the reference means."""
        reference = self.clone.reference
        # A part of a repository is none.
        top = posixpath.normpath(f"/{reference.subdirectory.strip('/')}").strip("/")
        keep = bool(reference.keep_git_dir) and not top
        found = self.clone.fetch(without_files=bool(top))
        files = Files(self.clone, found.commit, top, self.how.leaving, self._submodules())
        if keep or not (top or self.how.leaving):
            files.write_all()
            large = self._resolved(())
        else:
            large = self._resolved(files.write())
        seconds = _time(self.clone.ask("show", "--no-patch", "--format=%ct", found.commit))
        root = self._root(files)
        if keep:
            self._forget()
        mtime = None if reference.mtime == "checkout" else seconds
        _tidy(self.clone.directory, keep=keep, mtime=mtime)
        return GitTree(root, found.commit, seconds, found.ref, large)

    def _submodules(self) -> Callable[[], Access] | None:
        """Return what says how to reach submodules; None where they are not wanted."""
        wanted = self.clone.reference.submodules
        if wanted is None:
            wanted = self.how.options.recurse_submodules
        if wanted is False:
            return None
        return partial(self.accounts.for_submodules, self.clone.access, own=self.how.own)

    def _resolved(self, submodules: Sequence[str]) -> int:
        """Fetch large files, also of these *submodules*; return how many they are."""
        if self.large_files is None:
            return 0
        git, access = self.clone.git, self.clone.access
        address = self.clone.reference.address

        def run_git(directory: Path, *arguments: str) -> str:
            return git.run(access, *arguments, directory=directory)

        checkout = LargeCheckout(
            self.clone.directory,
            run_git,
            partial(self.accounts.authorization, access),
            partial(git.run_ssh, access),
            origin_of(address) if self.how.options.insecure_skip_tls else None,
        )
        places = [checkout.at(self.clone.directory / name) for name in submodules]
        return sum(self.large_files.resolve(each) for each in (checkout, *places))

    def _root(self, files: Files) -> Path:
        """Return the directory that was asked for; it cannot be outside of what was fetched."""
        directory = self.clone.directory
        wanted = self.clone.reference.subdirectory.strip("/")
        top = directory.resolve()
        try:
            found = (top / wanted).resolve()
            inside = found.is_relative_to(top) and (found == top or ".git" not in found.parts)
            if inside and found.is_dir():
                return directory / found.relative_to(top)
        except (OSError, RuntimeError, ValueError):
            pass
        raise files.no_directory()

    def _forget(self) -> None:
        """Make ``.git`` what it is everywhere: its index notes inodes and times of this disk."""
        top = self.clone.directory / ".git"
        with disk_errors("put a git repository in order in", top):
            heads = [path for path in top.rglob("HEAD") if (path.parent / "objects").is_dir()]
            for name in (path.parent / "FETCH_HEAD" for path in heads):
                name.unlink(missing_ok=True)
        for head in heads:
            self.clone.ask(f"--git-dir={head.parent.absolute()}", "read-tree", "HEAD")


def _time(said: str) -> int:
    """Return when a commit was made; what is no time of ours is the nearest one."""
    return min(int(said), _LATEST) if said.isdecimal() else 0


def _tidy(directory: Path, *, keep: bool, mtime: int | None) -> None:
    """Remove what only this checkout needs, and give everything the time *mtime*."""
    with disk_errors("put a git repository in order in", directory):
        if not keep:
            shutil.rmtree(directory / ".git")
        elif mtime is None:
            return
        waiting = [str(directory)]
        while waiting:
            path = waiting.pop()
            waiting.extend(f"{path}/{name}" for name in _tidy_one(path, keep=keep, mtime=mtime))


def _tidy_one(path: str, *, keep: bool, mtime: int | None) -> list[str]:
    """Tidy what is in one directory, and itself; return the names of directories in it."""
    times = None if mtime is None else (mtime * SECOND, mtime * SECOND)
    directories = []
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                # Nothing in a repository can have this name: it belongs to a submodule.
                if entry.name == ".git" and not keep:
                    os.unlink(entry.name, dir_fd=descriptor)
                elif entry.is_dir(follow_symlinks=False):
                    directories.append(entry.name)
                elif times is not None:
                    os.utime(entry.name, ns=times, dir_fd=descriptor, follow_symlinks=False)
        if times is not None:
            os.utime(descriptor, ns=times)
    finally:
        os.close(descriptor)
    return directories


def _hint(reference: GitReference, error: KanikoError, *, own: bool) -> str | None:
    text = str(error)
    url = reference.url
    if _REFUSED.search(text):
        host = url.host if url else ""
        secret = f"--secret id={TOKEN_SECRET}.{host},src=FILE"
        return (
            f"give a token with {TOKEN}, or with {secret}" if own else f"give a token with {secret}"
        )
    if "Permission denied" in text:
        return "give the keys of your SSH agent with --ssh default"
    if "not found" in text or "does not exist" in text:
        return "check the address; a private repository needs --secret or --ssh"
    if re.search(r"Could not resolve|refused|timed out|unreachable|nothing came", text):
        return "check the host's name, and whether this machine or pod can reach it"
    if "cannot run ssh" in text:
        return "install the package openssh-client"
    return None
