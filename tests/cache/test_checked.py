"""Nothing is made of a cached layer that is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaniko_core.cache.checked import with_spare
from kaniko_core.cache.images import ImageCache
from kaniko_core.errors import ContentError, KanikoError, RegistryError
from kaniko_core.oci.image import Doubtful, Image, Layer
from kaniko_core.options import CacheOptions
from tests.samples import image, layer, noise


@pytest.fixture
def sample() -> Image:
    return image(*(layer({"f": noise(200_000, seed)}) for seed in range(3)))


@pytest.fixture
def entry(tmp_path: Path, sample: Image) -> Path:
    ImageCache(CacheOptions(cache_dir=tmp_path)).put(sample)
    return tmp_path / str(sample.digest)


@pytest.fixture
def cached(tmp_path: Path, entry: Path, sample: Image) -> Image:
    found = ImageCache(CacheOptions(cache_dir=tmp_path)).get(sample.digest)
    assert found is not None
    return found


def flip(entry: Path, position: int) -> None:
    raw = bytearray(entry.read_bytes())
    raw[position] ^= 1
    entry.write_bytes(raw)


def read(image: Image) -> list[bytes]:
    contents = []
    for item in image.layers:
        with item.open() as stream:
            contents.append(stream.read())
    return contents


def test_good_layers_need_no_spare(cached: Image, sample: Image) -> None:
    def spare() -> Image:
        raise AssertionError

    checked = with_spare(cached, spare, pytest.fail)
    assert read(checked) == read(sample)
    assert checked.digest == sample.digest
    assert [item.diff_id for item in checked.layers] == [item.diff_id for item in sample.layers]


def test_bad_layers_come_from_the_spare_which_is_fetched_once(
    cached: Image, sample: Image, entry: Path
) -> None:
    for position in (150_000, 350_000):  # in the first and the second layer
        flip(entry, position)
    fetched: list[int] = []
    told: list[KanikoError] = []

    def spare() -> Image:
        fetched.append(1)
        return sample

    checked = with_spare(cached, spare, told.append)
    assert read(checked) == read(sample)
    assert read(checked) == read(sample)
    assert fetched == [1]
    assert len(told) == 2


def test_an_entry_that_vanished_is_replaced_too(cached: Image, sample: Image, entry: Path) -> None:
    entry.unlink()
    told: list[KanikoError] = []
    assert read(with_spare(cached, lambda: sample, told.append)) == read(sample)
    assert len(told) == 3


def test_without_a_spare_its_error_shows(cached: Image, entry: Path) -> None:
    flip(entry, 150_000)

    def spare() -> Image:
        raise RegistryError("no registry")

    told: list[KanikoError] = []
    with pytest.raises(RegistryError, match="no registry"):
        read(with_spare(cached, spare, told.append))


def opened(layer: Layer | None) -> bytes:
    assert layer is not None
    with layer.open() as stream:
        return stream.read()


def test_who_can_start_anew_reads_a_layer_once(cached: Image, sample: Image) -> None:
    checked = with_spare(cached, lambda: sample, pytest.fail).layers[1]
    assert isinstance(checked, Doubtful)
    assert opened(checked.unchecked()) == opened(sample.layers[1])
    assert checked.unchecked() is cached.layers[1]
    assert checked.mended() is None


def test_what_is_damaged_is_mended(cached: Image, sample: Image, entry: Path) -> None:
    flip(entry, 350_000)
    told: list[KanikoError] = []
    checked = with_spare(cached, lambda: sample, told.append).layers[1]
    assert isinstance(checked, Doubtful)
    with pytest.raises(ContentError):
        opened(checked.unchecked())
    assert opened(checked.mended()) == opened(sample.layers[1])
    assert checked.unchecked() is sample.layers[1]
    assert len(told) == 1
