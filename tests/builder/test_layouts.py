"""Base images in OCI layouts: by digest, by tag, or the only one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kaniko_core.builder.base import BaseImages
from kaniko_core.builder.layouts import layout_image
from kaniko_core.builder.plan import LayoutBase
from kaniko_core.errors import ContentError, ContextError
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image
from kaniko_core.oci.layout import LayoutStore
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference
from kaniko_core.oci.spec import Index, MediaType
from tests.samples import AMD64, image, layer

ARM64 = Platform("linux", "arm64")
ONE, TWO = (image(layer({"f": bytes([n])})) for n in range(2))


def layout(path: Path, **tagged: Image) -> LayoutBase:
    """Write images with their tags, and return the base that selects none of them."""
    for tag, found in tagged.items():
        LayoutStore(path).put(Reference.parse(f"x:{tag}"), found)
    return LayoutBase(path, "", AMD64, "base")


def indexed(path: Path, *images: Image) -> Digest:
    """Write one index of *images*, tagged v1, as its digest says."""
    store = LayoutStore(path)
    for found in images:
        store.put(None, found)
    listed = tuple(replace(i.descriptor, platform=i.config.platform) for i in images)
    raw = Index(MediaType.OCI_INDEX, listed).to_bytes()
    digest = Digest.of(raw)
    (path / "blobs/sha256" / digest.hex).write_bytes(raw)
    entry = {
        "mediaType": MediaType.OCI_INDEX,
        "digest": str(digest),
        "size": len(raw),
        "annotations": {"org.opencontainers.image.ref.name": "v1"},
    }
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return digest


def test_tag_selects(tmp_path: Path) -> None:
    base = layout(tmp_path, v1=ONE, v2=TWO)
    assert layout_image(replace(base, selector="v2")).digest == TWO.digest


def test_digest_selects_whatever_its_tag_is(tmp_path: Path) -> None:
    base = layout(tmp_path, v1=ONE, v2=TWO)
    found = layout_image(replace(base, selector=str(TWO.digest)))
    assert found.digest == TWO.digest
    with found.layers[0].open() as stream:
        assert stream.read()


def test_only_image_needs_no_selector(tmp_path: Path) -> None:
    assert layout_image(layout(tmp_path, v1=ONE)).digest == ONE.digest
    assert layout_image(layout(tmp_path, also=ONE)).digest == ONE.digest


def test_latest_of_several_needs_no_selector(tmp_path: Path) -> None:
    assert layout_image(layout(tmp_path, v1=ONE, latest=TWO)).digest == TWO.digest


def test_several_images_want_a_selector(tmp_path: Path) -> None:
    with pytest.raises(ContextError, match="has 2 images, none tagged latest") as caught:
        layout_image(layout(tmp_path, v1=ONE, v2=TWO))
    assert "its tags are v1, v2" in (caught.value.hint or "")


def test_tag_that_is_not_there_is_not_taken_for_another(tmp_path: Path) -> None:
    with pytest.raises(ContextError, match="has no image v2") as caught:
        layout_image(replace(layout(tmp_path, v1=ONE), selector="v2"))
    assert caught.value.hint == "its tags are v1"


def test_index_gives_the_image_of_the_platform(tmp_path: Path) -> None:
    other = image(layer({"arm": b""}), platform=ARM64)
    digest = indexed(tmp_path, ONE, other)
    base = LayoutBase(tmp_path, "v1", ARM64, "base")
    assert layout_image(base).digest == other.digest
    assert layout_image(replace(base, selector=str(digest), platform=AMD64)).digest == ONE.digest


def test_platform_that_is_not_there(tmp_path: Path) -> None:
    indexed(tmp_path, ONE)
    with pytest.raises(ContextError, match="has no base for linux/s390x"):
        layout_image(LayoutBase(tmp_path, "v1", Platform("linux", "s390x"), "base"))


def test_directory_that_is_none_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match=r"is not an OCI layout: it has no index\.json"):
        layout_image(LayoutBase(tmp_path, "", AMD64, "base"))
    with pytest.raises(ContextError, match="does not exist") as caught:
        layout_image(LayoutBase(tmp_path / "no", "", AMD64, "base"))
    assert "--build-context base=" in (caught.value.hint or "")


def test_layout_without_images(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
    with pytest.raises(ContentError, match="has no images"):
        layout_image(LayoutBase(tmp_path, "", AMD64, "base"))


def test_digest_that_is_not_there(tmp_path: Path) -> None:
    base = replace(layout(tmp_path, v1=ONE), selector=str(TWO.digest))
    with pytest.raises(ContentError, match=f"has no blob {TWO.digest}"):
        layout_image(base)


def test_layout_needs_no_registry(tmp_path: Path) -> None:
    base = layout(tmp_path, v1=ONE)
    images = BaseImages(None, None, lambda _: None)  # type: ignore[arg-type]
    assert images.find(base) is images.find(base)
