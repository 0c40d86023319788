"""What kaniko-warmer list shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kaniko_core.cache.contents import contents, disk_usage
from kaniko_core.cache.listing import Listing, list_cache
from kaniko_core.errors import DiskError
from kaniko_core.oci.image import Image
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference
from tests.cache.cache_directory import DAY, HOUR, NOW, CacheDirectory, hashed
from tests.samples import AMD64, image, layer

ARM64 = Platform("linux", "arm64")


@pytest.fixture
def cache(tmp_path: Path) -> CacheDirectory:
    (tmp_path / "cache").mkdir()
    return CacheDirectory(tmp_path / "cache")


def listed(cache: CacheDirectory) -> Listing:
    return list_cache(cache.options, now=lambda: NOW)


def named(
    cache: CacheDirectory, name: str, *, platform: Platform = AMD64, what: Image | None = None
) -> None:
    digest = (what or image()).digest
    cache.images.remember(Reference.parse(name), platform, digest, digest)


def test_an_image_with_its_names_age_and_last_use(cache: CacheDirectory) -> None:
    cache.image(age=3 * DAY, unused=5 * HOUR)
    named(cache, "debian:12")
    named(cache, "quay.io/team/base:1", platform=ARM64)
    size = disk_usage(cache.path, contents(cache.path)[0]) / 1e6
    header, line = listed(cache).text().split("\n\n")[0].splitlines()
    assert header.split() == "IMAGE DIGEST SIZE AGE EXPIRES LAST USED".split()
    assert line.split("  ") == [
        "debian:12 (linux/amd64), quay.io/team/base:1 (linux/arm64)",
        f"sha256:{image().digest.short}",
        f"{size:.1f} MB",
        "3 days",
        "in 11 days",
        "5 hours ago",
    ]


def lines(cache: CacheDirectory) -> list[list[str]]:
    rows = listed(cache).text().split("\n\n")[0].splitlines()[1:]
    return [[cell for cell in row.split("  ") if cell] for row in rows]


def test_images_are_in_the_order_of_their_names(cache: CacheDirectory) -> None:
    for number, name in enumerate(("b", "", "a")):
        sample = image(layer({f"{number}": b""}))
        cache.image(sample)
        if name:
            named(cache, name, what=sample)
    assert [cells[0] for cells in lines(cache)] == [
        "a:latest (linux/amd64)",
        "b:latest (linux/amd64)",
        "-",
    ]


def test_an_old_image_is_stale(cache: CacheDirectory) -> None:
    cache.image(age=15 * DAY)
    ((*_, expires, _unused),) = lines(cache)
    assert expires.strip() == "stale"


def test_a_damaged_image_says_so(cache: CacheDirectory) -> None:
    name = cache.image()
    (cache.path / f"{name}.json").unlink()
    ((*_, expires, _unused),) = lines(cache)
    assert expires.strip() == "damaged"
    (found,) = json.loads(listed(cache).json())["images"]
    assert found["state"] == "damaged"
    assert found["detail"].endswith("is missing")


def test_a_name_that_is_none_is_shown_as_it_is_written(cache: CacheDirectory) -> None:
    cache.image()
    named(cache, "debian")
    (note,) = (cache.path / ".tags").iterdir()
    written = json.loads(note.read_text()) | {"reference": "NO NAME"}
    note.write_text(json.dumps(written))
    assert lines(cache)[0][0] == "NO NAME (linux/amd64)"


def test_the_sums_are_those_of_what_is_there(cache: CacheDirectory) -> None:
    cache.unpacked(1, size=200_000)
    cache.unpacked(2, size=300_000)
    cache.built(size=1_100_000)
    cache.run_cache()
    table = listed(cache).text()
    rows = [[cell.strip() for cell in row.split("  ") if cell] for row in table.splitlines()]
    assert rows == [
        ["KIND", "NUMBER", "SIZE"],
        ["images", "0", "0.0 MB"],
        ["layers, unpacked", "2", "0.5 MB"],
        ["layers that instructions made", "1", "1.1 MB"],
        ["caches of RUN", "1", "0.0 MB"],
        ["all", "1.6 MB"],
    ]


def test_json_has_everything_in_bytes_and_utc(cache: CacheDirectory) -> None:
    digest = cache.image(age=DAY, unused=HOUR)
    named(cache, "debian:12")
    cache.built()
    image_size, built_size = (
        disk_usage(cache.path, item) for item in reversed(contents(cache.path))
    )
    if contents(cache.path)[0].name != digest:
        image_size, built_size = built_size, image_size
    assert json.loads(listed(cache).json()) == {
        "version": 1,
        "directory": str(cache.path),
        "images": [
            {
                "digest": digest,
                "names": [
                    {
                        "name": "debian:12",
                        "platform": "linux/amd64",
                        "warmed": "2027-01-15T08:00:00Z",
                    }
                ],
                "size": built_size,
                "created": "2027-01-14T08:00:00Z",
                "expires": "2027-01-28T08:00:00Z",
                "lastUsed": "2027-01-15T07:00:00Z",
                "state": "fresh",
            }
        ],
        "totals": {
            "images": {"count": 1, "size": built_size},
            "unpackedLayers": {"count": 0, "size": 0},
            "builtLayers": {"count": 1, "size": image_size},
            "runCaches": {"count": 0, "size": 0},
        },
        "size": image_size + built_size,
    }


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=r"cannot read the cache .*missing: No such file"):
        list_cache(CacheDirectory(tmp_path / "missing").options)


def test_listing_changes_nothing(cache: CacheDirectory) -> None:
    cache.image(age=3 * DAY, unused=2 * DAY)
    cache.built(4)
    assert hashed(4) in "".join(cache.names())
    assert listed(cache) == listed(cache)
    assert not (cache.path / ".uses").exists()
