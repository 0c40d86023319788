"""Indexes with the images that they list: one name for several platforms, or with attestations.

Source: OCI image-spec v1.1, image-index.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from functools import cached_property
from types import MappingProxyType

from kaniko_core.errors import ContentError
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image, with_oci_types
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.spec import Descriptor, Index, MediaType

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Listed:
    """An image as an index lists it.

    Attributes:
        platform: what it is for; its config's where it is None.
        annotations: of its descriptor in the index.
    """

    image: Image
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def descriptor(self) -> Descriptor:
        """The entry in the index."""
        platform = self.platform or self.image.config.platform
        return replace(self.image.descriptor, platform=platform, annotations=self.annotations)


@dataclass(frozen=True)
class ImageIndex:
    """An index, and all the images that it lists, in its order.

    No ``slots``: the cached properties need ``__dict__``.
    """

    raw: bytes
    images: tuple[Image, ...]

    @classmethod
    def of(cls, raw: bytes, images: Iterable[Image]) -> ImageIndex:
        """Check that the two belong together, and return the index.

        Raises:
            ContentError: *raw* is no index, or lists other images.
        """
        made = cls(raw, tuple(images))
        listed = [item.digest for item in made.index.manifests]
        if listed != [image.digest for image in made.images]:
            raise ContentError("the images are not those of the index")
        return made

    @cached_property
    def index(self) -> Index:
        """The parsed index."""
        return Index.parse(self.raw)

    @cached_property
    def digest(self) -> Digest:
        """The digest of the index."""
        return Digest.of(self.raw)

    @property
    def descriptor(self) -> Descriptor:
        """The index's own descriptor."""
        return Descriptor(self.index.media_type, self.digest, len(self.raw))


def list_images(
    listed: Sequence[Listed], *, docker: bool, annotations: Mapping[str, str] = _NOTHING
) -> ImageIndex:
    """Return a new index of images.

    Args:
        listed: what it lists, in this order.
        docker: whether it is one of Docker's manifest lists rather than OCI's.
        annotations: of the index itself.
    """
    index = Index(
        MediaType.DOCKER_INDEX if docker else MediaType.OCI_INDEX,
        tuple(item.descriptor for item in listed),
        dict(annotations),
    )
    return ImageIndex.of(index.to_bytes(), [item.image for item in listed])


# BuildKit's annotation of an attestation: which of the index's images it is about.
ABOUT = "vnd.docker.reference.digest"


def index_with_oci_types(index: ImageIndex) -> ImageIndex:
    """Return *index* and its images with OCI's media types; the same one if they are already."""
    images = tuple(with_oci_types(image) for image in index.images)
    if images == index.images and index.index.media_type == MediaType.OCI_INDEX:
        return index
    new = {
        str(old.digest): str(image.digest) for old, image in zip(index.images, images, strict=True)
    }
    manifests = []
    for item, image in zip(index.index.manifests, images, strict=True):
        about = item.annotations.get(ABOUT)
        changed = {} if about is None else {ABOUT: new.get(about, about)}
        made = replace(
            image.descriptor,
            platform=item.platform,
            annotations={**item.annotations, **changed},
            extra=item.extra,
        )
        manifests.append(made)
    parsed = replace(index.index, media_type=MediaType.OCI_INDEX, manifests=tuple(manifests))
    return ImageIndex.of(parsed.to_bytes(), images)
