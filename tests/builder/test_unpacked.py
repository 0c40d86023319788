"""The unpacked layers of a build: shared where that can be, and its own where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kaniko_core.builder.unpacked import UnpackedLayers
from kaniko_core.errors import ContentError, DiskError
from kaniko_core.oci.image import Image
from kaniko_core.oci.layer import FileLayer
from kaniko_core.progress import Event, Warned
from kaniko_core.rootfs.beneath import Whiteouts
from kaniko_core.rootfs.store import LayerStore
from tests.samples import image, layer


@pytest.fixture
def sample() -> Image:
    return image(layer({"etc/os": b"debian"}))


def store(directory: Path) -> Callable[[], LayerStore]:
    return lambda: LayerStore(directory, Whiteouts.OVERLAY_USER)


def unused() -> LayerStore:
    raise AssertionError


def test_layers_are_shared(tmp_path: Path, sample: Image) -> None:
    layers = UnpackedLayers(store(tmp_path / "shared"), unused, unused)
    (found,) = layers.directories(sample.layers)
    assert found.is_relative_to(tmp_path / "shared")
    assert (found / "etc/os").read_bytes() == b"debian"


def test_without_a_cache_they_are_the_builds_own(tmp_path: Path, sample: Image) -> None:
    events: list[Event] = []
    layers = UnpackedLayers(None, store(tmp_path / "own"), events.append)
    (found,) = layers.directories(sample.layers)
    assert found.is_relative_to(tmp_path / "own")
    assert events == []


def test_a_store_that_cannot_be_opened_is_bypassed_with_one_warning(
    tmp_path: Path, sample: Image
) -> None:
    events: list[Event] = []
    (tmp_path / "file").touch()
    layers = UnpackedLayers(store(tmp_path / "file"), store(tmp_path / "own"), events.append)
    first = layers.directories(sample.layers)
    assert layers.directories(sample.layers) == first
    assert first[0].is_relative_to(tmp_path / "own")
    (event,) = events
    assert isinstance(event, Warned)
    assert event.message.startswith("unpacked layers are not kept for later builds: cannot keep")


def test_a_store_whose_disk_fails_is_bypassed(tmp_path: Path, sample: Image) -> None:
    shared = store(tmp_path / "shared")()
    for path in (shared.directory / "locks", shared.directory):
        path.rmdir()
    shared.directory.touch()
    events: list[Event] = []
    layers = UnpackedLayers(lambda: shared, store(tmp_path / "own"), events.append)
    (found,) = layers.directories(sample.layers)
    assert found.is_relative_to(tmp_path / "own")
    assert len(events) == 1


def test_a_disk_that_is_full_for_the_build_too_ends_it(tmp_path: Path, sample: Image) -> None:
    (tmp_path / "file").touch()
    layers = UnpackedLayers(store(tmp_path / "file"), store(tmp_path / "file"), lambda _: None)
    with pytest.raises(DiskError):
        layers.directories(sample.layers)


def test_a_damaged_layer_is_no_matter_of_the_disk(tmp_path: Path, sample: Image) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"no layer")
    bad = FileLayer(blob, sample.layers[0].descriptor, sample.layers[0].diff_id)
    layers = UnpackedLayers(store(tmp_path / "shared"), unused, unused)
    with pytest.raises(ContentError):
        layers.directories([bad])
