"""The cache of base images: whole entries, honest freshness, friendly sentences."""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import pytest

from kaniko_core.cache.images import Freshness, ImageCache, Lookup
from kaniko_core.errors import DigestMismatch, DiskError
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image
from kaniko_core.oci.layout import LayoutStore
from kaniko_core.oci.reference import Reference
from kaniko_core.options import CacheOptions
from tests.samples import AMD64, image, layer, noise

DEBIAN = Reference.parse("debian:12")


@pytest.fixture
def options(tmp_path: Path) -> CacheOptions:
    return CacheOptions(cache_dir=tmp_path / "cache", cache_ttl=timedelta(days=14))


@pytest.fixture
def cache(options: CacheOptions) -> ImageCache:
    return ImageCache(options)


@pytest.fixture
def sample() -> Image:
    return image()


def entry(options: CacheOptions, digest: Digest) -> Path:
    return options.cache_dir / str(digest)


def sidecar(options: CacheOptions, digest: Digest) -> Path:
    return options.cache_dir / f"{digest}.json"


def read(image: Image | None) -> list[bytes]:
    assert image is not None
    contents = []
    for item in image.layers:
        with item.open() as stream:
            contents.append(stream.read())
    return contents


class TestEntries:
    def test_entry_is_a_tarball_and_its_manifest(
        self, cache: ImageCache, options: CacheOptions, sample: Image
    ) -> None:
        size = cache.put(sample, (DEBIAN,))
        assert {path.name for path in options.cache_dir.iterdir()} == {
            str(sample.digest),
            f"{sample.digest}.json",
        }
        assert sidecar(options, sample.digest).read_bytes() == sample.raw_manifest
        assert entry(options, sample.digest).stat().st_size == size

    def test_other_users_may_read(
        self, cache: ImageCache, options: CacheOptions, sample: Image
    ) -> None:
        before = os.umask(0o077)
        try:
            cache.put(sample, (DEBIAN,))
            cache.remember(DEBIAN, AMD64, sample.digest, sample.digest)
        finally:
            os.umask(before)
        for path in (options.cache_dir, *options.cache_dir.rglob("*")):
            expected = 0o755 if path.is_dir() else 0o644
            assert path.stat().st_mode & 0o777 == expected, path

    @pytest.mark.parametrize("docker", [True, False])
    def test_image_comes_back_as_it_was(self, cache: ImageCache, docker: bool) -> None:
        sample = image(docker=docker)
        cache.put(sample)
        again = cache.get(sample.digest)
        assert again is not None
        assert again.digest == sample.digest
        assert again.raw_manifest == sample.raw_manifest
        assert read(again) == read(sample)

    def test_a_look_up_reads_no_layer(
        self, cache: ImageCache, options: CacheOptions, sample: Image
    ) -> None:
        """Bytes of layers that are wrong show when they are read, not before."""
        cache.put(sample)
        raw = bytearray(entry(options, sample.digest).read_bytes())
        raw[50_000] ^= 1
        entry(options, sample.digest).write_bytes(raw)
        found = cache.look_up(sample.digest)
        assert found.freshness is Freshness.FRESH
        with pytest.raises(DigestMismatch):
            read(found.image)

    def test_a_failing_download_leaves_nothing(
        self, cache: ImageCache, options: CacheOptions
    ) -> None:
        class Broken(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                raise DigestMismatch("broken off")

        def broken(data: bytes) -> BinaryIO:
            return Broken(data)

        sample = image(layer({"a": b"1"}), layer({"b": b"2"}, source=broken))
        with pytest.raises(DigestMismatch):
            cache.put(sample)
        assert list(options.cache_dir.iterdir()) == []
        assert cache.freshness(sample.digest) is Freshness.ABSENT

    def test_the_sidecar_is_there_before_the_tarball(
        self, cache: ImageCache, options: CacheOptions, sample: Image
    ) -> None:
        """Whoever sees the tarball must find the manifest."""
        ended = threading.Event()
        orphans: list[str] = []

        def watch() -> None:
            while not ended.is_set():
                for _ in range(20):
                    if cache.freshness(sample.digest) is Freshness.DAMAGED:
                        orphans.append(cache.look_up(sample.digest).detail)

        watcher = threading.Thread(target=watch)
        watcher.start()
        for _ in range(20):
            cache.put(sample)
            entry(options, sample.digest).unlink()
            sidecar(options, sample.digest).unlink()
        ended.set()
        watcher.join()
        # Between the two removals above a reader may see a manifest alone: that is ABSENT.
        assert orphans == []

    def test_replacing_does_not_disturb_who_is_reading(
        self, cache: ImageCache, sample: Image
    ) -> None:
        cache.put(sample, (DEBIAN,))
        again = cache.get(sample.digest)
        assert again is not None
        with again.layers[1].open() as stream:
            first = stream.read(1000)
            cache.put(sample, (Reference.parse("other:tag"),))
            assert first + stream.read() == read(sample)[1]
        assert read(again) == read(sample)


class TestFreshness:
    def test_what_was_never_put_is_absent(self, cache: ImageCache, sample: Image) -> None:
        assert cache.freshness(sample.digest) is Freshness.ABSENT
        assert cache.get(sample.digest) is None

    def test_an_entry_gets_stale_and_is_renewed_by_a_touch(
        self, options: CacheOptions, sample: Image
    ) -> None:
        ImageCache(options).put(sample)
        later = ImageCache(options, now=lambda: time.time() + 15 * 86400)
        found = later.look_up(sample.digest)
        assert found.freshness is Freshness.STALE
        assert found.age > timedelta(days=14)
        assert found.image is not None  # for a build without network
        later.touch(sample.digest)
        assert later.freshness(sample.digest) is Freshness.FRESH

    def test_no_time_to_live_means_always_stale(self, tmp_path: Path, sample: Image) -> None:
        cache = ImageCache(CacheOptions(cache_dir=tmp_path, cache_ttl=timedelta(0)))
        cache.put(sample)
        time.sleep(0.01)
        assert cache.freshness(sample.digest) is Freshness.STALE

    @pytest.mark.parametrize("sidecar_bytes", [b"", b"{}", b"nonsense"])
    def test_a_sidecar_that_does_not_hash_to_the_name_is_damage(
        self, cache: ImageCache, options: CacheOptions, sample: Image, sidecar_bytes: bytes
    ) -> None:
        cache.put(sample)
        sidecar(options, sample.digest).write_bytes(sidecar_bytes)
        found = cache.look_up(sample.digest)
        assert found.freshness is Freshness.DAMAGED
        assert "is not what its name says" in found.detail
        assert found.image is None

    def test_a_missing_sidecar_is_damage(
        self, cache: ImageCache, options: CacheOptions, sample: Image
    ) -> None:
        cache.put(sample)
        sidecar(options, sample.digest).unlink()
        found = cache.look_up(sample.digest)
        assert found.freshness is Freshness.DAMAGED
        assert "is missing" in found.detail

    @pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.95])
    def test_a_cut_tarball_is_damage(
        self, cache: ImageCache, options: CacheOptions, sample: Image, share: float
    ) -> None:
        cache.put(sample)
        path = entry(options, sample.digest)
        os.truncate(path, int(path.stat().st_size * share))
        assert cache.freshness(sample.digest) is Freshness.DAMAGED

    def test_a_repaired_sidecar_makes_the_entry_good_without_any_layer(
        self, cache: ImageCache, options: CacheOptions, sample: Image
    ) -> None:
        cache.put(sample)
        sidecar(options, sample.digest).unlink()
        bare = Image(sample.raw_manifest, sample.raw_config, ())
        assert cache.repair(bare)
        assert read(cache.get(sample.digest)) == read(sample)

    def test_a_cut_tarball_cannot_be_repaired(
        self, cache: ImageCache, options: CacheOptions, sample: Image
    ) -> None:
        cache.put(sample)
        os.truncate(entry(options, sample.digest), 2000)
        assert not cache.repair(sample)

    def test_what_the_system_refuses_to_open_is_unreadable(
        self, cache: ImageCache, options: CacheOptions, sample: Image
    ) -> None:
        """A loop of links, because root may read whatever has no permission."""
        cache.put(sample)
        for path in (sidecar(options, sample.digest), entry(options, sample.digest)):
            path.unlink()
            path.symlink_to(path)
            found = cache.look_up(sample.digest)
            assert found.freshness is Freshness.UNREADABLE
            assert found.detail == "Too many levels of symbolic links"

    def test_an_empty_directory_is_damage(
        self, cache: ImageCache, options: CacheOptions, sample: Image
    ) -> None:
        cache.put(sample)
        entry(options, sample.digest).unlink()
        entry(options, sample.digest).mkdir()
        found = cache.look_up(sample.digest)
        assert found.freshness is Freshness.DAMAGED
        assert "has no blob" in found.detail


class TestRemoval:
    def test_a_removed_entry_is_absent(
        self, cache: ImageCache, options: CacheOptions, sample: Image
    ) -> None:
        cache.put(sample)
        cache.remove(sample.digest)
        assert cache.freshness(sample.digest) is Freshness.ABSENT
        assert list(options.cache_dir.iterdir()) == []
        cache.remove(sample.digest)

    def test_a_layout_entry_is_removed_too(
        self, cache: ImageCache, options: CacheOptions, sample: Image
    ) -> None:
        LayoutStore(entry(options, sample.digest)).put(DEBIAN, sample)
        cache.remove(sample.digest)
        assert list(options.cache_dir.iterdir()) == []


class TestExplanations:
    @pytest.mark.parametrize("freshness", list(Freshness))
    def test_each_says_which_image_which_directory_and_what_to_do(
        self, cache: ImageCache, options: CacheOptions, sample: Image, freshness: Freshness
    ) -> None:
        options.cache_dir.mkdir()
        found = Lookup(sample.digest, freshness, age=timedelta(days=15), detail="the reason")
        sentence = cache.explain(found, "debian:12")
        assert sentence.startswith("debian:12 ")
        assert str(options.cache_dir) in sentence
        assert f"kaniko-warmer --image debian:12 --cache-dir {options.cache_dir}" in sentence
        assert "No such file" not in sentence

    def test_a_missing_directory_is_named(self, cache: ImageCache, options: CacheOptions) -> None:
        sentence = cache.explain(cache.look_up(Digest.of(b"")), "debian:12")
        assert sentence == (
            f"debian:12 is not cached: there is no directory {options.cache_dir}; "
            "put it there with: "
            f"kaniko-warmer --image debian:12 --cache-dir {options.cache_dir}"
        )

    def test_age_and_limit_are_named(self, cache: ImageCache, sample: Image) -> None:
        found = Lookup(sample.digest, Freshness.STALE, age=timedelta(days=15, hours=3))
        sentence = cache.explain(found, "debian:12")
        assert "is 15 days old, and --cache-ttl allows 14 days" in sentence

    @pytest.mark.parametrize(
        ("age", "words"),
        [
            (timedelta(seconds=7), "7 seconds"),
            (timedelta(minutes=1), "1 minute"),
            (timedelta(hours=25), "1 day"),
            (timedelta(hours=23), "23 hours"),
            (timedelta(seconds=-5), "0 seconds"),  # clocks of machines differ
        ],
    )
    def test_ages_are_in_words(
        self, cache: ImageCache, sample: Image, age: timedelta, words: str
    ) -> None:
        found = Lookup(sample.digest, Freshness.FRESH, age=age)
        assert cache.describe(found, "debian:12").endswith(f", {words} old")

    def test_damage_is_described(
        self, cache: ImageCache, options: CacheOptions, sample: Image
    ) -> None:
        cache.put(sample)
        os.truncate(entry(options, sample.digest), 2000)
        sentence = cache.explain(cache.look_up(sample.digest), "debian:12")
        assert "is damaged (" in sentence


class TestGoKaniko:
    def test_its_layout_entries_are_read(
        self, cache: ImageCache, options: CacheOptions, sample: Image
    ) -> None:
        LayoutStore(entry(options, sample.digest)).put(DEBIAN, sample)
        found = cache.look_up(sample.digest)
        assert found.freshness is Freshness.FRESH
        assert read(found.image) == read(sample)
        assert found.size == sum(la.descriptor.size for la in sample.layers)

    def test_its_damaged_layout_entry_is_replaced(
        self, cache: ImageCache, options: CacheOptions, sample: Image
    ) -> None:
        store = LayoutStore(entry(options, sample.digest))
        store.put(DEBIAN, sample)
        blobs = entry(options, sample.digest) / "blobs" / "sha256"
        (blobs / sample.layers[0].descriptor.digest.hex).unlink()
        assert cache.freshness(sample.digest) is Freshness.DAMAGED
        cache.put(sample)
        assert entry(options, sample.digest).is_file()
        assert read(cache.get(sample.digest)) == read(sample)


class TestOtherProcesses:
    def test_leftovers_are_swept(self, cache: ImageCache, options: CacheOptions) -> None:
        options.cache_dir.mkdir()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        (options.cache_dir / f".tmp-{boot}-0123").write_bytes(b"half an entry")
        cache.sweep()
        assert list(options.cache_dir.iterdir()) == []

    def test_the_lock_excludes_threads(self, cache: ImageCache, sample: Image) -> None:
        inside, most, waited = 0, 0, []
        guard = threading.Lock()

        def work() -> None:
            nonlocal inside, most
            with cache.lock(sample.digest, waiting=lambda: waited.append(1)):
                with guard:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.05)
                with guard:
                    inside -= 1

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == 1
        assert len(waited) == 3

    def test_a_wait_can_be_cancelled(self, cache: ImageCache, sample: Image) -> None:
        with cache.lock(sample.digest):
            started = time.monotonic()
            with cache.lock(sample.digest, cancelled=lambda: True):
                assert time.monotonic() - started < 5

    def test_without_a_place_for_locks_work_goes_on(
        self, cache: ImageCache, options: CacheOptions, sample: Image
    ) -> None:
        options.cache_dir.mkdir()
        (options.cache_dir / ".locks").write_bytes(b"")
        with cache.lock(sample.digest):
            cache.put(sample)
        assert cache.freshness(sample.digest) is Freshness.FRESH

    def test_an_error_inside_the_lock_is_the_callers(
        self, cache: ImageCache, sample: Image
    ) -> None:
        with pytest.raises(OSError, match="mine"), cache.lock(sample.digest):
            raise OSError("mine")

    def test_a_directory_that_cannot_be_written_is_a_sentence(
        self, tmp_path: Path, sample: Image
    ) -> None:
        (tmp_path / "file").write_bytes(b"")
        cache = ImageCache(CacheOptions(cache_dir=tmp_path / "file" / "cache"))
        with pytest.raises(DiskError, match="cannot write to the cache"):
            cache.put(sample)

    def test_readers_never_see_half_of_what_processes_write(
        self, options: CacheOptions, cache: ImageCache
    ) -> None:
        """Two processes write and replace the same entry all the time; every look is whole."""
        context = multiprocessing.get_context("spawn")
        writers = [context.Process(target=_write_often, args=(options,)) for _ in range(2)]
        for writer in writers:
            writer.start()
        sample = _big()
        seen = set()
        for found in _looks_until_ended(cache, sample.digest, writers):
            seen.add(found.freshness)
            if found.image is not None:
                assert read(found.image) == read(sample)
        assert all(writer.exitcode == 0 for writer in writers)
        assert seen <= {Freshness.ABSENT, Freshness.FRESH}
        assert Freshness.FRESH in seen
        names = {path.name for path in options.cache_dir.iterdir()}
        assert names == {str(sample.digest), f"{sample.digest}.json"}


def _big() -> Image:
    return image(layer({"a": noise(400_000)}), layer({"b": noise(300_000, seed=2)}))


def _write_often(options: CacheOptions) -> None:
    cache, sample = ImageCache(options), _big()
    for _ in range(15):
        cache.sweep()
        cache.put(sample, (DEBIAN,))


def _looks_until_ended(
    cache: ImageCache, digest: Digest, writers: list[multiprocessing.process.BaseProcess]
) -> Iterator[Lookup]:
    while any(writer.is_alive() for writer in writers):
        yield cache.look_up(digest)
    yield cache.look_up(digest)


def test_a_twin_layer_is_read_twice_from_one_place(
    cache: ImageCache, options: CacheOptions
) -> None:
    same = layer({"a": noise(1000)})
    sample = image(same, same)
    cache.put(sample)
    assert read(cache.get(sample.digest)) == [same.data, same.data]


def test_moving_the_directory_keeps_the_entries(
    cache: ImageCache, options: CacheOptions, sample: Image, tmp_path: Path
) -> None:
    cache.put(sample)
    shutil.move(options.cache_dir, tmp_path / "elsewhere")
    moved = ImageCache(CacheOptions(cache_dir=tmp_path / "elsewhere"))
    assert moved.freshness(sample.digest) is Freshness.FRESH


def test_an_image_of_one_cache_goes_into_another(
    cache: ImageCache, sample: Image, tmp_path: Path
) -> None:
    cache.put(sample)
    ours = cache.get(sample.digest)
    assert ours is not None
    other = ImageCache(CacheOptions(cache_dir=tmp_path / "other"))
    other.put(ours)
    assert read(other.get(sample.digest)) == read(sample)
