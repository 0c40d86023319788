"""One blob on its way to one repository.

    another repository of the registry may have it ── POST ?mount=&from= ──▶ 201: done
    POST (a session) ── PUT with all bytes ──▶ 201
                     └─ PATCH, PATCH, …, PUT, where the registry does not take it in one

A transfer that breaks begins anew, in a new session.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO, Protocol
from urllib.parse import quote, urlencode

from kaniko_core.errors import DigestMismatch, RegistryError
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.reference import Reference, Repository
from kaniko_core.oci.spec import Descriptor
from kaniko_core.progress import Direction, Progress
from kaniko_core.registry.endpoints import Endpoints
from kaniko_core.registry.failures import Answer
from kaniko_core.registry.meter import Meter, transfer_name
from kaniko_core.registry.session import LARGEST_BODY, Request, Session

_PIECE = 1 << 20  # bytes handed to the socket at once
# Bytes of a PATCH, held in memory; registries may ask for more, up to the second figure.
_CHUNK, _LARGEST_CHUNK = 8 << 20, 64 << 20
# Bytes of a blob, such as a config, that are sent as quickly as one more question is answered.
_FEW = 16 << 10
# Statuses of registries (and proxies before them) that do not take a blob in one PUT.
_WANTS_CHUNKS = frozenset({404, 405, 411, 413, 416, 501})
STORED = frozenset({200, 201, 202, 204})


class Blob(Protocol):
    """What can be sent: a layer, a config."""

    @property
    def descriptor(self) -> Descriptor:
        """Media type, digest and size."""

    def open(self) -> BinaryIO:
        """Return the bytes as a new stream."""


@dataclass(frozen=True, slots=True)
class _Begun:
    """A session for one blob."""

    location: str
    chunk: int = _CHUNK


class Sending:
    """The transfer of one blob to one repository."""

    def __init__(
        self, session: Session, progress: Progress, repository: Repository, blob: Blob
    ) -> None:
        self._session = session
        self._progress = progress
        self._repository = repository
        self._blob = blob
        self._endpoints = Endpoints(repository, push=True)
        self._begun: _Begun | None = None
        self._in_chunks = False
        self._tried = False

    @property
    def arrived(self) -> bool:
        """Whether the repository has the blob already."""
        address = self._endpoints.blob(self._blob.descriptor.digest)
        request = self._endpoints.request("HEAD", address, headers={})
        return self._session.ask(request).status == 200

    def mounted(self, sources: tuple[Repository, ...]) -> bool:
        """Have the blob mounted from one of *sources*; return whether that worked.

        A blob of few bytes is not asked for any more once there is a session to send it in.
        """
        descriptor = self._blob.descriptor
        for source in dict.fromkeys(sources):
            if self._begun is not None and descriptor.size <= _FEW:
                return False
            here = source.registry == self._repository.registry
            if here and source != self._repository and self._mounted(descriptor.digest, source):
                self._drop_session()
                return True
        return False

    def run(self) -> None:
        """Send the bytes in the cheapest way that works."""
        self._session.retrying(self._attempt)

    def _mounted(self, digest: Digest, source: Repository) -> bool:
        """Ask for a mount; what comes instead of it may be a session to upload in."""
        query = urlencode({"mount": str(digest), "from": source.path})
        url = f"{self._endpoints.uploads}?{query}"
        request = self._endpoints.request("POST", url, headers={}, body=b"", also=(source,))
        try:
            answer = self._session.ask(request)
            if answer.status == 202:
                self._drop_session()
                self._begun = _begun_by(self._session, request, answer)
        except RegistryError:
            return False  # no right to read there, or no such feature: the bytes can be sent
        return answer.status == 201

    def _attempt(self) -> None:
        # After a connection that broke at the very end, the blob may be there all the same.
        if self._tried and self.arrived:
            return
        self._tried = True
        begun, self._begun = self._begun, None
        if begun is None:
            begun = _begin(self._session, self._endpoints)
        if self._in_chunks:
            self._send_chunks(begun)
        elif not self._send_whole(begun):
            self._in_chunks = True
            self._send_chunks(_begin(self._session, self._endpoints))

    def _send_whole(self, begun: _Begun) -> bool:
        """Send all bytes in one PUT; return False where the registry wants them in chunks."""
        descriptor = self._blob.descriptor
        request = self._endpoints.request(
            "PUT",
            _with_digest(begun.location, descriptor.digest),
            headers={
                "Content-Length": str(descriptor.size),
                "Content-Type": "application/octet-stream",
            },
            body=self._pieces,
        )
        reply = self._session.open(request)
        body = reply.read(LARGEST_BODY, "the answer to a PUT")
        answer = Answer(reply.status, reply.headers, body, reply.url)
        if answer.status in _WANTS_CHUNKS:
            return False
        if answer.status not in STORED:
            raise self._session.refused(answer, request)
        check_digest(answer, descriptor.digest, self._what)
        return True

    def _send_chunks(self, begun: _Begun) -> None:
        descriptor, location, done = self._blob.descriptor, begun.location, 0
        meter = self._meter()
        with self._blob.open() as stream:
            while chunk := _read_fully(stream, begun.chunk):
                headers = {
                    "Content-Type": "application/octet-stream",
                    "Content-Range": f"{done}-{done + len(chunk) - 1}",
                }
                location = self._send_step("PATCH", location, headers, chunk)
                done += len(chunk)
                meter.at(done)
        self._send_step("PUT", _with_digest(location, descriptor.digest), {}, b"")

    def _send_step(self, method: str, url: str, headers: dict[str, str], body: bytes) -> str:
        """Send one step of a chunked upload; return where the next one goes."""
        request = self._endpoints.request(method, url, headers=headers, body=body)
        answer = self._session.ask_once(request)
        if answer.status not in STORED:
            raise self._session.refused(answer, request)
        if method == "PATCH":
            return self._session.location(answer, request)
        check_digest(answer, self._blob.descriptor.digest, self._what)
        return url

    def _pieces(self) -> Iterator[bytes]:
        meter, done = self._meter(), 0
        with self._blob.open() as stream:
            while piece := stream.read(_PIECE):
                yield piece
                done += len(piece)
                meter.at(done)
                self._session.go_on()

    def _drop_session(self) -> None:
        begun, self._begun = self._begun, None
        if begun is not None:
            _cancel(self._session, self._endpoints, begun.location)

    def _meter(self) -> Meter:
        descriptor = self._blob.descriptor
        name = transfer_name(Reference(self._repository), descriptor.digest)
        return Meter(self._progress, Direction.PUSH, name, descriptor.size)

    @property
    def _what(self) -> str:
        return f"layer {self._blob.descriptor.digest} in {self._repository}"


def try_upload(session: Session, repository: Repository) -> None:
    """Begin an upload and cancel it.

    Raises:
        RegistryError: that is not possible.
    """
    endpoints = Endpoints(repository, push=True)
    _cancel(session, endpoints, _begin(session, endpoints).location)


def _begin(session: Session, endpoints: Endpoints) -> _Begun:
    """Begin an upload."""
    request = endpoints.request("POST", endpoints.uploads, headers={}, body=b"")
    answer = session.ask(request)
    if answer.status not in STORED:
        raise session.refused(answer, request)
    return _begun_by(session, request, answer)


def _begun_by(session: Session, request: Request, answer: Answer) -> _Begun:
    asked = answer.headers.get("oci-chunk-min-length", "")
    chunk = min(max(_CHUNK, int(asked)), _LARGEST_CHUNK) if asked.isdecimal() else _CHUNK
    return _Begun(session.location(answer, request), chunk)


def _cancel(session: Session, endpoints: Endpoints, location: str) -> None:
    """End an upload that is not needed; the registry would forget it by itself some day."""
    with suppress(RegistryError):
        session.ask_once(endpoints.request("DELETE", location, headers={}))


def _with_digest(location: str, digest: Digest) -> str:
    # The location's own query is kept as it is: it may be signed.
    return f"{location}{'&' if '?' in location else '?'}digest={quote(str(digest), safe='')}"


def _read_fully(stream: BinaryIO, size: int) -> bytes:
    parts = []
    while size and (piece := stream.read(min(size, _PIECE))):
        parts.append(piece)
        size -= len(piece)
    return b"".join(parts)


def check_digest(answer: Answer, digest: Digest, what: str) -> None:
    """Refuse a registry that stored something else, where it says what it stored."""
    stored = answer.headers.get("docker-content-digest")
    if stored is not None and stored != str(digest) and stored.startswith(f"{digest.algorithm}:"):
        raise DigestMismatch(f"the registry stored {what} as {stored}, but it is {digest}")
