"""The builders: which commands each runs, and how each is brought to a scenario's start."""

from __future__ import annotations

import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from integration.readers import Buildah, Podman, unmount_below
from integration.world import missing_tools

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

    def missing(self) -> str:
        """Say in a sentence why it cannot run here; nothing if it can."""

    def empty(self) -> None:
        """Remove everything that earlier builds left."""

    def warm(self, base: str) -> tuple[Commands, str]:
        """Return the commands that make a file of *base* here, and how builds name it then."""

    def warm_again(self, base: str) -> Commands:
        """Return those that find that this is done already; none if it does not look."""

    def pull(self, base: str) -> Commands:
        """Return the commands that fetch and unpack *base* ahead of builds."""

    def build(self, context: Path, base: str, destination: str) -> Commands:
        """Return the commands that build *context* on *base* and push it."""

    def rebuild(self, context: Path, base: str, destination: str) -> Commands:
        """Return those that do it and keep what each step made, and use what was kept."""

    def help(self) -> Commands:
        """Return the command that explains it."""

    def version(self) -> Commands:
        """Return the command that tells its version."""


def _absent(*programs: str) -> str:
    """Say which of *programs* are not installed; nothing if all are."""
    absent = missing_tools(*programs)
    return f"not installed: {', '.join(absent)}" if absent else ""


@dataclass(frozen=True, slots=True)
class Ours:
    """kaniko-executor and kaniko-warmer, of this work tree."""

    directory: Path
    name: str = "ours"

    def missing(self) -> str:
        """Return nothing: it is this work tree."""
        return ""

    def empty(self) -> None:
        """Remove the cache and the work directory."""
        set_aside(self.directory)
        (self.directory / "work").mkdir(parents=True)

    def warm(self, base: str) -> tuple[Commands, str]:
        """Run the warmer: its entries are tarballs."""
        return [self._warmer(base)], base

    def warm_again(self, base: str) -> Commands:
        """Run the warmer."""
        return [self._warmer(base)]

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

    def help(self) -> Commands:
        """Let the executor explain itself."""
        return [[sys.executable, "-m", "kaniko_executor", "--help"]]

    def version(self) -> Commands:
        """Let the executor tell its version."""
        return [[sys.executable, "-m", "kaniko_executor", "version"]]


@dataclass(frozen=True, slots=True)
class Containers:
    """Debian's buildah or podman, as root; one layer for all instructions unless *layers*.

    Attributes:
        command: makes the command line of words, for a storage in *directory*.
        isolation: how a RUN is kept apart.
    """

    name: str
    directory: Path
    command: Callable[..., list[str]]
    isolation: tuple[str, ...] = ()
    layers: bool = False

    @classmethod
    def buildah(cls, directory: Path, *, layers: bool = False) -> Containers:
        """Return buildah, whose RUNs are in chroots: that works, and is the fastest."""
        name = "buildah-layers" if layers else "buildah"
        command = Buildah(directory).command
        return cls(name, directory, command, ("--isolation=chroot",), layers)

    @classmethod
    def podman(cls, directory: Path) -> Containers:
        """Return podman, whose RUNs are in containers, as its users have it."""
        return cls("podman", directory, Podman(directory).command, ("--network=host",))

    def missing(self) -> str:
        """Say which program is missing."""
        return _absent(self.name.removesuffix("-layers"), "skopeo")

    def empty(self) -> None:
        """Remove its storage."""
        set_aside(self.directory)

    def warm(self, base: str) -> tuple[Commands, str]:
        """Write a tarball, which a FROM can name; there is no cache of tarballs itself."""
        tarball = f"docker-archive:{self.directory}/base.tar"
        self.directory.mkdir(parents=True, exist_ok=True)
        copy = ("skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{base}")
        return [[*copy, f"{tarball}:{base}"]], tarball

    def warm_again(self, base: str) -> Commands:
        """Return nothing: skopeo copies whatever is there."""
        return []

    def pull(self, base: str) -> Commands:
        """Pull the base image into the storage."""
        return [self.command("pull", "--quiet", "--tls-verify=false", base)]

    def build(self, context: Path, base: str, destination: str) -> Commands:
        """Build, then push: two commands, for the first cannot push."""
        return self._built(context, base, destination, layers=self.layers)

    def rebuild(self, context: Path, base: str, destination: str) -> Commands:
        """Do the same with a layer for each instruction: those it finds in its storage again."""
        return self._built(context, base, destination, layers=True)

    def _built(self, context: Path, base: str, destination: str, *, layers: bool) -> Commands:
        flags = (*self.isolation, "--tls-verify=false", f"--layers={layers}".lower())
        # Without it, stages that need nothing of each other follow each other.
        more = ("--jobs=4", "--build-arg", f"BASE={base}", "-t", destination)
        return [
            self.command("build", *flags, *more, context),
            self.command("push", "--quiet", "--tls-verify=false", destination),
        ]

    def help(self) -> Commands:
        """Let it explain itself."""
        return [[self.name.removesuffix("-layers"), "--help"]]

    def version(self) -> Commands:
        """Let it tell its version."""
        return [[self.name.removesuffix("-layers"), "--version"]]


@dataclass(frozen=True, slots=True)
class Described:
    """A builder that a TOML file describes.

    Its ``name`` and ``build``, and, if it has them, ``warm``, ``warm_again``, ``pull``,
    ``rebuild`` (else ``build`` is run for it), ``help`` and ``version``. All but the name are
    lists of command lines (lists of strings), in which ``{base}``, ``{context}``,
    ``{destination}`` and ``{directory}`` are filled in.
    """

    name: str
    directory: Path
    _commands: Mapping[str, Commands]

    @classmethod
    def read(cls, path: Path, directory: Path) -> Described:
        """Read the description at *path*; the builder may keep its files in *directory*.

        Raises:
            ValueError: it is none.
        """
        try:
            text = tomllib.loads(path.read_text())
            commands = {name: value for name, value in text.items() if name != "name"}
            commands.setdefault("rebuild", text["build"])
            return cls(text["name"], directory, commands)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{path} does not describe a builder: {error!r}") from None

    def missing(self) -> str:
        """Say which of the programs that it starts are not installed."""
        programs = {command[0] for commands in self._commands.values() for command in commands}
        return _absent(*sorted(programs))

    def empty(self) -> None:
        """Remove its directory."""
        set_aside(self.directory)
        self.directory.mkdir(parents=True)

    def warm(self, base: str) -> tuple[Commands, str]:
        """Fill in the commands for warming."""
        return self._filled("warm", base=base), base

    def warm_again(self, base: str) -> Commands:
        """Fill in the commands for warming what is warm."""
        return self._filled("warm_again", base=base)

    def pull(self, base: str) -> Commands:
        """Fill in the commands for pulling."""
        return self._filled("pull", base=base)

    def build(self, context: Path, base: str, destination: str) -> Commands:
        """Fill in the commands for building."""
        return self._filled("build", base=base, context=str(context), destination=destination)

    def rebuild(self, context: Path, base: str, destination: str) -> Commands:
        """Fill in the commands for building with what was kept."""
        return self._filled("rebuild", base=base, context=str(context), destination=destination)

    def help(self) -> Commands:
        """Return the command that explains it."""
        return self._filled("help")

    def version(self) -> Commands:
        """Return the command that tells its version."""
        return self._filled("version")

    def _filled(self, what: str, **values: str) -> Commands:
        known = {**values, "directory": str(self.directory)}
        commands = self._commands.get(what, [])
        return [[word.format_map(known) for word in command] for command in commands]


def peer(name: str, directory: Path) -> Peer:
    """Return the builder *name*, or the one that a file of this name describes.

    Raises:
        ValueError: there is none.
    """
    match name:
        case "ours":
            return Ours(directory / "ours")
        case "buildah":
            return Containers.buildah(directory / name)
        case "buildah-layers":
            return Containers.buildah(directory / name, layers=True)
        case "podman":
            return Containers.podman(directory / name)
        case _:
            return Described.read(Path(name), directory / Path(name).stem)
