"""Images as values: raw manifest, raw config, and layers that can be opened.

The raw bytes are kept so that an image that was pulled has the same digest wherever it goes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from functools import cached_property
from io import BytesIO
from types import MappingProxyType
from typing import BinaryIO, Protocol, runtime_checkable

from kaniko_core.errors import ContentError, KanikoError
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest, read_verified
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference, Repository
from kaniko_core.oci.spec import Descriptor, ImageConfig, Manifest, MediaType

_NOTHING: Mapping[str, str] = MappingProxyType({})
# The config of a manifest that is no image's, and all that is ever in it.
_EMPTY_TYPE, _EMPTY = "application/vnd.oci.empty.v1+json", b"{}"


class Layer(Protocol):
    """A changeset as a tar blob, compressed as its media type says."""

    @property
    def descriptor(self) -> Descriptor:
        """Media type, digest and size of the blob as stored (compressed)."""

    @property
    def diff_id(self) -> Digest:
        """The digest of the uncompressed tar."""

    def open(self) -> BinaryIO:
        """Return the stored bytes as a new stream, verified: its end has been checked.

        The caller closes it. May be called several times, and from several threads at once.

        Raises:
            DigestMismatch: from a read, when the bytes are not the descriptor's.
        """


@dataclass(frozen=True, slots=True)
class BytesLayer:
    """A blob in memory, such as a config; it is stored as it is, and its own diff ID."""

    descriptor: Descriptor
    data: bytes = field(repr=False)

    @property
    def diff_id(self) -> Digest:
        """The digest of the blob."""
        return self.descriptor.digest

    def open(self) -> BinaryIO:
        """Return the bytes as a new stream."""
        return BytesIO(self.data)


@runtime_checkable
class Replaceable(Protocol):
    """A layer that the build can do without, such as one from a cache."""

    def lost(self, error: ContentError) -> KanikoError:
        """Return what to raise where *error* shows that the layer is damaged."""


@runtime_checkable
class Doubtful(Protocol):
    """A layer that is read to its end before its first use, such as one of a cached image.

    Who keeps nothing of a layer whose end shows that it is bad need not wait for that.
    """

    def unchecked(self) -> Layer:
        """Return the layer as it lies there, verified only when it has been read."""

    def mended(self) -> Layer | None:
        """Return the layer from another place if this one is bad; None where it is good."""


@dataclass(frozen=True)
class Image:
    """A manifest, the config that it names, and its layers, bottom first.

    No ``slots``: the cached properties need ``__dict__``.
    """

    raw_manifest: bytes
    raw_config: bytes
    layers: tuple[Layer, ...]

    @classmethod
    def of(cls, raw_manifest: bytes, raw_config: bytes, layers: tuple[Layer, ...]) -> Image:
        """Check that the three belong together, and return the image.

        Raises:
            ContentError: the config is not the manifest's, or the layers are not.
        """
        image = cls(raw_manifest, raw_config, layers)
        read_verified(raw_config, image.manifest.config.digest, "image config")
        if tuple(layer.descriptor.digest for layer in layers) != tuple(
            layer.digest for layer in image.manifest.layers
        ):
            raise ContentError("the layers are not those of the manifest")
        if image.manifest.config.media_type == _EMPTY_TYPE:
            return image
        if len(image.config.diff_ids) != len(layers):
            raise ContentError(
                f"the image config lists {len(image.config.diff_ids)} layers, "
                f"the manifest {len(layers)}"
            )
        return image

    @cached_property
    def digest(self) -> Digest:
        """The manifest's digest."""
        return Digest.of(self.raw_manifest)

    @cached_property
    def manifest(self) -> Manifest:
        """The parsed manifest."""
        return Manifest.parse(self.raw_manifest)

    @cached_property
    def config(self) -> ImageConfig:
        """The parsed config."""
        return ImageConfig.parse(self.raw_config)

    @property
    def descriptor(self) -> Descriptor:
        """The manifest's own descriptor."""
        return Descriptor(self.manifest.media_type, self.digest, len(self.raw_manifest))

    @property
    def is_docker(self) -> bool:
        """Whether the media types are Docker's rather than OCI's."""
        return self.manifest.media_type == MediaType.DOCKER_MANIFEST


def listed_artifact(raw_manifest: bytes, layer_of: Callable[[Descriptor], Layer]) -> Image | None:
    """Return, as an image that cannot be run, what an index lists beside images; None for those.

    BuildKit's attestations are such artifacts, unless it is told otherwise.

    Args:
        raw_manifest: the manifest of either.
        layer_of: returns a blob of the manifest; it is its own diff ID.

    Raises:
        ContentError: the manifest is none.

    Source: OCI image-spec v1.1, manifest.md, "Guidance for an Empty Descriptor".
    """
    manifest = Manifest.parse(raw_manifest)
    if manifest.config.media_type != _EMPTY_TYPE:
        return None
    return Image.of(raw_manifest, _EMPTY, tuple(map(layer_of, manifest.layers)))


def compose(
    config: ImageConfig,
    layers: tuple[Layer, ...],
    *,
    docker: bool,
    annotations: Mapping[str, str] = _NOTHING,
) -> Image:
    """Return a new image of *config* (whose ``diff_ids`` are set here) and *layers*.

    Args:
        config: as it shall be, but for ``diff_ids``.
        layers: bottom first; a layer of the other family is given this family's media type.
        docker: use Docker's media types rather than OCI's.
        annotations: of the manifest.
    """
    config = replace(config, diff_ids=tuple(layer.diff_id for layer in layers))
    raw_config = config.to_bytes()
    manifest = Manifest(
        media_type=MediaType.DOCKER_MANIFEST if docker else MediaType.OCI_MANIFEST,
        config=Descriptor(
            MediaType.DOCKER_CONFIG if docker else MediaType.OCI_CONFIG,
            Digest.of(raw_config),
            len(raw_config),
        ),
        layers=tuple(_in_family(layer.descriptor, docker) for layer in layers),
        annotations=dict(annotations),
    )
    return Image.of(manifest.to_bytes(), raw_config, layers)


def with_oci_types(image: Image) -> Image:
    """Return *image* with OCI's media types: the same config and layers, another digest."""
    if not image.is_docker:
        return image
    manifest = replace(
        image.manifest,
        media_type=MediaType.OCI_MANIFEST,
        config=replace(image.manifest.config, media_type=MediaType.OCI_CONFIG),
        layers=tuple(_in_family(layer, docker=False) for layer in image.manifest.layers),
    )
    return Image.of(manifest.to_bytes(), image.raw_config, image.layers)


_TO_OCI = {
    MediaType.DOCKER_LAYER: MediaType.OCI_LAYER,
    MediaType.DOCKER_LAYER_GZIP: MediaType.OCI_LAYER_GZIP,
}
# Docker's schema 2 has no type for zstd; readers of it accept the OCI type there.
_TO_DOCKER = {oci: docker for docker, oci in _TO_OCI.items()}


def _in_family(descriptor: Descriptor, docker: bool) -> Descriptor:
    table = _TO_DOCKER if docker else _TO_OCI
    return replace(descriptor, media_type=table.get(descriptor.media_type, descriptor.media_type))


class ImageStore(Protocol):
    """Where images can be fetched from and put: a registry, an OCI layout."""

    def get(self, reference: Reference, platform: Platform) -> Image | None:
        """Return the image for *platform*, or None where there is no such image."""

    def put(
        self, reference: Reference, image: Image, *, mount_from: tuple[Repository, ...] = ()
    ) -> None:
        """Store *image* under *reference*; blobs that are there already are not sent again.

        Args:
            reference: where to; its tag, or ``latest``.
            image: what.
            mount_from: repositories that may already hold some of the blobs.
        """


__all__ = [
    "BytesLayer",
    "Image",
    "ImageStore",
    "Layer",
    "Replaceable",
    "compose",
    "listed_artifact",
    "with_oci_types",
]
