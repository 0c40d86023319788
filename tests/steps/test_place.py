"""What --cache-repo means, and the cache that comes of it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from kaniko_core.errors import UsageError
from kaniko_core.oci.reference import Repository
from kaniko_core.options import (
    CacheOptions,
    Destination,
    LayerCacheOptions,
    OutputOptions,
    RegistryOptions,
)
from kaniko_core.progress import Progress
from kaniko_core.steps.cache import LayerCache
from kaniko_core.steps.opening import open_layer_cache
from kaniko_core.steps.place import LocalPlace, PlaceKind, cache_place
from kaniko_core.steps.step import Missing
from tests.registry_server import RegistryServer
from tests.samples import AMD64
from tests.steps.made import CREATED, KEY, Heard, entry, made, packed

APP = OutputOptions(destination=(Destination.parse("example.com/team/app:1"),))
NOWHERE = OutputOptions(no_push=True)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("example.com:5000/a/b", Repository("example.com:5000", "a/b")),
        ("a", Repository("docker.io", "library/a")),
        ("oci:/x/y", LocalPlace(PlaceKind.LAYOUT, Path("/x/y"))),
        ("oci:y", LocalPlace(PlaceKind.LAYOUT, Path.cwd() / "y")),
        ("dir:/x", LocalPlace(PlaceKind.DIRECTORY, Path("/x"))),
        ("/x/y", LocalPlace(PlaceKind.DIRECTORY, Path("/x/y"))),
        ("./y", LocalPlace(PlaceKind.DIRECTORY, Path.cwd() / "y")),
    ],
)
def test_named_place(text: str, place: LocalPlace | Repository) -> None:
    assert cache_place(text, APP, Path("/cache")) == place


def test_inferred_place() -> None:
    other = Destination.parse("other.example.com/x")
    both = OutputOptions(destination=(*APP.destination, other))
    assert cache_place("", both, Path("/cache")) == Repository("example.com", "team/app/cache")
    built = LocalPlace(PlaceKind.DIRECTORY, Path("/cache/.built"))
    assert cache_place("", NOWHERE, Path("/cache")) == built
    assert cache_place("", NOWHERE, None) is None


@pytest.mark.parametrize(
    "text",
    ["example.com/a:tag", f"example.com/a@sha256:{'0' * 64}", "oci:", "dir:", "Not/A/Name"],
)
def test_what_names_no_place_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        cache_place(text, APP, None)


# --- opened ---------------------------------------------------------------------------------


def opened(
    repo: str, progress: Progress, *, output: OutputOptions = NOWHERE, shared: Path | None = None
) -> AbstractContextManager[LayerCache | None]:
    return open_layer_cache(
        LayerCacheOptions(cache_repo=repo),
        CacheOptions(),
        RegistryOptions(),
        output,
        platforms=[AMD64],
        shared=shared,
        progress=progress,
        now=lambda: CREATED,
    )


def keep_and_find(repo: str, tmp_path: Path) -> None:
    heard = Heard()
    with opened(repo, heard) as cache:
        assert cache is not None
        cache.keep(made(packed(tmp_path)))
    with opened(repo, heard) as cache:
        assert cache is not None
        cache.look_up([KEY])
        assert cache.found(KEY) is not None
    assert not heard.warnings


def test_repository(server: RegistryServer, tmp_path: Path) -> None:
    keep_and_find(f"{server.address}/app/cache", tmp_path)
    assert KEY in server.manifests["app/cache"]


def test_layout(tmp_path: Path) -> None:
    keep_and_find(f"oci:{tmp_path}/layout", tmp_path)
    assert (tmp_path / "layout" / "oci-layout").exists()


def test_directory(tmp_path: Path) -> None:
    keep_and_find(f"{tmp_path}/kept", tmp_path)
    assert (tmp_path / "kept" / KEY / "oci-layout").exists()


def test_nowhere_is_said() -> None:
    heard = Heard()
    with opened("", heard) as cache:
        assert cache is None
    assert len(heard.notes) == 1
    assert "--cache-repo" in heard.notes[0]


def test_directory_in_the_cache_directory_is_held(tmp_path: Path) -> None:
    held: list[str] = []
    with open_layer_cache(
        LayerCacheOptions(),
        CacheOptions(),
        RegistryOptions(),
        NOWHERE,
        platforms=[AMD64],
        shared=tmp_path,
        progress=Heard(),
        hold=held.append,
        now=lambda: CREATED,
    ) as cache:
        assert cache is not None
        cache.keep(made(packed(tmp_path)))
    assert held == [f".built/{KEY}"]
    assert (tmp_path / ".built" / KEY).is_dir()


def test_registry_that_is_down_costs_one_warning(tmp_path: Path) -> None:
    heard = Heard()
    with opened("127.0.0.1:1/cache", heard) as cache:
        assert cache is not None
        cache.look_up([f"{n:064x}" for n in range(40)])
        assert cache.why(f"{0:064x}") is Missing.UNREACHABLE
        cache.keep(made(packed(tmp_path)))
    assert len(heard.warnings) == 1


def test_failed_build_waits_for_nothing(tmp_path: Path) -> None:
    heard = Heard()

    class Failed(Exception):  # noqa: N818 - names what happened
        pass

    with pytest.raises(Failed), opened(f"{tmp_path}/kept", heard) as cache:
        assert cache is not None
        raise Failed
    assert not heard.warnings


def test_entry_can_be_read_by_its_history(tmp_path: Path) -> None:
    image = entry(packed(tmp_path))
    (history,) = image.config.history
    assert history.created_by == "RUN echo hello > motd"
    assert history.created == image.config.created == "2024-05-01T12:30:15.123456Z"
    assert image.config.platform == AMD64
