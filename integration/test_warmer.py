"""kaniko-warmer as people run it: against a real registry, killed, at once, without space."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from integration import images, readers
from integration.programs import Finished, Programs, finished
from integration.world import REPOSITORY, Registry
from kaniko_core.cache.images import ImageCache
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference
from kaniko_core.options import CacheOptions, RegistryOptions
from kaniko_core.registry.client import Registry as KanikoRegistry

_PATIENCE = 60.0  # seconds


@pytest.fixture
def cache() -> Iterator[Path]:
    """A cache directory that every user can reach, unlike pytest's own."""
    top = Path(tempfile.mkdtemp(prefix="kaniko-warmer-"))
    top.chmod(0o755)
    yield top / "cache"
    shutil.rmtree(top)


@pytest.fixture
def own(make_registry: Callable[..., Registry]) -> Registry:
    """A registry whose access log only this test writes to, with the two small images."""
    registry = make_registry()
    images.push(images.busybox_layout(), registry, "base/busybox:1.35")
    images.push(images.debian_layout(), registry, "base/debian:bookworm")
    registry.forget()
    return registry


def flags(cache: Path, *names: str) -> list[str]:
    return [f"--cache-dir={cache}", "--insecure-pull", *(f"--image={name}" for name in names)]


def lines(result: Finished) -> list[str]:
    """The summary's lines for the images."""
    return result.stdout.splitlines()[1:]


def blobs(registry: Registry) -> list[str]:
    """The blobs that were fetched since the last look, sorted."""
    time.sleep(0.1)  # the log is written after the answer
    return sorted(r.path for r in registry.requests() if r.fetches_blob)


def entries(cache: Path) -> list[Path]:
    return sorted(p for p in cache.iterdir() if p.name.startswith("sha256:") and not p.suffix)


def temporaries(cache: Path) -> list[str]:
    return [path.name for path in cache.glob(".tmp-*")]


def test_entries_are_as_other_tools_and_the_registry_know_the_images(
    programs: Programs, cache: Path, own: Registry, tmp_path: Path
) -> None:
    names = [f"{own.address}/base/busybox:1.35", f"{own.address}/base/debian:bookworm"]
    result = programs.warmer(*flags(cache, *names))
    assert [line.split()[0] for line in lines(result)] == names
    assert all(line.endswith("  downloaded") for line in lines(result))
    for name in names:
        digest = readers.digest(name)
        entry = cache / digest
        sidecar = (cache / f"{digest}.json").read_bytes()
        assert "sha256:" + hashlib.sha256(sidecar).hexdigest() == digest
        assert [p.stat().st_mode & 0o777 for p in (cache, entry)] == [0o755, 0o644]
        manifest = readers.manifest(name)
        with tarfile.open(entry) as tar:
            assert tar.getnames() == [
                manifest["config"]["digest"],
                *(f"{la['digest'].removeprefix('sha256:')}.tar.gz" for la in manifest["layers"]),
                "manifest.json",
            ]
        # skopeo splits names at colons.
        link = tmp_path / "entry.tar"
        link.unlink(missing_ok=True)
        link.symlink_to(entry)
        assert readers.config(f"docker-archive:{link}") == readers.config(name)


def test_podman_loads_and_runs_an_entry(
    programs: Programs, cache: Path, own: Registry, podman: readers.Podman, tmp_path: Path
) -> None:
    name = f"{own.address}/base/busybox:1.35"
    programs.warmer(*flags(cache, name))
    shutil.copy(entries(cache)[0], tmp_path / "entry.tar")
    podman("load", "--input", tmp_path / "entry.tar")
    assert podman.run(name, "echo", "hello", flags=("--pull=never",)) == "hello\n"


def test_a_second_run_downloads_nothing_and_is_quick(
    programs: Programs, cache: Path, own: Registry, record_property: Callable[[str, object], None]
) -> None:
    names = [f"{own.address}/base/busybox:1.35", f"{own.address}/base/debian:bookworm"]
    programs.warmer(*flags(cache, *names))
    own.forget()
    best = _PATIENCE
    for _ in range(5):
        started = time.monotonic()
        result = programs.warmer(*flags(cache, *names))
        best = min(best, time.monotonic() - started)
        assert all(line.endswith("  already cached") for line in lines(result))
    time.sleep(0.1)
    asked = {(r.method, r.path.split("/")[-2]) for r in own.requests() if r.path != "/v2/"}
    assert asked == {("HEAD", "manifests")}
    record_property("seconds", best)
    print(f"\na second run of kaniko-warmer: {best:.3f} s")


def test_a_digest_that_is_there_needs_no_registry(
    programs: Programs, cache: Path, own: Registry
) -> None:
    tag = f"{own.address}/base/busybox:1.35"
    name = f"{own.address}/base/busybox@{readers.digest(tag)}"
    programs.warmer(*flags(cache, name))
    own.stop()
    assert lines(programs.warmer(*flags(cache, name)))[0].endswith("already cached")


def test_warmers_at_the_same_time_share_one_download(
    programs: Programs, cache: Path, own: Registry
) -> None:
    name = f"{own.address}/base/debian:bookworm"
    started = [programs.start("kaniko_warmer", *flags(cache, name)) for _ in range(3)]
    results = [finished(process) for process in started]
    ends = sorted(lines(result)[0].split("s  ")[-1] for result in results)
    assert ends == ["already cached", "already cached", "downloaded"]
    fetched = blobs(own)
    assert len(fetched) == len(set(fetched))
    assert temporaries(cache) == []


def test_a_killed_warmer_leaves_nothing_that_the_next_minds(
    programs: Programs, cache: Path, own: Registry
) -> None:
    name = f"{own.address}/base/debian:bookworm"
    for _ in range(3):
        shutil.rmtree(cache, ignore_errors=True)
        process = programs.start("kaniko_warmer", *flags(cache, name))
        wait_for_temporary(cache)
        process.send_signal(signal.SIGKILL)
        finished(process, check=False)
        # It was killed before the end, or else it had already ended: never in between.
        left = temporaries(cache)
        assert left or entries(cache)
        result = programs.warmer(*flags(cache, name))
        assert lines(result)[0].endswith("downloaded" if left else "already cached")
        assert temporaries(cache) == []
        assert_whole(entries(cache)[0])


def test_another_warmer_does_not_sweep_what_one_is_writing(
    programs: Programs, cache: Path, own: Registry
) -> None:
    process = programs.start("kaniko_warmer", *flags(cache, f"{own.address}/base/debian:bookworm"))
    wait_for_temporary(cache)
    process.send_signal(signal.SIGSTOP)
    try:
        before = temporaries(cache)
        programs.warmer(*flags(cache, f"{own.address}/base/busybox:1.35"))
        assert set(before) <= set(temporaries(cache))
    finally:
        process.send_signal(signal.SIGCONT)
    assert lines(finished(process))[0].endswith("downloaded")
    assert temporaries(cache) == []


def test_ctrl_c_ends_it_and_leaves_nothing(programs: Programs, cache: Path, own: Registry) -> None:
    process = programs.start("kaniko_warmer", *flags(cache, f"{own.address}/base/debian:bookworm"))
    wait_for_temporary(cache)
    process.send_signal(signal.SIGINT)
    result = finished(process, check=False)
    assert "Traceback" not in result.written
    assert temporaries(cache) == []
    if result.status == 0:
        pytest.skip("it was faster than the signal")


def wait_for_temporary(cache: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError):
            if any(path.stat().st_size > 1_000_000 for path in cache.glob(".tmp-*")):
                return
    raise AssertionError("the warmer does not write")


def assert_whole(entry: Path) -> None:
    """Check every layer against its name."""
    with tarfile.open(entry) as tar:
        for member in tar.getmembers()[1:-1]:
            content = tar.extractfile(member)
            assert content is not None
            digest = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
            assert member.name == f"{digest}.tar.gz"


def test_force_replaces_while_a_reader_reads(
    programs: Programs, cache: Path, own: Registry
) -> None:
    name = f"{own.address}/base/busybox:1.35"
    programs.warmer(*flags(cache, name))
    entry = entries(cache)[0]
    before = entry.read_bytes()
    with entry.open("rb") as reader:
        head = reader.read(1000)
        result = programs.warmer(*flags(cache, name), "--force")
        assert lines(result)[0].endswith("replaced")
        assert os.fstat(reader.fileno()).st_ino != entry.stat().st_ino
        assert head + reader.read() == before
    assert_whole(entry)


def test_an_expired_entry_is_renewed_without_a_download(
    programs: Programs, cache: Path, own: Registry
) -> None:
    name = f"{own.address}/base/busybox:1.35"
    programs.warmer(*flags(cache, name))
    os.utime(entries(cache)[0], (0, 0))
    own.forget()
    result = programs.warmer(*flags(cache, name), "--cache-ttl=1h")
    assert lines(result)[0].endswith("renewed")
    assert blobs(own) == []
    assert entries(cache)[0].stat().st_mtime > time.time() - 600


@pytest.mark.parametrize("damage", ["sidecar lost", "sidecar wrong", "tarball cut"])
def test_damage_is_repaired_with_one_warning(
    programs: Programs, cache: Path, own: Registry, damage: str
) -> None:
    name = f"{own.address}/base/busybox:1.35"
    programs.warmer(*flags(cache, name))
    entry = entries(cache)[0]
    sidecar = entry.with_name(f"{entry.name}.json")
    match damage:
        case "sidecar lost":
            sidecar.unlink()
        case "sidecar wrong":
            sidecar.write_bytes(b"{}")
        case _:
            os.truncate(entry, 100_000)
    result = programs.warmer(*flags(cache, name))
    assert lines(result)[0].endswith("repaired")
    assert result.stderr.count("is damaged") == 1
    assert_whole(entry)
    assert "sha256:" + hashlib.sha256(sidecar.read_bytes()).hexdigest() == entry.name


def test_one_image_that_fails_does_not_stop_the_others(
    programs: Programs, cache: Path, own: Registry
) -> None:
    names = [f"{own.address}/base/nothing:1", f"{own.address}/base/busybox:1.35"]
    result = programs.warmer(*flags(cache, *names), check=False)
    assert result.status == 1
    assert "failed: there is no image" in lines(result)[0]
    assert lines(result)[1].endswith("downloaded")
    assert "Traceback" not in result.written


def test_a_dockerfiles_images_are_warmed(
    programs: Programs, cache: Path, own: Registry, tmp_path: Path
) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(
        f"ARG RELEASE=nowhere\nFROM {own.address}/base/debian:$RELEASE AS build\nRUN make\n"
        f"FROM scratch\nCOPY --from=build /a /\n"
        f"COPY --from={own.address}/base/busybox:1.35 /bin/busybox /\n"
    )
    result = programs.warmer(
        *flags(cache), f"--dockerfile={dockerfile}", "--build-arg=RELEASE=bookworm"
    )
    assert {line.split()[0].rpartition("/")[2] for line in lines(result)} == {
        "debian:bookworm",
        "busybox:1.35",
    }


def test_nothing_to_warm_is_a_sentence(programs: Programs, cache: Path) -> None:
    result = programs.warmer(*flags(cache), check=False)
    assert result.status == 2
    assert "no image to warm" in result.stderr
    assert "--dockerfile" in result.stderr


_LOOK = """
import sys
from pathlib import Path
from kaniko_core.cache.images import ImageCache
from kaniko_core.oci.digest import Digest
from kaniko_core.options import CacheOptions
found = ImageCache(CacheOptions(cache_dir=Path(sys.argv[1]))).look_up(Digest.parse(sys.argv[2]))
print(found.freshness.value, found.detail)
for layer in found.image.layers if found.image else ():
    with layer.open() as stream:
        while stream.read(1 << 20):
            pass
"""


def look(cache: Path, digest: str) -> str:
    """Look an entry up, and read it all, as nobody."""
    return readers.output_of(
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
        sys.executable, "-c", _LOOK, cache, digest, env={"PYTHONPATH": str(REPOSITORY)},
    ).strip()  # fmt: skip


def test_other_users_read_what_root_warmed(programs: Programs, cache: Path, own: Registry) -> None:
    programs.warmer(*flags(cache, f"{own.address}/base/busybox:1.35"))
    entry = entries(cache)[0]
    assert look(cache, entry.name) == "fresh"
    entry.chmod(0o600)
    assert look(cache, entry.name) == "unreadable Permission denied"


def with_mount(script: str) -> list[str]:
    """Return a prefix that runs *script*, then the program, then ``ls`` of ``$CACHE``.

    All in a mount namespace of their own.
    """
    shell = f'set -e; {script}; s=0; "$@" || s=$?; echo "left: $(ls -A "$CACHE")"; exit $s'
    return ["unshare", "--mount", "--propagation=private", "sh", "-c", shell, "sh"]


def test_a_full_disk_is_a_sentence_and_nothing_is_left(
    programs: Programs, cache: Path, own: Registry
) -> None:
    cache.mkdir()
    process = programs.start(
        "kaniko_warmer",
        *flags(cache, f"{own.address}/base/debian:bookworm"),
        prefix=with_mount('mount -t tmpfs -o size=4m none "$CACHE"'),
        env={"CACHE": str(cache)},
    )
    result = finished(process, check=False)
    assert result.status == 1
    assert "No space left on device" in result.stderr
    assert "free some space there" in result.stderr
    assert "Traceback" not in result.written
    assert result.stdout.splitlines()[-1] == "left: .locks"


def test_a_read_only_cache_serves_what_it_has_and_refuses_the_rest(
    programs: Programs, cache: Path, own: Registry
) -> None:
    names = [f"{own.address}/base/busybox:1.35", f"{own.address}/base/debian:bookworm"]
    programs.warmer(*flags(cache, names[0]))
    process = programs.start(
        "kaniko_warmer",
        *flags(cache, *names),
        prefix=with_mount('mount --bind "$CACHE" "$CACHE"; mount -o remount,bind,ro "$CACHE"'),
        env={"CACHE": str(cache)},
    )
    result = finished(process, check=False)
    assert result.status == 1
    assert lines(result)[0].endswith("already cached")
    assert "failed: cannot write to the cache" in lines(result)[1]
    assert "Read-only file system" in lines(result)[1]
    assert "Traceback" not in result.written


def test_it_needs_little_memory(programs: Programs, cache: Path, own: Registry) -> None:
    """Layers stream from the registry into the entry: no image is held in memory."""
    result = finished(
        programs.start(
            "kaniko_warmer",
            *flags(cache, f"{own.address}/base/debian:bookworm"),
            prefix=[sys.executable, "-c", _MEASURE],
        )
    )
    peak = int(result.stdout.splitlines()[-1])
    assert peak < 150_000, f"{peak} KiB"


_MEASURE = """
import resource, subprocess, sys
status = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


def test_the_access_log_is_really_read(programs: Programs, cache: Path, own: Registry) -> None:
    """A first run fetches blobs; without this, the tests above that see none prove nothing."""
    programs.warmer(*flags(cache, f"{own.address}/base/busybox:1.35"))
    assert len(blobs(own)) == 2


def test_an_executor_waits_for_the_image_that_a_warmer_is_fetching(
    programs: Programs, own: Registry, cache: Path, tmp_path: Path
) -> None:
    """The lock is this test's, so that the warmer may be as slow as it has to be."""
    name = f"{own.address}/base/busybox:1.35"
    (tmp_path / "Dockerfile").write_text(f"FROM {name}\nRUN true\n")
    store = ImageCache(CacheOptions(cache_dir=cache))
    with KanikoRegistry(RegistryOptions(insecure_pull=True)) as pull:
        image = pull.get(Reference.parse(name), Platform.host())
        assert image is not None
        with store.lock(image.digest):
            building = programs.start_executor(
                f"--context={tmp_path}", "--no-push", "--cache", f"--cache-dir={cache}"
            )
            assert building.stderr
            written = b""
            while b"waiting for it" not in written:
                written += os.read(building.stderr.fileno(), 4096)
            store.put(image)
            assert len(blobs(own)) == 2  # the config and the layer, by us
            own.forget()
        assert finished(building).status == 0
    assert blobs(own) == []


# --- what the executor makes of it --------------------------------------------------------


@pytest.fixture
def build(programs: Programs, tmp_path: Path, cache: Path) -> Callable[[str], Finished]:
    """Build an image from a base with the cache, and throw it away."""
    context = tmp_path / "context"
    context.mkdir()

    def build(base: str) -> Finished:
        (context / "Dockerfile").write_text(f"FROM {base}\nRUN echo hello > /hello\n")
        return programs.executor(
            f"--context={context}", "--no-push", "--cache", f"--cache-dir={cache}"
        )

    return build


def test_a_build_from_a_warmed_tag_asks_once_and_fetches_nothing(
    programs: Programs, cache: Path, own: Registry, build: Callable[[str], Finished]
) -> None:
    name = f"{own.address}/base/busybox:1.35"
    programs.warmer(*flags(cache, name))
    own.forget()
    build(name)
    time.sleep(0.1)
    asked = [(r.method, r.path) for r in own.requests() if r.path != "/v2/"]
    assert asked == [("HEAD", "/v2/base/busybox/manifests/1.35")]


def test_a_build_from_a_warmed_digest_needs_no_registry(
    programs: Programs, cache: Path, own: Registry, build: Callable[[str], Finished]
) -> None:
    tag = f"{own.address}/base/busybox:1.35"
    name = f"{own.address}/base/busybox@{readers.digest(tag)}"
    programs.warmer(*flags(cache, tag))
    own.stop()
    assert "warning" not in build(name).stderr


def test_a_build_without_the_registry_uses_the_tag_as_it_was_warmed(
    programs: Programs, cache: Path, own: Registry, build: Callable[[str], Finished]
) -> None:
    name = f"{own.address}/base/busybox:1.35"
    programs.warmer(*flags(cache, name))
    own.stop()
    result = build(name)
    assert f"using {name} as it was warmed today" in result.stderr


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ("missing", "is not cached: there is no directory"),
        ("expired", "days old, and --cache-ttl allows 14 days"),
        ("cut", "is damaged ("),
        ("flipped", "instead of the promised sha256:"),
    ],
)
def test_a_build_says_why_it_goes_to_the_registry_and_goes_on(
    programs: Programs,
    cache: Path,
    own: Registry,
    build: Callable[[str], Finished],
    damage: str,
    sentence: str,
) -> None:
    name = f"{own.address}/base/busybox:1.35"
    if damage != "missing":
        programs.warmer(*flags(cache, name))
        entry = entries(cache)[0]
        match damage:
            case "expired":
                os.utime(entry, (0, 0))
            case "cut":
                os.truncate(entry, 100_000)
            case _:
                raw = bytearray(entry.read_bytes())
                raw[len(raw) // 2] ^= 1
                entry.write_bytes(raw)
    own.forget()
    result = build(name)
    assert sentence in result.stderr
    assert str(cache) in result.stderr
    assert "kaniko-warmer" in result.stderr
    assert "No such file" not in result.written
    assert blobs(own)
