"""What is installed in an image: found in its layers as they stream by, the bottom one first.

Nothing is unpacked. Of each file that tells of packages, what it says is kept until a layer
further up replaces the file or hides it, as unpacking would; but for databases of rpm, which
have to be files to be read, and are kept in a directory.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from typing import BinaryIO

from kaniko_core.attestations import rpmdb
from kaniko_core.attestations.alpine import read_installed
from kaniko_core.attestations.debian import read_status
from kaniko_core.attestations.node import read_package
from kaniko_core.attestations.osrelease import read_distribution
from kaniko_core.attestations.package import Distribution, Installed, Package
from kaniko_core.attestations.python import read_metadata
from kaniko_core.attestations.rpm import packages_of
from kaniko_core.errors import ContentError, disk_errors, reason_of
from kaniko_core.lean import dataclass
from kaniko_core.oci.archive import read_entries
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.oci.image import Image, Layer
from kaniko_core.oci.layer import open_tar
from kaniko_core.oci.tarheader import readable

_Reader = Callable[[BinaryIO], Iterable[Package]]
# Paths below the root, and who reads such files.
_READERS: tuple[tuple[str, _Reader], ...] = (
    (r"var/lib/dpkg/status", read_status),
    (r"var/lib/dpkg/status\.d/(?!.*\.md5sums$)[^/]+", read_status),
    (r"(?:usr/)?lib/apk/db/installed", read_installed),
    (r"(?:.*/)?[^/]+\.dist-info/METADATA", read_metadata),
    (r"(?:.*/)?(?:[^/]+\.egg-info|EGG-INFO)/PKG-INFO", read_metadata),
    (r"(?:.*/)?[^/]+\.egg-info", read_metadata),
    (r"(?:.*/)?node_modules/(?:@[^/]+/)?[^/]+/package\.json", read_package),
)
_PATTERNS = tuple((re.compile(pattern.encode(), re.DOTALL), read) for pattern, read in _READERS)
_RPM = re.compile(rb"((?:var/lib|usr/lib/sysimage|usr/share)/rpm)/([^/]+)")
# What a database's files tell together is kept under this name beside them.
_DATABASE = b"/rpmdb"
_RPM_FILES = frozenset(name.encode() for name in rpmdb.FILES)
# By preference; the first is often a link to the second.
_OS_RELEASE = (b"etc/os-release", b"usr/lib/os-release")
# How paths that may be wanted begin or end: most are not, and need no closer look.
_BEGINNING = b"var/lib/dpkg/status.d/"
_ENDS = (
    *(b"status", b"installed", b"METADATA", b"PKG-INFO", b".egg-info", b"package.json"),
    *(b"os-release", b".sqlite", b".sqlite-wal", b"Packages", b"Packages.db"),
)
_LARGEST = 1 << 30  # bytes of a file: a sparse one costs nobody anything, but whoever reads it


@dataclass(frozen=True, slots=True)
class Inventory:
    """What was found.

    Attributes:
        complaints: sentences about what could not be read, and so is missing.
    """

    distribution: Distribution
    installed: tuple[Installed, ...]
    complaints: tuple[str, ...]


def take_inventory(image: Image, scratch: Path) -> Inventory:
    """Return what is installed in *image*.

    Args:
        image: whose layers are read, once, or twice where one has links between files.
        scratch: an empty directory of the caller's, who removes it.

    Raises:
        ContentError: a layer is damaged.
        DiskError: *scratch* cannot be written.
    """
    search = _Search(scratch)
    for layer in image.layers:
        search.add(layer)
    return search.result()


@dataclass(slots=True)
class _Told:
    """What a file said, in which layer it is, and which layer first said each thing of it."""

    layer: int
    packages: Mapping[Package, Digest] = field(default_factory=dict)
    distribution: Distribution | None = None
    complaint: str = ""


class _Search:
    """What the layers up to one show; files that tell of packages, by path."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._told: dict[bytes, _Told] = {}
        # Every directory above one of those files, ever: where hiding matters.
        self._above: set[bytes] = set()
        self._count = 0
        self._digest = Digest.of(b"")
        self._databases: set[bytes] = set()  # directories of rpm's that this layer changed

    def add(self, layer: Layer) -> None:
        """Put *layer* on top of those before."""
        self._count += 1
        self._digest = layer.descriptor.digest
        self._databases = set()
        links: dict[bytes, list[bytes]] = {}
        with open_tar(layer) as tar:
            for entry, content in read_entries(tar):
                self._hide(entry)
                if not _is_wanted(entry.name):
                    continue
                if entry.kind is Kind.FILE:
                    self._read(entry.name, entry.size, content)
                elif entry.kind is Kind.HARDLINK:
                    links.setdefault(entry.link, []).append(entry.name)
        if links:
            self._follow(layer, links)
        for directory in sorted(self._databases):
            self._read_database(directory)

    def result(self) -> Inventory:
        """Return what the topmost layer shows."""
        installed = [
            Installed(package, readable(path), layer)
            for path, told in sorted(self._told.items())
            for package, layer in told.packages.items()
        ]
        complaints = tuple(told.complaint for told in self._told.values() if told.complaint)
        said = (self._told.get(path) for path in _OS_RELEASE)
        distributions = (told.distribution for told in said if told and told.distribution)
        return Inventory(next(distributions, Distribution()), tuple(installed), complaints)

    # What a layer hides of those below

    def _hide(self, entry: Entry) -> None:
        name, kind = entry.name, entry.kind
        if kind is not Kind.OPAQUE:
            told = self._told.get(name)
            # A file that another replaces is still asked what it said.
            if told is not None and told.layer < self._count and kind is not Kind.FILE:
                self._forget(name)
        if kind is not Kind.DIRECTORY and (name in self._above or not name):
            for path in [path for path in self._told if not name or path.startswith(name + b"/")]:
                if self._told[path].layer < self._count:
                    self._forget(path)

    def _forget(self, path: bytes) -> None:
        del self._told[path]
        match = _RPM.fullmatch(path)
        if match is not None:
            with (
                disk_errors("change what is kept below", self._scratch),
                suppress(FileNotFoundError),
            ):
                (self._database(match[1]) / match[2].decode()).unlink()
            self._databases.add(match[1])

    # What a layer adds

    def _follow(self, layer: Layer, links: dict[bytes, list[bytes]]) -> None:
        """Read the files that wanted names are links to: what a link leads to came before it."""
        with open_tar(layer) as tar:
            for entry, content in read_entries(tar):
                names = links.get(entry.name, []) if entry.kind is Kind.FILE else []
                for name in names[:1]:
                    self._read(name, entry.size, content)
                for name in names[1:]:
                    self._remember(name, self._told[names[0]])

    def _read(self, path: bytes, size: int, content: BinaryIO) -> None:
        rpm = _RPM.fullmatch(path)
        told = _Told(self._count)
        if size > _LARGEST:
            if path in self._told:
                self._forget(path)
            told.complaint = f"/{readable(path)} is too large to be read: {size} bytes"
        elif rpm is not None:
            self._keep(rpm[1], rpm[2].decode(), content)
        elif path in _OS_RELEASE:
            told.distribution = read_distribution(content)
        else:
            read = next(read for pattern, read in _PATTERNS if pattern.fullmatch(path))
            self._ask(told, path, lambda: read(content))
        self._remember(path, told)

    def _ask(self, told: _Told, path: bytes, read: Callable[[], Iterable[Package]]) -> None:
        before = self._told.get(path)
        known = before.packages if before is not None else {}
        packages: dict[Package, Digest] = {}
        try:
            for package in read():
                if not package.has_name:
                    raise ContentError(f"it has a package of the name {package.name!r}")
                packages[package] = known.get(package, self._digest)
        except (ContentError, OSError) as error:
            reason = str(error) if isinstance(error, ContentError) else reason_of(error)
            where = path.removesuffix(_DATABASE)
            told.complaint = f"/{readable(where)} does not tell all that is installed: {reason}"
        told.packages = packages

    def _remember(self, path: bytes, told: _Told) -> None:
        self._told[path] = told
        above = path
        while (above := above.rpartition(b"/")[0]) and above not in self._above:
            self._above.add(above)

    # Databases of rpm

    def _database(self, directory: bytes) -> Path:
        return self._scratch / directory.decode().replace("/", "-")

    def _keep(self, directory: bytes, name: str, content: BinaryIO) -> None:
        path = self._database(directory) / name
        with disk_errors("write", path):
            path.parent.mkdir(exist_ok=True)
            with path.open("wb") as file:
                shutil.copyfileobj(content, file)
        self._databases.add(directory)

    def _read_database(self, directory: bytes) -> None:
        home = self._database(directory)
        path = directory + _DATABASE
        told = _Told(self._count)
        self._ask(told, path, lambda: packages_of(rpmdb.headers_in(home)))
        self._remember(path, told)


def _is_wanted(path: bytes) -> bool:
    if not path.endswith(_ENDS) and not path.startswith(_BEGINNING):
        return False
    rpm = _RPM.fullmatch(path)
    if rpm is not None:
        return rpm[2] in _RPM_FILES
    return path in _OS_RELEASE or any(pattern.fullmatch(path) for pattern, _ in _PATTERNS)
