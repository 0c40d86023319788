"""Steps in one OCI image layout: an image for each, tagged with its key."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from kaniko_core.errors import disk_errors
from kaniko_core.oci.image import Image
from kaniko_core.oci.layer import FileLayer
from kaniko_core.oci.layout import LayoutStore, tags_of
from kaniko_core.oci.reference import Reference, Repository
from kaniko_core.oci.spec import Descriptor, MediaType
from kaniko_core.steps import records
from kaniko_core.steps.images import step_in
from kaniko_core.steps.step import CachedStep

# A layout has tags and no repositories; this one is never seen.
_NAMELESS = Repository("localhost", "cache")


class LayoutSteps:
    """A StepStore in the OCI layout *path*, which the first put makes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._layout = LayoutStore(path)
        self._lock = threading.Lock()
        self._listed: Mapping[str, Descriptor] = {}
        self._state: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The layout, as --cache-repo has it."""
        return f"oci:{self._path}"

    def get(self, key: str) -> CachedStep | None:
        """Read the manifest, and see that the blob is there; see the protocol."""
        with disk_errors("read the cache", self._path):
            listed = self._index().get(key)
            if listed is None or listed.media_type not in MediaType.MANIFESTS:
                return None
            image = self._layout.read(listed.digest)
        return step_in(key, image.manifest, lambda _, __: image.layers[0])

    def put(self, key: str, image: Image, *, known_in: tuple[Repository, ...] = ()) -> None:
        """Add the image; blobs that are there already are not written again."""
        self._layout.put(Reference(_NAMELESS, key), image)

    def discard(self, key: str, step: CachedStep) -> None:
        """Remove the blob, which a put would otherwise take for good."""
        discard_blob(step)

    def read_record(self, name: str) -> bytes | None:
        """Return the file *name* beside the index."""
        return records.read_record(self._path, name)

    def write_record(self, name: str, data: bytes) -> None:
        """Write the file *name* beside the index."""
        records.write_record(self._path, name, data)

    def _index(self) -> Mapping[str, Descriptor]:
        """Return the images by tag; the file is parsed once for all keys that are looked up."""
        try:
            status = (self._path / "index.json").stat()
        except FileNotFoundError:
            return {}
        state = (status.st_ino, status.st_mtime_ns, status.st_size)
        with self._lock:
            if state != self._state:
                listed = self._layout.listed()
                self._listed = {tag: item for item in listed for tag in tags_of(item)}
                self._state = state
            return self._listed


def discard_blob(step: CachedStep) -> None:
    """Remove the file of the step's layer; who has it open keeps reading it."""
    if isinstance(step.layer, FileLayer):
        with suppress(OSError):
            step.layer.path.unlink()
