"""Images as values: what belongs together, and what changes a digest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kaniko_core.errors import ContentError, DigestMismatch
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image, compose, with_oci_types
from kaniko_core.oci.spec import ImageConfig, MediaType
from tests.samples import AMD64, image, layer

CONFIG = ImageConfig(AMD64, created="2024-01-01T00:00:00Z")


def test_composed_image_belongs_together() -> None:
    layers = (layer({"a": b"1"}), layer({"b": b"2"}))
    made = compose(CONFIG, layers, docker=False)
    assert Image.of(made.raw_manifest, made.raw_config, made.layers) == made
    assert made.config.diff_ids == tuple(item.diff_id for item in layers)
    assert made.manifest.config.digest == Digest.of(made.raw_config)
    assert made.descriptor.digest == made.digest == Digest.of(made.raw_manifest)
    assert made.descriptor.size == len(made.raw_manifest)


def test_same_parts_give_the_same_digest() -> None:
    assert image(layer({"a": b"1"})).digest == image(layer({"a": b"1"})).digest
    assert image(layer({"a": b"1"})).digest != image(layer({"a": b"2"})).digest


@pytest.mark.parametrize("docker", [True, False])
def test_layers_of_the_other_family_are_given_this_ones_types(docker: bool) -> None:
    oci = layer({"a": b"1"}, media_type=MediaType.OCI_LAYER_GZIP)
    dockers = layer({"b": b"2"}, media_type=MediaType.DOCKER_LAYER_GZIP)
    made = compose(CONFIG, (oci, dockers), docker=docker)
    assert made.is_docker is docker
    wanted = MediaType.DOCKER_LAYER_GZIP if docker else MediaType.OCI_LAYER_GZIP
    assert [item.media_type for item in made.manifest.layers] == [wanted, wanted]
    assert [item.digest for item in made.manifest.layers] == [
        oci.descriptor.digest,
        dockers.descriptor.digest,
    ]


def test_zstd_layers_keep_their_type_everywhere() -> None:
    zstd = replace(layer({"a": b"1"}).descriptor, media_type=MediaType.OCI_LAYER_ZSTD)
    packed = replace(layer({"a": b"1"}), descriptor=zstd)
    made = compose(CONFIG, (packed,), docker=True)
    assert made.manifest.layers[0].media_type == MediaType.OCI_LAYER_ZSTD


def test_oci_types_change_the_digest_and_nothing_else() -> None:
    docker = image(docker=True)
    oci = with_oci_types(docker)
    assert not oci.is_docker
    assert oci.digest != docker.digest
    assert oci.raw_config == docker.raw_config
    assert oci.layers == docker.layers
    assert oci.manifest.config.media_type == MediaType.OCI_CONFIG
    assert with_oci_types(oci) is oci


def test_config_of_another_image_is_refused() -> None:
    one, other = image(layer({"a": b"1"})), image(layer({"a": b"2"}))
    with pytest.raises(DigestMismatch, match="image config"):
        Image.of(one.raw_manifest, other.raw_config, one.layers)


def test_layers_of_another_image_are_refused() -> None:
    one, other = image(layer({"a": b"1"})), image(layer({"a": b"2"}))
    with pytest.raises(ContentError, match="not those of the manifest"):
        Image.of(one.raw_manifest, one.raw_config, other.layers)


def test_config_that_lists_other_layers_is_refused() -> None:
    """Its history and diff IDs would be those of something else."""
    one = image(layer({"a": b"1"}))
    config = replace(one.config, diff_ids=()).to_bytes()
    descriptor = replace(one.manifest.config, digest=Digest.of(config), size=len(config))
    manifest = replace(one.manifest, config=descriptor).to_bytes()
    with pytest.raises(ContentError, match="lists 0 layers, the manifest 1"):
        Image.of(manifest, config, one.layers)


def test_image_without_layers_is_one() -> None:
    made = compose(CONFIG, (), docker=False)
    assert made.manifest.layers == ()
