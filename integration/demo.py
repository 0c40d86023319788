"""Show both programs at work: ``make demo``.

Starts a registry, fills it with base images, warms one, builds ``examples/almanac``, pushes it,
builds it again from the cache, changes a file and builds it once more, and runs it. Everything
that it starts ends with it; nothing is kept but the base images, in the world cache.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from integration import images, readers
from integration.world import (
    REPOSITORY,
    Registry,
    end_in_good_order,
    missing_tools,
    running_registry,
)

_EXAMPLE = REPOSITORY / "examples" / "almanac"
_PROGRAMS = Path(sys.executable).parent
_COMMAND = "\033[1m" if sys.stdout.isatty() else ""
_PLAIN = "\033[0m" if sys.stdout.isatty() else ""


def say(text: str) -> None:
    """Print a line of the story."""
    print(f"\n== {text}", flush=True)


def show(*command: str | Path) -> float:
    """Print a command line, run it, and return the seconds that it took."""
    words = [str(word) for word in command]
    print(f"{_COMMAND}$ {shlex.join([Path(words[0]).name, *words[1:]])}{_PLAIN}", flush=True)
    start = time.monotonic()
    status = subprocess.run(words, check=False, stdin=subprocess.DEVNULL).returncode
    if status != 0:
        raise SystemExit(f"demo: {Path(words[0]).name} ended with {status}")
    return time.monotonic() - start


def story(registry: Registry, directory: Path) -> None:
    """Warm, build and push, build again from the cache, change a file, run."""
    say("Base images are put into a registry on this machine (made with mmdebstrap, kept)")
    debian = images.push(images.debian_layout(), registry, "library/debian:bookworm")
    busybox = images.push(images.busybox_layout(), registry, "library/busybox:1.35")
    print(f"{debian}\n{busybox}")

    cache = directory / "cache"
    say("kaniko-warmer fetches them ahead of time, into a directory")
    warmer = (_PROGRAMS / "kaniko-warmer", "--cache-dir", cache, "--insecure-pull")
    warming = show(*warmer, "--image", debian, "--image", busybox)
    for path in sorted(cache.glob("sha256*")):
        print(f"  {path.stat().st_size:>12,} bytes  {path.name[:26]}…{path.suffix}")

    say("kaniko-executor builds three stages and pushes the result")
    image = f"{registry.address}/demo/almanac:1"
    context = directory / "almanac"
    shutil.copytree(_EXAMPLE, context)
    build = (
        *(_PROGRAMS / "kaniko-executor", "--context", context),
        *("--destination", image, "--cache", "--cache-copy-layers", "--cache-dir", cache),
        *("--build-arg", f"DEBIAN={debian}", "--build-arg", f"BUSYBOX={busybox}"),
        *("--kaniko-dir", directory / "work", "--insecure", "--insecure-pull"),
    )
    registry.forget()
    first = show(*build)
    fetched = [request for request in registry.requests() if request.fetches_blob]
    print(f"blobs fetched from the registry: {len(fetched)}, for the base images were warmed")

    digest = readers.digest(image)
    say("The same again: every step is cached, in the registry beside the image")
    registry.forget()
    second = show(*build)
    fetched = [request for request in registry.requests() if request.fetches_blob]
    same = "the same digest" if readers.digest(image) == digest else "ANOTHER DIGEST"
    print(f"blobs fetched from the registry: {len(fetched)}; the image has {same}")

    say("One file changes: what depends on it is built, and --explain says why")
    with (context / "sayings" / "work.txt").open("a") as file:
        file.write("What is cached is done.\n")
    third = show(*build, "--explain")

    say("What the registry has now, according to skopeo")
    manifest = readers.manifest(image)
    for layer in manifest["layers"]:
        print(f"  {layer['size']:>12,} bytes  {layer['digest'][:26]}…")
    print(f"  user {readers.config(image)['config'].get('User')}, digest {readers.digest(image)}")

    run(image, directory)
    say(
        f"warming {warming:.1f} s, first build {first:.1f} s, from the cache {second:.1f} s, "
        f"with a change {third:.1f} s"
    )


def run(image: str, directory: Path) -> None:
    """Run the image with podman, if this machine lets podman run anything."""
    say("podman runs it")
    podman = readers.Podman(directory / "podman")
    try:
        print(f"{_COMMAND}$ podman run {image} 3{_PLAIN}", flush=True)
        print(podman.run(image, "3"), end="")
    except AssertionError as error:
        print(f"podman cannot run containers on this machine:\n{error}")
    finally:
        podman.close()


def main() -> None:
    """Check what the demo needs, and tell the story in a temporary directory."""
    if os.geteuid() != 0:
        raise SystemExit("demo: run it as root: it makes base images, and builds in namespaces")
    if missing := missing_tools("docker-registry", "skopeo", "mmdebstrap", "busybox", "podman"):
        raise SystemExit(f"demo: not installed: {', '.join(missing)} (`make setup` installs them)")
    end_in_good_order()
    # Not /tmp: it may be in memory, or an overlay, which cannot hold another.
    with (
        tempfile.TemporaryDirectory(prefix="kaniko-demo-", dir="/var/tmp") as scratch,
        running_registry(Path(scratch) / "registry") as registry,
    ):
        story(registry, Path(scratch))


if __name__ == "__main__":
    main()
