"""Git repositories: one commit of them, as a tree of files.

No more is fetched than that commit, where the server allows it. What comes out depends on the
commit alone: files have modes 0644 or 0755, and the time of the commit unless ``mtime=checkout``
asks for that of the build; ``.git`` is left out, or kept without what this machine adds to it.

Source: BuildKit v0.32 for what a reference means: a full name first, then a branch, then a tag.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from kaniko_core.addresses.git import GitReference, is_commit
from kaniko_core.addresses.url import Url
from kaniko_core.errors import ContextError, KanikoError, RegistryError, UsageError, disk_errors
from kaniko_core.oci.entry import SECOND
from kaniko_core.progress import Noted, Progress
from kaniko_core.registry.hosts import Trust
from kaniko_core.registry.pacing import Pacing
from kaniko_core.remote.gitrun import Access, GitFailed, GitProgram
from kaniko_core.remote.http import basic, header_text

# Ids of secrets that hold an ``Authorization`` header, or a token; ``.HOST`` may follow.
HEADER_SECRET, TOKEN_SECRET = "GIT_AUTH_HEADER", "GIT_AUTH_TOKEN"

_HEX = re.compile(r"[0-9A-Fa-f]+")
# What git-check-ref-format(1) forbids in names.
_NO_NAME = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/.]|/\.|[/.]$|\.lock(?:/|$)")
_GITHUB = ("https://github.com/", "https://www.github.com/")
_SHALLOW = re.compile(r"--depth|shallow")
_NOT_SERVED = re.compile(
    r"not our ref|unadvertised object|does not allow request|couldn't find remote ref|"
    r"no such remote ref|remote error: .*want"
)
# Not any 401: there may be one in a port, or in a commit.
_REFUSED = re.compile(
    r"could not read (?:Username|Password)|Authentication failed|returned (?:error: )?40[13]\b"
)
_SUBMODULE_PROTOCOLS = ("https", "http", "ssh", "git")


@dataclass(frozen=True, slots=True)
class GitTree:
    """A commit's files.

    Attributes:
        directory: their root.
        commit: its full hash.
        time: when it was made, in seconds since 1970.
    """

    directory: Path
    commit: str
    time: int


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
    """

    program: Callable[[], GitProgram]
    secrets: Mapping[str, bytes] = field(repr=False)
    trust: Callable[[str], Trust]
    ssh_socket: Callable[[], Path | None]
    progress: Progress
    stopped: threading.Event
    pacing: Pacing

    def fetch(self, reference: GitReference, directory: Path) -> GitTree:
        """Fetch what *reference* means into the new *directory*.

        Raises:
            ContextError: it cannot be fetched; nothing is left.
            DiskError: *directory* cannot be written.
        """
        named = f"{reference.name}#{reference.ref}" if reference.ref else reference.name
        try:
            _check(reference)
            program = self.program()
            access = self._access(reference, program.home)
            fetching = _Fetching(program, access, reference, directory, self)
            tree = fetching.tree()
        except (GitFailed, RegistryError, UsageError) as error:
            shutil.rmtree(directory, ignore_errors=True)
            hint = error.hint or _hint(reference, error)
            raise ContextError(f"cannot fetch {named}: {error}", hint=hint) from error
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        self.progress(Noted(f"{named} is commit {tree.commit}"))
        return tree

    def _access(self, reference: GitReference, home: Path) -> Access:
        url = reference.url
        if url is None or url.scheme == "ssh":
            return Access(("ssh",), ssh_socket=self.ssh_socket())
        if url.scheme == "git":
            return Access(("git",))
        configuration = self._certificates(url, home)
        authorization = self._authorization(url)
        if authorization is not None:
            scope = _scope(reference.address)
            configuration[f"http.{scope}.extraHeader"] = f"Authorization: {authorization}"
        return Access(("https",) if url.scheme == "https" else ("http", "https"), configuration)

    def _certificates(self, url: Url, home: Path) -> dict[str, str]:
        trust = self.trust(url.host)
        key = f"http.https://{url.host}/"
        configuration: dict[str, str] = {}
        if trust.own is not None:
            # git runs in another directory.
            names = zip(("sslCert", "sslKey"), trust.own, strict=True)
            configuration |= {f"{key}.{name}": str(Path(file).absolute()) for name, file in names}
        if not trust.verified:
            return {**configuration, f"{key}.sslVerify": "false"}
        if not trust.certificates:
            return configuration
        bundle = home / f"{url.host.replace('/', '_')}.pem"
        with disk_errors("read a registry's certificates into", bundle):
            bundle.write_bytes(b"\n".join(Path(file).read_bytes() for file in trust.certificates))
        return {**configuration, f"{key}.sslCAInfo": str(bundle)}

    def _authorization(self, url: Url) -> str | None:
        for suffix in (f".{url.host}", ""):
            if (header := self.secrets.get(HEADER_SECRET + suffix)) is not None:
                return header_text(header)
            if (token := self.secrets.get(TOKEN_SECRET + suffix)) is not None:
                encoded = base64.b64encode(f"x-access-token:{header_text(token)}".encode())
                return f"basic {encoded.decode()}"
        return None if url.user is None else basic(*url.user)


def _check(reference: GitReference) -> None:
    """Refuse what git could take for an option, and names that no branch can have."""
    url = reference.url
    host = reference.remote.rpartition("@")[2] if url is None else url.host
    user = url.user[0] if url is not None and url.user is not None else ""
    if any(text.startswith("-") for text in (reference.remote, host, user)):
        raise UsageError("a host or user cannot begin with a dash")
    if reference.ref and _NO_NAME.search(reference.ref):
        raise UsageError(
            f'"{reference.ref}" is no name of a branch or tag, nor a commit',
            hint="write it after the #, as in https://example.com/code.git#main",
        )
    if reference.checksum and not _HEX.fullmatch(reference.checksum):
        raise UsageError(
            f'the checksum "{reference.checksum}" is not hexadecimal',
            hint="for a git repository it is a commit, or how its hash begins",
        )
    if reference.fetch_by_commit and not is_commit(reference.checksum):
        raise UsageError("fetch-by-commit needs a checksum that is a whole commit")


def _scope(address: str) -> str:
    """Return which addresses may be told the credentials for *address*.

    Only itself, but for GitHub, whose private submodules are GitHub's as well.
    """
    return next((prefix for prefix in _GITHUB if address.startswith(prefix)), address)


@dataclass(frozen=True, slots=True)
class _Fetching:
    """One repository on its way into *directory*."""

    git: GitProgram
    access: Access
    reference: GitReference
    directory: Path
    repositories: Repositories

    def tree(self) -> GitTree:
        """Fetch everything and return the tree that the reference means."""
        reference = self.reference
        by_hash = is_commit(reference.ref) or reference.fetch_by_commit
        name, wanted = "", reference.checksum if reference.fetch_by_commit else reference.ref
        if not by_hash:
            name, wanted = self._resolved()
        self._begin(len(wanted))
        found = self._commit(wanted) if by_hash else self._branch(name)
        commit = self._ask("rev-parse", "--verify", "--quiet", f"{found}^{{commit}}")
        self._verify(found, commit)
        self._check_out(commit)
        seconds = int(self._ask("show", "--no-patch", "--format=%ct", commit))
        root = self._root()
        # A part of a repository is none.
        keep = bool(reference.keep_git_dir) and root == self.directory
        if keep:
            self._forget()
        mtime = None if reference.mtime == "checkout" else seconds
        _tidy(self.directory, keep=keep, mtime=mtime)
        return GitTree(root, commit, seconds)

    def _resolved(self) -> tuple[str, str]:
        """Return the full name of the reference, and the hash that the server says it has."""
        ref, address = self.reference.ref, self.reference.address
        if not ref:
            lines = self._remote("ls-remote", "--symref", "--", address, "HEAD").splitlines()
            named = [line[5:].partition("\t")[0] for line in lines if line.startswith("ref: ")]
            hashes = [line.partition("\t")[0] for line in lines if line.endswith("\tHEAD")]
            if not hashes:
                raise UsageError("it has no default branch: it seems to be empty")
            return (named[0] if named else "HEAD"), hashes[-1]
        lines = self._remote("ls-remote", "--", address, ref, f"{ref}^{{}}").splitlines()
        found = {name: value for value, _, name in (line.partition("\t") for line in lines)}
        for prefix in ("refs/", "refs/heads/", "refs/tags/"):
            name = prefix + ref.removeprefix(prefix)
            if name in found:
                return name, found[name]
        raise UsageError(
            f"it has no branch or tag {ref}",
            hint="check the name; a commit is given with all digits of its hash",
        )

    def _begin(self, digits: int) -> None:
        with disk_errors("fetch a git repository into", self.directory):
            self.directory.mkdir(parents=True)
            self.directory.chmod(0o755)
        form = ("--object-format=sha256",) if digits == 64 else ()
        self._ask("init", "--quiet", "--template=", *form)
        self._ask("remote", "add", "--", "origin", self.reference.address)

    def _branch(self, name: str) -> str:
        """Fetch the branch, tag or other reference *name*; return the hash that it has."""
        self._fetch(f"+{name}:{name}" if name.startswith("refs/") else name)
        return self._ask("rev-parse", "--verify", "--quiet", "FETCH_HEAD")

    def _commit(self, commit: str) -> str:
        try:
            self._fetch(commit)
        except GitFailed as error:
            if not _NOT_SERVED.search(error.said):
                raise
            # The server has it to be found behind a branch or tag only: all are needed.
            heads, tags = "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"
            self._remote(*_fetch_command(), "--", "origin", heads, tags)
        try:
            return self._ask("rev-parse", "--verify", "--quiet", f"{commit}^{{object}}")
        except GitFailed:
            raise UsageError(f"it has no commit {commit}", hint="check the hash") from None

    def _fetch(self, refspec: str) -> None:
        try:
            self._remote(*_fetch_command(), "--depth=1", "--", "origin", refspec)
        except GitFailed as error:
            if not _SHALLOW.search(error.said):
                raise
            self._remote(*_fetch_command(), "--", "origin", refspec)

    def _verify(self, found: str, commit: str) -> None:
        wanted = self.reference.checksum.lower()
        if not (found.startswith(wanted) or commit.startswith(wanted)):
            has = commit if found == commit else f"{found}, a tag of commit {commit}"
            raise UsageError(
                f"it has {has} instead of the expected {wanted}",
                hint="it was changed since; make sure that you want this one before you write "
                "its hash down",
            )

    def _check_out(self, commit: str) -> None:
        self._ask("checkout", "--quiet", "--force", "--detach", commit)
        wanted = self.reference.submodules is not False
        if wanted and (self.directory / ".gitmodules").is_file():
            self._submodules()

    def _submodules(self) -> None:
        access = replace(
            self.access,
            protocols=_SUBMODULE_PROTOCOLS,
            ssh_socket=self.access.ssh_socket or self.repositories.ssh_socket(),
        )
        update = ("submodule", "--quiet", "update", "--init", "--recursive")
        try:
            self.git.run(access, *update, "--depth=1", directory=self.directory)
        except GitFailed:
            # Some servers give away what a branch or tag is at only.
            self.git.run(access, *update, "--force", directory=self.directory)

    def _root(self) -> Path:
        """Return the directory that was asked for; it cannot be outside of what was fetched."""
        wanted = self.reference.subdirectory.strip("/")
        top = self.directory.resolve()
        try:
            found = (top / wanted).resolve()
            inside = found.is_relative_to(top) and (found == top or ".git" not in found.parts)
            if inside and found.is_dir():
                return self.directory / found.relative_to(top)
        except (OSError, RuntimeError, ValueError):
            pass
        raise UsageError(
            f"it has no directory {self.reference.subdirectory}",
            hint="it is what follows the colon after #, or subdir= in the query",
        )

    def _forget(self) -> None:
        """Make ``.git`` what it is everywhere: its index notes inodes and times of this disk."""
        top = self.directory / ".git"
        with disk_errors("put a git repository in order in", top):
            heads = [path for path in top.rglob("HEAD") if (path.parent / "objects").is_dir()]
            for name in (path.parent / "FETCH_HEAD" for path in heads):
                name.unlink(missing_ok=True)
        for head in heads:
            self._ask(f"--git-dir={head.parent.absolute()}", "read-tree", "HEAD")

    def _ask(self, *arguments: str) -> str:
        return self.git.run(self.access, *arguments, directory=self.directory).strip()

    def _remote(self, *arguments: str) -> str:
        """Run a git that talks to the server, again where the network fails."""
        directory = self.directory if self.directory.exists() else None
        pacing, failures = self.repositories.pacing, 0
        while True:
            try:
                return self.git.run(self.access, *arguments, directory=directory)
            except GitFailed as error:
                if not error.temporary or pacing.gives_up(failures):
                    raise
                pause = pacing.pause(RegistryError(str(error)), failures)
            failures += 1
            self.repositories.stopped.wait(pause)


def _fetch_command() -> tuple[str, ...]:
    return (
        "fetch",
        "--quiet",
        "--force",
        "--no-tags",
        "--update-head-ok",
        "--no-recurse-submodules",
    )


def _tidy(directory: Path, *, keep: bool, mtime: int | None) -> None:
    """Remove what only this checkout needs, and give everything the time *mtime*."""
    with disk_errors("put a git repository in order in", directory):
        if not keep:
            shutil.rmtree(directory / ".git")
        for path, _, names in os.walk(directory, topdown=False):
            for name in names:
                # Nothing in a repository can have this name: it belongs to a submodule.
                if name == ".git" and not keep:
                    Path(path, name).unlink()
            if mtime is not None:
                _stamp(path, mtime)


def _stamp(directory: str, seconds: int) -> None:
    times = (seconds * SECOND, seconds * SECOND)
    with os.scandir(directory) as entries:
        for entry in entries:
            os.utime(entry.path, ns=times, follow_symlinks=False)
    os.utime(directory, ns=times)


def _hint(reference: GitReference, error: KanikoError) -> str | None:
    text = str(error)
    url = reference.url
    if _REFUSED.search(text):
        host = url.host if url else ""
        return f"give a token with --secret id={TOKEN_SECRET}.{host},src=FILE"
    if "Permission denied" in text:
        return "give the keys of your SSH agent with --ssh default"
    if "not found" in text or "does not exist" in text:
        return "check the address; a private repository needs --secret or --ssh"
    if re.search(r"Could not resolve|refused|timed out|unreachable", text):
        return "check the host's name, and whether this machine or pod can reach it"
    if "cannot run ssh" in text:
        return "install the package openssh-client"
    return None
