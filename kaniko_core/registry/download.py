"""Blobs on their way here: streamed, verified, resumed where a connection breaks.

    socket ─▶ BlobStream ─▶ VerifyingReader ─▶ reader
              asks again for what is missing (Range), or, where the registry cannot
              do that, for everything, and passes over what was delivered already

The digest is computed above the resuming: bytes of two answers that do not belong together are
found out as a lie would be.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast, runtime_checkable

from kaniko_core.errors import ContentError, NotFound, RegistryError
from kaniko_core.oci.digest import Digest, VerifyingReader
from kaniko_core.oci.reference import Reference, Repository
from kaniko_core.oci.spec import Descriptor, MediaType
from kaniko_core.progress import Direction, Progress
from kaniko_core.registry.meter import Meter, transfer_name
from kaniko_core.registry.mirrors import Mirrors, Place, no_mirrors
from kaniko_core.registry.retrieval import ONCE, Retrieval, opened
from kaniko_core.registry.session import Request, Session
from kaniko_core.registry.tokens import pull_scope
from kaniko_core.registry.transport import Reply

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Bytes. Configs are held in memory; the largest that anybody has seen are a few hundred KiB.
_LARGEST_CONFIG = 8 << 20
_CONFIGS = frozenset({MediaType.OCI_CONFIG, MediaType.DOCKER_CONFIG})
_LONGEST_TYPE = 100  # characters


@dataclass(frozen=True, slots=True)
class Downloads:
    """Opens blobs of images in registries."""

    session: Session
    progress: Progress
    # Without any, images come from their own registries.
    mirrors: Mirrors | None = None
    retrieval: Retrieval = ONCE

    def layer(self, reference: Reference, descriptor: Descriptor, diff_id: Digest) -> RemoteLayer:
        """Return a layer of the image *reference*, which is fetched each time it is opened."""
        return RemoteLayer(reference.repository, descriptor, diff_id, reference, self)

    def has(self, repository: Repository, digest: Digest) -> bool:
        """Whether *repository* has the blob; True, too, where the registry does not tell."""
        request = Request(
            method="HEAD",
            repository=repository,
            scopes=(pull_scope(repository),),
            target=f"/v2/{repository.path}/blobs/{digest}",
            doing=f"look for {digest} in {repository}",
        )
        # Some registries lead to a place that answers no HEAD: only a 404 says that it is gone.
        return self.session.ask(request).status != 404

    def config(self, reference: Reference, descriptor: Descriptor) -> bytes:
        """Return an image config, verified.

        Raises:
            ContentError: it is not what the manifest says, or far too large; or an artifact's,
                such as a chart's.
        """
        if descriptor.size > _LARGEST_CONFIG:
            raise ContentError(
                f"the config of {reference.familiar} has {descriptor.size} bytes, which cannot be"
            )

        def ask(place: Place) -> bytes:
            what = f"the config of {place.reference.familiar}"
            with _verified(place, descriptor, what, meter=None) as stream:
                return stream.read()

        found = self._places.first(reference, ask, part=True)
        assert found is not None
        if descriptor.media_type not in _CONFIGS and not _describes_layers(found):
            kind = descriptor.media_type[:_LONGEST_TYPE]
            raise ContentError(f"it is no image but an artifact, whose config is {kind}")
        return found

    def open(self, reference: Reference, descriptor: Descriptor) -> BinaryIO:
        """Return the bytes of a layer as a verified stream; nothing is asked before a read."""
        name = transfer_name(reference, descriptor.digest)

        def ask(place: Place) -> BinaryIO:
            meter = Meter(self.progress, Direction.PULL, name, descriptor.size)
            what = f"layer {descriptor.digest} of {place.reference.familiar}"
            return _verified(place, descriptor, what, meter)

        return opened(reference, ask, self._places, self.retrieval)

    @property
    def _places(self) -> Mirrors:
        return self.mirrors or no_mirrors(self.session)


def _verified(place: Place, descriptor: Descriptor, what: str, meter: Meter | None) -> BinaryIO:
    repository = place.reference.repository
    request = Request(
        method="GET",
        repository=repository,
        scopes=(pull_scope(repository),),
        target=f"/v2/{repository.path}/blobs/{descriptor.digest}",
        doing=f"fetch {what}",
    )
    stream = cast("BinaryIO", BlobStream(place.session, request, descriptor.size, meter))
    verified = VerifyingReader(stream, descriptor.digest, descriptor.size, what)
    return cast("BinaryIO", verified)


@runtime_checkable
class Housed(Protocol):
    """What lies in a registry: a push to another repository there need not move it."""

    @property
    def repository(self) -> Repository:
        """Where it is."""


@dataclass(frozen=True)
class RemoteLayer:
    """A layer in a registry; its bytes are fetched by each :meth:`open`.

    Attributes:
        repository: where it is; a push to the same registry need not move it.
    """

    repository: Repository
    descriptor: Descriptor
    diff_id: Digest
    _reference: Reference = field(repr=False, compare=False)
    _downloads: Downloads = field(repr=False, compare=False)

    def open(self) -> BinaryIO:
        """Return the stored bytes, verified and resumed; the caller closes them.

        Raises:
            RegistryError: from a read, when the registry fails in spite of retries.
            DigestMismatch: from a read, when the bytes are not the descriptor's.
        """
        return self._downloads.open(self._reference, self.descriptor)


class BlobStream(io.RawIOBase):
    """The unverified bytes of one blob, of as many answers as it takes."""

    def __init__(self, session: Session, request: Request, size: int, meter: Meter | None) -> None:
        super().__init__()
        self._session = session
        self._request = request
        self._size = size
        self._meter = meter
        self._reply: Reply | None = None
        self._chunks: Iterator[bytes] = iter(())
        self._rest = memoryview(b"")
        self._done = 0  # bytes given to the reader, or kept in _rest
        self._failures = 0  # in a row, without a byte of progress in between

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Return some bytes, at most *size*; empty at the end.

        Raises:
            RegistryError: after all retries.
        """
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        if not self._rest:
            chunk = self._next()
            if len(chunk) <= size:
                return chunk
            self._rest = memoryview(chunk)
        piece, self._rest = bytes(self._rest[:size]), self._rest[size:]
        return piece

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read into *buffer*, as :meth:`read` does."""
        view = memoryview(buffer).cast("B")
        chunk = self.read(len(view))
        view[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        """Drop the connection, unless everything was read."""
        self._drop()
        super().close()

    def _next(self) -> bytes:
        while True:
            try:
                if self._reply is None and not self._open():
                    return b""
                chunk = next(self._chunks, b"")
                if not chunk and self._done < self._size:
                    raise self._broken_off()
            except RegistryError as error:
                self._drop()
                self._require_another_try(error)
                last = error
            else:
                self._count(chunk)
                return chunk
            self._session.rest_after(last, self._failures)
            self._failures += 1

    def _require_another_try(self, error: RegistryError) -> None:
        try:
            self._session.require_another_try(error, self._failures)
        except RegistryError:
            raise self._named(error) from error

    def _count(self, chunk: bytes) -> None:
        self._done += len(chunk)
        if chunk:
            self._failures = 0
            self._session.go_on()
            if self._meter is not None:
                self._meter.at(self._done)
        else:
            self._drop()

    def _open(self) -> bool:
        """Ask for the bytes from ``_done`` on; return False where none are left."""
        if self._done and self._done >= self._size:
            return False
        reply = self._session.open(self._ranged())
        self._reply = reply
        if reply.status == 206 and _starts_at(reply) == self._done:
            self._chunks = reply.chunks()
        elif reply.status == 200:
            self._chunks = _skipping(reply.chunks(), self._done)
        else:
            raise self._refused(reply)
        return True

    def _ranged(self) -> Request:
        if not self._done:
            return self._request
        return replace(self._request, headers={"Range": f"bytes={self._done}-"})

    def _refused(self, reply: Reply) -> RegistryError:
        error = self._session.refused_reply(reply, self._request)
        if reply.status == 404:
            registry = self._request.repository.registry
            return NotFound(
                f"cannot {self._request.doing}: {registry} does not have it, "
                "though the manifest lists it",
                status=404,
                code=error.code,
                hint="the registry may have lost it; push the image again, or use another tag",
            )
        return error

    def _broken_off(self) -> RegistryError:
        host = self._request.repository.host
        return RegistryError(f"the connection to {host} broke off", temporary=True)

    def _named(self, error: RegistryError) -> RegistryError:
        """Say which transfer failed, where the error only says what the network did."""
        if error.status is not None or str(error).startswith(f"cannot {self._request.doing}"):
            return error
        so_far = f" after {self._done} of {self._size} bytes" if self._done else ""
        return RegistryError(
            f"cannot {self._request.doing}: {error}{so_far}",
            temporary=error.temporary,
            hint=error.hint,
        )

    def _drop(self) -> None:
        reply, self._reply = self._reply, None
        self._chunks = iter(())
        if reply is not None:
            reply.close()


def _describes_layers(config: bytes) -> bool:
    """Whether it is an image's config, whatever the manifest calls it: some tools err there."""
    try:
        document = json.loads(config)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "rootfs" in document


def _starts_at(reply: Reply) -> int:
    """Return the first byte's position of a 206, or -1 where it does not say."""
    text = reply.headers.get("content-range", "")
    start = text.removeprefix("bytes").strip().partition("-")[0]
    return int(start) if start.isdecimal() else -1


def _skipping(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    for chunk in chunks:
        if count >= len(chunk):
            count -= len(chunk)
        elif count:
            yield chunk[count:]
            count = 0
        else:
            yield chunk


__all__ = ["Downloads", "Housed", "RemoteLayer"]
