"""Steps in a plain directory, which several builders may share.

    <directory>/
    ├── <key>/             an OCI layout of one image; its time is that of its last use
    ├── explain-…          records
    └── .tmp-…             being written, or left by a process that was killed

An entry appears whole. Where it is there already, because it has expired or was made anew, the new
image is added and the index changed to it: who was handed the old layer goes on reading it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from errno import EDQUOT, ENOSPC
from pathlib import Path

from kaniko_core.errors import ContentError, DiskError, disk_errors
from kaniko_core.oci.atomic import appearing, discard_directory, make_directory, sweep
from kaniko_core.oci.image import Image
from kaniko_core.oci.layer import FileLayer
from kaniko_core.oci.layout import LayoutStore
from kaniko_core.oci.reference import Repository
from kaniko_core.steps import records
from kaniko_core.steps.images import step_in
from kaniko_core.steps.layout import discard_blob
from kaniko_core.steps.step import CachedStep

# Seconds. A blob that no index names any more, and no build has been handed for so long, is waste.
_WASTE = 24 * 3600.0


class DirectorySteps:
    """A StepStore in the directory *path*, which the first put makes.

    Args:
        path: where.
        hold: called with an entry's key before the entry is looked at, and before it is changed:
            from then on until the build ends nobody may remove it.
        make_room: called with a number of bytes when the disk is full; says whether it is worth
            trying again.
        now: the clock, in seconds since the epoch, as files' times are.
    """

    def __init__(
        self,
        path: Path,
        *,
        hold: Callable[[str], None] = lambda _: None,
        make_room: Callable[[int], bool] = lambda _: False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._hold = hold
        self._make_room = make_room
        self._now = now
        self._swept = False

    @property
    def name(self) -> str:
        """The directory."""
        return str(self._path)

    def get(self, key: str) -> CachedStep | None:
        """Read the manifest, and see that the blob is there; see the protocol."""
        entry = self._path / key
        with disk_errors("read the cache", self._path):
            if not entry.is_dir():
                return None
            self._hold(key)
            try:
                step = _read(entry, key)
            except ContentError:
                if not entry.is_dir():
                    return None  # removed before it was held
                raise
        if step is not None:
            self._touch(entry, step)
        return step

    def put(self, key: str, image: Image, *, known_in: tuple[Repository, ...] = ()) -> None:
        """Write the entry, or change what is there; see the protocol."""
        try:
            self._put(key, image)
        except DiskError as error:
            size = sum(layer.descriptor.size for layer in image.layers)
            if not _is_full(error) or not self._make_room(size):
                raise
            self._put(key, image)

    def discard(self, key: str, step: CachedStep) -> None:
        """Remove the blob, which a put would otherwise take for good."""
        discard_blob(step)

    def read_record(self, name: str) -> bytes | None:
        """Return the file *name* beside the entries."""
        return records.read_record(self._path, name)

    def write_record(self, name: str, data: bytes) -> None:
        """Write the file *name* beside the entries."""
        records.write_record(self._path, name, data)

    def _put(self, key: str, image: Image) -> None:
        entry = self._path / key
        with disk_errors("write to the cache", self._path):
            make_directory(self._path)
            if not self._swept:
                self._swept = True
                sweep(self._path)
            self._hold(key)
            if entry.is_dir() and self._changed(entry, image):
                return
            with appearing(entry) as directory:
                LayoutStore(directory).put(None, image)

    def _changed(self, entry: Path, image: Image) -> bool:
        """Put *image* into the entry that is there; False where the entry is beyond that."""
        try:
            LayoutStore(entry).put(None, image)
        except ContentError:
            discard_directory(entry)
            return False
        self._remove_waste(entry, image)
        return True

    def _remove_waste(self, entry: Path, image: Image) -> None:
        manifest = image.manifest
        named = {image.digest, manifest.config.digest, *(item.digest for item in manifest.layers)}
        wanted = {digest.hex for digest in named}
        with suppress(OSError):
            for path in (entry / "blobs" / "sha256").iterdir():
                old = self._now() - path.stat().st_mtime > _WASTE
                if old and path.name not in wanted:
                    path.unlink()

    def _touch(self, entry: Path, step: CachedStep) -> None:
        """Note that the entry was used, where that can be done."""
        now = self._now()
        paths = [entry]
        if isinstance(step.layer, FileLayer):
            paths.append(step.layer.path)
        for path in paths:
            with suppress(OSError):
                os.utime(path, (now, now))


def _read(entry: Path, key: str) -> CachedStep | None:
    layout = LayoutStore(entry)
    listed = layout.listed()
    if len(listed) != 1:
        raise ContentError(f"{entry} has {len(listed)} images instead of one")
    image = layout.read(listed[0].digest)
    return step_in(key, image.manifest, lambda _, __: image.layers[0])


def _is_full(error: DiskError) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (EDQUOT, ENOSPC)
