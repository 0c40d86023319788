"""The limit of a scenario: the same work with C tools, one after another, in the same place.

    pull      curl BLOB > nowhere · igzip -d BLOB > nowhere · tar x of the plain tar
    layer     tar c of the new files · igzip · SHA-256 of both
    push      curl -T of the layer, or of a manifest
    start     python -I -c pass

Each tool is the fastest that is installed: being strict with ourselves, openssl rather than
coreutils' sha256sum, which Debian builds without the processor's instructions for it. Their input
is in the page cache or in memory, and their output goes nowhere where that is possible. As one
pipe they would overlap, but not on this many processors: that is measured beside it, for
information.

What a Dockerfile itself runs is no part of the limit. It is timed by itself, in a chroot of the
busybox image in the same place, without namespaces or mounts.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import CommandError
from benchmarks.numbers import Limit
from benchmarks.peers import set_aside
from benchmarks.scenarios import Part, Scenario
from benchmarks.traffic import blob
from integration import images, readers
from integration.world import Registry, missing_tools

# Fastest first; Debian's packages are isal, pigz, gzip, openssl and coreutils.
_GUNZIP = (("igzip", "-d", "-c"), ("pigz", "-d", "-c"), ("gzip", "-d", "-c"))
# Level 1, as our layers have: igzip's level 0 is no faster, and writes an eighth more.
_GZIP = (("igzip", "-1", "-c"), ("pigz", "-1", "-c"), ("gzip", "-1", "-c"))
_SHA256 = (("openssl", "dgst", "-sha256"), ("sha256sum",))
_CURL = ("curl", "--silent", "--show-error", "--fail")
_DIGEST = re.compile(rb"\b[0-9a-f]{64}\b")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tools:
    """The command lines that the limit is made with."""

    gunzip: Command
    gzip: Command
    sha256: Command

    @classmethod
    def installed(cls) -> Tools:
        """Return the fastest that this machine has."""
        return cls(*(_first_installed(tools) for tools in (_GUNZIP, _GZIP, _SHA256)))

    @property
    def names(self) -> Mapping[str, str]:
        """How they are told to a reader."""
        return {
            "gunzip": " ".join(self.gunzip),
            "gzip": " ".join(self.gzip),
            "sha256": " ".join(self.sha256),
        }

    def pipe(self, url: str, directory: Path) -> Command:
        """Return the command that fetches and unpacks a layer in one pipe."""
        gunzip = " ".join(self.gunzip)
        fetch = f"{' '.join(_CURL)} {url}"
        # tar does not read what pads an archive, and whoever writes it must not fail of that.
        unpack = f"{{ tar -C {directory} -xf - && cat > /dev/null; }}"
        script = f"set -o pipefail; {fetch} | {gunzip} | {unpack}"
        return ("bash", "-c", script)


def _first_installed(tools: Sequence[Command]) -> Command:
    for tool in tools:
        if not missing_tools(tool[0]):
            return tool
    raise CommandError(f"none of these is installed: {', '.join(tool[0] for tool in tools)}")


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer of the base image: where the registry serves it, and in which file it is."""

    digest: str
    url: str
    file: Path


class Yardstick:
    """Takes the turns of a scenario's limit, in a directory of its own."""

    def __init__(
        self, scenario: Scenario, registry: Registry, directory: Path, tools: Tools
    ) -> None:
        self._scenario = scenario
        self._registry = registry
        self._directory = directory
        self._tools = tools
        self._tars = directory / "tars"
        self._turn = directory / "turn"
        self._turns = 0
        self._parts: dict[str, float] = {}

    def take(self, context: Path, base: str) -> Limit:
        """Take a turn; the first measures the pipe as well.

        Raises:
            CommandError: a tool failed.
        """
        set_aside(self._turn)
        self._turn.mkdir(parents=True)
        self._turns += 1
        self._parts = {}
        source, commands, pipe = context, None, None
        if self._scenario.commands:
            source = self._turn / "root"
            commands = self._run_commands(source)
        # As before a builder's turn: what others wrote must not be flushed to disk meanwhile.
        os.sync()
        for part in self._scenario.limit:
            self._take_part(part, source, base)
        if Part.DOWNLOAD in self._scenario.limit and self._turns == 1:
            pipe = self._take_pipe(base)
        return Limit(dict(self._parts), commands, pipe)

    def _take_part(self, part: Part, source: Path, base: str) -> None:
        match part:
            case Part.DOWNLOAD:
                for layer in self._layers(base):
                    self._add("curl", (*_CURL, "--output", "/dev/null", layer.url))
            case Part.EXTRACT:
                for layer in self._layers(base):
                    self._extract(layer)
            case Part.LAYER:
                self._pack(source)
            case Part.PUSH:
                self._push()
            case Part.MANIFESTS:
                self._send_manifest(base)
            case Part.ASK:
                head = ("--head", "--output", "/dev/null", _manifest_url(base))
                self._add("curl --head", (*_CURL, *_accepting(base), *head))
            case Part.INTERPRETER:
                self._add("python", (sys.executable, "-I", "-c", "pass"))

    def _layers(self, base: str) -> list[_Layer]:
        address, _, rest = base.partition("/")
        repository = rest.rpartition(":")[0]
        return [
            _Layer(
                layer["digest"],
                f"http://{address}/v2/{repository}/blobs/{layer['digest']}",
                blob(self._registry, layer["digest"]),
            )
            for layer in readers.manifest(base)["layers"]
        ]

    def _extract(self, layer: _Layer) -> None:
        tar = self._tars / layer.digest.replace(":", "-")
        if not tar.exists():
            self._tars.mkdir(exist_ok=True)
            timed((*self._tools.gunzip, str(layer.file)), tar)
            os.sync()
        root = self._turn / "base"
        root.mkdir(exist_ok=True)
        name = f"{self._tools.gunzip[0]} -d"
        self._add(name, (*self._tools.gunzip, str(layer.file)))
        self._add("tar x", ("tar", "-C", str(root), "--numeric-owner", "-xf", str(tar)))

    def _pack(self, source: Path) -> None:
        tar, packed = self._turn / "layer.tar", self._turn / "layer.tar.gz"
        # Not to /dev/null: GNU tar knows it, and reads no files then.
        command = ("tar", "-C", str(source), "--numeric-owner", "-cf", str(tar))
        self._add("tar c", (*command, self._scenario.made))
        self._add(self._tools.gzip[0], (*self._tools.gzip, str(tar)), packed)
        for file in (tar, packed):
            self._add(self._tools.sha256[0], (*self._tools.sha256, str(file)))

    def _push(self) -> None:
        packed = self._turn / "layer.tar.gz"
        written = self._turn / "digest"
        timed((*self._tools.sha256, str(packed)), written)
        found = _DIGEST.search(written.read_bytes())
        assert found is not None
        repository = f"http://{self._registry.address}/v2/limit/{self._scenario.name}"
        start = urllib.request.Request(f"{repository}/blobs/uploads/", method="POST", data=b"")
        with urllib.request.urlopen(start) as answer:
            place = answer.headers["Location"]
        url = f"{place}{'&' if '?' in place else '?'}digest=sha256:{found[0].decode()}"
        self._add("curl -T", _upload(packed, url))

    def _send_manifest(self, base: str) -> None:
        """Send the base image's manifest back under another tag: all that it names is there."""
        file = self._turn / "manifest.json"
        accept = _accepting(base)
        self._add("curl", (*_CURL, *accept, "--output", str(file), _manifest_url(base)))
        kind = accept[1].replace("Accept", "Content-Type")
        url = f"{_manifest_url(base).rpartition('/')[0]}/limit-{self._turns}"
        self._add("curl -T", (*_upload(file, url), "--header", kind))

    def _take_pipe(self, base: str) -> float:
        root = self._turn / "pipe"
        root.mkdir()
        return sum(timed(self._tools.pipe(layer.url, root)) for layer in self._layers(base))

    def _run_commands(self, root: Path) -> float:
        """Unpack the busybox image to *root*, and time the scenario's commands in it."""
        root.mkdir()
        manifest = readers.manifest(f"oci:{images.busybox_layout()}:latest")
        for layer in manifest["layers"]:
            file = images.busybox_layout() / "blobs" / layer["digest"].replace(":", "/")
            timed(("tar", "-C", str(root), "-xzf", str(file)))
        os.sync()
        return timed(in_chroot(root, self._scenario.commands))

    def _add(self, name: str, command: Command, output: Path | None = None) -> None:
        self._parts[name] = self._parts.get(name, 0.0) + timed(command, output)


def in_chroot(root: Path, commands: str) -> Command:
    """Return the command that lets the shell of *root* run *commands* in it."""
    return ("env", "-i", f"PATH={_PATH}", "chroot", str(root), "/bin/sh", "-c", commands)


def _upload(file: Path, url: str) -> Command:
    # Without the empty header, curl would wait to be told to go on.
    given = ("--header", "Expect:", "--output", "/dev/null")
    return (*_CURL, *given, "--upload-file", str(file), url)


def _manifest_url(base: str) -> str:
    address, _, rest = base.partition("/")
    repository, _, tag = rest.rpartition(":")
    return f"http://{address}/v2/{repository}/manifests/{tag}"


def _accepting(base: str) -> Command:
    return ("--header", f"Accept: {readers.manifest(base)['mediaType']}")


def timed(command: Command, output: Path | None = None) -> float:
    """Run *command* and return its seconds; what it writes goes to *output*, or nowhere.

    Raises:
        CommandError: it failed.
    """
    with (output or Path("/dev/null")).open("wb") as stream:
        start = time.perf_counter()
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.PIPE,
        )
        seconds = time.perf_counter() - start
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace")
        raise CommandError(f"{' '.join(command)}\nended with {done.returncode}:\n{said}")
    return seconds
