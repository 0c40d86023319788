"""What a cache directory holds, found by names and times alone: nothing is read.

    <cache_dir>/
    ├── sha256:…                    base images
    ├── .layers/<kind>/<chain>.…    layers, unpacked
    ├── .built/<key>/               layers that instructions made
    ├── .mounts/<id>/               caches of RUN
    └── <key>/                      as in .built, where the directory is only that

When something was last used is the modification time of what its users touch: an image's
sidecar, a RUN cache's lock, the directory of the others. Access times would not do: backups and
listings change them, and many file systems keep none.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator
from enum import Enum
from pathlib import Path
from typing import assert_never

from kaniko_core.lean import dataclass

_IMAGE = re.compile(r"sha256:[0-9a-f]{64}")
_HASH = re.compile(r"[0-9a-f]{64}")
_CHAIN = re.compile(r"[0-9a-f]{64}\.[0-9a-z]+")
_BUILT = re.compile(r"[0-9a-f]{64}|explain-[0-9a-f]+")
_LAYOUT = "oci-layout"
# A layer that is being unpacked, or was when its process was killed.
UNFINISHED = ".tmp"
_BLOCK = 512  # bytes: the unit of st_blocks, whatever the file system's is


class Kind(Enum):
    """What something in a cache directory is; the values are for people."""

    IMAGE = "image"
    UNPACKED = "unpacked layer"
    BUILT = "built layer"
    RUN_CACHE = "RUN cache"


@dataclass(frozen=True, slots=True)
class Found:
    """Something in a cache directory.

    Attributes:
        name: its path below the cache directory, by which builds hold it.
        created, used: seconds since the epoch.
    """

    kind: Kind
    name: str
    created: float
    used: float


def contents(cache_dir: Path, kinds: Collection[Kind] = tuple(Kind)) -> list[Found]:
    """Return what is there of *kinds*, least recently used first.

    What vanishes meanwhile, and what is in a directory that cannot be read, is left out.
    """
    looked = (
        look(cache_dir, kind, name)
        for kind in Kind
        if kind in kinds
        for name in _names_of(cache_dir, kind)
    )
    found = (item for item in looked if item is not None)
    return sorted(found, key=lambda item: (item.used, item.name))


def look(cache_dir: Path, kind: Kind, name: str) -> Found | None:
    """Return what is at the path *name* below *cache_dir* now, or None where there is nothing."""
    entry = cache_dir / name
    there = _time(entry)
    if there is None:
        return None
    match kind:
        case Kind.IMAGE:
            return Found(kind, name, there, max(there, _time(sidecar(entry)) or 0))
        case Kind.UNPACKED:
            return Found(kind, name, there, there)
        case Kind.BUILT:
            # Written anew with every image, unlike the rest.
            created = _time(entry / "index.json")
            return Found(kind, name, there if created is None else created, there)
        case Kind.RUN_CACHE:
            used = _time(entry / "lock")
            return Found(kind, name, there, there if used is None else used)
        case _:
            assert_never(kind)


def parts(cache_dir: Path, item: Found) -> list[Path]:
    """Return the files and directories that *item* consists of, in the order to remove them."""
    entry = cache_dir / item.name
    beside = sidecar(entry)
    if item.kind is Kind.IMAGE and beside.parent == cache_dir and beside.exists():
        # The tarball first: a sidecar alone is no entry, a tarball alone a damaged one.
        return [entry, beside]
    return [entry]


def disk_usage(cache_dir: Path, item: Found) -> int:
    """Return the bytes that *item* takes on the disk."""
    return sum(disk_space(path) for path in parts(cache_dir, item))


def disk_space(path: Path) -> int:
    """Return the bytes that *path*, and everything below it, takes on the disk.

    A file that has several names counts once. What cannot be read counts as nothing.
    """
    return sum(_blocks(path, set()))


def _blocks(path: Path, seen: set[tuple[int, int]]) -> Iterator[int]:
    try:
        status = path.lstat()
    except OSError:
        return
    if not stat.S_ISDIR(status.st_mode):
        if status.st_nlink > 1:
            if (status.st_dev, status.st_ino) in seen:
                return
            seen.add((status.st_dev, status.st_ino))
        yield status.st_blocks * _BLOCK
        return
    yield status.st_blocks * _BLOCK
    for child in _names(path):
        yield from _blocks(path / child, seen)


def sidecar(image: Path) -> Path:
    """Return the file whose modification time is the last use of the entry *image*."""
    # Go kaniko's entries are directories, OCI layouts, and have no manifest beside them.
    return image / _LAYOUT if image.is_dir() else Path(f"{image}.json")


def _names_of(cache_dir: Path, kind: Kind) -> list[str]:
    match kind:
        case Kind.IMAGE:
            return _matching(cache_dir, "", _IMAGE)
        case Kind.UNPACKED:
            directories = [f".layers/{name}/" for name in _names(cache_dir / ".layers")]
            found = [name for place in directories for name in _matching(cache_dir, place, _CHAIN)]
            return [name for name in found if not name.endswith(UNFINISHED)]
        case Kind.BUILT:
            # Other programs, too, name directories by hashes: only OCI layouts are ours.
            own = [n for n in _matching(cache_dir, "", _HASH) if (cache_dir / n / _LAYOUT).exists()]
            return [*_matching(cache_dir, ".built/", _BUILT), *own]
        case Kind.RUN_CACHE:
            return _matching(cache_dir, ".mounts/", _HASH)
        case _:
            assert_never(kind)


def _matching(cache_dir: Path, place: str, pattern: re.Pattern[str]) -> list[str]:
    return [place + name for name in _names(cache_dir / place) if pattern.fullmatch(name)]


def _names(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _time(path: Path) -> float | None:
    try:
        return path.lstat().st_mtime
    except OSError:
        return None
