"""Where a base image comes from: the cache if it can, the registry if it must."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from kaniko_core.builder.base import BaseImages
from kaniko_core.builder.plan import ImageBase
from kaniko_core.cache.images import ImageCache
from kaniko_core.errors import NotFound, RegistryError, Unauthorized
from kaniko_core.oci.image import Image
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference
from kaniko_core.oci.spec import Descriptor
from kaniko_core.options import CacheOptions
from kaniko_core.progress import Event, Noted, Warned
from tests.samples import AMD64, image, layer

NAME = "registry.example/team/base:1"
WANTED = ImageBase(Reference.parse(NAME), AMD64, NAME)


@dataclass
class FakeRegistry:
    """Answers for one image, or with an error; counts what it was asked."""

    image: Image | None = None
    error: RegistryError | None = None
    heads: int = 0
    gets: int = 0
    cancelled: bool = False

    def head(self, reference: Reference) -> Descriptor | None:
        self.heads += 1
        if self.error:
            raise self.error
        return self.image.descriptor if self.image else None

    def get(self, reference: Reference, platform: Platform) -> Image | None:
        self.gets += 1
        if self.error:
            raise self.error
        return self.image


@dataclass
class Seen:
    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event, /) -> None:
        self.events.append(event)

    @property
    def text(self) -> str:
        return "\n".join(e.message for e in self.events if isinstance(e, Noted | Warned))


@pytest.fixture
def options(tmp_path: Path) -> CacheOptions:
    return CacheOptions(cache_dir=tmp_path / "cache", cache_ttl=timedelta(days=1))


@pytest.fixture
def base() -> Image:
    return image(layer({"etc/os": b"debian"}))


@pytest.fixture
def warmed(options: CacheOptions, base: Image) -> ImageCache:
    cache = ImageCache(options)
    cache.put(base)
    cache.remember(WANTED.reference, AMD64, base.digest, base.digest)
    return cache


def finder(registry: FakeRegistry, cache: ImageCache | None, seen: Callable[[Event], None]):
    return BaseImages(registry, cache, seen)


def test_tag_that_is_cached_costs_one_head(warmed: ImageCache, base: Image) -> None:
    registry = FakeRegistry(base)
    found = finder(registry, warmed, Seen()).find(WANTED)
    assert (found.digest, registry.heads, registry.gets) == (base.digest, 1, 0)


def test_digest_that_is_cached_costs_nothing(warmed: ImageCache, base: Image) -> None:
    registry = FakeRegistry(error=RegistryError("nobody there"))
    wanted = replace(WANTED, reference=WANTED.reference.at(base.digest))
    assert finder(registry, warmed, Seen()).find(wanted).digest == base.digest
    assert registry.heads == registry.gets == 0


def test_tag_that_moved_is_pulled(warmed: ImageCache) -> None:
    newer = image(layer({"etc/os": b"newer"}))
    registry = FakeRegistry(newer)
    seen = Seen()
    assert finder(registry, warmed, seen).find(WANTED).digest == newer.digest
    assert registry.gets == 1
    assert f"{NAME} is not in the cache" in seen.text


def test_registry_that_is_away_leaves_the_tag_as_it_was_warmed(
    warmed: ImageCache, base: Image
) -> None:
    registry = FakeRegistry(error=RegistryError("cannot reach registry.example", temporary=True))
    seen = Seen()
    assert finder(registry, warmed, seen).find(WANTED).digest == base.digest
    assert "as it was warmed today" in seen.text


def test_registry_that_is_away_makes_even_a_stale_entry_good_enough(
    options: CacheOptions, warmed: ImageCache, base: Image
) -> None:
    os.utime(options.cache_dir / str(base.digest), (0, 0))
    registry = FakeRegistry(error=RegistryError("cannot reach registry.example", temporary=True))
    assert finder(registry, warmed, Seen()).find(WANTED).digest == base.digest


def test_digest_never_grows_stale(options: CacheOptions, warmed: ImageCache, base: Image) -> None:
    """What it names cannot have changed, so there is nothing to ask anybody."""
    os.utime(options.cache_dir / str(base.digest), (0, 0))
    registry = FakeRegistry(error=RegistryError("nobody there", temporary=True))
    wanted = replace(WANTED, reference=WANTED.reference.at(base.digest))
    assert finder(registry, warmed, Seen()).find(wanted).digest == base.digest


def test_registry_that_is_away_and_a_cache_that_has_nothing(options: CacheOptions) -> None:
    registry = FakeRegistry(error=RegistryError("cannot reach registry.example", temporary=True))
    with pytest.raises(RegistryError) as caught:
        finder(registry, ImageCache(options), Seen()).find(WANTED)
    assert caught.value.__notes__ == [f"the cache {options.cache_dir} has no {NAME} either"]


def test_image_that_a_warmer_is_fetching_is_waited_for(options: CacheOptions, base: Image) -> None:
    cache = ImageCache(options)
    registry = FakeRegistry(base)
    seen = Seen()
    locked, waiting = threading.Event(), threading.Event()

    def warm() -> None:
        with ImageCache(options).lock(base.digest):
            locked.set()
            assert waiting.wait(10)
            cache.put(base)

    def progress(event: Event) -> None:
        seen(event)
        waiting.set()

    with ThreadPoolExecutor(1) as pool:
        warming = pool.submit(warm)
        assert locked.wait(10)
        assert finder(registry, cache, progress).find(WANTED).digest == base.digest
        warming.result()
    assert registry.gets == 0
    assert "waiting for it" in seen.text


def test_stale_entry_is_pulled_anew_and_says_what_to_do(
    options: CacheOptions, warmed: ImageCache, base: Image
) -> None:
    os.utime(options.cache_dir / str(base.digest), (0, 0))
    registry = FakeRegistry(base)
    seen = Seen()
    finder(registry, warmed, seen).find(WANTED)
    assert registry.gets == 1
    assert "--cache-ttl allows 1 day" in seen.text
    assert "kaniko-warmer" in seen.text


def test_damaged_entry_is_a_warning_and_the_build_goes_on(
    options: CacheOptions, warmed: ImageCache, base: Image
) -> None:
    (options.cache_dir / f"{base.digest}.json").write_bytes(b"{}")
    registry = FakeRegistry(base)
    seen = Seen()
    assert finder(registry, warmed, seen).find(WANTED).digest == base.digest
    assert registry.gets == 1
    assert [type(e) for e in seen.events] == [Warned]


def test_refusal_is_not_taken_for_absence(warmed: ImageCache) -> None:
    """A tag whose access was withdrawn must not be built from a copy in the cache."""
    registry = FakeRegistry(error=Unauthorized("no access", status=403))
    with pytest.raises(Unauthorized):
        finder(registry, warmed, Seen()).find(WANTED)


def test_image_that_is_nowhere(options: CacheOptions) -> None:
    with pytest.raises(NotFound, match=r"there is no image registry\.example/team/base:1"):
        finder(FakeRegistry(), ImageCache(options), Seen()).find(WANTED)


def test_without_cache_nothing_is_asked_of_it(base: Image) -> None:
    registry = FakeRegistry(base)
    assert finder(registry, None, Seen()).find(WANTED).digest == base.digest
    assert (registry.heads, registry.gets) == (0, 1)


def test_image_named_by_two_stages_is_found_once(base: Image) -> None:
    registry = FakeRegistry(base)
    images = finder(registry, None, Seen())
    assert images.find(WANTED) is images.find(WANTED)
    assert registry.gets == 1


class TestPruning:
    def test_an_image_is_held_before_it_is_looked_up(
        self, options: CacheOptions, warmed: ImageCache, base: Image
    ) -> None:
        """What a pruner takes away before, is pulled; what it would take after, stays."""

        def hold(name: str) -> None:
            assert name == str(base.digest)
            warmed.remove(base.digest)

        registry = FakeRegistry(base)
        images = BaseImages(registry, warmed, Seen(), hold=hold)
        assert images.find(WANTED).digest == base.digest
        assert registry.gets == 1

    def test_that_an_image_was_used_is_noted(
        self, options: CacheOptions, warmed: ImageCache, base: Image
    ) -> None:
        beside = options.cache_dir / f"{base.digest}.json"
        os.utime(beside, (0, 0))
        finder(FakeRegistry(base), warmed, Seen()).find(WANTED)
        assert beside.stat().st_mtime > 0


def test_image_that_was_asked_for_ahead_is_asked_for_once(base: Image) -> None:
    registry = FakeRegistry(base)
    images = finder(registry, None, Seen())
    with images.asked([WANTED]):
        assert images.find(WANTED) == base
    assert images.find(WANTED) == base
    assert registry.gets == 1


def test_failure_that_nobody_has_heard_of_is_told_to_whoever_asks(base: Image) -> None:
    registry = FakeRegistry(error=NotFound("no such image"))
    images = finder(registry, None, Seen())
    with images.asked([WANTED]):
        pass
    for _ in range(2):
        with pytest.raises(NotFound, match="no such image"):
            images.find(WANTED)
    assert registry.gets == 1


def test_nobody_waits_for_a_registry_when_something_else_is_wrong() -> None:
    ended = threading.Event()

    class Slow(FakeRegistry):
        def get(self, reference: Reference, platform: Platform) -> Image | None:
            ended.wait()
            return None

        def cancel(self) -> None:
            ended.set()

    with pytest.raises(ValueError), finder(Slow(), None, Seen()).asked([WANTED]):
        raise ValueError
    assert ended.is_set()
