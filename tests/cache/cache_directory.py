"""A cache directory with something of every kind, as old as a test wants it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kaniko_core.cache.images import ImageCache
from kaniko_core.oci.image import Image
from kaniko_core.oci.layout import LayoutStore
from kaniko_core.options import CacheOptions
from tests.samples import image

NOW = 1_800_000_000.0
HOUR = 3600.0
DAY = 24 * HOUR
BOOT = "0123456789ab"


def hashed(number: int) -> str:
    return f"{number:064x}"


def aged(path: Path, seconds: float) -> None:
    """Let *path* have been modified so many seconds before NOW."""
    os.utime(path, (NOW - seconds, NOW - seconds))


@dataclass(frozen=True, slots=True)
class CacheDirectory:
    """Makes entries; ``age`` and ``unused`` are in seconds before NOW."""

    path: Path

    @property
    def options(self) -> CacheOptions:
        return CacheOptions(cache_dir=self.path)

    @property
    def images(self) -> ImageCache:
        return ImageCache(self.options, now=lambda: NOW)

    def image(self, sample: Image | None = None, *, age: float = 0, unused: float = 0) -> str:
        sample = sample or image()
        self.images.put(sample)
        aged(self.path / str(sample.digest), age)
        aged(self.path / f"{sample.digest}.json", unused)
        return str(sample.digest)

    def layout(self, *, age: float = 0, unused: float = 0) -> str:
        """Make an image as Go kaniko's warmer does."""
        sample = image()
        entry = self.path / str(sample.digest)
        LayoutStore(entry).put(None, sample)
        aged(entry / "oci-layout", unused)
        aged(entry, age)
        return str(sample.digest)

    def unpacked(self, number: int = 1, *, size: int = 0, unused: float = 0) -> str:
        name = f".layers/trusted/{hashed(number)}.{BOOT}"
        self._filled(self.path / name / "fs", size)
        aged(self.path / name, unused)
        return name

    def built(self, number: int = 1, *, age: float = 0, unused: float = 0, size: int = 0) -> str:
        name = f".built/{hashed(number)}"
        self._filled(self.path / name, size)
        (self.path / name / "index.json").touch()
        aged(self.path / name / "index.json", age)
        aged(self.path / name, unused)
        return name

    def run_cache(self, number: int = 1, *, unused: float = 0, size: int = 0) -> str:
        name = f".mounts/{hashed(number)}"
        self._filled(self.path / name / "0", size)
        (self.path / name / "lock").touch()
        aged(self.path / name / "lock", unused)
        return name

    def _filled(self, directory: Path, size: int) -> None:
        directory.mkdir(parents=True)
        (directory / "file").write_bytes(os.urandom(size))

    def names(self) -> set[str]:
        """Return what is there, by its path, of all kinds."""
        places = ("", ".layers/trusted/", ".built/", ".mounts/", ".tags/")
        hidden = {".layers", ".built", ".mounts", ".tags", ".uses", ".locks"}
        return {
            place + child.name
            for place in places
            if (self.path / place).is_dir()
            for child in (self.path / place).iterdir()
            if child.name not in hidden
        }
