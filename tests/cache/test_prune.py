"""What is removed from a cache directory, and what never is."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from kaniko_core.cache.contents import Kind, contents, disk_usage
from kaniko_core.cache.prune import Pruned, Why, prune
from kaniko_core.cache.uses import Uses
from kaniko_core.errors import DiskError
from kaniko_core.oci.reference import Reference
from kaniko_core.options import PruneOptions
from kaniko_core.progress import Event, Warned
from tests.cache.cache_directory import DAY, HOUR, NOW, CacheDirectory, aged, hashed
from tests.samples import AMD64, image, layer

NOTHING = PruneOptions()
DRY = PruneOptions(dry_run=True)


@pytest.fixture
def cache(tmp_path: Path) -> CacheDirectory:
    (tmp_path / "cache").mkdir()
    return CacheDirectory(tmp_path / "cache")


def pruned(cache: CacheDirectory, options: PruneOptions = NOTHING) -> Pruned:
    return prune(cache.options, options, now=lambda: NOW)


def reasons(result: Pruned) -> list[tuple[str, Why]]:
    return [(item.kind, item.why) for item in result.removed]


def test_what_is_used_stays(cache: CacheDirectory) -> None:
    """Old or not: what a build used a moment ago is wanted."""
    cache.image(age=99 * DAY, unused=HOUR)
    cache.unpacked(unused=HOUR)
    cache.built(age=13 * DAY, unused=HOUR)
    cache.run_cache(unused=HOUR)
    before = cache.names()
    result = pruned(cache)
    assert result.removed == ()
    assert cache.names() == before
    assert result.left == sum(disk_usage(cache.path, item) for item in contents(cache.path))


def test_what_nobody_used_for_the_time_to_live_goes(cache: CacheDirectory) -> None:
    cache.image(age=99 * DAY, unused=17 * DAY)
    cache.unpacked(unused=16 * DAY)
    cache.run_cache(unused=15 * DAY)
    result = pruned(cache)
    assert reasons(result) == [
        ("image", Why.UNUSED),
        ("unpacked layer", Why.UNUSED),
        ("RUN cache", Why.UNUSED),
    ]
    assert cache.names() == set()
    assert result.left == 0


def test_a_built_layer_goes_when_no_build_takes_it_any_more(cache: CacheDirectory) -> None:
    cache.built(age=15 * DAY, unused=HOUR)
    assert reasons(pruned(cache)) == [("built layer", Why.EXPIRED)]
    assert cache.names() == set()


def test_another_time_can_be_asked_for(cache: CacheDirectory) -> None:
    cache.unpacked(1, unused=8 * DAY)
    kept = cache.unpacked(2, unused=6 * DAY)
    pruned(cache, PruneOptions(older_than=timedelta(days=7)))
    assert cache.names() == {kept}


def test_a_longer_time_keeps_what_would_go(cache: CacheDirectory) -> None:
    kept = cache.unpacked(unused=20 * DAY)
    pruned(cache, PruneOptions(older_than=timedelta(days=30)))
    assert cache.names() == {kept}


def test_a_damaged_image_goes(cache: CacheDirectory) -> None:
    name = cache.image()
    (cache.path / name).write_bytes(b"half a tarb")
    assert reasons(pruned(cache)) == [("image", Why.DAMAGED)]
    assert cache.names() == set()


def test_the_least_recently_used_goes_until_the_rest_is_small_enough(
    cache: CacheDirectory,
) -> None:
    cache.run_cache(unused=4 * DAY, size=100_000)
    cache.built(unused=3 * DAY, size=100_000)
    kept = {cache.unpacked(unused=2 * DAY, size=100_000), cache.unpacked(2, size=100_000)}
    most = sum(disk_usage(cache.path, item) for item in contents(cache.path)[2:])
    result = pruned(cache, PruneOptions(max_size=most))
    assert reasons(result) == [("RUN cache", Why.SPACE), ("built layer", Why.SPACE)]
    assert result.left == most
    assert cache.names() == kept


def test_a_cache_that_is_small_enough_loses_nothing(cache: CacheDirectory) -> None:
    kept = cache.built(size=1000)
    assert pruned(cache, PruneOptions(max_size=1_000_000)).removed == ()
    assert cache.names() == {kept}


def test_what_a_build_holds_stays_and_something_else_goes(cache: CacheDirectory) -> None:
    held = cache.unpacked(1, unused=20 * DAY, size=1000)
    cache.unpacked(2, unused=DAY, size=1000)
    with Uses(cache.path) as uses:
        uses.hold(held)
        result = pruned(cache, PruneOptions(max_size=0))
    assert cache.names() == {held}
    assert (result.busy, len(result.removed)) == (1, 1)
    assert "1 kept for builds that are running" in result.text()


@pytest.mark.parametrize("options", [DRY, PruneOptions(max_size=0, dry_run=True)])
def test_a_dry_run_only_tells(cache: CacheDirectory, options: PruneOptions) -> None:
    cache.image(age=20 * DAY, unused=20 * DAY)
    cache.images.remember(
        Reference.parse("debian"), AMD64, image().digest, image(layer({"x": b""})).digest
    )
    (cache.path / ".built").mkdir()
    (cache.path / ".built" / ".tmp-x").mkdir()
    before = cache.names()
    assert [item.kind for item in pruned(cache, options).removed] == ["leftover", "image"]
    assert cache.names() == before


class TestLeftovers:
    """What killed processes leave behind."""

    def test_temporary_files_of_the_dead_go(self, cache: CacheDirectory) -> None:
        cache.unpacked()
        kept = cache.names()
        for place in ("", ".tags", ".built", ".mounts", ".layers/trusted"):
            directory = cache.path / place / ".tmp-0-dead"
            directory.mkdir(parents=True)
            aged(directory, 2 * HOUR)
        result = pruned(cache)
        assert reasons(result) == [("leftover", Why.LEFT_BEHIND)] * 5
        assert cache.names() == kept

    def test_files_that_are_being_written_stay(self, cache: CacheDirectory) -> None:
        (cache.path / ".tmp-0-alive").touch()
        aged(cache.path / ".tmp-0-alive", 2 * HOUR)
        with (cache.path / ".tmp-0-alive").open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            assert pruned(cache).removed == ()
        assert cache.names() == {".tmp-0-alive"}

    def test_layers_that_somebody_unpacks_stay_and_others_go(self, cache: CacheDirectory) -> None:
        place = cache.path / ".layers" / "trusted"
        (place / "locks").mkdir(parents=True)
        for number in (1, 2):
            (place / f"{hashed(number)}.tmp" / "fs").mkdir(parents=True)
        with (place / "locks" / f"{hashed(1)}.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert reasons(pruned(cache)) == [("leftover", Why.LEFT_BEHIND)]
        assert {path.name for path in place.iterdir()} == {"locks", f"{hashed(1)}.tmp"}

    def test_a_manifest_without_image_goes_unless_one_is_being_written(
        self, cache: CacheDirectory
    ) -> None:
        old, new = (cache.path / f"sha256:{hashed(number)}.json" for number in (1, 2))
        for path, seconds in ((old, 2 * HOUR), (new, 60.0)):
            path.touch()
            aged(path, seconds)
        assert reasons(pruned(cache)) == [("leftover", Why.LEFT_BEHIND)]
        assert cache.names() == {new.name}


class TestNames:
    def test_a_name_goes_with_its_image(self, cache: CacheDirectory) -> None:
        stale, fresh = image(), image(layer({"other": b""}))
        cache.image(stale, age=20 * DAY, unused=20 * DAY)
        cache.image(fresh)
        for name, sample in (("stale", stale), ("fresh", fresh)):
            cache.images.remember(Reference.parse(name), AMD64, sample.digest, sample.digest)
        pruned(cache)
        assert cache.images.recall(Reference.parse("stale"), AMD64) is None
        assert cache.images.recall(Reference.parse("fresh"), AMD64) is not None

    def test_a_note_that_cannot_be_read_goes(self, cache: CacheDirectory) -> None:
        (cache.path / ".tags").mkdir()
        (cache.path / ".tags" / f"{hashed(1)}.json").write_text("{")
        pruned(cache)
        assert cache.names() == set()

    def test_a_name_that_cannot_be_removed_is_a_warning(self, cache: CacheDirectory) -> None:
        (cache.path / ".tags" / f"{hashed(1)}.json").mkdir(parents=True)
        events: list[Event] = []
        prune(cache.options, NOTHING, now=lambda: NOW, progress=events.append)
        (event,) = events
        assert isinstance(event, Warned)
        assert "cannot remove notes from" in event.message


def test_what_cannot_be_removed_is_a_warning_and_the_rest_goes(cache: CacheDirectory) -> None:
    """As a user whom modes bind; root is one without one of its rights."""
    kept = cache.unpacked(1, unused=3 * 365 * DAY)
    cache.built(2, age=3 * 365 * DAY, unused=3 * 365 * DAY)
    (cache.path / kept).parent.chmod(0o555)
    bound = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    program = [*bound, sys.executable, "-m", "kaniko_warmer", "prune", f"-c={cache.path}"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert cache.names() == {kept}
    assert done.returncode == 1
    assert f"cannot remove from the cache {cache.path / kept}: Permission denied" in done.stderr
    assert "error: 1 of 2 things could not be removed" in done.stderr
    assert "built layer" in done.stdout


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=r"cannot prune the cache .*missing: No such file"):
        prune(CacheDirectory(tmp_path / "missing").options, NOTHING)


def test_the_table_tells_what_and_why(cache: CacheDirectory) -> None:
    cache.image(age=15 * DAY, unused=15 * DAY)
    cache.built(3, age=16 * DAY, unused=HOUR)
    size = disk_usage(cache.path, contents(cache.path, (Kind.IMAGE,))[0]) / 1e6
    header, image_line, built_line, _, summary = pruned(cache).text().splitlines()
    assert header.split("  ")[0] == "REMOVED"
    assert image_line.split() == [
        "image",
        f"{str(image().digest)[:43]}…",
        *f"{size:.1f} MB 15 days ago not used".split(),
    ]
    assert built_line.split() == [
        *("built", "layer", f"{hashed(3)[:43]}…"),
        *"0.0 MB 1 hour ago expired".split(),
    ]
    assert summary == f"{size:.1f} MB freed, 0.0 MB left"


def test_with_nothing_to_remove_there_is_no_table(cache: CacheDirectory) -> None:
    assert pruned(cache, DRY).text() == "0.0 MB would be freed, 0.0 MB left"
