"""Our own images, built by our own executor from the working tree, and kept in the world cache.

    <world cache>/kaniko/
    ├── dependencies-<key>/     layout: Debian with Python and what pyproject.toml asks for
    ├── images-<key>/           layouts: executor, warmer, debug; and the context of their build
    ├── unpacked/               the executor's cache: the layers of the first, unpacked
    └── <kind>.lock             held while one of them is being made

A key is a digest of all that goes in. Where only our code has changed, the first is there
already, and the images take seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from integration import images
from integration.readers import Podman
from integration.world import REPOSITORY, world_cache

TARGETS = ("executor", "warmer", "debug")
EPOCH = 1_700_000_000  # seconds: a time that no test mistakes for its own

# What the build takes from the working tree.
_INPUTS = (
    *("deploy", "kaniko_core", "kaniko_executor", "kaniko_warmer"),
    *("LICENSE", "pyproject.toml"),
)
# Those of this machine: a proxy may have some of its own.
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# Those that deploy/install.sh installs.
_EXTRAS = ("aws", "google", "otel", "stores")
_KEPT = 3  # of each kind, for other versions of the working tree


@dataclass(frozen=True, slots=True)
class KanikoImages:
    """Where the layouts are, and what they were made of."""

    directory: Path
    key: str

    @property
    def context(self) -> Path:
        """The build context that they were made of."""
        return self.directory / "context"

    def layout(self, target: str) -> Path:
        """Return the OCI layout of ``executor``, ``warmer`` or ``debug``."""
        return self.directory / target

    def load(self, podman: Podman, target: str) -> str:
        """Put an image into podman's storage, unless it is there, and return its name."""
        name = f"localhost/kaniko/{target}:{self.key}"
        if name not in podman("images", "--format={{.Repository}}:{{.Tag}}").split():
            # Podman makes a name of the path, and not every path is one: this one always is.
            link = Path("/var/tmp") / f"kaniko-{secrets.token_hex(8)}"
            link.symlink_to(self.layout(target).resolve())
            try:
                number = podman("pull", "--quiet", f"oci:{link}").strip()
            finally:
                link.unlink()
            podman("tag", number, name)
        return name


def kaniko_images() -> KanikoImages:
    """Return our images, made of the working tree as it is now if need be."""
    made = _kept("images", lambda: _key(REPOSITORY), _make_images)
    return KanikoImages(made, made.name.removeprefix("images-"))


def copy_inputs(directory: Path) -> None:
    """Copy what the build takes from the working tree, which somebody may be editing."""
    for name in _INPUTS:
        source, target = REPOSITORY / name, directory / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)


def certificates() -> bytes:
    """Return whom this machine believes: a proxy between it and PyPI may be among them."""
    return _CERTIFICATES.read_bytes() if _CERTIFICATES.exists() else b""


def dependencies_layout() -> Path:
    """Return the layout of the stage ``dependencies``, made if need be (about 20 seconds)."""
    return _kept("dependencies", lambda: _dependencies_key(REPOSITORY), _make_dependencies)


def _key(top: Path) -> str:
    """Return the key of the images that are made of the inputs in *top*."""
    parts = [_dependencies_key(top).encode()]
    for name in _INPUTS:
        for path in sorted((top / name).rglob("*")):
            if path.is_file() and path.parent.name != "__pycache__":
                parts += os.fsencode(path.relative_to(top)), path.read_bytes()
    return _digest(parts)


def _dependencies_key(top: Path) -> str:
    project = tomllib.loads((top / "pyproject.toml").read_text())["project"]
    extras = [project["optional-dependencies"][extra] for extra in _EXTRAS]
    return _digest(
        (
            json.dumps([project["dependencies"], extras]).encode(),
            (top / "deploy" / "Dockerfile").read_bytes(),
            (top / "deploy" / "install.sh").read_bytes(),
            (images.debian_layout() / "index.json").read_bytes(),
        )
    )


def _digest(parts: Iterable[bytes]) -> str:
    state = hashlib.sha256(os.uname().machine.encode())
    for part in parts:
        state.update(len(part).to_bytes(8, "big") + part)
    return state.hexdigest()[:16]


def _kept(kind: str, key: Callable[[], str], make: Callable[[Path], str]) -> Path:
    """Return a directory of the world cache; only one process makes it, the others wait.

    Args:
        kind: the first part of its name.
        key: tells the rest; asked again after waiting, because somebody may be editing.
        make: makes it, and returns the key of what it was made of.
    """
    cache = world_cache() / "kaniko"
    directory = cache / f"{kind}-{key()}"
    if not directory.exists():
        cache.mkdir(exist_ok=True)
        with FileLock(cache / f"{kind}.lock"):
            directory = cache / f"{kind}-{key()}"
            if not directory.exists():
                with tempfile.TemporaryDirectory(dir=cache, prefix=".making-") as scratch:
                    made = Path(scratch) / "made"
                    directory = cache / f"{kind}-{make(made)}"
                    if not directory.exists():
                        made.rename(directory)
                _forget_old(cache, kind)
    os.utime(directory)
    return directory


def _forget_old(cache: Path, kind: str) -> None:
    known = sorted(cache.glob(f"{kind}-*"), key=lambda path: path.stat().st_mtime)
    for directory in known[:-_KEPT]:
        shutil.rmtree(directory)


def _make_dependencies(layout: Path) -> str:
    key = _dependencies_key(REPOSITORY)
    _build("dependencies", layout, REPOSITORY, {})
    return key


def _make_images(directory: Path) -> str:
    context = directory / "context"
    copy_inputs(context)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".collected-") as scratch:
        named = {"dependencies": dependencies_layout()}
        collected = Path(scratch) / "layout"
        _build("collected", collected, context, named)
        for target in TARGETS:
            _build(target, directory / target, context, {**named, "build": collected})
    return _key(context)


def _build(target: str, layout: Path, context: Path, named: dict[str, Path]) -> None:
    """Build a target of deploy/Dockerfile with the executor of the working tree."""
    layouts = {"debian": images.debian_layout(), **named}
    command = [
        *(sys.executable, "-m", "kaniko_executor", "--isolation=sandbox"),
        *("--context", context, "--dockerfile", "deploy/Dockerfile", "--target", target),
        *("--build-arg=BASE=debian", "--build-arg", f"SOURCE_DATE_EPOCH={EPOCH}"),
        *("--no-push", "--oci-layout-path", layout, "--kaniko-dir", layout.parent),
        *("--cache", "--cache-dir", world_cache() / "kaniko" / "unpacked"),
        *(f"--build-context={name}=oci-layout://{path}" for name, path in layouts.items()),
    ]
    if _CERTIFICATES.exists():
        command.append(f"--secret=id=certificates,src={_CERTIFICATES}")
    done = subprocess.run(
        [str(word) for word in command],
        check=False,
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        raise AssertionError(f"building {target} ended with {done.returncode}:\n{done.stdout}")
