"""OCI image layouts: both ways, shared between names, verified."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kaniko_core.errors import ContentError, DigestMismatch, DiskError
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.index import ImageIndex, Listed, list_images
from kaniko_core.oci.layout import LayoutStore
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference
from kaniko_core.oci.spec import Index, MediaType
from tests.samples import AMD64, BytesLayer, attestation, image, layer, noise

V1 = Reference.parse("example.com/app:v1")
V2 = Reference.parse("example.com/app:v2")


def names(path: Path) -> list[str | None]:
    index = json.loads((path / "index.json").read_bytes())
    return [
        item.get("annotations", {}).get("org.opencontainers.image.ref.name")
        for item in index["manifests"]
    ]


def test_image_comes_back_as_it_was(tmp_path: Path) -> None:
    sample = image()
    store = LayoutStore(tmp_path / "layout")
    store.put(V1, sample)
    again = store.get(V1, AMD64)
    assert again is not None
    assert again.digest == sample.digest
    assert again.raw_config == sample.raw_config
    for ours, theirs in zip(again.layers, sample.layers, strict=True):
        with ours.open() as left, theirs.open() as right:
            assert left.read() == right.read()


def test_index_comes_back_with_the_artifacts_that_it_lists(tmp_path: Path) -> None:
    runs = image()
    nowhere = Platform("unknown", "unknown")
    index = list_images([Listed(runs), Listed(attestation(runs), nowhere)], docker=False)
    store = LayoutStore(tmp_path)
    store.put_index(V1, index)

    again = store.read_any(index.digest)

    assert isinstance(again, ImageIndex)
    assert [one.raw_manifest for one in again.images] == [one.raw_manifest for one in index.images]
    assert again.images[1].raw_config == b"{}"
    with pytest.raises(ContentError, match="differ in their layers"):
        store.read_any(index.images[1].digest)


def test_files_are_those_of_the_specification(tmp_path: Path) -> None:
    sample = image()
    LayoutStore(tmp_path).put(V1, sample)
    assert json.loads((tmp_path / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    entry = json.loads((tmp_path / "index.json").read_bytes())["manifests"][0]
    assert entry == {
        "mediaType": MediaType.OCI_MANIFEST,
        "digest": str(sample.digest),
        "size": len(sample.raw_manifest),
        "annotations": {"org.opencontainers.image.ref.name": "v1"},
        "platform": {"architecture": "amd64", "os": "linux"},
    }
    blobs = {path.name for path in (tmp_path / "blobs" / "sha256").iterdir()}
    expected = {sample.digest, sample.manifest.config.digest}
    expected |= {item.descriptor.digest for item in sample.layers}
    assert blobs == {digest.hex for digest in expected}


def test_a_name_moves_and_the_others_stay(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path)
    old, other, new = (image(layer({"f": bytes([n])})) for n in range(3))
    store.put(V1, old)
    store.put(V2, other)
    store.put(V1, new)
    assert sorted(map(str, names(tmp_path))) == ["v1", "v2"]
    for reference, expected in ((V1, new), (V2, other)):
        found = store.get(reference, AMD64)
        assert found is not None
        assert found.digest == expected.digest


def test_an_image_may_have_no_name(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path)
    store.put(None, image())
    store.put(V1, image())
    assert names(tmp_path) == [None, "v1"]


def test_a_blob_that_is_there_is_not_read_again(tmp_path: Path) -> None:
    reads: list[int] = []

    class Counted(BytesLayer):
        def open(self):  # type: ignore[no-untyped-def]
            reads.append(1)
            return super().open()

    base = layer({"a": noise(1000)})
    sample = image(Counted(base.descriptor, base.diff_id, base.data))
    store = LayoutStore(tmp_path)
    store.put(V1, sample)
    store.put(V2, sample)
    assert len(reads) == 1


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path / "layout")
    assert store.get(V1, AMD64) is None
    store.put(V1, image())
    assert store.get(V2, AMD64) is None
    assert store.get(V1.at(image(layer({"x": b""})).digest), AMD64) is None


def test_dockers_media_types_become_ocis(tmp_path: Path) -> None:
    """Readers of layouts accept no others."""
    sample = image(docker=True)
    store = LayoutStore(tmp_path)
    store.put(V1, sample)
    found = store.get(V1, AMD64)
    assert found is not None
    assert found.raw_config == sample.raw_config
    assert b"docker" not in found.raw_manifest
    assert [la.digest for la in found.manifest.layers] == [
        la.digest for la in sample.manifest.layers
    ]


def test_an_image_is_found_by_digest(tmp_path: Path) -> None:
    sample = image()
    store = LayoutStore(tmp_path)
    store.put(V1, sample)
    found = store.get(V1.at(sample.digest), AMD64)
    assert found is not None
    assert found.digest == sample.digest


def test_an_index_gives_the_platforms_image(tmp_path: Path) -> None:
    arm = Platform("linux", "arm64")
    store = LayoutStore(tmp_path)
    one, two = image(), image(platform=arm)
    store.put(V1, one)
    store.put(V2, two)
    index = Index.parse((tmp_path / "index.json").read_bytes())
    raw = Index(MediaType.OCI_INDEX, index.manifests).to_bytes()
    (tmp_path / "blobs" / "sha256" / Digest.of(raw).hex).write_bytes(raw)
    listed = {
        "mediaType": MediaType.OCI_INDEX,
        "digest": str(Digest.of(raw)),
        "size": len(raw),
        "annotations": {"io.containerd.image.name": "example.com/app:both"},
    }
    (tmp_path / "index.json").write_text(json.dumps({"manifests": [listed]}))
    both = Reference.parse("example.com/app:both")
    for platform, expected in ((AMD64, one), (arm, two)):
        found = store.get(both, platform)
        assert found is not None
        assert found.digest == expected.digest
    assert store.get(both, Platform("linux", "riscv64")) is None


def test_wrong_bytes_leave_no_blob_and_no_name(tmp_path: Path) -> None:
    good = layer({"a": noise(1000)})
    bad = BytesLayer(good.descriptor, good.diff_id, good.data[:-1] + b"x")
    with pytest.raises(DigestMismatch):
        LayoutStore(tmp_path).put(V1, image(bad))
    assert not (tmp_path / "index.json").exists()
    assert list((tmp_path / "blobs" / "sha256").iterdir()) == []


def test_damage_is_found(tmp_path: Path) -> None:
    sample = image()
    store = LayoutStore(tmp_path)
    store.put(V1, sample)
    blobs = tmp_path / "blobs" / "sha256"
    blob = blobs / sample.layers[0].descriptor.digest.hex
    whole = blob.read_bytes()

    blob.write_bytes(whole[:-1] + b"x")
    found = store.get(V1, AMD64)
    assert found is not None
    with pytest.raises(DigestMismatch), found.layers[0].open() as stream:
        stream.read()

    blob.write_bytes(whole[:-1])
    with pytest.raises(ContentError, match="bytes instead of"):
        store.get(V1, AMD64)
    blob.unlink()
    with pytest.raises(ContentError, match="has no layer"):
        store.get(V1, AMD64)

    (blobs / sample.digest.hex).write_bytes(sample.raw_manifest + b" ")
    with pytest.raises(ContentError):
        store.get(V1, AMD64)


def test_a_config_of_another_size_or_other_layers_is_found(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path)
    sample = image()
    store.put(V1, sample)
    blobs = tmp_path / "blobs" / "sha256"
    config = blobs / sample.manifest.config.digest.hex
    config.write_bytes(sample.raw_config + b" ")
    with pytest.raises(ContentError, match="bytes instead of"):
        store.get(V1, AMD64)

    other = image(layer({"one": b"1"}))
    manifest = replace(sample.manifest, config=other.manifest.config).to_bytes()
    config = blobs / other.manifest.config.digest.hex
    config.write_bytes(other.raw_config)
    (blobs / Digest.of(manifest).hex).write_bytes(manifest)
    with pytest.raises(ContentError, match="differ in their layers"):
        store.read(Digest.of(manifest))


def test_a_directory_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DiskError, match="cannot write the OCI layout"):
        LayoutStore(tmp_path / "file").put(V1, image())
