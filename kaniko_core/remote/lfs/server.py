"""Asking a Git LFS server for objects, and fetching them.

What the server is told of the user goes to its own origin, the headers that it wants for an
object to the origin of that object, and neither along a redirect to another. No redirect leads
from https to http.

Source: git-lfs, docs/api/batch.md and docs/api/basic-transfers.md.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO, TypeVar

from kaniko_core.errors import (
    ContentError,
    DigestMismatch,
    RegistryError,
    disk_errors,
)
from kaniko_core.lean import dataclass
from kaniko_core.registry.pacing import Pacing
from kaniko_core.registry.session import MAX_REDIRECTS, REDIRECTS, origin_of
from kaniko_core.registry.transport import Reply, Transport
from kaniko_core.remote.lfs.answers import (
    Answers,
    Download,
    Endpoint,
    LargeObject,
    batch_answers,
    batch_body,
    batch_refusal,
    object_refusal,
)
from kaniko_core.remote.web.requests import next_address

_MEDIA_TYPE = "application/vnd.git-lfs+json"
_LARGEST_ANSWER = 8 << 20  # bytes; a hundred objects with long signatures are below 1 MiB
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LfsServer:
    """Asks one server; safe to use from several threads.

    Attributes:
        transport: closed by whoever made it.
        pacing: how often a request is tried again, and when.
        stopped: set by whoever gives everything up.
        halted: set where one object cannot be had, so that the others are given up.
        unverified: the origin whose certificate is not verified, if there is one.
    """

    endpoint: Endpoint
    transport: Transport
    pacing: Pacing
    stopped: threading.Event
    halted: threading.Event
    unverified: str | None = None

    def batch(self, wanted: Sequence[LargeObject]) -> Answers:
        """Return for each oid where it is to be had, or why it is not.

        Raises:
            RegistryError: the server cannot be asked.
        """
        body = batch_body(wanted)
        return batch_answers(self._patiently(lambda: self._asked(body)), wanted, self.endpoint)

    def fetch(
        self,
        wanted: LargeObject,
        download: Download | RegistryError,
        file: BinaryIO,
        moved: Callable[[int], None],
    ) -> None:
        """Write the object *wanted* to the empty *file*; *moved* is told of bytes as they come.

        Raises:
            RegistryError: it cannot be had.
            DigestMismatch: the server's bytes are others.
            DiskError: *file* cannot be written.
        """
        if isinstance(download, RegistryError):
            raise download
        transfer = _Transfer(self, wanted, download, file, moved)
        self._patiently(transfer.attempt, lambda: transfer.done)
        found = transfer.hash.hexdigest()
        if found != wanted.oid:
            raise DigestMismatch(
                f"the server has sha256:{found} instead of the expected sha256:{wanted.oid}"
            )

    def send(
        self,
        method: str,
        address: str,
        headers: Mapping[str, str],
        private: Mapping[str, str],
        body: bytes | None = None,
    ) -> Reply:
        """Send a request, follow where it leads, and return the answer; close it.

        *private* are headers for the origin of *address* only.

        Raises:
            RegistryError: there is no answer.
        """
        origin = origin_of(address)
        for _ in range(MAX_REDIRECTS):
            self.go_on()
            own = private if origin_of(address) == origin else {}
            verified = origin_of(address) != self.unverified
            reply = self.transport.send(
                method, address, {**headers, **own}, body, verified=verified
            )
            target = reply.headers.get("location")
            if reply.status not in REDIRECTS or target is None:
                return reply
            reply.close()
            address = next_address(address, target)
        raise RegistryError("the server redirects without end")

    def go_on(self) -> None:
        """Raise RegistryError where everything is given up."""
        if self.stopped.is_set() or self.halted.is_set():
            raise RegistryError("the transfer was cancelled")

    def _patiently(self, attempt: Callable[[], T], done: Callable[[], int] = int) -> T:
        """Return what *attempt* returns; it is made again where that can help.

        Where *done* grows, patience begins anew.
        """
        failures, before = 0, 0
        while True:
            try:
                return attempt()
            except RegistryError as error:
                failures = 0 if done() > before else failures
                before = done()
                if not error.temporary or self.pacing.gives_up(failures, error):
                    raise
                pause = self.pacing.pause(error, failures)
            failures += 1
            self.stopped.wait(pause)
            self.go_on()

    def _asked(self, body: bytes) -> bytes:
        address = str(self.endpoint.url).rstrip("/") + "/objects/batch"
        headers = {"Accept": _MEDIA_TYPE, "Content-Type": _MEDIA_TYPE}
        reply = self.send("POST", address, headers, self.endpoint.headers, body)
        try:
            answer = reply.read(_LARGEST_ANSWER, "the answer to an LFS batch request")
        except ContentError as error:
            raise RegistryError(str(error)) from error
        if 200 <= reply.status < 300:
            return answer
        raise batch_refusal(reply.status, reply.headers, answer, self.endpoint)


class _Transfer:
    """One object on its way here, through as many requests as it takes."""

    def __init__(
        self,
        server: LfsServer,
        wanted: LargeObject,
        download: Download,
        file: BinaryIO,
        moved: Callable[[int], None],
    ) -> None:
        self._server = server
        self._wanted = wanted
        self._download = download
        self._file = file
        self._moved = moved
        self.done = 0
        self.hash = hashlib.sha256()

    def attempt(self) -> None:
        """Fetch what is not here yet."""
        if self._download.expired:
            answer = self._server.batch([self._wanted])[self._wanted.oid]
            if isinstance(answer, RegistryError):
                raise answer
            self._download = answer
        headers = {"Accept": "*/*"}
        if self.done:
            headers["Range"] = f"bytes={self.done}-{self._wanted.size - 1}"
        reply = self._server.send("GET", self._download.href, headers, self._download.headers)
        try:
            self._receive(reply)
        finally:
            reply.close()

    def _receive(self, reply: Reply) -> None:
        if not 200 <= reply.status < 300:
            raise object_refusal(reply.status, reply.headers)
        if self.done and not (reply.status == 206 and self._continues(reply)):
            self._begin()
        for chunk in reply.chunks():
            self._server.go_on()
            if self.done + len(chunk) > self._wanted.size:
                raise DigestMismatch(
                    f"the server has more than the expected {self._wanted.size} bytes"
                )
            with disk_errors("write a download to", self._file.name):
                self._file.write(chunk)
            self.hash.update(chunk)
            self.done += len(chunk)
            self._moved(len(chunk))
        if self.done < self._wanted.size:
            raise RegistryError("the connection broke off", temporary=True)

    def _continues(self, reply: Reply) -> bool:
        said = reply.headers.get("content-range", "").removeprefix("bytes").strip()
        return said.startswith(f"{self.done}-")

    def _begin(self) -> None:
        """Start from the first byte: the server cannot do otherwise."""
        with disk_errors("write a download to", self._file.name):
            self._file.seek(0)
            self._file.truncate()
        self._moved(-self.done)
        self.hash = hashlib.sha256()
        self.done = 0
