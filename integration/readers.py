"""Other people's tools, which say what our images really are: skopeo, umoci, podman, buildah."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from integration.world import SHARED

_WRAPPER = SHARED / "world" / "podman"


def output_of(
    *command: str | Path,
    env: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
) -> str:
    """Run *command* and return its stdout; a failure shows all that it wrote."""
    done = subprocess.run(
        [str(part) for part in command],
        check=False,
        capture_output=True,
        stdin=stdin,
        env={**os.environ, **(env or {})},
    )
    if done.returncode != 0:
        written = (done.stdout + done.stderr).decode(errors="replace")
        raise AssertionError(f"{command[0]} ended with {done.returncode}:\n{written}")
    return done.stdout.decode(errors="replace")


# --- skopeo -------------------------------------------------------------------------------


def manifest(image: str, *flags: str) -> dict[str, Any]:
    """Return the manifest of *image*, a reference or a skopeo name such as ``oci:DIR``."""
    return _json(output_of("skopeo", "inspect", "--raw", *flags, *_source(image)))


def config(image: str, *flags: str) -> dict[str, Any]:
    """Return the whole configuration of *image*: architecture, config, rootfs, history."""
    return _json(output_of("skopeo", "inspect", "--config", "--raw", *flags, *_source(image)))


def digest(image: str, *flags: str) -> str:
    """Return the digest of the manifest, computed from its bytes."""
    raw = output_of("skopeo", "inspect", "--raw", *flags, *_source(image))
    return "sha256:" + hashlib.sha256(raw.encode()).hexdigest()


def _json(text: str) -> dict[str, Any]:
    value = json.loads(text)
    assert isinstance(value, dict)
    return value


def _source(image: str) -> list[str]:
    if image.startswith(("oci:", "docker-archive:", "dir:")):
        return [image]
    return ["--tls-verify=false", f"docker://{image}"]


def _copied(image: str, target: str) -> None:
    command = ["skopeo", "copy", "--quiet"]
    source = _source(image)
    if len(source) > 1:
        command.append("--src-tls-verify=false")
    output_of(*command, source[-1], target)


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer's tar as its members say, by name without a leading ``./`` or ``/``."""

    members: Mapping[str, tarfile.TarInfo]

    @property
    def names(self) -> set[str]:
        """The names of all members."""
        return set(self.members)


def layers(image: str) -> list[Layer]:
    """Read the tars of all layers, base first."""
    with tempfile.TemporaryDirectory() as scratch:
        _copied(image, f"dir:{scratch}")
        listed = json.loads((Path(scratch) / "manifest.json").read_text())["layers"]
        return [
            Layer(_members(Path(scratch) / item["digest"].removeprefix("sha256:")))
            for item in listed
        ]


def _members(blob: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(blob) as archive:
        return {_plain(member.name): member for member in archive}


def _plain(name: str) -> str:
    return name.removeprefix("./").strip("/") or "."


# --- umoci --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Node:
    """One path of an unpacked image: what other builders must agree about."""

    kind: str
    mode: int
    uid: int
    gid: int
    content: str
    mtime: int

    @classmethod
    def at(cls, path: Path) -> Node:
        """Describe the file at *path*; content is a digest, or a link's target."""
        status = path.lstat()
        content = ""
        if stat.S_ISLNK(status.st_mode):
            content = str(path.readlink())
        elif stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        return cls(
            stat.filemode(status.st_mode)[0],
            stat.S_IMODE(status.st_mode),
            status.st_uid,
            status.st_gid,
            content,
            int(status.st_mtime),
        )


@contextmanager
def unpacked(image: str) -> Iterator[Path]:
    """Unpack *image* with umoci and give the directory of its root; it is removed at the end."""
    with tempfile.TemporaryDirectory() as scratch:
        layout = Path(scratch) / "layout"
        _copied(image, f"oci:{layout}:latest")
        bundle = Path(scratch) / "bundle"
        output_of("umoci", "unpack", "--image", f"{layout}:latest", bundle)
        yield bundle / "rootfs"


def tree(image: str, below: str = ".") -> dict[str, Node]:
    """Describe every path of *image* below a directory, as umoci unpacks it."""
    with unpacked(image) as root:
        top = root / below
        return {str(path.relative_to(top)): Node.at(path) for path in sorted(top.rglob("*"))}


# --- podman and buildah -------------------------------------------------------------------


def _storage_driver(directory: Path) -> str:
    """Choose overlay, unless *directory* is on an overlay itself, as in a container."""
    kind = output_of("stat", "--file-system", "--format=%T", directory).strip()
    return "vfs" if kind.startswith("overlay") else "overlay"


@dataclass(frozen=True, slots=True)
class Podman:
    """podman with a storage of its own; through the shared wrapper where that exists."""

    directory: Path

    def __call__(self, *arguments: str | Path, stdin: int | IO[bytes] = subprocess.DEVNULL) -> str:
        """Run ``podman ARGUMENTS`` and return its stdout."""
        return output_of(*self.command(*arguments), stdin=stdin)

    def command(self, *arguments: str | Path) -> list[str]:
        """Return the command line, for those who measure it."""
        state = self.directory / "state"
        state.mkdir(parents=True, exist_ok=True)
        program = str(_WRAPPER) if _WRAPPER.exists() else "podman"
        return [
            "env",
            f"KANIKO_WORLD_STATE={state}",
            program,
            f"--root={self.directory / 'root'}",
            f"--runroot={self.directory / 'run'}",
            f"--tmpdir={self.directory / 'tmp'}",
            f"--storage-driver={_storage_driver(self.directory)}",
            "--events-backend=none",
            *(str(argument) for argument in arguments),
        ]

    def run(self, image: str, *command: str, flags: tuple[str, ...] = ()) -> str:
        """Run the image, as its own user and with its own command unless others are given."""
        pull = "--tls-verify=false"
        return self(
            "run",
            "--rm",
            "--log-driver=none",
            "--cgroups=disabled",
            "--network=host",
            pull,
            *flags,
            image,
            *command,
        )

    def close(self) -> None:
        """Remove the storage."""
        remove_storage(self.directory)


@dataclass(frozen=True, slots=True)
class Buildah:
    """buildah with a storage of its own: the builder that we are compared with."""

    directory: Path

    def __call__(self, *arguments: str | Path) -> str:
        """Run ``buildah ARGUMENTS`` and return its stdout."""
        return output_of(*self.command(*arguments))

    def command(self, *arguments: str | Path) -> list[str]:
        """Return the command line, for those who measure it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        return [
            "buildah",
            f"--root={self.directory / 'root'}",
            f"--runroot={self.directory / 'run'}",
            f"--storage-driver={_storage_driver(self.directory)}",
            *(str(argument) for argument in arguments),
        ]

    def build(self, context: Path, reference: str, *flags: str) -> None:
        """Build *context* and push the result to *reference* over plain HTTP."""
        self("bud", "--isolation=chroot", "--tls-verify=false", *flags, "-t", reference, context)
        self("push", "--tls-verify=false", reference)

    def close(self) -> None:
        """Remove the storage."""
        remove_storage(self.directory)


def remove_storage(directory: Path) -> None:
    """Delete a storage of podman or buildah, unmounting first what they left mounted in it."""
    unmount_below(directory)
    shutil.rmtree(directory, ignore_errors=True)


def unmount_below(directory: Path) -> None:
    """Unmount everything that is mounted below *directory*."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    inside = [line.split()[4] for line in mounts if line.split()[4].startswith(f"{directory}/")]
    for mount in sorted(inside, reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
