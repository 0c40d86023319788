"""Build our own images with our own executor, and again with one of them: ``make image``.

Starts a registry with a Debian base image, builds the targets of ``deploy/Dockerfile`` with the
executor of this working tree and pushes them. Then the executor image builds the executor image
in podman, in place, with a container's default rights, and the digests are compared.
Everything that it starts ends with it; nothing is kept but the base image, in the world cache.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import time
from pathlib import Path

from integration import images, readers
from integration.demo import say, show
from integration.kaniko_images import EPOCH, TARGETS, certificates, copy_inputs
from integration.world import (
    Registry,
    end_in_good_order,
    missing_tools,
    running_registry,
)

_TOOLS = ("docker-registry", "skopeo", "mmdebstrap", "podman")


def prepare(directory: Path) -> None:
    """Copy what the build needs, so that both builds have the same though somebody edits."""
    copy_inputs(directory / "context")
    (directory / "certificates").write_bytes(certificates())


def flags(target: str, base: str, inputs: Path) -> list[str]:
    """Return the flags of a build of one target; *inputs* is where :func:`prepare` put them."""
    return [
        f"--context={inputs}/context",
        "--dockerfile=deploy/Dockerfile",
        f"--target={target}",
        f"--build-arg=BASE={base}",
        f"--build-arg=SOURCE_DATE_EPOCH={os.environ.get('SOURCE_DATE_EPOCH', EPOCH)}",
        f"--secret=id=certificates,src={inputs}/certificates",
    ]


def build_all(base: str, registry: Registry, directory: Path) -> tuple[dict[str, str], float]:
    """Build and push all targets; return their references, and the seconds that it took."""
    executor = (sys.executable, "-m", "kaniko_executor", "--isolation=sandbox")
    work = ("--kaniko-dir", directory / "work")
    inputs = directory / "inputs"
    # What the targets have in common is collected once.
    collected = directory / "collected"
    once = ("--no-push", "--oci-layout-path", collected)
    seconds = show(*executor, *flags("collected", base, inputs), *work, *once)
    references = {}
    for target in TARGETS:
        references[target] = f"{registry.address}/kaniko/{target}:latest"
        known = f"--build-context=build=oci-layout://{collected}"
        push = ("--destination", references[target])
        seconds += show(*executor, *flags(target, base, inputs), known, *work, *push)
    return references, seconds


def describe(reference: str) -> None:
    """Print the sizes of an image."""
    compressed = sum(layer["size"] for layer in readers.manifest(reference)["layers"])
    members = [member for layer in readers.layers(reference) for member in layer.members.values()]
    unpacked = sum(member.size for member in members)
    print(
        f"  {reference}: {compressed / 1e6:.1f} MB compressed, {unpacked / 1e6:.1f} MB unpacked, "
        f"{len(members)} files, {readers.digest(reference)[:26]}…"
    )


def rebuild(image: str, base: str, destination: str, directory: Path) -> float:
    """Build the executor image in a container of *image*, in place; return the seconds."""
    podman = readers.Podman(directory / "podman")
    try:
        number = podman("pull", "--quiet", "--tls-verify=false", image).strip()
        volume = f"--volume={directory / 'inputs'}:/inputs:ro"
        arguments = [
            "--isolation=in-place",
            *flags("executor", base, Path("/inputs")),
            f"--destination={destination}",
        ]
        print(f"$ podman run {volume} {image} {shlex.join(arguments)}", flush=True)
        start = time.monotonic()
        podman.run(number, *arguments, flags=(volume,))
        return time.monotonic() - start
    finally:
        podman.close()


def story(registry: Registry, directory: Path) -> None:
    """Build, describe, build again in place, compare."""
    say("A Debian base image is put into a registry on this machine (made with mmdebstrap, kept)")
    base = images.push(images.debian_layout(), registry, "library/debian:bookworm-slim")
    print(base)
    prepare(directory / "inputs")

    say("kaniko-executor, from this working tree, builds the images of kaniko and pushes them")
    references, first = build_all(base, registry, directory)
    for reference in references.values():
        describe(reference)

    say("The executor image builds itself in podman: in place, with a container's default rights")
    again = f"{registry.address}/kaniko/executor:rebuilt"
    second = rebuild(references["executor"], base, again, directory)
    describe(again)

    same = readers.digest(references["executor"]) == readers.digest(again)
    say(
        f"{'The same digest' if same else 'ANOTHER digest'}; "
        f"three images in {first:.1f} s, in place {second:.1f} s"
    )
    if not same:
        raise SystemExit("image: the executor image does not build itself")


def main() -> None:
    """Check what is needed, and build in a temporary directory."""
    if os.geteuid() != 0:
        raise SystemExit("image: run it as root: it builds in namespaces, and runs podman")
    if missing := missing_tools(*_TOOLS):
        raise SystemExit(f"image: not installed: {', '.join(missing)} (`make setup` installs them)")
    end_in_good_order()
    # Not /tmp: it may be in memory, or an overlay, which cannot hold another.
    with (
        tempfile.TemporaryDirectory(prefix="kaniko-image-", dir="/var/tmp") as scratch,
        running_registry(Path(scratch) / "registry") as registry,
    ):
        (Path(scratch) / "inputs" / "context").mkdir(parents=True)
        story(registry, Path(scratch))


if __name__ == "__main__":
    main()
