"""A cache directory whose disk is full: it is pruned, or bypassed, and the build succeeds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from integration.programs import Build, Finished, finished
from integration.readers import Podman

# Mounts a small disk on the cache directory, runs the program for each base that is named before
# ``--``, and lists what the cache keeps. All in a mount namespace of its own.
_ON_A_SMALL_DISK = """
set -e
mount -t tmpfs -o "$1" tmpfs "$2"
at=$2; shift 2
bases=; while [ "$1" != -- ]; do bases="$bases $1"; shift; done; shift
for base in $bases; do
    echo "building from $base" >&2
    "$@" --build-arg=BASE="$base"
done
find "$at" -mindepth 1 -maxdepth 3 -printf 'kept: %P\\n'
"""
_MEGABYTE = 1 << 20
_MADE = 6  # megabytes that a command makes


@pytest.fixture
def bases(build: Build, busybox: str, registry_names: list[str]) -> list[str]:
    """Two images on top of busybox, each with a file of 8 MB of its own."""
    for name in registry_names[:2]:
        noise = os.urandom(8 * _MEGABYTE)
        base = Build(build.programs, build.context, name)
        base(f"FROM {busybox}\nCOPY noise /noise\n", files={"noise": noise})
    (build.context / "noise").unlink()
    return registry_names[:2]


def built(
    build: Build, size: str, cache: Path, bases: list[str], run: str, *flags: str
) -> Finished:
    """Build from each of *bases* with the cache directory on a disk of *size*."""
    cache.mkdir()
    build.fill({"Dockerfile": f"ARG BASE={bases[0]}\nFROM $BASE\nRUN {run}\n"})
    prefix = ("unshare", "--mount", "--propagation=private", "sh", "-c", _ON_A_SMALL_DISK, "sh")
    process = build.programs.start(
        "kaniko_executor",
        *build.arguments,
        *("--insecure", "--insecure-pull", "--cache", "--isolation=sandbox"),
        f"--kaniko-dir={build.programs.work}",
        f"--cache-dir={cache}",
        *flags,
        prefix=(*prefix, f"size={size}", str(cache), *bases, "--"),
    )
    return finished(process)


def kept(done: Finished) -> list[str]:
    """Return the entries for unpacked layers that are in the cache at the end."""
    names = [line.removeprefix("kept: ") for line in done.stdout.splitlines()]
    layers = [name.split("/")[2] for name in names if name.startswith(".layers/trusted/")]
    return [name for name in layers if name != "locks"]


def warnings(done: Finished) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("warning:")]


def test_layers_that_nobody_uses_make_room_for_those_of_the_build(
    build: Build, tmp_path: Path, bases: list[str]
) -> None:
    done = built(build, "14m", tmp_path / "cache", bases, "test -s /noise")
    assert warnings(done) == []
    assert "is full: removed one layer of 8.4 MB that no running build uses" in done.stderr
    assert len(kept(done)) == 2  # busybox's, and that of the second base
    assert build.programs.leftovers() == []


def test_a_disk_that_is_too_small_is_bypassed(
    build: Build, tmp_path: Path, bases: list[str]
) -> None:
    done = built(build, "4m", tmp_path / "cache", bases[:1], "test -s /noise")
    (warning,) = warnings(done)
    assert "unpacked layers are not kept for later builds: cannot unpack" in warning
    assert "No space left on device" in warning
    assert len(kept(done)) <= 1  # busybox's, unless the other one took its room
    assert build.programs.leftovers() == []


def test_a_disk_without_any_room_is_bypassed(
    build: Build, tmp_path: Path, bases: list[str]
) -> None:
    """Not even a directory can be made there."""
    done = built(build, "4m,nr_inodes=2", tmp_path / "cache", bases[:1], "test -s /noise")
    assert any("unpacked layers are not kept for later builds" in w for w in warnings(done))
    assert build.programs.leftovers() == []


def test_a_cache_of_run_that_cannot_be_made_is_one_of_this_build(
    build: Build, tmp_path: Path, bases: list[str]
) -> None:
    run = "--mount=type=cache,target=/c echo kept >/c/file && cat /c/file"
    done = built(build, "4m,nr_inodes=2", tmp_path / "cache", bases[:1], run)
    assert "caches of RUN are kept for this build only" in done.stderr


def test_a_layer_that_has_no_room_is_not_kept_and_still_built(
    build: Build, tmp_path: Path, bases: list[str], podman: Podman
) -> None:
    cache = tmp_path / "cache"
    run = f"dd if=/dev/urandom of=/made bs=1M count={_MADE}"
    done = built(build, "14m", cache, bases[:1], run, f"--cache-repo=dir:{cache}/.built")
    (warning,) = warnings(done)
    assert "No space left on device" in warning
    assert "kept: .built/" not in [
        line[: len("kept: .built/")] for line in done.stdout.splitlines()
    ]
    made = podman.run(build.image, "wc", "-c", "/made")
    assert made.split() == [str(_MADE * _MEGABYTE), "/made"]


def test_layers_of_other_bases_make_room_for_what_is_made(
    build: Build, tmp_path: Path, bases: list[str]
) -> None:
    cache = tmp_path / "cache"
    run = f"dd if=/dev/urandom of=/made bs=1M count={_MADE}"
    done = built(build, "29m", cache, bases, run, f"--cache-repo=dir:{cache}/.built")
    assert warnings(done) == []
    assert "that no running build uses" in done.stderr
    keys = {line.split("/")[1] for line in done.stdout.splitlines() if "kept: .built/" in line}
    assert len([key for key in keys if not key.startswith(("explain", "."))]) == 2
    assert len(kept(done)) == 2  # busybox's, and that of the second base
