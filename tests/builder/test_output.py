"""Where a finished image goes."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from errno import EBUSY
from pathlib import Path

import pytest

from kaniko_core.builder.output import open_delivery
from kaniko_core.errors import DiskError, Unauthorized
from kaniko_core.oci.image import Image, Layer
from kaniko_core.oci.layout import LayoutStore
from kaniko_core.oci.reference import Reference, Repository
from kaniko_core.oci.tarball import read_tarball
from kaniko_core.options import OutputOptions
from kaniko_core.progress import silent
from tests.samples import AMD64, image, layer

ONE = Reference.parse("registry.example/team/app:1")
TWO = Reference.parse("other.example/team/app")
BASE = Repository("registry.example", "base")


@dataclass
class FakeRegistry:
    """Remembers what it was asked; refuses the references in *refused*."""

    refused: frozenset[Reference] = frozenset()
    checked: list[Reference] = field(default_factory=list)
    uploaded: list[Repository] = field(default_factory=list)
    stored: list[tuple[Reference, Image, tuple[Repository, ...]]] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def check_push(self, reference: Reference) -> None:
        self.checked.append(reference)
        if reference in self.refused:
            raise Unauthorized(f"{reference} may not be pushed to", status=403)

    def upload(
        self, repository: Repository, layer: Layer, *, mount_from: tuple[Repository, ...] = ()
    ) -> None:
        self.uploaded.append(repository)

    def put(
        self, reference: Reference, image: Image, *, mount_from: tuple[Repository, ...] = ()
    ) -> None:
        self.stored.append((reference, image, mount_from))

    def cancel(self) -> None:
        self.cancelled.set()


def options(tmp_path: Path, **given: object) -> OutputOptions:
    return OutputOptions(**{"no_push": True, **given})  # type: ignore[arg-type]


def test_every_destination_is_asked_before_the_build() -> None:
    registry = FakeRegistry()
    with open_delivery(OutputOptions(destination=(ONE, TWO)), registry, silent):
        assert sorted(registry.checked) == sorted((ONE, TWO.with_default_tag))


def test_refused_destination_ends_the_build_before_it_begins() -> None:
    registry = FakeRegistry(frozenset({ONE}))
    with (
        pytest.raises(Unauthorized),
        open_delivery(OutputOptions(destination=(ONE,)), registry, silent),
    ):
        pytest.fail("the build began")
    assert registry.cancelled.is_set()


def test_no_push_asks_nobody(tmp_path: Path) -> None:
    registry = FakeRegistry()
    options = OutputOptions(destination=(ONE,), no_push=True)
    with open_delivery(options, registry, silent) as delivery:
        result = delivery.deliver(image())
    assert (registry.checked, registry.stored, result.references) == ([], [], ())


def test_image_is_put_everywhere_and_later_ones_mount_from_earlier() -> None:
    registry = FakeRegistry()
    built = image()
    with open_delivery(OutputOptions(destination=(ONE, TWO)), registry, silent) as delivery:
        delivery.starts_from(BASE)
        delivery.offer(built.layers[0])
        result = delivery.deliver(built)
    assert registry.uploaded == [ONE.repository]
    assert registry.stored == [
        (ONE, built, (BASE,)),
        (TWO.with_default_tag, built, (BASE, ONE.repository)),
    ]
    assert result.digest == built.digest


def test_tarball_layout_and_digest_file(tmp_path: Path) -> None:
    built = image(layer({"a": b"b"}))
    given = options(
        tmp_path,
        tar_path=tmp_path / "image.tar",
        oci_layout_path=tmp_path / "layout",
        digest_file=tmp_path / "digest",
        destination=(ONE,),
    )
    with open_delivery(given, FakeRegistry(), silent) as delivery:
        delivery.deliver(built)
    assert (tmp_path / "digest").read_text() == str(built.digest)
    assert read_tarball(tmp_path / "image.tar", ONE).config.diff_ids == built.config.diff_ids
    stored = LayoutStore(tmp_path / "layout").get(ONE, AMD64)
    assert stored is not None
    assert stored.digest == built.digest


@pytest.mark.parametrize("flag", ["tar_path", "digest_file"])
def test_directory_of_a_file_is_made(tmp_path: Path, flag: str) -> None:
    """Go kaniko's users write to /tmp, which our images have not."""
    file = tmp_path / "missing" / "too" / "file"
    with open_delivery(options(tmp_path, **{flag: file}), FakeRegistry(), silent) as delivery:
        delivery.deliver(image())
    assert file.is_file()


@pytest.mark.parametrize("flag", ["tar_path", "digest_file", "oci_layout_path"])
def test_what_cannot_be_written_is_found_before_the_build(tmp_path: Path, flag: str) -> None:
    (tmp_path / "file").touch()
    given = options(tmp_path, **{flag: tmp_path / "file" / "below" / "name"})
    with (
        pytest.raises(
            DiskError, match=f"cannot write {tmp_path}/file/below/name into .*: Not a dir"
        ),
        open_delivery(given, FakeRegistry(), silent),
    ):
        pytest.fail("the build began")


def test_links_stay_and_what_they_lead_to_is_written(tmp_path: Path) -> None:
    built = image()
    for name in ("digest", "image.tar"):
        (tmp_path / name).touch()
        (tmp_path / f"link-{name}").symlink_to(name)
    given = options(
        tmp_path, digest_file=tmp_path / "link-digest", tar_path=tmp_path / "link-image.tar"
    )
    with open_delivery(given, FakeRegistry(), silent) as delivery:
        delivery.deliver(built)
    assert (tmp_path / "link-digest").is_symlink()
    assert (tmp_path / "digest").read_text() == str(built.digest)
    assert (tmp_path / "link-image.tar").is_symlink()
    assert (tmp_path / "image.tar").stat().st_size > 0


def test_digest_file_that_our_output_goes_to_is_not_emptied(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").symlink_to("/proc/self/fd/1")
    os.write(1, b"before ")
    built = image()
    given = options(tmp_path, digest_file=tmp_path / "out")
    with open_delivery(given, FakeRegistry(), silent) as delivery:
        delivery.deliver(built)
    assert (tmp_path / "out").is_symlink()
    assert capfd.readouterr().out == f"before {built.digest}"


def test_digest_file_that_is_a_mount_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(self: Path, target: Path) -> None:
        raise OSError(EBUSY, os.strerror(EBUSY))

    (tmp_path / "termination-log").touch()
    monkeypatch.setattr(Path, "replace", busy)
    built = image()
    given = options(tmp_path, digest_file=tmp_path / "termination-log")
    with open_delivery(given, FakeRegistry(), silent) as delivery:
        delivery.deliver(built)
    assert (tmp_path / "termination-log").read_text() == str(built.digest)
    assert [path.name for path in tmp_path.iterdir()] == ["termination-log"]


def test_tarball_never_takes_the_place_of_a_device_or_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    given = options(tmp_path, tar_path=tmp_path / "pipe")
    with (
        pytest.raises(DiskError, match="no regular file"),
        open_delivery(given, FakeRegistry(), silent),
    ):
        pytest.fail("the build began")


def test_layers_are_read_for_another_registry_and_for_files_only(tmp_path: Path) -> None:
    def readers(given: OutputOptions) -> int:
        with open_delivery(given, FakeRegistry(), silent) as delivery:
            return delivery.readers_of(BASE)

    assert readers(OutputOptions(destination=(ONE,))) == 0
    assert readers(OutputOptions(destination=(ONE, TWO))) == 1
    assert readers(options(tmp_path, tar_path=tmp_path / "image.tar")) == 1
    assert readers(options(tmp_path)) == 0
    both = options(tmp_path, tar_path=tmp_path / "a.tar", oci_layout_path=tmp_path / "layout")
    assert readers(both) == 2
