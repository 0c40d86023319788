"""One context built again and again with the layer cache: which steps ran, and what is kept."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from integration import readers
from integration.container import EXECUTOR, Container
from integration.programs import Finished, Programs, finished
from integration.world import Registry

MODES = ("sandbox", "in-place")
PLACES = ("registry", "layout", "directory")

_EXPLAINS = re.compile(r"    |\S*Dockerfile:\d+ |every step was|nothing is known")
_KEY = re.compile(r"[0-9a-f]{64}")
# The instructions that can change files: those that are cached.
_CHANGING = ("RUN", "COPY", "ADD", "WORKDIR")


# --- what a build tells -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Log:
    """What a build told as JSON lines."""

    finished: Finished
    events: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, done: Finished) -> Log:
        """Read the lines of *done*."""
        return cls(done, tuple(json.loads(line) for line in done.stderr.splitlines()))

    def _steps(self) -> dict[tuple[str, int], tuple[str, bool]]:
        """Map each step to its text and whether it was cached; of a repeated one, the last."""
        texts: dict[tuple[str, int], str] = {}
        steps: dict[tuple[str, int], tuple[str, bool]] = {}
        for event in self.events:
            if event["event"] not in ("step_started", "step_finished"):
                continue
            at = (event["stage"], event["number"])
            if event["event"] == "step_started":
                texts[at] = event["text"].strip()
            elif texts[at].split()[0].upper() in _CHANGING:
                steps[at] = (texts[at], event["cached"])
        return steps

    @property
    def ran(self) -> list[str]:
        """The instructions whose work was done, in the order of their ends."""
        return [text for text, cached in self._steps().values() if not cached]

    @property
    def taken(self) -> list[str]:
        """The instructions that were taken from the cache."""
        return [text for text, cached in self._steps().values() if cached]

    @property
    def stages(self) -> set[str]:
        """The stages that were begun."""
        return {event["stage"] for event in self.events if event["event"] == "stage_started"}

    @property
    def warnings(self) -> list[str]:
        """The warnings, but for those of build checks."""
        found = [event["msg"] for event in self.events if event["event"] == "warned"]
        return [message for message in found if not message.startswith("Dockerfile:")]

    @property
    def notes(self) -> list[str]:
        """The sentences that are no warnings."""
        return [event["msg"] for event in self.events if event["event"] == "noted"]

    @property
    def explanation(self) -> str:
        """What ``--explain`` said."""
        return "\n".join(note for note in self.notes if _EXPLAINS.match(note))


# --- where layers are kept ----------------------------------------------------------------


class Place(Protocol):
    """Where the layers of builds are kept, seen with other people's tools."""

    @property
    def flag(self) -> str:
        """The value of ``--cache-repo``."""

    def names(self) -> list[str]:
        """List all that is kept."""

    def image(self, name: str) -> str:
        """Name an entry as skopeo does."""

    def remove(self, name: str) -> None:
        """Remove an entry, as somebody does who needs the room."""

    def blob(self, digest: str) -> list[Path]:
        """Find the files that hold a blob."""


def entries(place: Place) -> dict[str, str]:
    """Map the instruction of each entry, as its history has it, to its key."""
    return {
        readers.config(place.image(name))["history"][-1]["created_by"]: name
        for name in place.names()
        if _KEY.fullmatch(name)
    }


def key_for(place: Place, words: str) -> str:
    """Return the key of the one entry whose instruction has *words*."""
    found = [key for text, key in entries(place).items() if words in text]
    assert len(found) == 1, (words, entries(place))
    return found[0]


def layer_for(place: Place, words: str) -> str:
    """Return the digest of the layer of the one entry whose instruction has *words*."""
    layers = readers.manifest(place.image(key_for(place, words)))["layers"]
    assert len(layers) == 1
    return str(layers[0]["digest"])


@dataclass(frozen=True, slots=True)
class InRegistry:
    """A repository of a registry."""

    registry: Registry
    repository: str = "cache/layers"

    @property
    def flag(self) -> str:
        return f"{self.registry.address}/{self.repository}"

    def names(self) -> list[str]:
        listed = readers.output_of(
            "skopeo", "list-tags", "--tls-verify=false", f"docker://{self.flag}"
        )
        return list(json.loads(listed)["Tags"])

    def image(self, name: str) -> str:
        return f"{self.flag}:{name}"

    def remove(self, name: str) -> None:
        readers.output_of("skopeo", "delete", "--tls-verify=false", f"docker://{self.image(name)}")

    def blob(self, digest: str) -> list[Path]:
        hexadecimal = digest.removeprefix("sha256:")
        blobs = self.registry.storage / "docker/registry/v2/blobs/sha256"
        return list(blobs.glob(f"*/{hexadecimal}/data"))


@dataclass(frozen=True, slots=True)
class InLayout:
    """One OCI image layout."""

    directory: Path

    @property
    def flag(self) -> str:
        return f"oci:{self.directory}"

    def names(self) -> list[str]:
        index = json.loads((self.directory / "index.json").read_text())
        return [_name(entry) for entry in index["manifests"]]

    def image(self, name: str) -> str:
        return f"oci:{self.directory}:{name}"

    def remove(self, name: str) -> None:
        path = self.directory / "index.json"
        index = json.loads(path.read_text())
        kept = [entry for entry in index["manifests"] if _name(entry) != name]
        path.write_text(json.dumps({**index, "manifests": kept}))

    def blob(self, digest: str) -> list[Path]:
        path = self.directory / "blobs" / digest.replace(":", "/")
        return [path] if path.exists() else []


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("annotations", {}).get("org.opencontainers.image.ref.name", ""))


@dataclass(frozen=True, slots=True)
class InDirectory:
    """A directory with an OCI image layout for each key."""

    directory: Path

    @property
    def flag(self) -> str:
        return f"dir:{self.directory}"

    def names(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())

    def image(self, name: str) -> str:
        return f"oci:{self.directory / name}"

    def remove(self, name: str) -> None:
        shutil.rmtree(self.directory / name)

    def blob(self, digest: str) -> list[Path]:
        return list(self.directory.glob(f"*/blobs/{digest.replace(':', '/')}"))


def flip(path: Path) -> None:
    """Change one byte of a file, which nobody would notice who does not compute its digest."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


# --- builds -------------------------------------------------------------------------------

# Runs an executor with flags and an environment to its end.
Execute = Callable[..., Finished]


def in_sandbox(programs: Programs, prefix: Sequence[str] = ()) -> Execute:
    """Return what builds on this machine, after *prefix*, such as what :func:`mounted` returns."""

    def execute(*flags: str | Path, check: bool, env: Mapping[str, str]) -> Finished:
        programs.work.mkdir(parents=True, exist_ok=True)
        own = ("--isolation=sandbox", "--insecure", "--insecure-pull")
        home = f"--kaniko-dir={programs.work}"
        process = programs.start("kaniko_executor", *own, home, *flags, prefix=prefix, env=env)
        return finished(process, check=check)

    return execute


_MOUNTS = {
    "read-only": 'mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"; exec "$@"',
    "small": 'mount -t tmpfs -o size=5m tmpfs "$0"; exec "$@"',
}


def mounted(how: str, at: Path) -> tuple[str, ...]:
    """Return what a command begins with that finds a directory ``read-only``, or a ``small`` disk.

    Nobody else sees that mount.
    """
    at.mkdir(parents=True, exist_ok=True)
    private = ("unshare", "--mount", "--propagation=private")
    return (*private, "sh", "-ec", _MOUNTS[how], str(at))


def in_place(container: Container) -> Execute:
    """Return what builds in a container."""

    def execute(*flags: str | Path, check: bool, env: Mapping[str, str]) -> Finished:
        own = (EXECUTOR, "--isolation=in-place", "--insecure", "--insecure-pull")
        return container.run(*own, *flags, check=check, env=env)

    return execute


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Builds one context with the layer cache, as often as it is called.

    Attributes:
        place: where layers are kept; None for a build that says nothing of it.
        directory: holds the context and the base images.
        cache_dir: the name of the base images' directory there.
    """

    execute: Execute
    directory: Path
    image: str
    place: Place | None
    env: Mapping[str, str] = field(default_factory=dict)
    cache_dir: str = "cache"

    @property
    def context(self) -> Path:
        """The build context."""
        return self.directory / "context"

    @property
    def cache(self) -> Path:
        """What ``--cache-dir`` names."""
        return self.directory / self.cache_dir

    def fill(self, files: Mapping[str, str | bytes]) -> None:
        """Write *files* below the context; a name that ends in ``/`` is a directory."""
        for name, content in files.items():
            path = self.context / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                path.mkdir(exist_ok=True)
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The flags of every build."""
        place = (f"--cache-repo={self.place.flag}",) if self.place is not None else ()
        return (
            *("--cache", "--cache-copy-layers", f"--cache-dir={self.cache}", *place),
            *(f"--context={self.context}", f"--destination={self.image}", "--log-format=json"),
        )

    def __call__(
        self,
        dockerfile: str = "",
        *flags: str | Path,
        files: Mapping[str, str | bytes] | None = None,
        check: bool = True,
    ) -> Log:
        """Build; the Dockerfile and *files* are written before, if they are given."""
        self.fill({**({"Dockerfile": dockerfile} if dockerfile else {}), **(files or {})})
        return Log.of(self.execute(*self.arguments, *flags, check=check, env=self.env))

    def without_cache(self, layout: Path, *flags: str | Path) -> Log:
        """Build the same without any cache, into an OCI layout, and push nothing."""
        return Log.of(
            self.execute(
                *(f"--context={self.context}", "--no-push", "--destination=localhost/x:latest"),
                *(f"--oci-layout-path={layout}", "--log-format=json", *flags),
                check=True,
                env=self.env,
            )
        )


def history(image: str) -> list[tuple[str, bool]]:
    """Return the instructions of an image, and whether each is without a layer."""
    entries = readers.config(image)["history"]
    return [(entry["created_by"], bool(entry.get("empty_layer"))) for entry in entries]


def layer_digests(image: str) -> list[str]:
    """Return the digests of an image's layers, base first."""
    return [layer["digest"] for layer in readers.manifest(image)["layers"]]


def copy_layout(source: Path, target: Path, **config: Any) -> Path:
    """Copy an OCI layout of one image; *config* replaces fields of the image's configuration."""
    readers.output_of("cp", "-a", "--reflink=auto", source, target)
    index = json.loads((target / "index.json").read_text())
    blobs = target / "blobs" / "sha256"
    manifest = json.loads((blobs / index["manifests"][0]["digest"].split(":")[1]).read_text())
    raw = json.loads((blobs / manifest["config"]["digest"].split(":")[1]).read_text())
    manifest["config"] |= _put(blobs, {**raw, **config})
    index["manifests"][0] |= _put(blobs, manifest)
    (target / "index.json").write_text(json.dumps(index))
    return target


def _put(blobs: Path, value: object) -> dict[str, object]:
    data = json.dumps(value).encode()
    name = hashlib.sha256(data).hexdigest()
    (blobs / name).write_bytes(data)
    return {"digest": f"sha256:{name}", "size": len(data)}
