"""A git repository here, and how commits come into it from the server: no more than is needed."""

from __future__ import annotations

import difflib
import re
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from typing import IO

from kaniko_core.addresses.cloning import GitOptions
from kaniko_core.addresses.git import GitReference, is_commit
from kaniko_core.context.leaving import IgnoreFiles
from kaniko_core.errors import RegistryError, UsageError, disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.registry.pacing import Pacing
from kaniko_core.remote.git.moves import Moves
from kaniko_core.remote.git.run import Access, GitFailed, GitProgram

_SHALLOW = re.compile(r"--depth|shallow")
# What servers say that give away only what a branch or tag is at.
NOT_SERVED = re.compile(
    r"not our ref|unadvertised object|does not allow request|couldn't find remote ref|"
    r"no such remote ref|remote error: .*want"
)
_FETCH = (
    "fetch",
    "--quiet",
    "--force",
    "--no-tags",
    "--update-head-ok",
    "--no-recurse-submodules",
)
# What git notes in a repository whose files come when they are needed.
_PARTIAL = ("extensions.partialClone", "remote.origin.promisor", "remote.origin.partialclonefilter")
_BRANCHES = "+refs/heads/*:refs/remotes/origin/*"
_TAGS = "+refs/tags/*:refs/tags/*"
_LISTED = 8  # branches and tags in a hint


@dataclass(frozen=True, slots=True)
class Checkout:
    """What of a repository is wanted, beyond what its reference says.

    Attributes:
        options: what ``--git`` says.
        leaving: what need not be written to disk.
        own: whether the user named the repository himself, as a context: variables with
            credentials, and keys for ssh, are meant for it.
    """

    options: GitOptions = field(default_factory=GitOptions)
    leaving: IgnoreFiles | None = None
    own: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What a reference led to.

    Attributes:
        ref: the full name of what was asked for, or its hash.
        value: the hash of that: of a commit, or of a tag.
        commit: the commit that it is, or is a tag of.
    """

    ref: str
    value: str
    commit: str


@dataclass(frozen=True, slots=True)
class Clone:
    """A repository in a directory.

    Attributes:
        git: runs here.
        access: how its server is reached.
        directory: where it is; made by :meth:`fetch`.
        reference: what of it is wanted.
        options: how much of its history.
        pacing: how often the server is asked again, and when.
        stopped: set by whoever gives everything up.
        moves: where servers that we tell who we are redirect to; they are filled in here.
    """

    git: GitProgram
    access: Access
    directory: Path
    reference: GitReference
    options: GitOptions
    pacing: Pacing
    stopped: threading.Event
    moves: Moves = field(default_factory=Moves)

    def fetch(self, *, without_files: bool) -> Found:
        """Make the repository, and bring the commit that is meant, with the history that is wanted.

        Args:
            without_files: leave files out, where the server can; they come later, when
                git needs them.

        Raises:
            UsageError: there is no such branch, tag or commit.
            GitFailed: the server does not give it.
        """
        reference = self.reference
        # Servers that are but files have neither; leaving files out of them would never end.
        filters = ("--filter=blob:none",) if without_files and self.depth else ()
        if reference.fetch_by_commit or is_commit(reference.ref):
            name = reference.checksum if reference.fetch_by_commit else reference.ref
            self._begin(len(name))
            value = self._commit(name, filters)
        else:
            name, digits = self._resolved(reference.ref or self.options.branch)
            self._begin(digits)
            self._shallow(filters, f"+{name}:{name}" if name.startswith("refs/") else name)
            value = self.ask("rev-parse", "--verify", "--quiet", "FETCH_HEAD")
        commit = self.ask("rev-parse", "--verify", "--quiet", f"{value}^{{commit}}")
        self._verify(value, commit)
        if self.options.single_branch is False:
            self._shallow(filters, _BRANCHES)
        return Found(name, value, commit)

    @property
    def depth(self) -> tuple[str, ...]:
        """How git is told the length of the history."""
        depth = 1 if self.options.depth is None else self.options.depth
        return (f"--depth={depth}",) if depth else ()

    def ask(self, *arguments: str, lines: IO[bytes] | None = None) -> str:
        """Run git here; return what it says."""
        return self.git.run(self.access, *arguments, directory=self.directory, lines=lines).strip()

    def talk(
        self, *arguments: str, access: Access | None = None, lines: IO[bytes] | None = None
    ) -> str:
        """Run a git that talks to the server, again where the network fails, or leads elsewhere."""
        directory = self.directory if self.directory.exists() else None
        failures = 0
        while True:
            try:
                if lines is not None:
                    lines.seek(0)
                known = self.moves.known_to(access or self.access)
                return self.git.run(known, *arguments, directory=directory, lines=lines)
            except GitFailed as error:
                if self.moves.follow(self.git, known, error):
                    continue
                if not error.temporary or self.pacing.gives_up(failures):
                    raise
                pause = self.pacing.pause(RegistryError(str(error)), failures)
            failures += 1
            self.stopped.wait(pause)

    def _begin(self, digits: int) -> None:
        with disk_errors("fetch a git repository into", self.directory):
            self.directory.mkdir(parents=True)
            self.directory.chmod(0o755)
        form = ("--object-format=sha256",) if digits == 64 else ()
        self.ask("init", "--quiet", "--template=", *form)
        self.ask("remote", "add", "--", "origin", self.reference.address)

    def _resolved(self, ref: str) -> tuple[str, int]:
        """Return the full name of *ref*, and how many digits hashes have there."""
        address = self.reference.address
        if not ref:
            lines = self.talk("ls-remote", "--symref", "--", address, "HEAD").splitlines()
            named = [line[5:].partition("\t")[0] for line in lines if line.startswith("ref: ")]
            hashes = [line.partition("\t")[0] for line in lines if line.endswith("\tHEAD")]
            if not hashes:
                raise UsageError("it has no default branch: it seems to be empty")
            return (named[0] if named else "HEAD"), len(hashes[-1])
        found = _names(self.talk("ls-remote", "--", address, ref, f"{ref}^{{}}"))
        for prefix in ("refs/", "refs/heads/", "refs/tags/"):
            name = prefix + ref.removeprefix(prefix)
            if name in found:
                return name, len(found[name])
        names = _names(self.talk("ls-remote", "--heads", "--tags", "--refs", "--", address))
        short = [name.removeprefix("refs/heads/").removeprefix("refs/tags/") for name in names]
        wanted = ref.removeprefix("refs/heads/").removeprefix("refs/tags/")
        raise UsageError(
            f"it has no branch or tag {ref}",
            hint=alternatives(wanted, short)
            or "check the name; a commit is given with all digits of its hash",
        )

    def _commit(self, commit: str, filters: Sequence[str]) -> str:
        try:
            self._shallow(filters, commit)
        except GitFailed as error:
            if not NOT_SERVED.search(error.said):
                raise
            # The server has it to be found behind a branch or tag only: all are needed.
            ref = self.reference.ref
            others = [] if is_commit(ref) or not ref.startswith("refs/") else [f"+{ref}:{ref}"]
            self._with_files(_BRANCHES, _TAGS, *others)
        try:
            return self.ask("rev-parse", "--verify", "--quiet", f"{commit}^{{object}}")
        except GitFailed:
            raise UsageError(
                f"it has no commit {commit}",
                hint="check the hash, and that the commit was pushed",
            ) from None

    def _shallow(self, filters: Sequence[str], refspec: str) -> None:
        try:
            self.talk(*_FETCH, *filters, *self.depth, "--", "origin", refspec)
        except GitFailed as error:
            if not self.depth or not _SHALLOW.search(error.said):
                raise
            self._with_files(refspec)

    def _with_files(self, *refspecs: str) -> None:
        """Fetch everything, with its history; let nothing come later."""
        for key in _PARTIAL:
            with suppress(GitFailed):
                self.ask("config", "--unset-all", key)
        self.talk(*_FETCH, "--", "origin", *refspecs)

    def _verify(self, found: str, commit: str) -> None:
        wanted = self.reference.checksum.lower()
        if not (found.startswith(wanted) or commit.startswith(wanted)):
            has = commit if found == commit else f"{found}, a tag of commit {commit}"
            raise UsageError(
                f"it has {has} instead of the expected {wanted}",
                hint="it was changed since; make sure that you want this one before you write "
                "its hash down",
            )


def alternatives(wanted: str, names: Iterable[str]) -> str | None:
    """Return a hint with what there is instead of *wanted*; None where there is nothing."""
    known = list(dict.fromkeys(names))
    if not known:
        return None
    if close := difflib.get_close_matches(wanted, known[:10_000], 1, 0.66):
        return f"did you mean {close[0]}?"
    listed = ", ".join(known[:_LISTED])
    return f"it has {listed}{' and others' if len(known) > _LISTED else ''}"


def _names(listing: str) -> dict[str, str]:
    """Return the hashes by name of what ``ls-remote`` lists."""
    return {
        name: value for value, _, name in (line.partition("\t") for line in listing.splitlines())
    }
