"""What a build fetches from elsewhere: its context, sources of ADD, a Dockerfile; each once.

Who fetches it, is in ``fetching.py``, which is imported when there is something to fetch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

from kaniko_core.addresses.archives import (
    ArchiveAddress,
    BucketObject,
    RemoteFile,
    TarFile,
    WebFile,
    public_name,
)
from kaniko_core.addresses.cloning import GitOptions
from kaniko_core.addresses.git import GitReference
from kaniko_core.builder.once import Once
from kaniko_core.builder.source import (
    CopySource,
    FetchedFile,
    FetchedTree,
    LocalWord,
    SourceItem,
)
from kaniko_core.builder.wanted import remote_source
from kaniko_core.context.fetched import FetchedContext
from kaniko_core.context.leaving import IgnoreFiles
from kaniko_core.context.location import Location, RemoteLocation, parse_location
from kaniko_core.dockerfile.instructions import Add
from kaniko_core.errors import UsageError, disk_errors
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.entry import SECOND
from kaniko_core.options import RegistryOptions
from kaniko_core.options.build import LARGEST_CONTEXT
from kaniko_core.progress import Progress, silent
from kaniko_core.registry.hosts import HostRules
from kaniko_core.registry.pacing import Pacing
from kaniko_core.remote.environment import variables
from kaniko_core.rootfs.tree import Rootfs

if TYPE_CHECKING:
    from kaniko_core.builder.fetching import Fetching
    from kaniko_core.remote.git.repositories import GitTree
    from kaniko_core.remote.web.files import FetchedUrl

# The one file of a context that is behind a URL and no archive, as with BuildKit.
CONTEXT_FILE = "context"
_AT_ONCE = 4  # sources of one ADD that are fetched at the same time


class RemoteSources:
    """Fetches for one build, whose stages may share it; safe to use from several threads.

    Args:
        fresh: names a new path for files of a kind; they must last as long as the build.
        options: whose certificates are believed for which host.
        secrets: values by id: tokens for hosts.
        ssh_socket: returns the socket of the user's SSH agent, where there is to be one.
        progress: told of what is fetched.
        pacing: how often a download is tried again, and when.
        limit: the most that an archive of a context may unpack to, in bytes.
        environment: the process's by default; credentials of the user are in it.
        own: the repository whose host gets the credentials of ``GIT_USERNAME`` and its like.
    """

    def __init__(
        self,
        fresh: Callable[[str], Path],
        *,
        options: RegistryOptions | None = None,
        secrets: Mapping[str, bytes] | None = None,
        ssh_socket: Callable[[], Path | None] = lambda: None,
        progress: Progress = silent,
        pacing: Pacing | None = None,
        limit: int = LARGEST_CONTEXT,
        environment: Mapping[str, str] | None = None,
        own: GitReference | None = None,
    ) -> None:
        # What is allowed for all registries is not meant for the rest of the world.
        self._rules = replace(
            HostRules.of(options or RegistryOptions(), push=False), plain=False, unverified=False
        )
        self._fresh = fresh
        self._secrets = secrets or {}
        self._ssh_socket = ssh_socket
        self.progress = progress
        self._pacing = pacing or Pacing()
        self._limit = limit
        self._environment = variables() if environment is None else environment
        self._own = own
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._once = Once()
        self._stack = ExitStack()
        self._made: Fetching | None = None

    def items(self, add: Add) -> list[SourceItem]:
        """Return what each source word of *add*, but for here-documents, stands for.

        Args:
            add: with its words expanded.

        Raises:
            KanikoError: a flag does not fit a source.
            ContextError: a source cannot be fetched.
        """
        heredocs = {f"<<{heredoc.name}" for heredoc in add.heredocs}
        words = [word for word in add.sources if word not in heredocs]
        if add.checksum and len(words) > 1:
            # Whoever copies refuses them; nothing need be fetched for that.
            return [LocalWord(word) for word in words]
        actions = [self._action(word, add) for word in words]
        if sum(action is not None for action in actions) < 2:
            return [
                action() if action else LocalWord(word)
                for action, word in zip(actions, words, strict=True)
            ]
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch") as pool:
            running = [action and pool.submit(action) for action in actions]
            return [
                future.result() if future else LocalWord(word)
                for future, word in zip(running, words, strict=True)
            ]

    def time_of(self, add: Add) -> int | None:
        """Return when the one source of *add* was made, in seconds since 1970, if that is known.

        Raises:
            KanikoError: as :meth:`items`; or the source is not remote.
        """
        (word,) = add.sources
        match remote_source(word, add):
            case GitReference() as reference:
                return self.git_tree(reference).time
            case BucketObject() | WebFile() as address:
                fetched = self.file(address, expected(add))
                if fetched.mtime_ns:
                    return fetched.mtime_ns // SECOND
                from kaniko_core.remote.archives.contexts import newest_file

                with fetched.path.open("rb") as stream:
                    return newest_file(stream)
            case None:
                raise UsageError(
                    f"{word} is no remote source", hint="name a URL or a git repository"
                )

    def location(self, text: str) -> Location:
        """Return what *text* names, as the user wrote it for ``--context``.

        Raises:
            UsageError: contexts of this kind are not supported, or it is not what it seems to be.
        """
        return parse_location(text, self._environment.get("GIT_PULL_METHOD", ""))

    def git_tree(self, reference: GitReference, *, own: bool = False) -> GitTree:
        """Return the files of a repository; *own* if the user named it, and not the Dockerfile.

        Raises:
            ContextError: it cannot be fetched.
        """
        return self._once((reference, own), lambda: self._fetching.repository(reference, own=own))

    def file(self, address: RemoteFile, checksum: Digest | None = None) -> FetchedUrl:
        """Return what is at *address*, as a file.

        Raises:
            ContextError: it cannot be fetched, or has another checksum.
        """
        return self._once(
            (address, checksum),
            lambda: self._fetching.file(address, checksum),
        )

    def archive(self, address: ArchiveAddress) -> FetchedContext:
        """Return the files of the archive at *address*, or the one file there if it is none.

        Raises:
            ContextError: it cannot be fetched; or it is on this machine, and no archive.
            ContentError: the archive is damaged.
        """
        return self._once(("archive", address), lambda: self._archive_or_file(address))

    def context(
        self,
        location: RemoteLocation,
        leaving: IgnoreFiles,
        *,
        cloning: GitOptions | None = None,
    ) -> FetchedContext:
        """Return the build context, without what its patterns leave out.

        Args:
            location: where it is.
            leaving: where its patterns come from.
            cloning: what the user says about a repository.

        Raises:
            ContextError: it cannot be fetched, or is no archive.
            ContentError: the archive is damaged.
        """

        def fetched() -> FetchedContext:
            if not isinstance(location, GitReference):
                return self._fetching.unpacked(location, leaving)
            tree = self._fetching.repository(location, own=True, options=cloning, leaving=leaving)
            address = _commit_address(location, tree.commit)
            return FetchedContext(tree.directory, location.name, address, tree.commit, tree.time)

        return self._once(("context", location), fetched)

    def fetched(self) -> dict[str, Digest | str]:
        """Return what was fetched so far, by address: files' digests, repositories' commits."""
        found: dict[str, Digest | str] = {}
        for key, result in self._once.done():
            match key, result:
                case (GitReference() as reference, _), _:
                    commit = cast("GitTree", result).commit
                    found[_commit_address(reference, commit)] = commit
                case (WebFile() | BucketObject() as address, _), _:
                    found[public_name(address)] = cast("FetchedUrl", result).digest
                case _, FetchedContext(address=address, version=version) if address:
                    found[address] = version
        return found

    def cancel(self) -> None:
        """End what other threads are fetching: they raise a ContextError."""
        self._stopped.set()
        if self._made is not None:
            self._made.cancel()

    def close(self) -> None:
        """Cancel everything, and close connections and trees."""
        self.cancel()
        if self._made is not None:
            self._made.close()
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _fetching(self) -> Fetching:
        """Who fetches; most builds need nobody."""

        def made() -> Fetching:
            from kaniko_core.builder.fetching import Fetching

            self._made = Fetching(
                self._fresh,
                rules=self._rules,
                environment=self._environment,
                secrets=self._secrets,
                ssh_socket=self._ssh_socket,
                progress=self.progress,
                pacing=self._pacing,
                limit=self._limit,
                stopped=self._stopped,
                own=self._own,
            )
            return self._made

        return self._once("fetching", made)

    def _action(self, word: str, add: Add) -> Callable[[], SourceItem] | None:
        """Return what fetches *word*; None where it is a file of the context."""
        wanted = remote_source(word, add)
        if wanted is None:
            return None
        if isinstance(wanted, GitReference):
            return lambda: self._tree(wanted)
        checksum = expected(add)
        return lambda: self._file(wanted, checksum, unpack=bool(add.unpack))

    def _file(self, wanted: RemoteFile, checksum: Digest | None, *, unpack: bool) -> FetchedFile:
        fetched = self.file(wanted, checksum)
        return FetchedFile(fetched.path, fetched.name, mtime_ns=fetched.mtime_ns, unpack=unpack)

    def _tree(self, reference: GitReference) -> FetchedTree:
        tree = self.git_tree(reference)

        def opened() -> FetchedTree:
            with self._lock:
                root = self._stack.enter_context(Rootfs(tree.directory))
            return FetchedTree(CopySource(root, reference.name, keep_owners=False))

        return self._once(("tree", reference), opened)

    def _archive_or_file(self, address: ArchiveAddress) -> FetchedContext:
        from kaniko_core.remote.archives.kinds import NotAnArchive

        try:
            return self._fetching.unpacked(address)
        except NotAnArchive:
            if isinstance(address, TarFile):
                raise
        fetched = self.file(address)
        directory = self._fresh("contexts")
        with disk_errors("keep a context in", directory):
            directory.mkdir(mode=0o755)
            (directory / CONTEXT_FILE).hardlink_to(fetched.path)
        time = fetched.mtime_ns // SECOND or None
        where = public_name(address)
        return FetchedContext(directory, address.name, where, fetched.digest, time, archive=False)


def expected(add: Add) -> Digest | None:
    """Return the checksum that *add* names, if it does.

    Raises:
        UsageError: it is none.
    """
    if not add.checksum:
        return None
    from kaniko_core.remote.web.files import parse_checksum

    return parse_checksum(add.checksum)


def _commit_address(reference: GitReference, commit: str) -> str:
    return f"{reference.address}#{reference.ref or commit}"
