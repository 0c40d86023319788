"""Files behind ``http://`` and ``https://`` addresses: streamed to disk, checked on the way.

A broken transfer is taken up where it ended if the server can do that; else it begins anew.
From https nothing leads to http. What the server is told of the user goes to the address that
the user gave, and along no redirect to another. No sentence here shows a query or a password.
"""

from __future__ import annotations

import base64
import hashlib
import posixpath
import re
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin

from kaniko_core.addresses.url import Url, parse_url
from kaniko_core.errors import ContextError, RegistryError, UsageError, disk_errors
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.entry import SECOND
from kaniko_core.progress import BytesMoved, Direction, Progress
from kaniko_core.registry.failures import BUSY, Busy, retry_after
from kaniko_core.registry.meter import Meter
from kaniko_core.registry.pacing import Pacing
from kaniko_core.registry.session import MAX_REDIRECTS, REDIRECTS, origin_of
from kaniko_core.registry.transport import Reply, Transport

# The name of a file whose address has none, as with BuildKit.
UNNAMED = "__unnamed__"
# Ids of secrets that hold an ``Authorization`` header, or a bearer token, for a host.
HEADER_SECRET, TOKEN_SECRET = "HTTP_AUTH_HEADER_", "HTTP_AUTH_TOKEN_"

_HEX_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}
_CHECKSUM = re.compile(r"([a-z0-9]+):([0-9a-f]+)")
_LARGEST_ANSWER = 1 << 20  # bytes of a redirect's or an error's body
_PIECE = 1 << 20  # bytes that are decompressed at a time
_COMPRESSED = frozenset({"gzip", "x-gzip"})


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
    """

    transport: Transport
    secrets: Mapping[str, bytes] = field(repr=False)
    pacing: Pacing
    progress: Progress
    stopped: threading.Event

    def fetch(self, address: str, path: Path, checksum: Digest | None = None) -> FetchedUrl:
        """Fetch *address* to the new file *path* (mode 0600).

        Raises:
            ContextError: it cannot be fetched, or is not what *checksum* says; nothing is left.
            DiskError: *path* cannot be written.
        """
        try:
            url = parse_url(address)
        except UsageError as error:
            raise ContextError(f"cannot fetch a URL: {error}", hint=error.hint) from error
        if not url.host:
            raise ContextError(f"cannot fetch {url.name}: it names no host")
        algorithm = checksum.algorithm if checksum else "sha256"
        try:
            with disk_errors("keep a download in", path.parent):
                descriptor = path.open("xb")
                path.chmod(0o600)
            with descriptor as file:
                transfer = _Transfer(self, url, file, algorithm)
                transfer.run()
        except RegistryError as error:
            path.unlink(missing_ok=True)
            raise _named(error, url) from error
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        digest = Digest(algorithm, transfer.hash.hexdigest())
        if checksum is not None and digest != checksum:
            path.unlink()
            raise ContextError(
                f"{url.name} has the checksum {digest} instead of the expected {checksum}",
                hint="it was changed since, or is another file; make sure that you want "
                "this one before you write its checksum down",
            )
        return FetchedUrl(path, file_name(url), transfer.mtime_ns, digest)

    def authorization(self, url: Url) -> str | None:
        """Return the ``Authorization`` for *url*: of a secret, else of the address itself.

        Raises:
            RegistryError: a secret cannot be a header.
        """
        token = self.secrets.get(TOKEN_SECRET + url.host_name)
        header = self.secrets.get(HEADER_SECRET + url.host_name)
        if token is not None:
            return f"Bearer {header_text(token)}"
        if header is not None:
            return header_text(header)
        return None if url.user is None else basic(*url.user)


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


class _Transfer:
    """One file on its way here, through as many requests as it takes."""

    def __init__(self, files: WebFiles, url: Url, file: BinaryIO, algorithm: str) -> None:
        self._files = files
        self._url = url
        self._file = file
        self._algorithm = algorithm
        self._validator: str | None = None  # says that the server still has the same bytes
        self._done = 0
        self.hash = hashlib.new(algorithm)
        self.mtime_ns = 0

    def run(self) -> None:
        failures = 0
        pacing = self._files.pacing
        authorization = self._files.authorization(self._url)
        while True:
            before = self._done
            try:
                self._attempt(authorization)
                return
            except RegistryError as error:
                failures = 0 if self._done > before else failures
                if not error.temporary or pacing.gives_up(failures):
                    raise
                pause = pacing.pause(error, failures)
            failures += 1
            self._files.stopped.wait(pause)
            self._go_on()

    def _attempt(self, authorization: str | None) -> None:
        headers = {"Accept": "*/*"}
        if self._done and self._validator:
            headers |= {"Range": f"bytes={self._done}-", "If-Range": self._validator}
        reply = self._opened(headers, authorization)
        try:
            self._receive(reply)
        finally:
            reply.close()

    def _opened(self, headers: Mapping[str, str], authorization: str | None) -> Reply:
        """Send the request, follow where it leads, and return the answer that has the bytes."""
        address = str(self._url.anonymous.without_fragment)
        origin = origin_of(address)
        for _ in range(MAX_REDIRECTS):
            own = authorization is not None and origin_of(address) == origin
            sent = {**headers, "Authorization": authorization or ""} if own else headers
            self._go_on()
            reply = self._files.transport.send("GET", address, sent)
            target = reply.headers.get("location")
            if reply.status not in REDIRECTS or target is None:
                return self._accepted(reply, own)
            reply.read(_LARGEST_ANSWER, "a redirect")  # so that the connection can be used again
            address = _next_address(address, target)
        raise RegistryError("the server redirects without end")

    def _accepted(self, reply: Reply, authorized: bool) -> Reply:
        if 200 <= reply.status < 300 and (reply.status != 206 or self._continues(reply)):
            return reply
        reply.close()
        raise _refusal(reply, self._url, authorized)

    def _continues(self, reply: Reply) -> bool:
        said = reply.headers.get("content-range", "").removeprefix("bytes").strip()
        return self._done > 0 and said.startswith(f"{self._done}-")

    def _receive(self, reply: Reply) -> None:
        compressed = reply.headers.get("content-encoding", "").strip().lower() in _COMPRESSED
        if reply.status != 206:
            self._begin(reply, compressed)
        length = reply.headers.get("content-length", "")
        size = int(length) if length.isdecimal() and not compressed else 0
        total = size and self._done + size
        meter = Meter(self._files.progress, Direction.PULL, self._url.name, total)
        for chunk in _decompressed(reply.chunks()) if compressed else reply.chunks():
            self._go_on()
            with disk_errors("write a download to", self._file.name):
                self._file.write(chunk)
            self.hash.update(chunk)
            self._done += len(chunk)
            meter.at(self._done)
        if total and self._done != total:
            raise RegistryError("the connection broke off", temporary=True)
        if not total:
            self._files.progress(BytesMoved(Direction.PULL, self._url.name, self._done, self._done))

    def _begin(self, reply: Reply, compressed: bool) -> None:
        """Start from the file's first byte."""
        with disk_errors("write a download to", self._file.name):
            self._file.seek(0)
            self._file.truncate()
        self.hash = hashlib.new(self._algorithm)
        self._done = 0
        self.mtime_ns = _modified(reply.headers.get("last-modified", ""))
        etag = reply.headers.get("etag", "")
        # Positions count bytes as they are sent, and only a strong tag means the same bytes.
        usable = not compressed and etag.startswith('"')
        self._validator = etag if usable else None

    def _go_on(self) -> None:
        if self._files.stopped.is_set():
            raise RegistryError("the transfer was cancelled")


def _next_address(base: str, target: str) -> str:
    try:
        address = urljoin(base, target)
        scheme = parse_url(address).scheme
    except (UsageError, ValueError):
        raise RegistryError("the server points to an address that cannot be used") from None
    if scheme not in ("http", "https") or (scheme == "http" and base.startswith("https:")):
        raise RegistryError(
            "the server points to an address without TLS",
            hint="give the address that it points to, if you trust it",
        )
    return address


def _decompressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Undo a compression that we did not ask for, but that some stores always send."""
    decoder = zlib.decompressobj(wbits=31)
    try:
        for chunk in chunks:
            rest = chunk
            while rest:
                yield decoder.decompress(rest, _PIECE)
                rest = decoder.unconsumed_tail
        yield decoder.flush()
    except zlib.error as error:
        raise RegistryError("the server sends damaged gzip data") from error
    if not decoder.eof:
        raise RegistryError("the connection broke off", temporary=True)


def _modified(text: str) -> int:
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return 0
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(int(when.timestamp()), 0) * SECOND


def _refusal(reply: Reply, url: Url, authorized: bool) -> RegistryError:
    status = reply.status
    if status in BUSY:
        busy = Busy(f"the server is busy or broken ({status})", status=status, code=None, hint=None)
        busy.retry_after = retry_after(reply.headers)
        return busy
    if status in (401, 403):
        said = "does not accept the credentials" if authorized else "wants credentials"
        hint = f"give them as the secret {TOKEN_SECRET}{url.host_name}: --secret id=…,src=FILE"
        return RegistryError(f"the server {said} ({status})", status=status, hint=hint)
    if status in (404, 410):
        return RegistryError(
            f"there is nothing at this address ({status})",
            status=status,
            hint="check the address, with curl for example",
        )
    return RegistryError(f"the server answers with status {status}", status=status)


def _named(error: RegistryError, url: Url) -> ContextError:
    hint = error.hint
    if hint and "--insecure-registry" in hint:
        hint = "write http:// instead of https:// if that is meant"
    return ContextError(f"cannot fetch {url.name}: {error}", hint=hint)
