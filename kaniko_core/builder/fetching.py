"""Who fetches what a build wants from elsewhere: from web servers, buckets and repositories.

``remote.py`` asks, each thing once, and keeps what came of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

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
from kaniko_core.context.fetched import FetchedContext
from kaniko_core.context.leaving import IgnoreFiles
from kaniko_core.errors import disk_errors
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.entry import SECOND
from kaniko_core.progress import Progress
from kaniko_core.registry.hosts import HostRules
from kaniko_core.registry.pacing import Pacing
from kaniko_core.registry.transport import Transport
from kaniko_core.remote.archives.contexts import open_tar_file, unpack_context
from kaniko_core.remote.environment import opens_azure
from kaniko_core.remote.git.clone import Checkout
from kaniko_core.remote.git.repositories import GitTree, Repositories
from kaniko_core.remote.git.run import GitProgram, find_git
from kaniko_core.remote.incoming import Incoming
from kaniko_core.remote.keeping import stored
from kaniko_core.remote.lfs.files import LargeFiles
from kaniko_core.remote.stores.buckets import Buckets
from kaniko_core.remote.web.files import FetchedUrl, WebFiles
from kaniko_core.remote.web.netrc import Netrc


class Fetching:
    """Fetches for one build, as often as it is asked; safe to use from several threads.

    Args:
        fresh: names a new path for files of a kind; they must last as long as the build.
        rules: how servers are talked to, and whose certificates are believed.
        environment: credentials of the user are in it.
        secrets: values by id: tokens for hosts.
        ssh_socket: returns the socket of the user's SSH agent, where there is to be one.
        progress: told of what is fetched.
        pacing: how often a download is tried again, and when.
        limit: the most that an archive of a context may unpack to, in bytes.
        stopped: set by whoever gives everything up.
        own: the repository whose host gets the credentials of ``GIT_USERNAME`` and its like.
    """

    def __init__(
        self,
        fresh: Callable[[str], Path],
        *,
        rules: HostRules,
        environment: Mapping[str, str],
        secrets: Mapping[str, bytes],
        ssh_socket: Callable[[], Path | None],
        progress: Progress,
        pacing: Pacing,
        limit: int,
        stopped: threading.Event,
        own: GitReference | None,
    ) -> None:
        self._fresh = fresh
        self._environment = environment
        self._progress = progress
        self._limit = limit
        self._stopped = stopped
        self._transport = Transport(rules)
        self._once = Once()
        netrc = Netrc(environment, progress)
        self._files = WebFiles(self._transport, secrets, pacing, progress, stopped, netrc=netrc)
        self._buckets = Buckets(environment, rules.trust, progress, stopped)
        self._repositories = Repositories(
            self._git,
            secrets,
            rules.trust,
            ssh_socket,
            progress,
            stopped,
            pacing,
            large_files=LargeFiles(self._transport, pacing, progress, stopped),
            environment=environment,
            own_host=None if own is None or own.url is None else own.url.host,
            netrc=netrc,
        )

    def repository(
        self,
        reference: GitReference,
        *,
        own: bool,
        options: GitOptions | None = None,
        leaving: IgnoreFiles | None = None,
    ) -> GitTree:
        """Return the files of a repository; *own* if the user named it, and not the Dockerfile.

        Raises:
            ContextError: it cannot be fetched.
        """
        how = Checkout(options=options or GitOptions(), leaving=leaving, own=own)
        return self._repositories.fetch(reference, self._fresh("git"), how)

    def file(self, address: RemoteFile, checksum: Digest | None) -> FetchedUrl:
        """Return what is at *address*, as a file.

        Raises:
            ContextError: it cannot be fetched, or has another checksum.
        """
        path = self._fresh("downloads")
        plain = self._plain(address)
        if isinstance(plain, WebFile):
            return self._files.fetch(plain.url, path, checksum)
        assert isinstance(plain, BucketObject)
        with self._buckets.open(plain) as incoming:
            digest = stored(incoming, path, checksum)
        return FetchedUrl(path, plain.file_name, incoming.mtime_ns, digest)

    def unpacked(
        self, address: ArchiveAddress, leaving: IgnoreFiles | None = None
    ) -> FetchedContext:
        """Return the files of the archive at *address*, without what *leaving* leaves out.

        Raises:
            ContextError: it cannot be fetched, or is no archive.
            ContentError: the archive is damaged.
        """
        directory = self._fresh("contexts")
        modified = 0

        def opened() -> Incoming:
            nonlocal modified
            incoming = self._incoming(address)
            modified = incoming.mtime_ns
            return incoming

        with disk_errors("unpack a context into", directory):
            directory.mkdir(mode=0o755)
        again = not (isinstance(address, TarFile) and address.path is None)
        found = unpack_context(
            opened,
            directory,
            leaving=leaving,
            limit=self._limit,
            again=again,
            progress=self._progress,
        )
        time = modified // SECOND or found.newest
        return FetchedContext(directory, address.name, public_name(address), found.digest, time)

    def cancel(self) -> None:
        """End what other threads are fetching from web servers at once."""
        self._transport.abort()

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def _git(self) -> GitProgram:
        return self._once("git", lambda: find_git(self._fresh("home"), self._stopped))

    def _plain(self, address: ArchiveAddress) -> ArchiveAddress:
        """Return a blob of Azure as the URL that it is, where no credentials open it."""
        if not isinstance(address, BucketObject) or not address.host:
            return address
        public = address.signature or not opens_azure(self._environment)
        return WebFile(address.url) if public else address

    def _incoming(self, address: ArchiveAddress) -> Incoming:
        match self._plain(address):
            case TarFile() as file:
                return open_tar_file(file)
            case BucketObject() as wanted:
                return self._buckets.open(wanted)
            case WebFile(url):
                return self._files.open(url)
