"""The layer cache's places, for real: docker-registry, directories, skopeo's opinion of both."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from integration.faults import Refuse, Silence, faulty_proxy, faulty_registry
from integration.readers import config, manifest
from integration.world import REPOSITORY, Passwords, Registry
from kaniko_core.oci.compression import Compression
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.oci.layer import FileLayer, open_tar, write_layer
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference
from kaniko_core.options import CacheOptions, LayerCacheOptions, OutputOptions, RegistryOptions
from kaniko_core.registry import client
from kaniko_core.registry.pacing import Pacing
from kaniko_core.steps.cache import LayerCache, Limits
from kaniko_core.steps.opening import open_layer_cache
from kaniko_core.steps.repository import RepositorySteps
from kaniko_core.steps.step import CachedStep, LostLayer, MadeStep, Missing
from tests.steps.made import Heard

AMD64 = Platform("linux", "amd64")
KEY = "5eed" * 16
NOW = datetime.now(UTC)
MakeRegistry = Callable[..., Registry]
# Another builder: keeps steps under the same keys as others do, and then finds some.
BUILDER = """
import sys
from pathlib import Path
from integration.test_cache_stores import keys, kept, opened, packed
from tests.steps.made import Heard

repo, directory, text = sys.argv[1:]
heard = Heard()
print("ready", flush=True)
sys.stdin.readline()
with opened(repo, heard) as cache:
    for key in keys(5):
        cache.keep(kept(packed(Path(directory), text), key))
with opened(repo, heard) as cache:
    cache.look_up(keys(5))
    for key in keys(5):
        with cache.found(key).layer.open() as stream:
            assert stream.read()
assert not heard.warnings, heard.warnings
"""


@dataclass(frozen=True)
class Place:
    """Somewhere to keep steps, and how skopeo names an entry there."""

    repo: str
    skopeo: str

    def entry(self, key: str = KEY) -> str:
        return self.skopeo.format(key)


@pytest.fixture(params=["registry", "layout", "directory"])
def place(request: pytest.FixtureRequest, registry: Registry, tmp_path: Path) -> Place:
    match request.param:
        case "registry":
            name = f"{registry.address}/stores/{Digest.of(str(tmp_path).encode()).short}"
            return Place(name, f"{name}:{{}}")
        case "layout":
            return Place(f"oci:{tmp_path}/layout", f"oci:{tmp_path}/layout:{{}}")
        case _:
            return Place(f"{tmp_path}/directory", f"oci:{tmp_path}/directory/{{}}")


def keys(count: int) -> list[str]:
    return [f"{number:064x}" for number in range(count)]


def packed(
    directory: Path, text: str = "hello", compression: Compression = Compression.GZIP
) -> FileLayer:
    """Pack a layer with one file, as a build does."""
    content = text.encode()
    file = Entry(b"motd", Kind.FILE, 0o644, size=len(content), content=lambda: io.BytesIO(content))
    path = directory / f"layer-{Digest.of(content).short}-{compression.name}"
    return write_layer([file], path, compression=compression, docker=False, contents=True)


def kept(layer: FileLayer, key: str = KEY) -> MadeStep:
    future: Future[FileLayer] = Future()
    future.set_result(layer)
    return MadeStep(
        key=key,
        text="RUN echo hello > /motd",
        platform=AMD64,
        layer=future,
        created=NOW,
        made_on=lambda: ("sha256:below",),
        known_in=lambda: (),
    )


def opened(
    repo: str, heard: Heard, *, push: bool = True, later: timedelta = timedelta(0)
) -> AbstractContextManager[LayerCache | None]:
    return open_layer_cache(
        LayerCacheOptions(cache_repo=repo, no_push_cache=not push),
        CacheOptions(),
        RegistryOptions(),
        OutputOptions(no_push=True),
        platforms=[AMD64],
        shared=None,
        progress=heard,
        now=lambda: NOW + later,
    )


def keep(repo: str, *layers: FileLayer) -> None:
    """Keep *layers*, the first under KEY, in a build of their own."""
    heard = Heard()
    with opened(repo, heard) as cache:
        assert cache is not None
        for key, layer in zip([KEY, *keys(len(layers))], layers, strict=False):
            cache.keep(kept(layer, key))
    assert not heard.warnings


def found(cache: LayerCache, key: str = KEY) -> CachedStep:
    cache.look_up([key])
    step = cache.found(key)
    assert step is not None, cache.why(key)
    return step


def uploads(registry: Registry) -> list[str]:
    time.sleep(0.1)  # the log is written after the answer
    return [request.path for request in registry.requests() if request.uploads]


def fetches(registry: Registry) -> list[str]:
    time.sleep(0.1)
    return [request.path for request in registry.requests() if request.fetches_blob]


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
def test_next_build_finds_it(place: Place, tmp_path: Path, compression: Compression) -> None:
    layer = packed(tmp_path, compression=compression)
    keep(place.repo, layer)
    heard = Heard()
    with opened(place.repo, heard) as cache:
        assert cache is not None
        step = found(cache)
        assert step.contents == str(layer.contents)
        assert step.made_on == ("sha256:below",)
        assert step.layer.descriptor == layer.descriptor
        with open_tar(step.layer) as ours, open_tar(layer) as theirs:
            assert ours.read() == theirs.read()
    assert not heard.warnings


def test_skopeo_can_look_at_it(place: Place, tmp_path: Path) -> None:
    layer = packed(tmp_path)
    keep(place.repo, layer)
    said = manifest(place.entry())
    assert [item["digest"] for item in said["layers"]] == [str(layer.descriptor.digest)]
    assert said["annotations"]["io.github.kaniko-py.cache.diff-id"] == str(layer.diff_id)
    image = config(place.entry())
    assert (image["os"], image["architecture"]) == ("linux", "amd64")
    assert image["rootfs"]["diff_ids"] == [str(layer.diff_id)]
    assert [entry["created_by"] for entry in image["history"]] == ["RUN echo hello > /motd"]
    created = datetime.fromisoformat(image["created"])
    assert created == NOW


def test_layer_expires(place: Place, tmp_path: Path) -> None:
    keep(place.repo, packed(tmp_path))
    heard = Heard()
    with opened(place.repo, heard, later=timedelta(weeks=2, seconds=1)) as cache:
        assert cache is not None
        cache.look_up([KEY])
        assert cache.why(KEY) is Missing.EXPIRED
    assert len(heard.notes) == 1


def test_two_builders_keep_the_same_keys_at_once(place: Place, tmp_path: Path) -> None:
    builders = []
    for number in range(3):
        directory = tmp_path / f"builder-{number}"
        directory.mkdir()
        builders.append(
            subprocess.Popen(
                [sys.executable, "-c", BUILDER, place.repo, str(directory), f"builder {number}"],
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for builder in builders:
        assert builder.stdout is not None
        assert builder.stdout.readline() == "ready\n"
    for builder in builders:
        assert builder.stdin is not None
        builder.stdin.write("go\n")
        builder.stdin.flush()
    for builder in builders:
        _, errors = builder.communicate(timeout=60)
        assert builder.returncode == 0, errors
    for key in keys(5):
        assert manifest(place.entry(key))["layers"]


def test_no_push_cache_adds_nothing(place: Place, tmp_path: Path) -> None:
    heard = Heard()
    with opened(place.repo, heard, push=False) as cache:
        assert cache is not None
        cache.keep(kept(packed(tmp_path)))
        assert found(cache)
    with opened(place.repo, heard) as cache:
        assert cache is not None
        cache.look_up([KEY])
        assert cache.why(KEY) is Missing.ABSENT
    assert not heard.warnings


def test_records_are_kept_beside_the_layers(place: Place, registry: Registry) -> None:
    for _ in range(2):
        with opened(place.repo, Heard()) as cache:
            assert cache is not None
            cache.write_record("explain-0123", lambda: b"\x1f\x8bdata")
        registry.forget()
    with opened(place.repo, Heard()) as cache:
        assert cache is not None
        assert cache.read_record("explain-0123") == b"\x1f\x8bdata"


# --- a registry -----------------------------------------------------------------------------


def test_registry_that_forgot_a_blob(make_registry: MakeRegistry, tmp_path: Path) -> None:
    registry = make_registry()
    layer = packed(tmp_path)
    keep(f"{registry.address}/app/cache", layer)
    hexes = layer.descriptor.digest.hex
    blob = next(registry.storage.rglob(f"blobs/sha256/{hexes[:2]}/{hexes}/data"))
    blob.unlink()
    heard = Heard()
    with opened(f"{registry.address}/app/cache", heard) as cache:
        assert cache is not None
        cache.look_up([KEY])
        assert cache.found(KEY) is None
        assert cache.why(KEY) is Missing.LOST
        assert len(heard.warnings) == 1
        cache.keep(kept(layer))
    # What was built again is there again.
    heard = Heard()
    with opened(f"{registry.address}/app/cache", heard) as cache:
        assert cache is not None
        with found(cache).layer.open() as stream:
            assert stream.read() == layer.path.read_bytes()
    assert not heard.warnings


def test_blob_that_the_registry_changed_is_lost(
    make_registry: MakeRegistry, tmp_path: Path
) -> None:
    registry = make_registry()
    layer = packed(tmp_path)
    keep(f"{registry.address}/app/cache", layer)
    hexes = layer.descriptor.digest.hex
    blob = next(registry.storage.rglob(f"blobs/sha256/{hexes[:2]}/{hexes}/data"))
    blob.write_bytes(bytes(layer.descriptor.size))
    with opened(f"{registry.address}/app/cache", Heard()) as cache:
        assert cache is not None
        with open_tar(found(cache).layer) as tar, pytest.raises(LostLayer) as caught:
            while tar.read(1 << 20):
                pass
        assert caught.value.key == KEY


def test_layer_that_is_known_is_mounted_both_ways(registry: Registry, tmp_path: Path) -> None:
    name = f"{registry.address}/mounting"
    layer = packed(tmp_path, f"mounted {tmp_path}")
    with client.Registry(push=True) as talk:
        app = Reference.parse(f"{name}/app").repository
        talk.upload(app, layer)
        registry.forget()
        heard = Heard()
        with opened(f"{name}/app/cache", heard) as cache:
            assert cache is not None
            step = kept(layer)
            cache.keep(
                MadeStep(
                    key=step.key,
                    text=step.text,
                    platform=step.platform,
                    layer=step.layer,
                    created=step.created,
                    made_on=step.made_on,
                    known_in=lambda: (app,),
                )
            )
        assert not [path for path in uploads(registry) if str(layer.descriptor.digest) in path]
        registry.forget()
        with opened(f"{name}/app/cache", heard) as cache:
            assert cache is not None
            other = Reference.parse(f"{name}/other").repository
            talk.upload(other, found(cache).layer)
            assert talk.has_blob(other, layer.descriptor.digest)
        assert not uploads(registry)
        assert not fetches(registry)
        assert not heard.warnings


def test_layer_goes_from_one_registry_to_another_as_it_is(
    registry: Registry, make_registry: MakeRegistry, tmp_path: Path
) -> None:
    other = make_registry()
    layer = packed(tmp_path, "from one to another")
    keep(f"{registry.address}/one/cache", layer)
    with (
        opened(f"{registry.address}/one/cache", Heard()) as cache,
        client.Registry(push=True) as talk,
    ):
        assert cache is not None
        repository = Reference.parse(f"{other.address}/app").repository
        talk.upload(repository, found(cache).layer)
        assert talk.has_blob(repository, layer.descriptor.digest)


def test_registry_that_ends_during_the_build(make_registry: MakeRegistry, tmp_path: Path) -> None:
    registry = make_registry()
    repo = f"{registry.address}/app/cache"
    keep(repo, packed(tmp_path))
    heard = Heard()
    with opened(repo, heard) as cache:
        assert cache is not None
        step = found(cache)
        registry.stop()
        cache.look_up(keys(40))
        assert {cache.why(key) for key in keys(40)} == {Missing.UNREACHABLE}
        with step.layer.open() as stream, pytest.raises(LostLayer):
            stream.read(10)
        for key in keys(10):
            cache.keep(kept(packed(tmp_path), key))
    assert len(heard.warnings) == 1


def test_registry_that_never_answers_costs_one_wait(registry: Registry, tmp_path: Path) -> None:
    def silent(method: str, path: str) -> Silence | None:
        return Silence() if "/app/" in path else None

    with (
        faulty_proxy(registry.address, silent) as proxy,
        client.Registry(push=True, pacing=Pacing(1)) as talk,
    ):
        heard = Heard()
        store = RepositorySteps(Reference.parse(f"{proxy.address}/app").repository, talk)
        limits = Limits(ttl=timedelta(days=1), patience=1.0)
        cache = LayerCache(store, limits=limits, progress=heard, stop=talk.cancel)
        cache.look_up(keys(40))
        assert {cache.why(key) for key in keys(40)} == {Missing.UNREACHABLE}
        cache.look_up([KEY])
        cache.keep(kept(packed(tmp_path)))
        assert found(cache)
        cache.finish()
        assert len([line for line in proxy.requests if "/app/" in line]) <= 16
    assert len(heard.warnings) == 1
    assert "does not answer within 1 seconds" in heard.warnings[0]


def test_registry_that_takes_no_pushes_is_one_warning(tmp_path: Path) -> None:
    def read_only(method: str, path: str) -> Refuse | None:
        if path.rstrip("/") == "/v2":
            return None
        return Refuse(404 if method in ("GET", "HEAD") else 405)

    with faulty_registry(tmp_path, read_only) as mirror:
        heard = Heard()
        with opened(f"{mirror.address}/app/cache", heard) as cache:
            assert cache is not None
            cache.look_up(keys(10))
            assert {cache.why(key) for key in keys(10)} == {Missing.ABSENT}
            for key in keys(10):
                cache.keep(kept(packed(tmp_path), key))
        assert len(heard.warnings) == 1
        assert "cannot be kept" in heard.warnings[0]


def test_registry_with_a_password(
    make_registry: MakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = make_registry(passwords=Passwords("me", "hunter2"))
    repo = f"{registry.address}/app/cache"
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    heard = Heard()
    with opened(repo, heard) as cache:
        assert cache is not None
        cache.look_up(keys(20))
        cache.keep(kept(packed(tmp_path)))
    assert len(heard.warnings) == 1
    auth = base64.b64encode(b"me:hunter2").decode()
    auths = {"auths": {registry.address: {"auth": auth}}}
    (tmp_path / "config.json").write_text(json.dumps(auths))
    keep(repo, packed(tmp_path))
    with opened(repo, Heard()) as cache:
        assert cache is not None
        assert found(cache)
