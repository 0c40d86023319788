"""Blobs of images: asked for where they are, and verified.

    socket ─▶ BlobStream ─▶ VerifyingReader ─▶ reader
              resumes, and is in a hurry where each connection is slow (``blobs.py``)

The digest is computed above both: it does not matter how the bytes came.
"""

from __future__ import annotations

import json
from dataclasses import field
from typing import BinaryIO, Protocol, cast, runtime_checkable

from kaniko_core.errors import ContentError
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest, VerifyingReader
from kaniko_core.oci.reference import Reference, Repository
from kaniko_core.oci.spec import Descriptor, MediaType
from kaniko_core.progress import Direction, Progress
from kaniko_core.registry.ahead import Lanes
from kaniko_core.registry.blobs import BlobStream
from kaniko_core.registry.meter import Meter, transfer_name
from kaniko_core.registry.mirrors import Mirrors, Place, no_mirrors
from kaniko_core.registry.retrieval import ONCE, Retrieval, opened
from kaniko_core.registry.session import Request, Session
from kaniko_core.registry.tokens import pull_scope

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
    lanes: Lanes = field(default_factory=Lanes)

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
            with self._verified(place, descriptor, what, meter=None) as stream:
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
            return self._verified(place, descriptor, what, meter)

        return opened(reference, ask, self._places, self.retrieval)

    @property
    def _places(self) -> Mirrors:
        return self.mirrors or no_mirrors(self.session)

    def _verified(
        self, place: Place, descriptor: Descriptor, what: str, meter: Meter | None
    ) -> BinaryIO:
        repository = place.reference.repository
        request = Request(
            method="GET",
            repository=repository,
            scopes=(pull_scope(repository),),
            target=f"/v2/{repository.path}/blobs/{descriptor.digest}",
            doing=f"fetch {what}",
        )
        stream = BlobStream(place.session, request, descriptor.size, self.lanes, meter)
        source = cast("BinaryIO", stream)
        verified = VerifyingReader(source, descriptor.digest, descriptor.size, what)
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


def _describes_layers(config: bytes) -> bool:
    """Whether it is an image's config, whatever the manifest calls it: some tools err there."""
    try:
        document = json.loads(config)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "rootfs" in document


__all__ = ["Downloads", "Housed", "RemoteLayer"]
