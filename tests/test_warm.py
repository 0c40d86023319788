"""Warming: what is asked of the registry, what is fetched, and what is said about it."""

from __future__ import annotations

import io
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pytest

from kaniko_core.cache.images import Freshness, ImageCache
from kaniko_core.errors import DiskError, NotFound, RegistryError, UsageError
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference
from kaniko_core.oci.spec import Descriptor, Index, MediaType
from kaniko_core.options import CacheOptions, WarmOptions
from kaniko_core.progress import Event, Warned
from kaniko_core.warm import Outcome, Wanted, Warmed, images_of, table, wanted_images, warm
from tests.samples import AMD64, image, layer, noise

ARM64 = Platform("linux", "arm64")
DEBIAN = Reference.parse("debian:12")
BUSYBOX = Reference.parse("busybox:latest")


@dataclass
class FakeRegistry:
    """Names and what they mean; notes each question and each blob that is opened."""

    images: dict[str, Image] = field(default_factory=dict)
    indexes: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    down: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def holds(self, reference: Reference, *images: Image) -> None:
        """Let *reference* be one image, or an index of several."""
        for item in images:
            self.images[str(reference.at(item.digest))] = item
        if len(images) == 1:
            self.images[str(reference)] = images[0]
            return
        entries = tuple(
            Descriptor(
                item.manifest.media_type,
                item.digest,
                len(item.raw_manifest),
                platform=item.config.platform,
            )
            for item in images
        )
        raw = Index(MediaType.OCI_INDEX, entries).to_bytes()
        self.indexes[str(reference)] = raw
        self.indexes[str(reference.at(Digest.of(raw)))] = raw

    def head(self, reference: Reference) -> Descriptor | None:
        answer = self._answer("HEAD", reference)
        return answer[0] if answer else None

    def manifest(self, reference: Reference) -> tuple[Descriptor, bytes] | None:
        return self._answer("GET", reference)

    def get(self, reference: Reference, platform: Platform) -> Image | None:
        self._note("IMAGE", reference)
        assert reference.digest is not None
        return self.images.get(str(reference.at(reference.digest)))

    def cancel(self) -> None:
        self.cancelled.set()

    def _answer(self, verb: str, reference: Reference) -> tuple[Descriptor, bytes] | None:
        self._note(verb, reference)
        name = str(reference.with_default_tag)
        if (raw := self.indexes.get(name)) is not None:
            return Descriptor(MediaType.OCI_INDEX, Digest.of(raw), len(raw)), raw
        if (found := self.images.get(name)) is not None:
            return found.descriptor, found.raw_manifest
        return None

    def _note(self, verb: str, reference: Reference) -> None:
        if self.down:
            raise RegistryError("cannot reach the registry", temporary=True)
        with self.guard:
            self.asked.append(verb)


@pytest.fixture
def options(tmp_path: Path) -> CacheOptions:
    return CacheOptions(cache_dir=tmp_path / "cache")


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def run(options: CacheOptions, registry: FakeRegistry) -> Callable[..., tuple[Warmed, ...]]:
    def run(*references: Reference, platform: Platform = AMD64, **more: object):  # type: ignore[no-untyped-def]
        registry.asked.clear()
        wanted = [Wanted(reference, platform) for reference in references]
        return warm(wanted, **({"cache": options, "pull": registry} | more))  # type: ignore[arg-type]

    return run


def outcomes(warmed: tuple[Warmed, ...]) -> list[Outcome]:
    return [item.outcome for item in warmed]


def unreadable(data: bytes) -> BinaryIO:
    raise RegistryError("the registry hung up")


class Events:
    """A Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.seen: list[Event] = []

    def __call__(self, event: Event, /) -> None:
        self.seen.append(event)

    @property
    def warnings(self) -> list[str]:
        return [event.message for event in self.seen if isinstance(event, Warned)]


def test_several_images_are_fetched_and_are_there(run, options, registry) -> None:
    one, two = image(), image(layer({"f": noise(1000)}))
    registry.holds(DEBIAN, one)
    registry.holds(BUSYBOX, two)
    warmed = run(DEBIAN, BUSYBOX)
    assert outcomes(warmed) == [Outcome.DOWNLOADED] * 2
    assert [item.digest for item in warmed] == [one.digest, two.digest]
    cache = ImageCache(options)
    for item in (one, two):
        assert cache.freshness(item.digest) is Freshness.FRESH
    assert all(item.size > 1000 for item in warmed)


def test_a_second_run_asks_once_for_a_tag_and_fetches_nothing(run, registry) -> None:
    registry.holds(DEBIAN, image())
    run(DEBIAN)
    assert outcomes(run(DEBIAN)) == [Outcome.CACHED]
    assert registry.asked == ["HEAD"]


def test_a_second_run_of_an_index_asks_once_too(run, registry) -> None:
    one, two = image(), image(platform=ARM64)
    registry.holds(DEBIAN, one, two)
    assert run(DEBIAN)[0].digest == one.digest
    assert outcomes(run(DEBIAN)) == [Outcome.CACHED]
    assert registry.asked == ["HEAD"]
    assert run(DEBIAN, platform=ARM64)[0].digest == two.digest


def test_an_index_whose_image_is_there_already_costs_no_blob(run, registry) -> None:
    one = image()
    registry.holds(BUSYBOX, one)
    registry.holds(DEBIAN, one, image(platform=ARM64))
    run(BUSYBOX)
    assert outcomes(run(DEBIAN)) == [Outcome.CACHED]
    assert registry.asked == ["HEAD", "GET"]


def test_a_digest_that_is_there_needs_no_registry(run, registry) -> None:
    sample = image()
    registry.holds(DEBIAN, sample)
    by_digest = DEBIAN.at(sample.digest)
    assert outcomes(run(by_digest)) == [Outcome.DOWNLOADED]
    registry.down = True
    assert outcomes(run(by_digest)) == [Outcome.CACHED]


def test_an_indexs_digest_that_is_there_needs_no_registry(run, registry) -> None:
    registry.holds(DEBIAN, image(), image(platform=ARM64))
    listed = Digest.of(registry.indexes[str(DEBIAN)])
    assert outcomes(run(DEBIAN.at(listed))) == [Outcome.DOWNLOADED]
    registry.down = True
    assert outcomes(run(DEBIAN.at(listed))) == [Outcome.CACHED]


def test_a_tag_that_moved_brings_the_new_image_and_keeps_the_old(run, registry, options) -> None:
    old, new = image(), image(layer({"new": b"1"}))
    registry.holds(DEBIAN, old)
    run(DEBIAN)
    registry.holds(DEBIAN, new)
    assert outcomes(run(DEBIAN)) == [Outcome.DOWNLOADED]
    cache = ImageCache(options)
    remembered = cache.recall(DEBIAN, AMD64)
    assert remembered is not None
    assert remembered.image == new.digest
    assert cache.freshness(old.digest) is Freshness.FRESH


def age(options: CacheOptions, digest: Digest, days: int) -> None:
    then = time.time() - days * 86400
    os.utime(options.cache_dir / str(digest), (then, then))


def test_an_expired_entry_is_renewed_without_a_download(run, registry, options) -> None:
    sample = image()
    registry.holds(DEBIAN, sample)
    run(DEBIAN)
    age(options, sample.digest, 15)
    assert outcomes(run(DEBIAN)) == [Outcome.RENEWED]
    assert registry.asked == ["HEAD"]
    assert ImageCache(options).freshness(sample.digest) is Freshness.FRESH


def test_an_expired_digest_is_renewed_without_any_question(run, registry, options) -> None:
    sample = image()
    registry.holds(DEBIAN, sample)
    by_digest = DEBIAN.at(sample.digest)
    run(by_digest)
    age(options, sample.digest, 15)
    registry.down = True
    assert outcomes(run(by_digest)) == [Outcome.RENEWED]
    assert ImageCache(options).freshness(sample.digest) is Freshness.FRESH


def test_a_bug_with_one_image_does_not_stop_the_others(run, registry) -> None:
    def bug(data: bytes) -> BinaryIO:
        raise OverflowError("date value out of range")

    registry.holds(DEBIAN, image(layer({"f": b""}, source=bug)))
    registry.holds(BUSYBOX, image())
    warmed = run(DEBIAN, BUSYBOX)
    assert outcomes(warmed) == [Outcome.FAILED, Outcome.DOWNLOADED]
    assert str(warmed[0].error) == "unexpected OverflowError: date value out of range"


def test_force_replaces_what_is_there(run, registry, options) -> None:
    sample = image()
    registry.holds(DEBIAN, sample)
    run(DEBIAN)
    before = (options.cache_dir / str(sample.digest)).stat().st_ino
    assert outcomes(run(DEBIAN, force=True)) == [Outcome.REPLACED]
    assert (options.cache_dir / str(sample.digest)).stat().st_ino != before
    assert "IMAGE" in registry.asked


def test_a_damaged_entry_is_fetched_again_with_a_warning(run, registry, options) -> None:
    sample = image()
    registry.holds(DEBIAN, sample)
    run(DEBIAN)
    os.truncate(options.cache_dir / str(sample.digest), 1000)
    events = Events()
    assert outcomes(run(DEBIAN, progress=events)) == [Outcome.REPAIRED]
    assert len(events.warnings) == 1
    assert "is damaged" in events.warnings[0]
    assert ImageCache(options).freshness(sample.digest) is Freshness.FRESH


def test_a_lost_sidecar_is_repaired_without_a_layer(run, registry, options) -> None:
    opened: list[int] = []

    def counted(data: bytes) -> BinaryIO:
        opened.append(1)
        return io.BytesIO(data)

    sample = image(*(layer({"f": bytes([n])}, source=counted) for n in range(2)))
    registry.holds(DEBIAN, sample)
    run(DEBIAN)
    (options.cache_dir / f"{sample.digest}.json").unlink()
    events = Events()
    assert outcomes(run(DEBIAN, progress=events)) == [Outcome.REPAIRED]
    assert opened == [1, 1]
    assert len(events.warnings) == 1
    assert ImageCache(options).freshness(sample.digest) is Freshness.FRESH


def test_one_failure_does_not_stop_the_others(run, registry) -> None:
    registry.holds(DEBIAN, image(layer({"f": b""}, source=unreadable)))
    registry.holds(BUSYBOX, image())
    missing = Reference.parse("nowhere:1")
    events = Events()
    warmed = run(DEBIAN, missing, BUSYBOX, progress=events)
    assert outcomes(warmed) == [Outcome.FAILED, Outcome.FAILED, Outcome.DOWNLOADED]
    assert isinstance(warmed[1].error, NotFound)
    assert len(events.warnings) == 2
    assert any("nowhere:1 was not warmed: there is no image" in text for text in events.warnings)


def test_a_failed_download_leaves_no_entry(run, registry, options) -> None:
    sample = image(layer({"f": b""}, source=unreadable))
    registry.holds(DEBIAN, sample)
    run(DEBIAN)
    assert [path.name for path in options.cache_dir.iterdir()] == [".locks"]


def test_without_the_registry_a_tag_fails_and_the_entry_stays(run, registry, options) -> None:
    sample = image()
    registry.holds(DEBIAN, sample)
    run(DEBIAN)
    registry.down = True
    assert outcomes(run(DEBIAN)) == [Outcome.FAILED]
    assert ImageCache(options).freshness(sample.digest) is Freshness.FRESH


def test_an_index_without_the_platform_is_a_sentence(run, registry) -> None:
    registry.holds(DEBIAN, image(), image(platform=ARM64))
    warmed = run(DEBIAN, platform=Platform("linux", "riscv64"))
    assert str(warmed[0].error) == "debian:12 has no image for linux/riscv64"


def test_names_of_one_image_share_one_download(run, registry, options) -> None:
    opened: list[int] = []

    def counted(data: bytes) -> BinaryIO:
        opened.append(1)
        time.sleep(0.1)
        return io.BytesIO(data)

    sample = image(layer({"f": noise(100)}, source=counted))
    for reference in (DEBIAN, BUSYBOX):
        registry.holds(reference, sample)
    warmed = run(DEBIAN, BUSYBOX)
    assert sorted(item.outcome.value for item in warmed) == ["already cached", "downloaded"]
    assert len(opened) == 1


def test_images_are_warmed_at_the_same_time(run, registry) -> None:
    both = threading.Barrier(2, timeout=20)

    def together(data: bytes) -> BinaryIO:
        both.wait()
        return io.BytesIO(data)

    for n, reference in enumerate((DEBIAN, BUSYBOX)):
        registry.holds(reference, image(layer({"f": bytes([n])}, source=together)))
    assert outcomes(run(DEBIAN, BUSYBOX)) == [Outcome.DOWNLOADED] * 2


def test_images_that_vanish_between_two_questions_are_missing(run, registry) -> None:
    """As happens when a tag moves and its old image is collected."""
    registry.holds(DEBIAN, image(), image(platform=ARM64))
    del registry.indexes[str(DEBIAN.at(Digest.of(registry.indexes[str(DEBIAN)])))]
    registry.holds(BUSYBOX, image())
    del registry.images[str(BUSYBOX.at(image().digest))]
    warmed = run(DEBIAN, BUSYBOX)
    assert [type(item.error) for item in warmed] == [NotFound, NotFound]


def test_a_note_that_cannot_be_written_is_a_warning(run, registry, options) -> None:
    sample = image()
    registry.holds(DEBIAN, sample)
    options.cache_dir.mkdir()
    (options.cache_dir / ".tags").write_bytes(b"a file where the directory should be")
    events = Events()
    assert outcomes(run(DEBIAN, progress=events)) == [Outcome.DOWNLOADED]
    assert len(events.warnings) == 1
    assert "builds without network will not know it" in events.warnings[0]


def test_a_note_that_is_true_need_not_be_written(
    run, registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a cache that is mounted read-only."""
    registry.holds(DEBIAN, image())
    run(DEBIAN)

    def read_only(*_: object) -> None:
        raise DiskError("read-only file system")

    monkeypatch.setattr(ImageCache, "remember", read_only)
    events = Events()
    assert outcomes(run(DEBIAN, progress=events)) == [Outcome.CACHED]
    assert events.warnings == []


class Interrupted(BaseException):
    """Stands in for KeyboardInterrupt, which would end pytest."""


@dataclass
class InterruptedRegistry(FakeRegistry):
    """Is interrupted with one image, while the other goes on until it is cancelled."""

    busy: threading.Event = field(default_factory=threading.Event)

    def get(self, reference: Reference, platform: Platform) -> Image | None:
        if reference.tag == DEBIAN.tag:
            assert self.busy.wait(20)
            raise Interrupted
        self.busy.set()
        assert self.cancelled.wait(20)
        raise RegistryError("cancelled")


def test_an_interruption_cancels_the_downloads_without_complaints(options) -> None:
    registry = InterruptedRegistry()
    for n, reference in enumerate((DEBIAN, BUSYBOX)):
        registry.holds(reference, image(layer({"f": bytes([n])})))
    events = Events()
    with pytest.raises(Interrupted):
        warm(
            [Wanted(DEBIAN, AMD64), Wanted(BUSYBOX, AMD64)],
            cache=options,
            pull=registry,
            progress=events,
        )
    assert registry.cancelled.is_set()
    assert events.warnings == []


def test_what_killed_warmers_left_is_swept(run, registry, options) -> None:
    registry.holds(DEBIAN, image())
    options.cache_dir.mkdir()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    left = options.cache_dir / f".tmp-{boot}-0123"
    left.write_bytes(b"half")
    run(DEBIAN)
    assert not left.exists()


def test_a_tag_is_remembered_for_builds_without_network(run, registry, options) -> None:
    registry.holds(DEBIAN, image(), image(platform=ARM64))
    run(DEBIAN)
    remembered = ImageCache(options).recall(DEBIAN, AMD64)
    assert remembered is not None
    assert remembered.listed == Digest.of(registry.indexes[str(DEBIAN)])
    assert remembered.image == image().digest


def test_the_wrong_image_from_a_registry_is_refused(run, registry, options) -> None:
    sample, other = image(), image(layer({"other": b""}))
    registry.holds(DEBIAN, sample)
    registry.images[str(DEBIAN.at(sample.digest))] = other
    assert outcomes(run(DEBIAN)) == [Outcome.FAILED]
    assert ImageCache(options).freshness(other.digest) is Freshness.ABSENT


@dataclass
class SlowRegistry(FakeRegistry):
    """Takes its time for a layer, and notes in a file that it was asked: for two processes."""

    journal: Path = Path()

    def get(self, reference: Reference, platform: Platform) -> Image | None:
        def slow(data: bytes) -> BinaryIO:
            with self.journal.open("a") as file:
                file.write("blob\n")
            time.sleep(0.5)
            return io.BytesIO(data)

        return image(layer({"f": noise(100)}, source=slow))


def _warm_slowly(options: CacheOptions, journal: Path, results: Path) -> None:
    registry = SlowRegistry(journal=journal)
    registry.holds(DEBIAN, image(layer({"f": noise(100)})))
    done = warm([Wanted(DEBIAN, AMD64)], cache=options, pull=registry)
    with results.open("a") as file:
        file.write(done[0].outcome.value + "\n")


def test_processes_at_the_same_time_share_one_download(
    options: CacheOptions, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    journal, results = tmp_path / "journal", tmp_path / "results"
    processes = [
        context.Process(target=_warm_slowly, args=(options, journal, results)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert journal.read_text().splitlines() == ["blob"]
    assert sorted(results.read_text().splitlines()) == [
        "already cached",
        "already cached",
        "downloaded",
    ]


def test_the_table_has_a_line_for_each_image() -> None:
    digest = Digest.of(b"")
    lines = table(
        [
            Warmed(Wanted(DEBIAN, AMD64), Outcome.DOWNLOADED, digest, 48_200_000, 3.21),
            Warmed(
                Wanted(Reference.parse("ghcr.io/team/app:v1"), AMD64),
                Outcome.FAILED,
                seconds=0.04,
                error=RegistryError("ghcr.io does not answer"),
            ),
        ]
    ).splitlines()
    assert lines == [
        "IMAGE                DIGEST               SIZE     TIME  RESULT",
        "debian:12            sha256:e3b0c44298fc  48.2 MB  3.2s  downloaded",
        "ghcr.io/team/app:v1  -                    -        0.0s  failed: ghcr.io does not answer",
    ]


DOCKERFILE = """\
ARG RELEASE=11
FROM debian:$RELEASE AS build
RUN true
FROM --platform=linux/arm64 alpine AS tools
FROM scratch
COPY --from=build /a /a
COPY --from=0 /a /a
COPY --from=busybox:1.36 /bin/busybox /bin/
FROM build
"""


@pytest.fixture
def dockerfile(tmp_path: Path) -> Path:
    path = tmp_path / "Dockerfile"
    path.write_text(DOCKERFILE)
    return path


def test_a_dockerfiles_images_are_those_of_all_stages(dockerfile: Path) -> None:
    assert set(images_of(dockerfile, {}, AMD64)) == {
        Wanted(Reference.parse("debian:11"), AMD64),
        Wanted(Reference.parse("alpine:latest"), ARM64),
        Wanted(Reference.parse("busybox:1.36"), AMD64),
    }


def test_images_of_both_options_are_wanted_each_once(dockerfile: Path) -> None:
    options = WarmOptions(
        image=(Reference.parse("busybox:1.36"), Reference.parse("debian")),
        dockerfile=str(dockerfile),
        build_arg=(("RELEASE", "12"), ("UNSET", None)),
        custom_platform=AMD64,
    )
    assert [str(item.reference.familiar) for item in wanted_images(options)] == [
        "busybox:1.36",
        "debian:latest",
        "debian:12",
        "alpine:latest",
    ]


def test_images_for_this_machine_are_wanted_by_default() -> None:
    (wanted,) = wanted_images(WarmOptions(image=(DEBIAN,)))
    assert wanted == Wanted(DEBIAN, Platform.host())


def test_a_dockerfile_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the Dockerfile .*: No such file"):
        images_of(tmp_path / "missing", {}, AMD64)


def test_nothing_to_warm_is_a_sentence() -> None:
    with pytest.raises(UsageError, match="no image to warm"):
        WarmOptions()


def test_a_build_argument_wins_over_the_default(dockerfile: Path) -> None:
    named = {str(w.reference.familiar) for w in images_of(dockerfile, {"RELEASE": "12"}, AMD64)}
    assert "debian:12" in named
    assert "debian:11" not in named


def test_the_platform_asked_for_is_wanted_where_from_says_none(dockerfile: Path) -> None:
    wanted = images_of(dockerfile, {}, ARM64)
    assert {item.platform for item in wanted} == {ARM64}
