"""Docker-save tarballs: what is written is what Go kaniko writes, and all dialects are read."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import BinaryIO

import pytest

from kaniko_core.errors import ContentError, DigestMismatch, DiskError, UsageError
from kaniko_core.oci import tarball
from kaniko_core.oci.image import Image
from kaniko_core.oci.reference import Reference
from kaniko_core.oci.spec import MediaType
from kaniko_core.oci.tarball import read_image, read_tarball, write_tarball
from tests.samples import BytesLayer, image, layer, noise, tar_of

DEBIAN = Reference.parse("debian:12")


def contents(image: Image) -> list[bytes]:
    return [read(layer) for layer in image.layers]


def read(layer: object) -> bytes:
    with layer.open() as stream:  # type: ignore[attr-defined]
        return bytes(stream.read())


def save(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    """Write a tarball as another program would."""
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return path


def test_members_are_those_of_go_kaniko_in_its_order(tmp_path: Path) -> None:
    sample = image()
    write_tarball(sample, tmp_path / "image.tar", (DEBIAN,))
    config = f"sha256:{sample.manifest.config.digest.hex}"
    layers = [f"{item.descriptor.digest.hex}.tar.gz" for item in sample.layers]
    with tarfile.open(tmp_path / "image.tar") as tar:
        members = tar.getmembers()
        assert [member.name for member in members] == [config, *layers, "manifest.json"]
        assert {(m.mode, m.uid, m.gid, m.mtime, m.type) for m in members} == {
            (0o644, 0, 0, 0, tarfile.REGTYPE)
        }
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        assert json.load(manifest) == [
            {"Config": config, "RepoTags": ["docker.io/library/debian:12"], "Layers": layers}
        ]


def test_headers_are_plain_ustar_and_the_end_is_two_zero_blocks(tmp_path: Path) -> None:
    write_tarball(image(), tmp_path / "image.tar", ())
    raw = (tmp_path / "image.tar").read_bytes()
    assert raw[257:265] == b"ustar\x0000"
    assert len(raw) % 512 == 0
    assert raw.endswith(bytes(1024))


def test_image_without_a_tag_has_null_names(tmp_path: Path) -> None:
    sample = image()
    write_tarball(sample, tmp_path / "image.tar", (DEBIAN.at(sample.digest),))
    with tarfile.open(tmp_path / "image.tar") as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        assert json.load(manifest)[0]["RepoTags"] is None


def test_a_layer_that_occurs_twice_is_stored_once(tmp_path: Path) -> None:
    same = layer({"a": b"1"})
    sample = image(same, layer({"b": b"2"}), same)
    write_tarball(sample, tmp_path / "image.tar", ())
    with tarfile.open(tmp_path / "image.tar") as tar:
        assert len(tar.getmembers()) == 4
    again = read_image(tmp_path / "image.tar", sample.raw_manifest)
    assert contents(again) == contents(sample)


@pytest.mark.parametrize("docker", [True, False])
def test_image_comes_back_with_its_own_digest(tmp_path: Path, docker: bool) -> None:
    sample = image(docker=docker)
    write_tarball(sample, tmp_path / "image.tar", (DEBIAN,))
    again = read_image(tmp_path / "image.tar", sample.raw_manifest)
    assert again.digest == sample.digest
    assert again.raw_config == sample.raw_config
    assert contents(again) == contents(sample)
    assert [la.diff_id for la in again.layers] == [la.diff_id for la in sample.layers]


def test_tarball_alone_gives_the_same_image_id(tmp_path: Path) -> None:
    sample = image(docker=True)
    write_tarball(sample, tmp_path / "image.tar", (DEBIAN,))
    again = read_tarball(tmp_path / "image.tar")
    assert again.manifest.config.digest == sample.manifest.config.digest
    assert again.manifest.layers == sample.manifest.layers
    assert contents(again) == contents(sample)


def test_uncompressed_layers_stay_uncompressed(tmp_path: Path) -> None:
    plain = layer({"a": noise(5000)}, media_type=MediaType.OCI_LAYER)
    sample = image(plain)
    write_tarball(sample, tmp_path / "image.tar", ())
    with tarfile.open(tmp_path / "image.tar") as tar:
        assert f"{plain.descriptor.digest.hex}.tar" in tar.getnames()
    again = read_tarball(tmp_path / "image.tar")
    assert again.manifest.layers[0].media_type == MediaType.DOCKER_LAYER
    assert contents(again) == [plain.data]


def test_old_docker_save_is_read(tmp_path: Path) -> None:
    """Layers as <id>/layer.tar, a repeated one as a symbolic link to the first."""
    tar = tar_of({"a": b"1"})
    plain = layer({"a": b"1"}, media_type=MediaType.OCI_LAYER)
    sample = image(plain, plain)
    listing = [
        {
            "Config": "c0ffee.json",
            "RepoTags": ["debian:12"],
            "Layers": ["1/layer.tar", "2/layer.tar"],
        }
    ]
    path = save(
        tmp_path / "saved.tar",
        {
            "1/VERSION": b"1.0",
            "1/layer.tar": tar,
            "c0ffee.json": sample.raw_config,
            "manifest.json": json.dumps(listing).encode(),
        },
        links={"2/layer.tar": "../1/layer.tar"},
    )
    again = read_tarball(path, DEBIAN)
    assert contents(again) == [tar, tar]
    assert again.manifest.config.digest == sample.manifest.config.digest


def test_gzip_layers_under_any_name_are_recognised(tmp_path: Path) -> None:
    sample = image(layer({"a": noise(3000)}))
    compressed = sample.layers[0]
    assert isinstance(compressed, BytesLayer)
    listing = [{"Config": "config.json", "Layers": ["blobs/sha256/whatever"]}]
    path = save(
        tmp_path / "saved.tar",
        {
            "./blobs/sha256/whatever": compressed.data,
            "./config.json": sample.raw_config,
            "./manifest.json": json.dumps(listing).encode(),
        },
    )
    again = read_tarball(path)
    assert again.manifest.layers[0].media_type == MediaType.DOCKER_LAYER_GZIP
    assert gzip.decompress(contents(again)[0]) == tar_of({"a": noise(3000)})


def two_images(path: Path) -> tuple[Image, Image]:
    one = image(layer({"one": b"1"}, media_type=MediaType.OCI_LAYER))
    two = image(layer({"two": b"2"}, media_type=MediaType.OCI_LAYER))
    listing = [
        {"Config": f"{n}.json", "RepoTags": [f"example.com/{n}:v1"], "Layers": [f"{n}.tar"]}
        for n in ("one", "two")
    ]
    save(
        path,
        {
            "one.json": one.raw_config,
            "one.tar": read(one.layers[0]),
            "two.json": two.raw_config,
            "two.tar": read(two.layers[0]),
            "manifest.json": json.dumps(listing).encode(),
        },
    )
    return one, two


def test_an_image_is_chosen_by_name(tmp_path: Path) -> None:
    _, two = two_images(tmp_path / "saved.tar")
    found = read_tarball(tmp_path / "saved.tar", Reference.parse("example.com/two:v1"))
    assert found.manifest.config.digest == two.manifest.config.digest


def test_a_choice_without_name_or_with_a_wrong_one_lists_the_names(tmp_path: Path) -> None:
    two_images(tmp_path / "saved.tar")
    with pytest.raises(UsageError) as error:
        read_tarball(tmp_path / "saved.tar")
    assert error.value.hint == "say which: example.com/one:v1, example.com/two:v1"
    with pytest.raises(UsageError, match=r"no image named docker\.io/library/debian:12"):
        read_tarball(tmp_path / "saved.tar", DEBIAN)


def test_a_layer_that_breaks_off_leaves_no_tarball(tmp_path: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise ConnectionResetError("gone")

    def broken(data: bytes) -> BinaryIO:
        return Broken(data)

    sample = image(layer({"a": b"1"}), layer({"b": b"2"}, source=broken))
    with pytest.raises(DiskError, match="gone"):
        write_tarball(sample, tmp_path / "image.tar", ())
    assert list(tmp_path.iterdir()) == []


def test_a_layer_with_wrong_bytes_leaves_no_tarball(tmp_path: Path) -> None:
    good = layer({"a": noise(2000)})
    bad = BytesLayer(good.descriptor, good.diff_id, good.data[:-1] + b"x")
    with pytest.raises(DigestMismatch):
        write_tarball(image(bad), tmp_path / "image.tar", ())
    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_is_too_long_never_reaches_its_neighbour(tmp_path: Path) -> None:
    class Unverified(BytesLayer):
        def open(self) -> BinaryIO:
            return io.BytesIO(self.data + bytes(4096))

    good = layer({"a": noise(2000)})
    with pytest.raises(ContentError, match="longer"):
        write_tarball(
            image(Unverified(good.descriptor, good.diff_id, good.data)), tmp_path / "i.tar", ()
        )


@pytest.mark.parametrize("keep", [0, 100, 600, 0.5, 0.9, -2048])
def test_a_cut_tarball_is_damaged(tmp_path: Path, keep: float) -> None:
    sample = image()
    path = tmp_path / "image.tar"
    write_tarball(sample, path, ())
    raw = path.read_bytes()
    path.write_bytes(raw[: int(keep * len(raw)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(ContentError):
        read_image(path, sample.raw_manifest)


def test_a_flipped_byte_in_a_layer_is_found_when_it_is_read(tmp_path: Path) -> None:
    sample = image()
    path = tmp_path / "image.tar"
    write_tarball(sample, path, ())
    raw = bytearray(path.read_bytes())
    raw[50_000] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DigestMismatch):
        contents(read_image(path, sample.raw_manifest))


def test_an_entry_must_hold_one_image(tmp_path: Path) -> None:
    one, _ = two_images(tmp_path / "saved.tar")
    with pytest.raises(ContentError, match="holds 2 images instead of one"):
        read_image(tmp_path / "saved.tar", one.raw_manifest)


def test_layers_must_be_as_many_as_the_config_says(tmp_path: Path) -> None:
    sample = image()
    listing = [{"Config": "config.json", "Layers": ["layer.tar"]}]
    path = save(
        tmp_path / "saved.tar",
        {
            "config.json": sample.raw_config,
            "layer.tar": read(sample.layers[0]),
            "manifest.json": json.dumps(listing).encode(),
        },
    )
    with pytest.raises(ContentError, match="has 1 layers"):
        read_image(path, sample.raw_manifest)
    with pytest.raises(ContentError, match="has 1 layers"):
        read_tarball(path)


def test_a_layer_of_another_size_is_found_without_reading_it(tmp_path: Path) -> None:
    sample = image(layer({"a": b"1"}))
    listing = [{"Config": "config.json", "Layers": ["layer.tar"]}]
    path = save(
        tmp_path / "saved.tar",
        {
            "config.json": sample.raw_config,
            "layer.tar": read(sample.layers[0]) + b"more",
            "manifest.json": json.dumps(listing).encode(),
        },
    )
    with pytest.raises(ContentError, match="that the manifest promises"):
        read_image(path, sample.raw_manifest)


def test_hard_links_are_followed_and_names_that_are_none_passed_over(tmp_path: Path) -> None:
    plain = layer({"a": b"1"}, media_type=MediaType.OCI_LAYER)
    sample = image(plain, plain)
    listing = [
        {"Config": "c.json", "RepoTags": ["NOT:A:NAME", "debian:12"], "Layers": ["1.tar", "2.tar"]}
    ]
    path = save(
        tmp_path / "saved.tar",
        {
            "1.tar": plain.data,
            "c.json": sample.raw_config,
            "manifest.json": json.dumps(listing).encode(),
        },
    )
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo("2.tar")
        info.type, info.linkname = tarfile.LNKTYPE, "1.tar"
        tar.addfile(info)
        info = tarfile.TarInfo("ignored")
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    assert contents(read_tarball(path, DEBIAN)) == [plain.data] * 2


def test_a_config_too_long_to_be_true_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tarball, "_LARGEST_JSON", 100)
    write_tarball(image(), tmp_path / "image.tar", ())
    with pytest.raises(ContentError, match="too long to be true"):
        read_tarball(tmp_path / "image.tar")


def test_another_images_manifest_is_refused(tmp_path: Path) -> None:
    write_tarball(image(), tmp_path / "image.tar", ())
    with pytest.raises(ContentError):
        read_image(tmp_path / "image.tar", image(layer({"other": b""})).raw_manifest)


@pytest.mark.parametrize(
    "listing",
    [b"nonsense", b"{}", b"[1]", b"[{}]", b'[{"Config": "c", "Layers": [7]}]', b"[]",
     b'[{"Config": "missing", "Layers": []}]'],
)  # fmt: skip
def test_a_damaged_listing_is_a_sentence(tmp_path: Path, listing: bytes) -> None:
    path = save(tmp_path / "saved.tar", {"manifest.json": listing})
    with pytest.raises((ContentError, UsageError)):
        read_tarball(path)


def test_a_missing_tarball_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=r"cannot read the image tarball .*missing\.tar"):
        read_tarball(tmp_path / "missing.tar")
