"""Manifests and indexes: what a name means, and the bytes, verified.

A HEAD tells the digest of a tag and is not counted as a pull by Docker Hub; a GET is, and takes
its place only where a registry answers a HEAD with less than the whole descriptor.
"""

from __future__ import annotations

import json

from kaniko_core.errors import ContentError, DigestMismatch, NotFound, UsageError
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest, read_verified
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference
from kaniko_core.oci.spec import Descriptor, Index, MediaType
from kaniko_core.registry.failures import Answer
from kaniko_core.registry.mirrors import Mirrors, Place
from kaniko_core.registry.session import LARGEST_BODY, Request
from kaniko_core.registry.tokens import pull_scope

_KNOWN = (
    MediaType.OCI_INDEX,
    MediaType.DOCKER_INDEX,
    MediaType.OCI_MANIFEST,
    MediaType.DOCKER_MANIFEST,
)
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+"


@dataclass(frozen=True, slots=True)
class Manifests:
    """Reads manifests by name or digest, from mirrors where there are some."""

    mirrors: Mirrors

    def head(self, reference: Reference) -> Descriptor | None:
        """Return the descriptor of what *reference* names, or None where there is nothing.

        Raises:
            RegistryError: the registry refuses, or cannot be reached.
            DigestMismatch: it offers another digest than the reference asks for.
        """
        return self.mirrors.first(reference, _head)

    def fetch(self, reference: Reference) -> tuple[Descriptor, bytes] | None:
        """Return the manifest or index under *reference*, byte for byte, or None.

        Raises:
            RegistryError: the registry refuses, or cannot be reached.
            ContentError: it is no manifest, or has another digest than promised.
        """
        return self.mirrors.first(reference, _fetch)

    def resolve(self, reference: Reference, platform: Platform) -> tuple[Descriptor, bytes] | None:
        """Return the manifest of the one image that serves *platform*, or None.

        Raises:
            NotFound: there are images, but none for the platform; the message lists them.
        """
        found = self.fetch(reference)
        if found is None or found[0].media_type not in MediaType.INDEXES:
            return found
        index = Index.parse(found[1])
        chosen = index.select(platform)
        if chosen is None:
            raise _no_platform(reference, platform, index)
        image = self.fetch(reference.at(chosen.digest))
        if image is None:
            raise NotFound(
                f"{reference.repository.registry} lists {chosen.digest} for {reference.familiar} "
                f"on {platform}, but does not have it",
                status=404,
            )
        if image[0].media_type in MediaType.INDEXES:
            raise ContentError(f"the index {reference.familiar} lists an index for {platform}")
        return image


def _head(place: Place) -> Descriptor | None:
    session, reference = place.session, place.reference
    answer = session.ask(_request("HEAD", reference))
    if answer.status == 404:
        return None
    if answer.status == 200 and (descriptor := _described(answer, reference)) is not None:
        return descriptor
    found = _fetch(place)
    return None if found is None else found[0]


def _fetch(place: Place) -> tuple[Descriptor, bytes] | None:
    session, reference = place.session, place.reference
    request = _request("GET", reference)
    answer = session.ask(request, limit=LARGEST_BODY)
    if answer.status == 404:
        return None
    if answer.status != 200:
        raise session.refused(answer, request)
    what = f"the manifest of {reference.familiar}"
    if reference.digest is not None:
        read_verified(answer.body, reference.digest, what)
    listed = _listed_digest(answer, reference)
    if listed is not None:
        read_verified(answer.body, listed, what)
    media_type = _media_type(answer, reference)
    digest = reference.digest or listed or Digest.of(answer.body)
    return Descriptor(media_type, digest, len(answer.body)), answer.body


def _request(method: str, reference: Reference) -> Request:
    return Request(
        method=method,
        repository=reference.repository,
        scopes=(pull_scope(reference.repository),),
        target=f"/v2/{reference.repository.path}/manifests/{reference.identifier}",
        headers={"Accept": ", ".join(_KNOWN)},
        doing=f"read the manifest of {reference.familiar}",
    )


def _described(answer: Answer, reference: Reference) -> Descriptor | None:
    """Return the descriptor that a HEAD's headers make up, or None where they do not."""
    listed = _listed_digest(answer, reference)
    media_type, size = _content_type(answer), answer.headers.get("content-length", "")
    if listed is None or media_type not in _KNOWN or not size.isdecimal():
        return None
    if reference.digest is not None and listed != reference.digest:
        if listed.algorithm != reference.digest.algorithm:
            return None
        raise DigestMismatch(f"{reference.repository.registry} offers {listed} for {reference}")
    return Descriptor(media_type, listed, int(size))


def _listed_digest(answer: Answer, reference: Reference) -> Digest | None:
    text = answer.headers.get("docker-content-digest", "").strip()
    if not text:
        return None
    try:
        return Digest.parse(text)
    except UsageError:
        raise ContentError(
            f"{reference.repository.registry} names {text[:100]!r} as the digest of "
            f"{reference.familiar}, which is none"
        ) from None


def _content_type(answer: Answer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()


def _media_type(answer: Answer, reference: Reference) -> str:
    """Return the media type: the header's, else the document's own, else by its shape."""
    declared = _content_type(answer)
    try:
        document = json.loads(answer.body)
        shape = {str(key) for key in document} if isinstance(document, dict) else set()
        own = document.get("mediaType") if shape else None
    except (ValueError, RecursionError):
        raise ContentError(
            f"what {reference.repository.registry} has under {reference.familiar} "
            "is not a manifest: it is not JSON"
        ) from None
    if declared.startswith(_SCHEMA_1) or _is_schema_1(document):
        raise ContentError(
            f"{reference.familiar} is an image in Docker's schema 1, which nobody reads any more",
            hint="pull it with an old Docker and push it again, or build it anew",
        )
    for media_type in (declared, own):
        if media_type in _KNOWN:
            return str(media_type)
    if declared not in ("", "application/json", "application/octet-stream", "text/plain"):
        raise ContentError(f"{reference.familiar} is not an image but {declared[:100]}")
    if "manifests" in shape:
        return MediaType.OCI_INDEX
    if {"config", "layers"} <= shape:
        return MediaType.OCI_MANIFEST
    raise ContentError(f"{reference.familiar} is not an image: it has no config and no layers")


def _is_schema_1(document: object) -> bool:
    return isinstance(document, dict) and document.get("schemaVersion") == 1


def _no_platform(reference: Reference, platform: Platform, index: Index) -> NotFound:
    there = sorted(
        {
            str(item.platform)
            for item in index.manifests
            # Attestations are listed as unknown/unknown.
            if item.platform is not None and item.platform.os != "unknown"
        }
    )
    return NotFound(
        f"{reference.familiar} has no image for {platform}, only for "
        f"{', '.join(there) or 'no platform at all'}",
        status=404,
        hint="choose one of these with --custom-platform",
    )
