"""What every place that keeps steps promises, and what each promises besides."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from errno import ENOSPC
from pathlib import Path
from typing import BinaryIO

import pytest

from kaniko_core.errors import ContentError, DiskError, RegistryError, disk_error
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image
from kaniko_core.oci.layer import FileLayer
from kaniko_core.oci.layout import LayoutStore
from kaniko_core.oci.reference import Reference, Repository
from kaniko_core.oci.spec import Descriptor, MediaType
from kaniko_core.registry.client import Registry
from kaniko_core.registry.download import Housed
from kaniko_core.steps.directory import DirectorySteps
from kaniko_core.steps.layout import LayoutSteps
from kaniko_core.steps.repository import RepositorySteps
from kaniko_core.steps.step import CachedStep
from kaniko_core.steps.store import StepStore
from tests.registry_server import Answer, RegistryServer
from tests.samples import image as any_image
from tests.steps.conftest import NewStore
from tests.steps.made import CONTENTS, CREATED, KEY, OTHER_KEY, content, entry, packed, without_note

FORMAT = "io.github.kaniko-py.cache.format"


def got(store: StepStore, key: str = KEY) -> CachedStep:
    step = store.get(key)
    assert step is not None
    return step


def test_nothing_is_there_at_first(store: StepStore) -> None:
    assert store.get(KEY) is None


def test_step_comes_back_as_it_was(new_store: NewStore, tmp_path: Path) -> None:
    layer = packed(tmp_path)
    new_store().put(KEY, entry(layer))
    step = got(new_store())
    assert (step.key, step.created, step.contents) == (KEY, CREATED, str(CONTENTS))
    assert step.made_on == ("sha256:below", "sha256:beside")
    assert step.layer.descriptor == layer.descriptor
    assert step.layer.diff_id == layer.diff_id
    assert content(step) == layer.path.read_bytes()


@pytest.mark.parametrize("made_on", [(), ("",), ("", "sha256:beside")])
def test_made_on_nothing(store: StepStore, tmp_path: Path, made_on: tuple[str, ...]) -> None:
    """What does not depend on the files below it has an empty text in the place of them."""
    store.put(KEY, entry(packed(tmp_path), made_on=made_on))
    assert got(store).made_on == made_on


def test_zstd_stays_zstd(store: StepStore, tmp_path: Path) -> None:
    layer = packed(tmp_path)
    zstd = replace(layer.descriptor, media_type=MediaType.OCI_LAYER_ZSTD)
    store.put(KEY, entry(replace(layer, descriptor=zstd)))
    assert got(store).layer.descriptor.media_type == MediaType.OCI_LAYER_ZSTD


def test_layer_of_dockers_kind_is_kept_as_ocis(store: StepStore, tmp_path: Path) -> None:
    layer = packed(tmp_path)
    docker = replace(layer.descriptor, media_type=MediaType.DOCKER_LAYER_GZIP)
    store.put(KEY, entry(replace(layer, descriptor=docker)))
    assert got(store).layer.descriptor.media_type == MediaType.OCI_LAYER_GZIP


def test_steps_are_kept_apart(store: StepStore, tmp_path: Path) -> None:
    one, other = packed(tmp_path, "one"), packed(tmp_path, "other")
    store.put(KEY, entry(one))
    store.put(OTHER_KEY, entry(other))
    assert got(store).layer.descriptor == one.descriptor
    assert got(store, OTHER_KEY).layer.descriptor == other.descriptor


def test_a_later_put_takes_the_entrys_place(new_store: NewStore, tmp_path: Path) -> None:
    """After an entry has expired, and when a command was run again, the new layer counts."""
    store = new_store()
    store.put(KEY, entry(packed(tmp_path, "old")))
    old = got(store)
    new = packed(tmp_path, "new")
    store.put(KEY, entry(new, created=CREATED + timedelta(days=30)))
    step = got(new_store())
    assert step.layer.descriptor == new.descriptor
    assert step.created == CREATED + timedelta(days=30)
    assert content(old)  # a build that was handed the old one goes on reading it


@pytest.mark.parametrize(
    ("note", "value"),
    [
        (FORMAT, None),
        (FORMAT, "2"),
        ("io.github.kaniko-py.cache.diff-id", None),
        ("io.github.kaniko-py.cache.diff-id", "sha256:short"),
        ("io.github.kaniko-py.cache.contents", "nothing"),
        ("org.opencontainers.image.created", "yesterday"),
        ("org.opencontainers.image.created", "2024-05-01T12:30:15"),
    ],
)
def test_entry_of_another_kind_is_a_miss(
    store: StepStore, tmp_path: Path, note: str, value: str | None
) -> None:
    store.put(KEY, without_note(entry(packed(tmp_path)), note, value))
    assert store.get(KEY) is None


def test_image_of_others_is_a_miss_and_is_replaced(store: StepStore, tmp_path: Path) -> None:
    store.put(KEY, any_image())
    assert store.get(KEY) is None
    store.put(KEY, entry(packed(tmp_path)))
    assert content(got(store))


def test_two_builders_put_the_same_key_at_once(new_store: NewStore, tmp_path: Path) -> None:
    layers = [packed(tmp_path, f"builder {n}") for n in range(8)]
    stores = [new_store() for _ in layers]
    with ThreadPoolExecutor(len(layers)) as pool:
        list(pool.map(lambda s, layer: s.put(KEY, entry(layer)), stores, layers))
    step = got(new_store())
    assert step.layer.descriptor in [layer.descriptor for layer in layers]
    assert content(step)


def test_record_comes_back(new_store: NewStore) -> None:
    assert new_store().read_record("explain-01") is None
    new_store().write_record("explain-01", b"\x1f\x8bdata")
    new_store().write_record("explain-02", b"")
    assert new_store().read_record("explain-01") == b"\x1f\x8bdata"
    assert new_store().read_record("explain-02") == b""
    new_store().write_record("explain-01", b"other")
    assert new_store().read_record("explain-01") == b"other"


def test_record_and_steps_do_not_disturb_each_other(new_store: NewStore, tmp_path: Path) -> None:
    store = new_store()
    store.write_record("explain-01", b"data")
    store.put(KEY, entry(packed(tmp_path)))
    assert content(got(new_store()))
    assert new_store().get("explain-01") is None


# --- on a disk ------------------------------------------------------------------------------


@pytest.fixture(params=["layout", "directory"])
def local(request: pytest.FixtureRequest, tmp_path: Path) -> StepStore:
    path = tmp_path / "kept"
    return LayoutSteps(path) if request.param == "layout" else DirectorySteps(path)


def blob_of(step: CachedStep) -> Path:
    assert isinstance(step.layer, FileLayer)
    return step.layer.path


def test_lost_blob_is_told_from_a_miss(local: StepStore, tmp_path: Path) -> None:
    local.put(KEY, entry(packed(tmp_path)))
    blob_of(got(local)).unlink()
    with pytest.raises(ContentError):
        local.get(KEY)


def test_truncated_blob_is_told_from_a_miss_and_mended(local: StepStore, tmp_path: Path) -> None:
    local.put(KEY, entry(packed(tmp_path)))
    os.truncate(blob_of(got(local)), 10)
    with pytest.raises(ContentError):
        local.get(KEY)
    local.put(KEY, entry(packed(tmp_path)))
    assert content(got(local)) == packed(tmp_path).path.read_bytes()


def test_blob_of_the_right_size_is_mended_once_it_is_discarded(
    local: StepStore, tmp_path: Path
) -> None:
    local.put(KEY, entry(packed(tmp_path)))
    blob_of(got(local)).write_bytes(bytes(packed(tmp_path).descriptor.size))
    local.discard(KEY, got(local))
    local.put(KEY, entry(packed(tmp_path)))
    assert content(got(local)) == packed(tmp_path).path.read_bytes()


def test_damaged_index_is_no_miss(local: StepStore, tmp_path: Path) -> None:
    local.put(KEY, entry(packed(tmp_path)))
    index = next((tmp_path / "kept").rglob("index.json"))
    index.write_text("{")
    with pytest.raises(ContentError):
        local.get(KEY)


def test_record_that_is_the_same_is_not_written_again(local: StepStore, tmp_path: Path) -> None:
    local.write_record("explain-01", b"data")
    before = (tmp_path / "kept" / "explain-01").stat()
    local.write_record("explain-01", b"data")
    after = (tmp_path / "kept" / "explain-01").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_place_that_cannot_be_written_to_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for store in (LayoutSteps(tmp_path / "file" / "x"), DirectorySteps(tmp_path / "file" / "x")):
        with pytest.raises(DiskError):
            store.put(KEY, entry(packed(tmp_path)))
        with pytest.raises(DiskError):
            store.write_record("explain-01", b"data")


def test_layout_names_images_by_key(tmp_path: Path) -> None:
    LayoutSteps(tmp_path / "layout").put(KEY, entry(packed(tmp_path)))
    listed = json.loads((tmp_path / "layout" / "index.json").read_bytes())["manifests"]
    assert [item["annotations"]["org.opencontainers.image.ref.name"] for item in listed] == [KEY]


def test_layout_sees_what_others_added(tmp_path: Path) -> None:
    store = LayoutSteps(tmp_path / "layout")
    store.put(KEY, entry(packed(tmp_path)))
    assert store.get(OTHER_KEY) is None
    LayoutSteps(tmp_path / "layout").put(OTHER_KEY, entry(packed(tmp_path)))
    assert store.get(OTHER_KEY) is not None


# --- a directory ----------------------------------------------------------------------------


def test_entry_is_a_layout_that_everybody_can_read(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        DirectorySteps(tmp_path / "kept").put(KEY, entry(packed(tmp_path)))
    finally:
        os.umask(old)
    assert len(LayoutStore(tmp_path / "kept" / KEY).listed()) == 1
    for path in (tmp_path / "kept").rglob("*"):
        expected = 0o755 if path.is_dir() else 0o644
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_hit_says_when_the_entry_was_last_used(tmp_path: Path) -> None:
    store = DirectorySteps(tmp_path / "kept", now=lambda: 4_000_000_000.0)
    store.put(KEY, entry(packed(tmp_path)))
    got(store)
    assert (tmp_path / "kept" / KEY).stat().st_mtime == 4_000_000_000.0


def test_entry_is_held_before_it_is_looked_at(tmp_path: Path) -> None:
    """Somebody who prunes just then removes it before it is held, and then never."""
    held: list[str] = []

    def hold(key: str) -> None:
        held.append(key)
        for blob in (tmp_path / "kept" / key).rglob("*"):
            if blob.is_file():
                blob.unlink()
        (tmp_path / "kept" / key).rename(tmp_path / "pruned")

    DirectorySteps(tmp_path / "kept").put(KEY, entry(packed(tmp_path)))
    assert DirectorySteps(tmp_path / "kept", hold=hold).get(KEY) is None
    assert held == [KEY]


def test_what_is_not_there_is_not_held(tmp_path: Path) -> None:
    held: list[str] = []
    assert DirectorySteps(tmp_path, hold=held.append).get(KEY) is None
    assert not held


def test_damaged_entry_is_made_anew(tmp_path: Path) -> None:
    store = DirectorySteps(tmp_path / "kept")
    store.put(KEY, entry(packed(tmp_path)))
    (tmp_path / "kept" / KEY / "index.json").write_text("{")
    store.put(KEY, entry(packed(tmp_path, "new")))
    assert got(store).layer.descriptor == packed(tmp_path, "new").descriptor


def test_failed_put_leaves_nothing(tmp_path: Path) -> None:
    layer = packed(tmp_path)
    image = entry(layer)
    layer.path.write_bytes(b"other bytes")
    with pytest.raises(ContentError):
        DirectorySteps(tmp_path / "kept").put(KEY, image)
    assert list((tmp_path / "kept").iterdir()) == []


def test_blobs_that_nobody_names_any_more_go_when_they_are_old(tmp_path: Path) -> None:
    day = 24 * 3600.0
    now = 4_000_000_000.0
    store = DirectorySteps(tmp_path / "kept", now=lambda: now)
    store.put(KEY, entry(packed(tmp_path, "1")))
    first = blob_of(got(store))
    store.put(KEY, entry(packed(tmp_path, "2")))
    assert first.exists()
    now += 2 * day
    store.put(KEY, entry(packed(tmp_path, "3")))
    assert not first.exists()
    assert content(got(store))


class FullDisk:
    """A layer that cannot be copied: the disk is full as often as *times* says."""

    def __init__(self, layer: FileLayer, times: int) -> None:
        self._layer = layer
        self._times = times

    @property
    def descriptor(self) -> Descriptor:
        return self._layer.descriptor

    @property
    def diff_id(self) -> Digest:
        return self._layer.diff_id

    def open(self) -> BinaryIO:
        if self._times:
            self._times -= 1
            cause = OSError(ENOSPC, os.strerror(ENOSPC))
            raise disk_error(cause, "write to", "the cache") from cause
        return self._layer.open()


def on_full_disk(layer: FileLayer, times: int) -> Image:
    image = entry(layer)
    return Image.of(image.raw_manifest, image.raw_config, (FullDisk(layer, times),))


def test_full_disk_is_made_room_on_once(tmp_path: Path) -> None:
    asked: list[int] = []

    def make_room(size: int) -> bool:
        asked.append(size)
        return True

    store = DirectorySteps(tmp_path / "kept", make_room=make_room)
    layer = packed(tmp_path)
    store.put(KEY, on_full_disk(layer, 1))
    assert asked == [layer.descriptor.size]
    assert content(got(store))
    with pytest.raises(DiskError):
        store.put(OTHER_KEY, on_full_disk(layer, 2))


def test_full_disk_without_room_is_an_error(tmp_path: Path) -> None:
    store = DirectorySteps(tmp_path / "kept", make_room=lambda _: False)
    with pytest.raises(DiskError):
        store.put(KEY, on_full_disk(packed(tmp_path), 1))
    assert store.get(KEY) is None


# --- a registry -----------------------------------------------------------------------------


def test_look_up_asks_for_a_manifest_and_a_blob(
    server: RegistryServer, registry: Registry, repository: Repository, tmp_path: Path
) -> None:
    store = RepositorySteps(repository, registry)
    layer = packed(tmp_path)
    store.put(KEY, entry(layer))
    server.requests.clear()
    step = got(store)
    assert server.lines() == [
        f"GET /v2/app/cache/manifests/{KEY}",
        f"HEAD /v2/app/cache/blobs/{layer.descriptor.digest}",
    ]
    assert isinstance(step.layer, Housed)
    assert step.layer.repository == repository


def test_blob_that_the_registry_forgot(
    server: RegistryServer, registry: Registry, repository: Repository, tmp_path: Path
) -> None:
    store = RepositorySteps(repository, registry)
    layer = packed(tmp_path)
    store.put(KEY, entry(layer))
    del server.blobs["app/cache"][str(layer.descriptor.digest)]
    with pytest.raises(ContentError, match="does not have the layer"):
        store.get(KEY)


def test_registry_that_refuses_is_no_miss(
    server: RegistryServer, registry: Registry, repository: Repository
) -> None:
    server.misbehave(Answer(403, code="DENIED"), times=None)
    with pytest.raises(RegistryError):
        RepositorySteps(repository, registry).get(KEY)


def test_record_that_is_the_same_is_not_sent_again(
    server: RegistryServer, registry: Registry, repository: Repository
) -> None:
    RepositorySteps(repository, registry).write_record("explain-01", b"data")
    server.requests.clear()
    RepositorySteps(repository, registry).write_record("explain-01", b"data")
    assert server.lines() == ["GET /v2/app/cache/manifests/explain-01"]


def test_blob_is_mounted_from_where_it_is(
    server: RegistryServer, registry: Registry, repository: Repository, tmp_path: Path
) -> None:
    layer = packed(tmp_path)
    digest = server.add_blob("app", layer.path.read_bytes())
    known = (Repository(server.address, "app"),)
    RepositorySteps(repository, registry).put(KEY, entry(layer), known_in=known)
    sent = [seen for seen in server.requests if seen.method in ("PUT", "PATCH")]
    assert str(digest) in server.blobs["app/cache"]
    assert not [seen for seen in sent if layer.path.read_bytes() in seen.body]


def test_other_than_manifests_are_a_miss(
    server: RegistryServer, registry: Registry, repository: Repository
) -> None:
    index = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    server.add_manifest("app/cache", KEY, MediaType.OCI_INDEX, index)
    assert RepositorySteps(repository, registry).get(KEY) is None


def test_record_that_claims_to_be_huge_is_refused(
    server: RegistryServer, registry: Registry, repository: Repository
) -> None:
    store = RepositorySteps(repository, registry)
    store.write_record("explain-01", b"data")
    _, raw = server.manifests["app/cache"]["explain-01"]
    huge = json.loads(raw)
    huge["layers"][0]["size"] = 1 << 40
    server.add_manifest(
        "app/cache", "explain-01", MediaType.OCI_MANIFEST, json.dumps(huge).encode()
    )
    with pytest.raises(ContentError, match="which cannot be"):
        store.read_record("explain-01")


def test_people_see_the_repository(registry: Registry) -> None:
    docker = Reference.parse("debian/cache").repository
    assert RepositorySteps(docker, registry).name == "debian/cache"
