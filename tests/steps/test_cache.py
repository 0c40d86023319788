"""One build's view: looked up at once, kept in the background, never in the way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from kaniko_core.errors import (
    ContentError,
    DiskError,
    KanikoError,
    NotFound,
    RegistryError,
    Unauthorized,
)
from kaniko_core.oci.image import Image
from kaniko_core.oci.layer import FileLayer
from kaniko_core.oci.layout import LayoutStore
from kaniko_core.oci.reference import Repository
from kaniko_core.progress import BytesMoved, Direction
from kaniko_core.registry.client import Registry
from kaniko_core.registry.download import Housed
from kaniko_core.steps.cache import LayerCache, Limits
from kaniko_core.steps.directory import DirectorySteps
from kaniko_core.steps.keeping import Pulse
from kaniko_core.steps.repository import RepositorySteps
from kaniko_core.steps.step import CachedStep, LostLayer, Missing
from kaniko_core.steps.store import StepStore
from tests.registry_server import Answer, BreakOff, Corrupt, RegistryServer
from tests.steps.conftest import NewStore
from tests.steps.made import (
    CONTENTS,
    CREATED,
    KEY,
    OTHER_KEY,
    Heard,
    content,
    entry,
    made,
    packed,
)

TTL = timedelta(days=14)
SOON = CREATED + timedelta(hours=1)


@pytest.fixture
def heard() -> Heard:
    return Heard()


NewCache = Callable[..., LayerCache]


@pytest.fixture
def new_cache(heard: Heard) -> NewCache:
    def new(
        *stores: StepStore, push: bool = True, patience: float = 10.0, silence: float = 60.0
    ) -> LayerCache:
        return LayerCache(
            stores[0] if stores else None,
            stores[1:],
            limits=Limits(ttl=TTL, patience=patience, silence=silence),
            progress=heard,
            push=push,
            now=lambda: SOON,
        )

    return new


@dataclass
class Fake:
    """A store in memory that fails, or keeps callers waiting, as a test wants it to."""

    name: str = "the place"
    error: KanikoError | None = None
    put_error: KanikoError | None = None
    wait_for: threading.Event | None = None
    steps: dict[str, CachedStep] = field(default_factory=dict)
    records: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    put_keys: list[str] = field(default_factory=list)
    discarded: list[str] = field(default_factory=list)

    def get(self, key: str) -> CachedStep | None:
        self.asked.append(key)
        if self.wait_for is not None:
            self.wait_for.wait()
        if self.error is not None:
            raise self.error
        return self.steps.get(key)

    def put(self, key: str, image: Image, *, known_in: tuple[Repository, ...] = ()) -> None:
        self.put_keys.append(key)
        if self.wait_for is not None:
            self.wait_for.wait()
        if self.put_error is not None:
            raise self.put_error

    def discard(self, key: str, step: CachedStep) -> None:
        self.discarded.append(key)

    def read_record(self, name: str) -> bytes | None:
        if self.error is not None:
            raise self.error
        return self.records.get(name)

    def write_record(self, name: str, data: bytes) -> None:
        if self.put_error is not None:
            raise self.put_error
        self.records[name] = data


def step(layer: FileLayer, key: str = KEY, *, age: timedelta = timedelta(0)) -> CachedStep:
    return CachedStep(key, layer, SOON - age, str(CONTENTS), ())


# --- looked up ------------------------------------------------------------------------------


def test_what_one_build_keeps_the_next_one_finds(
    new_store: NewStore, new_cache: NewCache, tmp_path: Path, heard: Heard
) -> None:
    layer = packed(tmp_path)
    first = new_cache(new_store())
    first.look_up([KEY, OTHER_KEY])
    assert first.found(KEY) is None
    assert first.why(KEY) is Missing.ABSENT
    first.keep(made(layer))
    first.finish()

    second = new_cache(new_store())
    second.look_up([KEY, OTHER_KEY])
    found = second.found(KEY)
    assert found is not None
    assert content(found) == layer.path.read_bytes()
    assert (found.contents, found.created) == (str(CONTENTS), CREATED)
    assert found.made_on == ("sha256:below", "sha256:beside")
    assert second.why(OTHER_KEY) is Missing.ABSENT
    assert not heard.warnings


def test_key_is_asked_for_once(new_cache: NewCache) -> None:
    store = Fake()
    cache = new_cache(store)
    cache.look_up([KEY, KEY])
    cache.look_up([KEY, OTHER_KEY])
    assert sorted(store.asked) == [KEY, OTHER_KEY]


def test_no_keys_no_questions(new_cache: NewCache) -> None:
    store = Fake()
    new_cache(store).look_up([])
    assert not store.asked


def test_many_keys_are_asked_for_at_once(new_cache: NewCache) -> None:
    """Each of 16 waits for the others."""
    barrier = threading.Barrier(16)

    class Together(Fake):
        def get(self, key: str) -> CachedStep | None:
            barrier.wait(30)
            return None

    cache = new_cache(Together(), patience=60.0)
    cache.look_up([f"{n:064x}" for n in range(16)])
    assert cache.why(f"{1:064x}") is Missing.ABSENT


def test_old_layer_has_expired(new_cache: NewCache, tmp_path: Path, heard: Heard) -> None:
    layer = packed(tmp_path)
    fresh = step(layer, KEY, age=TTL)
    old = step(layer, OTHER_KEY, age=TTL + timedelta(seconds=1))
    cache = new_cache(Fake(steps={KEY: fresh, OTHER_KEY: old}))
    cache.look_up([KEY, OTHER_KEY])
    assert cache.found(KEY) is not None
    assert cache.found(OTHER_KEY) is None
    assert cache.why(OTHER_KEY) is Missing.EXPIRED
    assert heard.notes == [
        "a cached layer in the place is older than --cache-ttl allows, and not used"
    ]


def test_other_places_are_asked_too(new_cache: NewCache, tmp_path: Path) -> None:
    layer = packed(tmp_path)
    old = step(layer, KEY, age=TTL * 2)
    cache = new_cache(Fake(steps={KEY: old}), Fake("another", steps={KEY: step(layer)}))
    cache.look_up([KEY, OTHER_KEY])
    found = cache.found(KEY)
    assert found is not None
    assert found.created == SOON


def test_first_place_comes_first(new_cache: NewCache, tmp_path: Path) -> None:
    one, other = step(packed(tmp_path, "one")), step(packed(tmp_path, "other"))
    cache = new_cache(Fake(steps={KEY: one}), Fake("another", steps={KEY: other}))
    cache.look_up([KEY])
    found = cache.found(KEY)
    assert found is not None
    assert found.layer.descriptor == one.layer.descriptor


def test_damaged_entries_are_one_warning(new_cache: NewCache, heard: Heard) -> None:
    cache = new_cache(Fake(error=ContentError("its blob is gone")))
    cache.look_up([KEY, OTHER_KEY])
    assert cache.why(KEY) is cache.why(OTHER_KEY) is Missing.LOST
    assert heard.warnings == [
        "2 cached layers in the place cannot be used, their steps are built again; "
        "the first: its blob is gone"
    ]


def test_damaged_entry_does_not_stop_the_others(new_cache: NewCache, tmp_path: Path) -> None:
    class Partly(Fake):
        def get(self, key: str) -> CachedStep | None:
            if key == KEY:
                raise ContentError("damaged")
            return super().get(key)

    cache = new_cache(Partly(steps={OTHER_KEY: step(packed(tmp_path), OTHER_KEY)}))
    cache.look_up([KEY, OTHER_KEY])
    assert cache.found(OTHER_KEY) is not None
    assert cache.why(KEY) is Missing.LOST


@pytest.mark.parametrize(
    "error", [RegistryError("it is down"), Unauthorized("log in", status=401), DiskError("read")]
)
def test_place_that_fails_is_not_asked_again(
    new_cache: NewCache, heard: Heard, error: KanikoError
) -> None:
    store = Fake(error=error)
    cache = new_cache(store)
    keys = [f"{n:064x}" for n in range(100)]
    cache.look_up(keys)
    assert all(cache.why(key) is Missing.UNREACHABLE for key in keys)
    asked = len(store.asked)
    assert asked <= 16
    cache.look_up([KEY])
    assert cache.why(KEY) is Missing.UNREACHABLE
    assert cache.read_record("explain-01") is None
    assert len(store.asked) == asked
    assert heard.warnings == [f"the cache the place cannot be used for this build: {error}"]


def test_place_that_is_down_is_not_pushed_to(
    new_cache: NewCache, tmp_path: Path, heard: Heard
) -> None:
    store = Fake(error=RegistryError("it is down"))
    cache = new_cache(store)
    cache.look_up([KEY])
    cache.keep(made(packed(tmp_path)))
    cache.finish()
    assert not store.put_keys
    assert len(heard.warnings) == 1


def test_place_that_may_not_be_read_may_be_pushed_to(new_cache: NewCache, tmp_path: Path) -> None:
    """Registries answer 401 or 403, too, for a repository that nobody has pushed to."""
    store = Fake(error=Unauthorized("denied", status=403))
    cache = new_cache(store)
    cache.look_up([KEY])
    cache.keep(made(packed(tmp_path)))
    cache.finish()
    assert store.put_keys == [KEY]


def test_slow_place_is_waited_for_once_in_all(
    new_cache: NewCache, tmp_path: Path, heard: Heard
) -> None:
    released = threading.Event()
    slow = Fake("slow", wait_for=released)
    quick = Fake("quick", steps={KEY: step(packed(tmp_path))})
    cache = new_cache(slow, quick, patience=0.2)
    try:
        cache.look_up([KEY, OTHER_KEY])
        assert cache.found(KEY) is not None
        assert cache.why(OTHER_KEY) is Missing.UNREACHABLE
        assert heard.warnings == [
            "the cache slow cannot be used for this build: it does not answer within 0 seconds"
        ]
        cache.keep(made(packed(tmp_path)))
        cache.finish()
        assert not slow.put_keys
    finally:
        released.set()


def test_late_answer_is_no_answer(new_cache: NewCache, tmp_path: Path) -> None:
    """What was said to be missing stays missing: the build has gone on."""
    released = threading.Event()
    slow = Fake(wait_for=released, steps={KEY: step(packed(tmp_path))})
    cache = new_cache(slow, patience=0.1)
    cache.look_up([KEY])
    released.set()
    cache.look_up([KEY])
    assert cache.found(KEY) is None
    assert cache.why(KEY) is Missing.UNREACHABLE


def test_place_of_no_use_is_stopped(heard: Heard) -> None:
    """Else the program would wait at its end for what it asked."""
    released = threading.Event()
    cache = LayerCache(
        Fake(wait_for=released),
        limits=Limits(ttl=TTL, patience=0.1),
        progress=heard,
        stop=released.set,
    )
    cache.look_up([KEY])
    assert released.is_set()


def test_without_a_place_nothing_is_found(new_cache: NewCache, tmp_path: Path) -> None:
    cache = new_cache()
    cache.look_up([KEY])
    assert cache.why(KEY) is Missing.ABSENT
    assert cache.read_record("explain-01") is None
    cache.write_record("explain-01", lambda: b"data")
    cache.keep(made(packed(tmp_path)))
    cache.look_up([KEY])
    assert cache.found(KEY) is not None


# --- kept -----------------------------------------------------------------------------------


def test_kept_step_is_found_again_in_this_build(new_cache: NewCache, tmp_path: Path) -> None:
    """A build that starts over does not run the same command again, whatever the cache does."""
    for cache in (
        new_cache(Fake(), push=False),
        new_cache(Fake(put_error=RegistryError("read-only", status=405))),
    ):
        cache.look_up([KEY])
        cache.keep(made(packed(tmp_path)))
        cache.look_up([KEY])
        found = cache.found(KEY)
        assert found is not None
        assert found.made_on == ("sha256:below", "sha256:beside")
        assert content(found) == packed(tmp_path).path.read_bytes()
        cache.finish()


def test_look_up_waits_for_what_is_being_packed(new_cache: NewCache, tmp_path: Path) -> None:
    cache = new_cache(Fake(), push=False)
    layer: Future[FileLayer] = Future()
    cache.keep(made(layer))
    assert cache.found(KEY) is None
    timer = threading.Timer(0.1, layer.set_result, [packed(tmp_path)])
    timer.start()
    cache.look_up([KEY])
    timer.join()
    assert cache.found(KEY) is not None


def test_step_that_was_not_made_is_not_kept(new_cache: NewCache, heard: Heard) -> None:
    store = Fake()
    cache = new_cache(store)
    failed: Future[FileLayer] = Future()
    cancelled: Future[FileLayer] = Future()
    cache.keep(made(failed, KEY))
    cache.keep(made(cancelled, OTHER_KEY))
    failed.set_exception(ContentError("a file changed"))
    cancelled.cancel()
    cache.look_up([KEY, OTHER_KEY])
    cache.finish()
    assert cache.found(KEY) is cache.found(OTHER_KEY) is None
    assert not store.put_keys
    assert not heard.warnings


def test_step_whose_past_is_unknown_is_not_kept(new_cache: NewCache, tmp_path: Path) -> None:
    def unknown() -> tuple[str, ...]:
        raise ContentError("the layer below was not packed")

    store = Fake()
    cache = new_cache(store)
    cache.keep(replace(made(packed(tmp_path)), made_on=unknown))
    cache.look_up([KEY])
    cache.finish()
    assert cache.found(KEY) is None
    assert not store.put_keys


def test_no_push_cache_adds_nothing(new_cache: NewCache, tmp_path: Path) -> None:
    store = Fake()
    cache = new_cache(store, push=False)
    cache.keep(made(packed(tmp_path)))
    cache.write_record("explain-01", lambda: b"data")
    cache.finish()
    assert not store.put_keys
    assert not store.records


def test_failing_pushes_are_one_warning(new_cache: NewCache, tmp_path: Path, heard: Heard) -> None:
    store = Fake(put_error=RegistryError("it is read-only", status=405, hint="push elsewhere"))
    cache = new_cache(store)
    for n in range(20):
        cache.keep(made(packed(tmp_path), f"{n:064x}"))
    cache.write_record("explain-01", lambda: b"data")
    cache.finish()
    assert heard.warnings == ["layers cannot be kept in the cache the place: it is read-only"]
    assert len(store.put_keys) <= 4


def test_place_out_of_reach_is_one_warning_whoever_finds_out(
    new_cache: NewCache, tmp_path: Path, heard: Heard
) -> None:
    error = RegistryError("it refuses connections")
    store = Fake(error=error, put_error=error)
    cache = new_cache(store)
    cache.keep(made(packed(tmp_path)))
    cache.finish()
    cache.look_up([OTHER_KEY])
    assert not store.asked
    assert cache.why(OTHER_KEY) is Missing.UNREACHABLE
    assert len(heard.warnings) == 1


def test_damaged_layer_does_not_keep_others_out(
    new_cache: NewCache, tmp_path: Path, heard: Heard
) -> None:
    store = Fake(put_error=ContentError("the layer is not what it was"))
    cache = new_cache(store)
    for n in range(6):
        cache.keep(made(packed(tmp_path), f"{n:064x}"))
    cache.finish()
    assert len(store.put_keys) == 6
    assert len(heard.warnings) == 1


def test_layer_that_is_too_large_does_not_keep_others_out(
    new_cache: NewCache, tmp_path: Path, heard: Heard
) -> None:
    store = Fake(put_error=RegistryError("too large", status=413))
    cache = new_cache(store)
    for n in range(6):
        cache.keep(made(packed(tmp_path), f"{n:064x}"))
    cache.finish()
    assert len(store.put_keys) == 6
    assert len(heard.warnings) == 1


def test_keep_returns_at_once_and_finish_waits(new_cache: NewCache, tmp_path: Path) -> None:
    released = threading.Event()
    store = Fake(wait_for=released)
    cache = new_cache(store)
    cache.keep(made(packed(tmp_path)))
    cache.write_record("explain-01", lambda: b"data")
    timer = threading.Timer(0.1, released.set)
    timer.start()
    cache.finish()
    assert released.is_set()
    assert store.records == {"explain-01": b"data"}
    timer.join()


def test_silent_place_does_not_keep_the_build_waiting(
    new_cache: NewCache, tmp_path: Path, heard: Heard
) -> None:
    released = threading.Event()
    cache = new_cache(Fake(wait_for=released), silence=0.1)
    cache.keep(made(packed(tmp_path)))
    try:
        cache.finish()
    finally:
        released.set()
    assert heard.warnings == [
        "layers cannot be kept in the cache the place: nothing has moved for 0 seconds"
    ]


def test_bytes_that_move_are_waited_for(tmp_path: Path, heard: Heard) -> None:
    pulse = Pulse(heard)

    class Busy(Fake):
        def put(self, key: str, image: Image, *, known_in: tuple[Repository, ...] = ()) -> None:
            for n in range(12):
                threading.Event().wait(0.1)
                pulse(BytesMoved(Direction.PUSH, "layer", n, 12))
            super().put(key, image)

    store = Busy()
    cache = LayerCache(
        store, limits=Limits(ttl=TTL, silence=0.8), progress=heard, pulse=pulse, now=lambda: SOON
    )
    cache.keep(made(packed(tmp_path)))
    cache.finish()
    assert store.put_keys == [KEY]
    assert not heard.warnings


def test_packing_is_not_silence(new_cache: NewCache, tmp_path: Path, heard: Heard) -> None:
    store = Fake()
    cache = new_cache(store, silence=0.1)
    layer: Future[FileLayer] = Future()
    cache.keep(made(layer))
    timer = threading.Timer(1.2, layer.set_result, [packed(tmp_path)])
    timer.start()
    cache.finish()
    timer.join()
    assert store.put_keys == [KEY]
    assert not heard.warnings


def test_waiting_for_another_place_is_not_silence(
    new_cache: NewCache, tmp_path: Path, heard: Heard
) -> None:
    """A blob that is on its way to the destination is mounted from there, however long it takes."""
    store, there = Fake(), threading.Event()
    cache = new_cache(store, silence=0.1)

    def homes() -> tuple[Repository, ...]:
        there.wait()
        return ()

    cache.keep(replace(made(packed(tmp_path)), known_in=homes))
    timer = threading.Timer(1.2, there.set)
    timer.start()
    cache.finish()
    timer.join()
    assert store.put_keys == [KEY]
    assert not heard.warnings


def test_given_up_build_says_nothing_more(
    new_cache: NewCache, tmp_path: Path, heard: Heard
) -> None:
    released = threading.Event()
    store = Fake(wait_for=released, put_error=RegistryError("the transfer was cancelled"))
    cache = new_cache(store)
    cache.keep(made(packed(tmp_path)))
    cache.cancel()
    released.set()
    cache.finish()
    cache.keep(made(packed(tmp_path), OTHER_KEY))
    cache.look_up([OTHER_KEY])
    assert cache.found(OTHER_KEY) is None
    assert not heard.warnings


def test_bug_in_a_store_is_not_hidden(new_cache: NewCache, tmp_path: Path) -> None:
    class Buggy(Fake):
        def put(self, key: str, image: Image, *, known_in: tuple[Repository, ...] = ()) -> None:
            raise AssertionError("a bug")

    cache = new_cache(Buggy())
    cache.keep(made(packed(tmp_path)))
    with pytest.raises(AssertionError, match="a bug"):
        cache.finish()


def test_records_come_back(new_store: NewStore, new_cache: NewCache) -> None:
    cache = new_cache(new_store())
    assert cache.read_record("explain-01") is None
    cache.write_record("explain-01", lambda: b"data")
    cache.finish()
    assert new_cache(new_store()).read_record("explain-01") == b"data"


# --- lost -----------------------------------------------------------------------------------


def kept_in(store: StepStore, tmp_path: Path) -> None:
    store.put(KEY, entry(packed(tmp_path)))


def test_damaged_file_is_found_out_before_a_byte_is_used(
    new_cache: NewCache, tmp_path: Path, heard: Heard
) -> None:
    store = DirectorySteps(tmp_path / "kept")
    kept_in(store, tmp_path)
    cache = new_cache(store)
    cache.look_up([KEY])
    found = cache.found(KEY)
    assert found is not None
    blob = next(
        path
        for path in (tmp_path / "kept" / KEY / "blobs" / "sha256").iterdir()
        if path.name == found.layer.descriptor.digest.hex
    )
    blob.write_bytes(bytes(found.layer.descriptor.size))
    with pytest.raises(LostLayer) as caught:
        found.layer.open()
    assert caught.value.key == KEY
    cache.lose(caught.value)
    cache.lose(caught.value)
    assert cache.found(KEY) is None
    assert cache.why(KEY) is Missing.LOST
    assert len(heard.warnings) == 1
    assert "the step is built again" in heard.warnings[0]
    cache.look_up([KEY])
    assert cache.found(KEY) is None
    # What is built again takes the bad one's place.
    cache.keep(made(packed(tmp_path)))
    cache.finish()
    assert cache.found(KEY) is not None
    again = new_cache(DirectorySteps(tmp_path / "kept"))
    again.look_up([KEY])
    found = again.found(KEY)
    assert found is not None
    assert content(found) == packed(tmp_path).path.read_bytes()
    assert len(LayoutStore(tmp_path / "kept" / KEY).listed()) == 1


def remote_found(
    cache: LayerCache, store: StepStore, server: RegistryServer, tmp_path: Path
) -> CachedStep:
    kept_in(store, tmp_path)
    cache.look_up([KEY])
    found = cache.found(KEY)
    assert found is not None
    assert isinstance(found.layer, Housed)
    return found


@pytest.mark.parametrize("fault", [Corrupt(), Answer(404), BreakOff(10)])
def test_blob_that_cannot_be_read_is_lost(
    new_cache: NewCache,
    server: RegistryServer,
    registry: Registry,
    repository: Repository,
    tmp_path: Path,
    fault: Corrupt | Answer | BreakOff,
) -> None:
    store = RepositorySteps(repository, registry)
    cache = new_cache(store)
    found = remote_found(cache, store, server, tmp_path)
    server.misbehave(fault, method="GET", path="/blobs/", times=None)
    server.ranges = False
    with found.layer.open() as stream, pytest.raises(LostLayer) as caught:
        while stream.read(100):
            pass
    assert caught.value.key == KEY
    cache.lose(caught.value)
    assert cache.why(KEY) is Missing.LOST


def test_given_up_build_loses_nothing(
    new_cache: NewCache,
    server: RegistryServer,
    registry: Registry,
    repository: Repository,
    tmp_path: Path,
) -> None:
    """Else it would start over while it is being cancelled."""
    store = RepositorySteps(repository, registry)
    cache = new_cache(store)
    found = remote_found(cache, store, server, tmp_path)
    registry.cancel()
    cache.cancel()
    with found.layer.open() as stream, pytest.raises(RegistryError):
        stream.read(100)


def test_layer_is_mounted_into_another_repository(
    new_cache: NewCache,
    server: RegistryServer,
    registry: Registry,
    repository: Repository,
    tmp_path: Path,
) -> None:
    """A full hit moves no layer: the registry has it."""
    store = RepositorySteps(repository, registry)
    found = remote_found(new_cache(store), store, server, tmp_path)
    server.requests.clear()
    registry.upload(Repository(server.address, "app"), found.layer)
    assert str(found.layer.descriptor.digest) in server.blobs["app"]
    assert not [seen for seen in server.requests if seen.method in ("GET", "PUT", "PATCH")]


def test_layer_goes_to_a_registry_as_it_is(
    new_cache: NewCache, server: RegistryServer, registry: Registry, tmp_path: Path
) -> None:
    store = DirectorySteps(tmp_path / "kept")
    kept_in(store, tmp_path)
    cache = new_cache(store)
    cache.look_up([KEY])
    found = cache.found(KEY)
    assert found is not None
    registry.upload(Repository(server.address, "app"), found.layer)
    digest = str(found.layer.descriptor.digest)
    assert server.blobs["app"][digest] == packed(tmp_path).path.read_bytes()


def test_file_that_cannot_be_read_is_not_removed(new_cache: NewCache, tmp_path: Path) -> None:
    """A process that has too many files open knows nothing of the bytes."""
    store = Fake(steps={KEY: step(replace(packed(tmp_path), path=tmp_path / "not there"))})
    cache = new_cache(store)
    cache.look_up([KEY])
    found = cache.found(KEY)
    assert found is not None
    with pytest.raises(LostLayer) as caught:
        found.layer.open()
    cache.lose(caught.value)
    assert not store.discarded


def test_slow_place_does_not_keep_others_from_answering(
    new_cache: NewCache, tmp_path: Path
) -> None:
    released = threading.Event()
    keys = [f"{n:064x}" for n in range(40)]
    layer = packed(tmp_path)
    quick = Fake("quick", steps={key: step(layer, key) for key in keys})
    cache = new_cache(Fake("slow", wait_for=released), quick, patience=1.0)
    try:
        cache.look_up(keys)
    finally:
        released.set()
    assert all(cache.found(key) is not None for key in keys)


def test_lost_step_of_no_repository_is_not_said_twice(new_cache: NewCache, heard: Heard) -> None:
    cache = new_cache(Fake())
    cache.lose(LostLayer(KEY, "gone"))
    assert cache.why(KEY) is Missing.LOST
    assert not heard.warnings


def test_missing_repository_is_a_miss(new_cache: NewCache, heard: Heard) -> None:
    store = Fake(error=NotFound("no such repository", status=404))
    cache = new_cache(store)
    cache.look_up([KEY])
    assert cache.why(KEY) is Missing.UNREACHABLE
    assert len(heard.warnings) == 1
