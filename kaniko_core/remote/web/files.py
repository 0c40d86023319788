"""Files behind ``http://`` and ``https://`` addresses: streamed, resumed, checked on the way.

``requests.py`` asks, ``download.py`` puts what comes together. No sentence here shows a
query or a password.
"""

from __future__ import annotations

import base64
import posixpath
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import BinaryIO, cast

from kaniko_core.addresses.url import Url, parse_url
from kaniko_core.errors import ContextError, RegistryError, UsageError
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest
from kaniko_core.progress import Progress
from kaniko_core.registry.pacing import Pacing
from kaniko_core.registry.transport import Transport
from kaniko_core.remote.incoming import Incoming, PieceStream
from kaniko_core.remote.keeping import stored
from kaniko_core.remote.web.download import Download, FileChanged, Ranges
from kaniko_core.remote.web.netrc import Netrc
from kaniko_core.remote.web.requests import HEADER_SECRET, TOKEN_SECRET, WebSource

# The name of a file whose address has none, as with BuildKit.
UNNAMED = "__unnamed__"

_HEX_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}
_CHECKSUM = re.compile(r"([a-z0-9]+):([0-9a-f]+)")


@dataclass(frozen=True, slots=True)
class FetchedUrl:
    """A file that was fetched.

    Attributes:
        path: where it is on this host.
        name: the last part of the address, or ``__unnamed__``.
        mtime_ns: when it was last modified, as the server says; 0 where it does not.
        digest: of its bytes.
    """

    path: Path
    name: str
    mtime_ns: int
    digest: Digest


def parse_checksum(text: str) -> Digest:
    """Read a checksum: ``sha256:…``, ``sha384:…`` or ``sha512:…``.

    Raises:
        UsageError: it is none.
    """
    match = _CHECKSUM.fullmatch(text)
    if match is None or len(match[2]) != _HEX_DIGITS.get(match[1]):
        raise UsageError(
            f"{text!r} is not a checksum",
            hint="for a URL it looks like sha256: followed by 64 hexadecimal digits",
        )
    return Digest(match[1], match[2])


def file_name(url: Url) -> str:
    """Return the name that a file from *url* gets in a directory."""
    name = posixpath.basename(url.path.rstrip("/"))
    return UNNAMED if name in ("", ".", "..") or "\0" in name else name


@dataclass(frozen=True, slots=True)
class WebFiles:
    """Fetches files; safe to use from several threads.

    Attributes:
        transport: closed by whoever made it.
        secrets: values by id; some are for hosts, see ``HEADER_SECRET`` and ``TOKEN_SECRET``.
        pacing: how often a request is tried again, and when.
        progress: told of bytes that move.
        stopped: set by whoever gives everything up.
        netrc: passwords by host, for which there is no secret.
        ranges: when a file is fetched by several connections.
    """

    transport: Transport
    secrets: Mapping[str, bytes] = field(repr=False)
    pacing: Pacing
    progress: Progress
    stopped: threading.Event
    netrc: Netrc = field(default_factory=Netrc)
    ranges: Ranges = field(default_factory=Ranges)

    def open(self, address: str, checksum: Digest | None = None) -> Incoming:
        """Begin to fetch *address*; nothing is stored.

        Reads raise a ContextError where the file cannot be had to its end, became another one
        meanwhile or is not what *checksum* says; a ContentError where it was damaged on its way.

        Raises:
            ContextError: it cannot be fetched.
        """
        url = _web_address(address)
        with _sentences(url):
            authorization = self.authorization(url)
            source = WebSource(url, self.transport, authorization, self.pacing, self.stopped)
            download = Download(source, checksum, self.ranges, self.progress)

        def pieces() -> Iterator[bytes]:
            with _sentences(url):
                yield from download.pieces()

        stream = PieceStream(pieces(), download.close)
        return Incoming(cast("BinaryIO", stream), url.name, download.size, download.mtime_ns)

    def fetch(self, address: str, path: Path, checksum: Digest | None = None) -> FetchedUrl:
        """Fetch *address* to the new file *path* (mode 0600).

        Raises:
            ContextError: it cannot be fetched, or is not what *checksum* says; nothing is left.
            ContentError: it was damaged on its way; nothing is left.
            DiskError: *path* cannot be written.
        """
        name, left = file_name(_web_address(address)), self.pacing.retries
        while True:
            try:
                with self.open(address, checksum) as incoming:
                    digest = stored(incoming, path, checksum)
                return FetchedUrl(path, name, incoming.mtime_ns, digest)
            except FileChanged:
                # Nobody has seen what came before: the new version is as good.
                if not left:
                    raise
                left -= 1

    def authorization(self, url: Url) -> str | None:
        """Return the ``Authorization`` for *url*: of a secret, of the address, of a .netrc.

        Raises:
            RegistryError: a secret cannot be a header.
        """
        token = self.secrets.get(TOKEN_SECRET + url.host_name)
        header = self.secrets.get(HEADER_SECRET + url.host_name)
        if token is not None:
            return f"Bearer {header_text(token)}"
        if header is not None:
            return header_text(header)
        return None if (user := self._user(url)) is None else basic(*user)

    def _user(self, url: Url) -> tuple[str, str | None] | None:
        if url.user is not None and url.user[1] is not None:
            return url.user
        found = self.netrc.find(url.host)
        # An address may name the user, and leave the password to the file.
        return found if found and url.user in (None, (found[0], None)) else url.user


def basic(user: str, password: str | None) -> str:
    """Return the ``Authorization`` header of a user."""
    joined = f"{user}:{password or ''}".encode("utf-8", "surrogateescape")
    return f"Basic {base64.b64encode(joined).decode()}"


def header_text(value: bytes) -> str:
    """Return a secret as part of a header; the newline that editors put at the end is none.

    Raises:
        RegistryError: it has bytes that no header has.
    """
    text = value.strip()
    if not all(0x20 <= byte < 0x7F for byte in text):
        raise RegistryError(
            "the secret for this host cannot be sent: it has bytes that no header has",
            hint="it is a token, or the value of an Authorization header, in one line",
        )
    return text.decode("ascii")


def _web_address(address: str) -> Url:
    try:
        url = parse_url(address)
    except UsageError as error:
        raise ContextError(f"cannot fetch a URL: {error}", hint=error.hint) from error
    if not url.host:
        raise ContextError(f"cannot fetch {url.name}: it names no host")
    return url


@contextmanager
def _sentences(url: Url) -> Iterator[None]:
    try:
        yield
    except RegistryError as error:
        hint = error.hint
        if hint and "--insecure-registry" in hint:
            hint = "write http:// instead of https:// if that is meant"
        raise ContextError(f"cannot fetch {url.name}: {error}", hint=hint) from error
