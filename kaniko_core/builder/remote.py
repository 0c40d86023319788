"""What a build fetches from elsewhere: sources of ADD, contexts, a Dockerfile; each once.

A word of ADD is a git repository if BuildKit's grammar says so, else a URL if it begins like
one, else a file of the build context.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, TypeVar, cast

from kaniko_core.addresses.git import GitReference, parse_git_reference
from kaniko_core.addresses.url import is_http_address, parse_url
from kaniko_core.builder.add import is_archive
from kaniko_core.builder.source import (
    CopySource,
    FetchedFile,
    FetchedTree,
    LocalWord,
    SourceItem,
)
from kaniko_core.dockerfile.instructions import Add
from kaniko_core.errors import ContentError, KanikoError, UsageError, disk_errors
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.entry import SECOND
from kaniko_core.options import RegistryOptions
from kaniko_core.progress import Progress, silent
from kaniko_core.registry.hosts import HostRules
from kaniko_core.registry.pacing import Pacing
from kaniko_core.registry.transport import Transport
from kaniko_core.remote.archive import newest_file, unpack_context
from kaniko_core.remote.git import GitTree, Repositories
from kaniko_core.remote.gitrun import GitProgram, find_git
from kaniko_core.remote.http import FetchedUrl, WebFiles, parse_checksum
from kaniko_core.rootfs.tree import Rootfs

T = TypeVar("T")

# The one file of a context that is behind a URL and no archive, as with BuildKit.
CONTEXT_FILE = "context"
_AT_ONCE = 4  # sources of one ADD that are fetched at the same time


@dataclass(frozen=True, slots=True)
class WebContext:
    """What a URL serves as a context.

    Attributes:
        directory: the files of the archive; or one file, ``CONTEXT_FILE``.
        archive: which of the two.
    """

    directory: Path
    archive: bool


class RemoteSources:
    """Fetches for one build, whose stages may share it; safe to use from several threads.

    Args:
        fresh: names a new path for files of a kind; they must last as long as the build.
        options: whose certificates are believed for which host.
        secrets: values by id: tokens for hosts.
        ssh_socket: returns the socket of the user's SSH agent, where there is to be one.
        progress: told of what is fetched.
        pacing: how often a download is tried again, and when.
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
    ) -> None:
        # What is allowed for all registries is not meant for the rest of the world.
        rules = replace(
            HostRules.of(options or RegistryOptions(), push=False), plain=False, unverified=False
        )
        self._fresh = fresh
        self._stopped = threading.Event()
        self._transport = Transport(rules)
        self._lock = threading.Lock()
        self._known: dict[Hashable, Future[object]] = {}
        self._stack = ExitStack()
        secrets, pacing = secrets or {}, pacing or Pacing()
        self._files = WebFiles(self._transport, secrets, pacing, progress, self._stopped)
        self._repositories = Repositories(
            self._git, secrets, rules.trust, ssh_socket, progress, self._stopped, pacing
        )

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
        reference = _git_reference(word)
        if reference is not None:
            return self.git_tree(_adjusted(reference, add)).time
        if not is_http_address(word):
            raise UsageError(f"{word} is no remote source", hint="name a URL or a git repository")
        checksum = parse_checksum(add.checksum) if add.checksum else None
        return self.url_time(word, checksum)

    def url_time(self, url: str, checksum: Digest | None = None) -> int | None:
        """Return when what is behind *url* was made, in seconds since 1970, if that is known.

        It is known if the server says it, or else if it is an archive: from its newest file.

        Raises:
            ContextError: it cannot be fetched, or has another checksum.
        """
        fetched = self.http_file(url, checksum)
        if fetched.mtime_ns:
            return fetched.mtime_ns // SECOND
        with fetched.path.open("rb") as stream:
            return newest_file(stream)

    def git_tree(self, reference: GitReference) -> GitTree:
        """Return the files of a repository.

        Raises:
            ContextError: it cannot be fetched.
        """
        return self._once(
            reference, lambda: self._repositories.fetch(reference, self._fresh("git"))
        )

    def http_file(self, url: str, checksum: Digest | None = None) -> FetchedUrl:
        """Return what is behind *url*, as a file.

        Raises:
            ContextError: it cannot be fetched, or has another checksum.
        """
        return self._once(
            (url, checksum), lambda: self._files.fetch(url, self._fresh("downloads"), checksum)
        )

    def web_context(self, url: str) -> WebContext:
        """Return the files of the archive behind *url*, or the file itself if it is none.

        Raises:
            ContextError: it cannot be fetched.
            ContentError: the archive is damaged.
        """
        return self._once(("context", url), lambda: self._unpacked(url))

    def fetched(self) -> dict[str, Digest | str]:
        """Return what was fetched so far, by address: files' digests, repositories' commits."""
        with self._lock:
            known = dict(self._known)
        found: dict[str, Digest | str] = {}
        for key, future in known.items():
            if not future.done() or future.exception() is not None:
                continue
            match key, future.result():
                case GitReference() as reference, GitTree(commit=commit):
                    found[f"{reference.address}#{reference.ref or commit}"] = commit
                case (str() as url, _), FetchedUrl(digest=digest):
                    found[url] = digest
        return found

    def cancel(self) -> None:
        """End what other threads are fetching: they raise a ContextError."""
        self._stopped.set()
        self._transport.abort()

    def close(self) -> None:
        """Cancel everything, and close connections and trees."""
        self.cancel()
        self._transport.close()
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _action(self, word: str, add: Add) -> Callable[[], SourceItem] | None:
        """Return what fetches *word*; None where it is a file of the context."""
        wanted = remote_source(word, add)
        if wanted is None:
            return None
        if isinstance(wanted, GitReference):
            return lambda: self._tree(wanted)
        checksum = parse_checksum(add.checksum) if add.checksum else None
        return lambda: self._file(wanted, checksum, unpack=bool(add.unpack))

    def _file(self, url: str, checksum: Digest | None, *, unpack: bool) -> FetchedFile:
        fetched = self.http_file(url, checksum)
        return FetchedFile(fetched.path, fetched.name, mtime_ns=fetched.mtime_ns, unpack=unpack)

    def _tree(self, reference: GitReference) -> FetchedTree:
        tree = self.git_tree(reference)

        def opened() -> FetchedTree:
            with self._lock:
                root = self._stack.enter_context(Rootfs(tree.directory))
            return FetchedTree(CopySource(root, reference.name, keep_owners=False))

        return self._once(("tree", reference), opened)

    def _git(self) -> GitProgram:
        return self._once("git", lambda: find_git(self._fresh("home"), self._stopped))

    def _unpacked(self, url: str) -> WebContext:
        fetched = self.http_file(url)
        directory = self._fresh("contexts")
        with disk_errors("unpack a context into", directory):
            directory.mkdir(mode=0o755)
            with fetched.path.open("rb") as stream:
                archive = is_archive(stream)
            if not archive:
                (directory / CONTEXT_FILE).hardlink_to(fetched.path)
                return WebContext(directory, archive)
            try:
                with fetched.path.open("rb") as stream:
                    unpack_context(stream, directory)
            except ContentError as error:
                name = parse_url(url).name
                raise ContentError(f"cannot unpack {name}: {error}", hint=error.hint) from error
        return WebContext(directory, archive)

    def _once(self, key: Hashable, action: Callable[[], T]) -> T:
        """Do *action*, or wait for whoever does it already; return what came of it."""
        with self._lock:
            known = self._known.get(key)
            mine: Future[object] = Future()
            if known is None:
                self._known[key] = mine
        if known is not None:
            return cast("T", known.result())
        try:
            result = action()
        except BaseException as error:
            mine.set_exception(error)
            raise
        mine.set_result(result)
        return result


def remote_source(word: str, add: Add) -> GitReference | str | None:
    """Return what a source word of *add* names elsewhere: a repository, as the flags say, or a URL.

    None for a file of the build context.

    Raises:
        KanikoError: it names a repository, but is wrong, or a flag contradicts it.
    """
    reference = _git_reference(word)
    if reference is not None:
        return _adjusted(reference, add)
    return word if is_http_address(word) else None


def _git_reference(word: str) -> GitReference | None:
    """Return the repository that a word of ADD names; None where it names none.

    Raises:
        UsageError: it does, but is wrong.
    """
    reference = parse_git_reference(word)
    return None if reference is None or reference.looks_local else reference


def _adjusted(reference: GitReference, add: Add) -> GitReference:
    """Return *reference* with what the flags of *add* say.

    Raises:
        KanikoError: they say another thing.
    """
    keep, checksum = reference.keep_git_dir, reference.checksum
    if None not in (keep, add.keep_git_dir) and keep != add.keep_git_dir:
        raise KanikoError(
            f"--keep-git-dir={str(add.keep_git_dir).lower()} contradicts the query of "
            f"{reference.name}",
            hint="say it once",
        )
    if add.checksum and checksum and add.checksum != checksum:
        raise KanikoError(
            f"--checksum={add.checksum} contradicts the query of {reference.name}, "
            f"which says {checksum}",
            hint="say it once",
        )
    return replace(
        reference,
        keep_git_dir=add.keep_git_dir if keep is None else keep,
        checksum=checksum or add.checksum or "",
    )
