"""What is found in a cache directory, and how much room it takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kaniko_core.cache.contents import Found, Kind, contents, disk_space, disk_usage
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.layout import LayoutStore
from tests.cache.cache_directory import DAY, HOUR, NOW, CacheDirectory, aged, hashed
from tests.samples import image


@pytest.fixture
def cache(tmp_path: Path) -> CacheDirectory:
    return CacheDirectory(tmp_path)


def one(cache: CacheDirectory) -> Found:
    (found,) = contents(cache.path)
    return found


def test_the_least_recently_used_comes_first(cache: CacheDirectory) -> None:
    names = [
        cache.run_cache(unused=4 * DAY),
        cache.image(age=9 * DAY, unused=3 * DAY),
        cache.unpacked(unused=2 * DAY),
        cache.built(unused=DAY),
    ]
    assert [item.name for item in contents(cache.path)] == names


def test_only_the_kinds_that_are_wanted_are_found(cache: CacheDirectory) -> None:
    cache.image()
    name = cache.built()
    assert [item.name for item in contents(cache.path, (Kind.BUILT,))] == [name]


def test_an_image_was_used_when_its_sidecar_says_so(cache: CacheDirectory) -> None:
    name = cache.image(age=3 * DAY, unused=DAY)
    assert one(cache) == Found(Kind.IMAGE, name, NOW - 3 * DAY, NOW - DAY)


def test_reading_an_image_does_not_count_as_using_it(cache: CacheDirectory) -> None:
    """As a backup does, or a listing."""
    name = cache.image(age=3 * DAY, unused=2 * DAY)
    (cache.path / name).read_bytes()
    assert cache.images.get(Digest.parse(name)) is not None
    assert one(cache).used == NOW - 2 * DAY


def test_an_image_that_was_renewed_since_counts_as_used(cache: CacheDirectory) -> None:
    cache.image(age=DAY, unused=3 * DAY)
    assert one(cache).used == NOW - DAY


def test_an_image_without_its_sidecar_is_found(cache: CacheDirectory) -> None:
    name = cache.image(age=DAY)
    (cache.path / f"{name}.json").unlink()
    assert one(cache) == Found(Kind.IMAGE, name, NOW - DAY, NOW - DAY)


def test_an_image_of_go_kaniko_is_found(cache: CacheDirectory) -> None:
    name = cache.layout(age=3 * DAY, unused=HOUR)
    assert one(cache) == Found(Kind.IMAGE, name, NOW - 3 * DAY, NOW - HOUR)


def test_a_use_is_noted(cache: CacheDirectory) -> None:
    name = cache.image(age=3 * DAY, unused=2 * DAY)
    cache.images.used(Digest.parse(name))
    assert one(cache).used != NOW - 2 * DAY
    assert one(cache).created == NOW - 3 * DAY


def test_a_use_that_cannot_be_noted_is_no_error(cache: CacheDirectory) -> None:
    cache.images.used(image().digest)
    assert contents(cache.path) == []


def test_a_built_layer_is_as_old_as_its_index(cache: CacheDirectory) -> None:
    name = cache.built(age=5 * DAY, unused=HOUR)
    assert one(cache) == Found(Kind.BUILT, name, NOW - 5 * DAY, NOW - HOUR)


def test_records_are_built_too(cache: CacheDirectory) -> None:
    cache.built()
    record = cache.path / ".built" / "explain-0123"
    record.touch()
    aged(record, DAY)
    assert contents(cache.path)[0] == Found(Kind.BUILT, ".built/explain-0123", NOW - DAY, NOW - DAY)


def test_a_directory_of_built_layers_alone_is_understood(tmp_path: Path) -> None:
    LayoutStore(tmp_path / hashed(1)).put(None, image())
    assert [item.name for item in contents(tmp_path)] == [hashed(1)]


def test_a_directory_of_another_program_is_not_ours(tmp_path: Path) -> None:
    """Others name directories by hashes, too, and a wrong --cache-dir must not cost them."""
    (tmp_path / hashed(1) / "diff").mkdir(parents=True)
    assert contents(tmp_path) == []


def test_what_is_being_unpacked_is_not_there_yet(cache: CacheDirectory) -> None:
    (cache.path / ".layers" / "trusted" / f"{hashed(1)}.tmp").mkdir(parents=True)
    (cache.path / ".layers" / "trusted" / "locks").mkdir()
    assert contents(cache.path) == []


def test_a_run_cache_without_lock_was_used_when_it_was_made(cache: CacheDirectory) -> None:
    name = cache.run_cache()
    (cache.path / name / "lock").unlink()
    aged(cache.path / name, DAY)
    assert one(cache) == Found(Kind.RUN_CACHE, name, NOW - DAY, NOW - DAY)


def test_nothing_is_found_where_there_is_nothing(tmp_path: Path) -> None:
    assert contents(tmp_path / "missing") == []


def test_disk_space_is_what_the_disk_gives(tmp_path: Path) -> None:
    """A file with a hole takes less than it says, one with two names takes its room once."""
    empty = disk_space(tmp_path)
    (tmp_path / "one").write_bytes(os.urandom(100_000))
    written = disk_space(tmp_path) - empty
    assert 100_000 <= written < 120_000
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(50_000_000)
    assert disk_space(tmp_path) - empty == written


def test_an_image_and_its_manifest_are_one_thing(cache: CacheDirectory) -> None:
    name = cache.image()
    parts = [cache.path / name, cache.path / f"{name}.json"]
    assert disk_usage(cache.path, one(cache)) == sum(disk_space(path) for path in parts)


def test_what_is_not_there_takes_no_room(tmp_path: Path) -> None:
    assert disk_space(tmp_path / "missing") == 0
