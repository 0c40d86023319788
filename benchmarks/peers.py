"""The builders: which commands each runs, and how each is brought to a scenario's start."""

from __future__ import annotations

import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from integration.readers import Buildah, unmount_below

Commands = Sequence[Sequence[str]]


# Beside the builders' directories: what they left, until a scenario is over.
TRASH = "trash"


def set_aside(directory: Path) -> None:
    """Take *directory* away without deleting it.

    Deleting fifty thousand files keeps a disk busy for long after, which the next builder's
    measurement would pay for.
    """
    unmount_below(directory)
    if directory.exists():
        trash = directory.parent / TRASH
        trash.mkdir(exist_ok=True)
        directory.rename(Path(tempfile.mkdtemp(dir=trash)) / directory.name)


class Peer(Protocol):
    """A builder with a directory of its own."""

    @property
    def name(self) -> str:
        """How the table calls it."""

    def empty(self) -> None:
        """Remove everything that earlier builds left."""

    def warm(self, base: str) -> tuple[Commands, str]:
        """Return the commands that make a file of *base* here, and how builds name it then."""

    def pull(self, base: str) -> Commands:
        """Return the commands that fetch and unpack *base* ahead of builds."""

    def build(self, context: Path, base: str, destination: str) -> Commands:
        """Return the commands that build *context* on *base* and push it."""

    def rebuild(self, context: Path, base: str, destination: str) -> Commands:
        """Return those that do it and keep what each step made, and use what was kept."""


@dataclass(frozen=True, slots=True)
class Ours:
    """kaniko-executor and kaniko-warmer, of this work tree."""

    directory: Path
    name: str = "ours"

    def empty(self) -> None:
        """Remove the cache and the work directory."""
        set_aside(self.directory)
        (self.directory / "work").mkdir(parents=True)

    def warm(self, base: str) -> tuple[Commands, str]:
        """Run the warmer: its entries are tarballs."""
        return [self._warmer(base)], base

    def pull(self, base: str) -> Commands:
        """Run the warmer, and let it unpack."""
        return [[*self._warmer(base), "--unpack"]]

    def _warmer(self, base: str) -> list[str]:
        return [
            *(sys.executable, "-m", "kaniko_warmer", "--image", base, "--insecure-pull"),
            *("--cache-dir", str(self.directory / "cache")),
        ]

    def build(self, context: Path, base: str, destination: str) -> Commands:
        """Run the executor, with the cache that the warmer may have filled."""
        return [[*self._executor(context, base, destination), "--cache-run-layers=false"]]

    def rebuild(self, context: Path, base: str, destination: str) -> Commands:
        """Run the executor, with the layers of steps in a repository of the same registry."""
        place = f"{destination.split('/', maxsplit=1)[0]}/cache/layers"
        command = self._executor(context, base, destination)
        return [[*command, "--cache-repo", place, "--cache-copy-layers"]]

    def _executor(self, context: Path, base: str, destination: str) -> list[str]:
        return [
            *(sys.executable, "-m", "kaniko_executor", "--context", str(context)),
            *("--build-arg", f"BASE={base}", "--destination", destination),
            *("--cache", "--cache-dir", str(self.directory / "cache")),
            *("--kaniko-dir", str(self.directory / "work"), "--insecure", "--insecure-pull"),
        ]


@dataclass(frozen=True, slots=True)
class BuildahPeer:
    """Debian's buildah, as root, in chroots; one layer for all instructions unless *layers*."""

    directory: Path
    layers: bool = False

    @property
    def name(self) -> str:
        """Say whether each instruction makes a layer, as it does with us."""
        return "buildah-layers" if self.layers else "buildah"

    def empty(self) -> None:
        """Remove its storage."""
        set_aside(self.directory)

    def warm(self, base: str) -> tuple[Commands, str]:
        """Write a tarball, which a FROM can name; buildah has no cache of tarballs itself."""
        tarball = f"docker-archive:{self.directory}/base.tar"
        self.directory.mkdir(parents=True, exist_ok=True)
        copy = ("skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{base}")
        return [[*copy, f"{tarball}:{base}"]], tarball

    def pull(self, base: str) -> Commands:
        """Pull the base image into the storage."""
        return [Buildah(self.directory).command("pull", "--quiet", "--tls-verify=false", base)]

    def build(self, context: Path, base: str, destination: str) -> Commands:
        """Build, then push: two commands, for the first cannot push."""
        return self._built(context, base, destination, layers=self.layers)

    def rebuild(self, context: Path, base: str, destination: str) -> Commands:
        """Do the same with a layer for each instruction: those it finds in its storage again."""
        return self._built(context, base, destination, layers=True)

    def _built(self, context: Path, base: str, destination: str, *, layers: bool) -> Commands:
        run = Buildah(self.directory).command
        flags = ("--isolation=chroot", "--tls-verify=false", f"--layers={layers}".lower())
        return [
            run("bud", *flags, "--build-arg", f"BASE={base}", "-t", destination, context),
            run("push", "--quiet", "--tls-verify=false", destination),
        ]


@dataclass(frozen=True, slots=True)
class Described:
    """A builder that a TOML file describes: ``name``, ``warm``, ``pull``, ``build``, ``rebuild``.

    All but the name are lists of command lines (lists of strings), in which
    ``{base}``, ``{context}``, ``{destination}`` and ``{directory}`` are filled in.
    Without ``rebuild``, ``build`` is run for it.
    """

    name: str
    directory: Path
    _warm: Commands
    _pull: Commands
    _build: Commands
    _rebuild: Commands

    @classmethod
    def read(cls, path: Path, directory: Path) -> Described:
        """Read the description at *path*; the builder may keep its files in *directory*."""
        text = tomllib.loads(path.read_text())
        build = text["build"]
        more = (text.get("warm", []), text.get("pull", []), build, text.get("rebuild", build))
        return cls(text["name"], directory, *more)

    def empty(self) -> None:
        """Remove its directory."""
        set_aside(self.directory)
        self.directory.mkdir(parents=True)

    def warm(self, base: str) -> tuple[Commands, str]:
        """Fill in the commands for warming."""
        return self._filled(self._warm, {"base": base}), base

    def pull(self, base: str) -> Commands:
        """Fill in the commands for pulling."""
        return self._filled(self._pull, {"base": base})

    def build(self, context: Path, base: str, destination: str) -> Commands:
        """Fill in the commands for building."""
        values = {"base": base, "context": str(context), "destination": destination}
        return self._filled(self._build, values)

    def rebuild(self, context: Path, base: str, destination: str) -> Commands:
        """Fill in the commands for building with what was kept."""
        values = {"base": base, "context": str(context), "destination": destination}
        return self._filled(self._rebuild, values)

    def _filled(self, commands: Commands, values: Mapping[str, str]) -> Commands:
        known = {**values, "directory": str(self.directory)}
        return [[word.format_map(known) for word in command] for command in commands]
