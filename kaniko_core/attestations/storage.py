"""Attestations beside the images that they are about, where BuildKit's readers look for them.

    index
    ├── linux/amd64        the image
    ├── linux/arm64        the image
    ├── unknown/unknown    attestations of the first: one layer for each statement
    └── unknown/unknown    attestations of the second

Source: BuildKit, docs/attestations/attestation-storage.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from kaniko_core.attestations.statement import Statement
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import BytesLayer, Image, Layer
from kaniko_core.oci.index import ABOUT, ImageIndex, Listed, list_images
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.spec import Descriptor, Manifest, MediaType, dump

IN_TOTO = "application/vnd.in-toto+json"
_PREDICATE_TYPE = "in-toto.io/predicate-type"
_REFERENCE_TYPE = "vnd.docker.reference.type"
_ATTESTATION = "attestation-manifest"
# So that nothing runs it, or pulls it in the place of an image.
_NOWHERE = Platform("unknown", "unknown")
_NOTHING: Mapping[str, str] = MappingProxyType({})


def attach(
    attested: Sequence[tuple[Listed, Sequence[Statement]]],
    *,
    annotations: Mapping[str, str] = _NOTHING,
) -> ImageIndex:
    """Return an index of images with what is stated about each.

    Args:
        attested: the images, each for its own platform, with OCI's media types: Docker's
            manifest lists have no place for annotations.
        annotations: of the index.
    """
    images = [listed for listed, _ in attested]
    about = [_listed(listed.image, statements) for listed, statements in attested if statements]
    return list_images((*images, *about), docker=False, annotations=annotations)


def _listed(image: Image, statements: Sequence[Statement]) -> Listed:
    notes = {ABOUT: str(image.digest), _REFERENCE_TYPE: _ATTESTATION}
    return Listed(_manifest(statements), _NOWHERE, notes)


def _manifest(statements: Sequence[Statement]) -> Image:
    layers: tuple[Layer, ...] = tuple(map(_layer, statements))
    config = {
        "architecture": _NOWHERE.architecture,
        "os": _NOWHERE.os,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in layers]},
    }
    raw_config = dump(config)
    manifest = Manifest(
        MediaType.OCI_MANIFEST,
        Descriptor(MediaType.OCI_CONFIG, Digest.of(raw_config), len(raw_config)),
        tuple(layer.descriptor for layer in layers),
    )
    return Image.of(manifest.to_bytes(), raw_config, layers)


def _layer(statement: Statement) -> BytesLayer:
    raw = statement.raw
    notes = {_PREDICATE_TYPE: statement.kind}
    return BytesLayer(Descriptor(IN_TOTO, Digest.of(raw), len(raw), notes), raw)
