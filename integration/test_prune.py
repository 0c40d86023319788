"""kaniko-warmer list and prune as people run them: beside running builds, and after killed ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from integration import readers
from integration.programs import Build, Programs, finished, said
from integration.world import Registry

_PATIENCE = 60.0  # seconds
_YEARS = 3 * 365 * 86400.0
_WAITING = """RUN --mount=type=cache,target=/c \\
    touch /c/started && while [ ! -e /c/go ]; do sleep 0.05; done"""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def warmed(programs: Programs, cache: Path, busybox: str) -> str:
    """Busybox, in the cache; its digest."""
    programs.warmer(f"--image={busybox}", f"--cache-dir={cache}", "--insecure-pull")
    return readers.digest(busybox)


def files(cache: Path) -> list[str]:
    """Return what the cache has for builds, without locks and the directories themselves."""
    places = (cache, *cache.glob(".layers/*"), cache / ".built", cache / ".mounts", cache / ".tags")
    own = {".layers", ".built", ".mounts", ".tags", ".uses", ".locks", "locks"}
    found = (path for place in places if place.is_dir() for path in place.iterdir())
    return sorted(str(path.relative_to(cache)) for path in found if path.name not in own)


def flags(build: Build, cache: Path) -> tuple[str, ...]:
    return (*build.arguments, "--isolation=sandbox", "--cache", f"--cache-dir={cache}")


@contextmanager
def waiting(build: Build, cache: Path, *prefix: str) -> Iterator[subprocess.Popen[bytes]]:
    """A build that is running a command, until the block lets it go or ends it."""
    process = build.programs.start(
        "kaniko_executor",
        *flags(build, cache),
        *("--insecure", "--insecure-pull", f"--kaniko-dir={build.programs.work}"),
        prefix=prefix,
    )
    with process:
        try:
            deadline = time.monotonic() + _PATIENCE
            while not list(cache.glob(".mounts/*/0/started")):
                assert process.poll() is None, process.stderr and process.stderr.read().decode()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def test_list_shows_what_was_warmed(
    programs: Programs, cache: Path, warmed: str, busybox: str
) -> None:
    table = programs.warmer("list", "-c", cache).stdout
    header, line = table.split("\n\n")[0].splitlines()
    assert header.split("  ")[0] == "IMAGE"
    assert line.startswith(f"{busybox} (linux/")
    assert warmed.removeprefix("sha256:")[:12] in line
    (image,) = json.loads(programs.warmer("list", "--format", "json", f"-c={cache}").stdout)[
        "images"
    ]
    assert image["digest"] == warmed
    assert [name["name"] for name in image["names"]] == [busybox]
    # Directories and notes are not counted.
    du = ["du", "--block-size=1", cache / warmed, cache / f"{warmed}.json"]
    sizes = [int(row.split()[0]) for row in subprocess.check_output(du, text=True).splitlines()]
    assert image["size"] == sum(sizes)


def test_list_counts_what_builds_leave(
    build: Build, programs: Programs, cache: Path, warmed: str, busybox: str
) -> None:
    build(
        f"FROM {busybox}\nRUN --mount=type=cache,target=/c dd if=/dev/zero of=/c/f bs=1M count=1\n",
        *flags(build, cache)[len(build.arguments) :],
    )
    totals = json.loads(programs.warmer("list", "--format=json", f"-c={cache}").stdout)["totals"]
    assert totals["images"]["count"] == 1
    assert totals["unpackedLayers"]["count"] == 1
    assert totals["runCaches"]["count"] == 1
    assert totals["runCaches"]["size"] >= 1 << 20
    du = ["du", "--summarize", "--block-size=1", *cache.glob(".layers/*/[0-9a-f]*")]
    (size,) = [int(row.split()[0]) for row in subprocess.check_output(du, text=True).splitlines()]
    assert totals["unpackedLayers"]["size"] == size


def test_a_fresh_cache_loses_nothing(programs: Programs, cache: Path, warmed: str) -> None:
    before = files(cache)
    assert programs.warmer("prune", "-c", cache).stdout.startswith("0.0 MB freed")
    assert files(cache) == before


def test_what_was_not_used_goes_with_all_its_files(
    programs: Programs, cache: Path, warmed: str, busybox: str
) -> None:
    dry = programs.warmer("prune", "-c", cache, "--older-than=0", "--dry-run").stdout
    assert "would be freed" in dry
    assert warmed in " ".join(files(cache))
    done = programs.warmer("prune", "-c", cache, "--older-than=0").stdout
    assert done.splitlines()[1].split()[0] == "image"
    assert files(cache) == []
    again = programs.warmer(f"--image={busybox}", f"--cache-dir={cache}", "--insecure-pull")
    assert again.stdout.splitlines()[-1].endswith("downloaded")


def test_a_build_renews_the_last_use_of_its_image(
    build: Build, programs: Programs, cache: Path, warmed: str, busybox: str
) -> None:
    """The image is as old as it was; but it is wanted."""
    for name in (warmed, f"{warmed}.json"):
        os.utime(cache / name, (time.time() - _YEARS,) * 2)
    build(
        f"FROM {busybox}\nLABEL a=b\n",
        *flags(build, cache)[len(build.arguments) :],
        "--cache-ttl=99999h",
    )
    assert "0.0 MB freed" in programs.warmer("prune", "-c", cache).stdout
    assert warmed in files(cache)


def test_what_a_running_build_uses_stays(
    build: Build, programs: Programs, cache: Path, warmed: str, busybox: str
) -> None:
    build.fill({"Dockerfile": f"FROM {busybox}\n{_WAITING}\nRUN busybox true && test -x /bin/sh\n"})
    with waiting(build, cache) as process:
        done = programs.warmer("prune", "-c", cache, "--max-size=0")
        assert "3 kept for builds that are running" in done.stdout
        (mounted,) = cache.glob(".mounts/*/0")
        (mounted / "go").touch()
        assert finished(process).status == 0
    assert [name for name in files(cache) if name.startswith((".layers", ".mounts", warmed))]
    programs.warmer("prune", "-c", cache, "--max-size=0")
    assert files(cache) == []
    assert not [path for path in (cache / ".uses").iterdir() if path.name != "lock"]


def test_what_a_killed_build_used_goes(
    build: Build, programs: Programs, cache: Path, warmed: str, busybox: str
) -> None:
    build.fill({"Dockerfile": f"FROM {busybox}\n{_WAITING}\n"})
    with waiting(build, cache):
        pass
    programs.warmer("prune", "-c", cache, "--max-size=0")
    assert files(cache) == []


def test_a_build_that_may_only_read_the_cache_keeps_its_image(
    build: Build, programs: Programs, cache: Path, warmed: str, busybox: str, tmp_path: Path
) -> None:
    """As pods do whose volume is mounted read-only: no list can be written there."""
    gate = tmp_path / "gate"
    gate.mkdir()
    build.fill(
        {
            "Dockerfile": f"FROM {busybox}\n"
            "RUN --mount=type=bind,from=gate,target=/c while [ ! -e /c/go ]; do sleep 0.05; done\n"
        }
    )
    script = f'mount --bind -o ro {cache} {cache}; mount -o remount,bind,ro {cache}; exec "$@"'
    process = build.programs.start(
        "kaniko_executor",
        *flags(build, cache),
        *("--insecure", "--insecure-pull", f"--kaniko-dir={build.programs.work}"),
        f"--build-context=gate={gate}",
        prefix=("unshare", "--mount", "--propagation=private", "sh", "-ec", script, "sh"),
    )
    assert process.stderr
    written = b""
    while b"RUN --mount" not in written:
        more = os.read(process.stderr.fileno(), 4096)
        assert more, written.decode()
        written += more
    done = programs.warmer("prune", "-c", cache, "--max-size=0")
    (gate / "go").touch()
    assert finished(process).status == 0
    assert "1 kept for builds that are running" in done.stdout
    assert warmed in files(cache)


def test_a_cache_that_cannot_be_pruned_is_a_sentence(programs: Programs, tmp_path: Path) -> None:
    done = programs.warmer("prune", "-c", tmp_path / "missing", check=False)
    said(done, "cannot prune the cache", "No such file or directory")


def test_two_that_prune_at_once(programs: Programs, cache: Path, warmed: str) -> None:
    for number in range(200):
        path = cache / ".built" / f"{number:064x}"
        path.mkdir(parents=True)
        (path / "index.json").touch()
    started = [
        programs.start("kaniko_warmer", "prune", f"-c={cache}", "--older-than=0") for _ in "12"
    ]
    counts = [finished(process).stdout.count("built layer") for process in started]
    assert files(cache) == []
    assert sum(counts) == 200


def test_the_registry_is_not_asked(
    programs: Programs, cache: Path, warmed: str, registry: Registry
) -> None:
    registry.forget()
    programs.warmer("list", "-c", cache)
    programs.warmer("prune", "-c", cache)
    assert registry.requests() == []
