"""Layers that are fetched once, though they are read twice.

A base layer is read when it is unpacked, and again when the image goes somewhere that does
not have it: another registry, a tarball, a layout. Only then is it kept on disk in between.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from kaniko_core.errors import ContentError, KanikoError, disk_errors
from kaniko_core.oci.atomic import replacing
from kaniko_core.oci.digest import Digest, VerifyingReader
from kaniko_core.oci.image import Image, Layer, Replaceable
from kaniko_core.oci.spec import Descriptor
from kaniko_core.registry.download import Housed

_PIECE = 1 << 20


class SpooledLayer:
    """A layer whose first reader fetches it to *path*; all read it from there."""

    def __init__(self, source: Layer, path: Path) -> None:
        self._source = source
        self._path = path
        self._lock = threading.Lock()

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of the layer itself."""
        return self._source.descriptor

    @property
    def diff_id(self) -> Digest:
        """The diff ID of the layer itself."""
        return self._source.diff_id

    def open(self) -> BinaryIO:
        """Return the stored bytes, verified; blocks while another thread fetches them."""
        with self._lock:
            if not self._path.exists():
                self._fetch()
        descriptor = self.descriptor
        what = f"layer {descriptor.digest}"
        file = self._path.open("rb")
        return cast(BinaryIO, VerifyingReader(file, descriptor.digest, descriptor.size, what))

    def _fetch(self) -> None:
        with (
            self._source.open() as source,
            disk_errors("keep a layer in", self._path.parent),
            # Not flushed: it is gone when the build ends.
            replacing(self._path, durable=False) as target,
        ):
            shutil.copyfileobj(source, target, _PIECE)


class _ReplaceableSpooledLayer(SpooledLayer):
    """One from a cache."""

    def lost(self, error: ContentError) -> KanikoError:
        """Return what to raise where *error* shows that the layer is damaged."""
        assert isinstance(self._source, Replaceable)
        return self._source.lost(error)


def spooled(image: Image, fresh: Callable[[], Path]) -> Image:
    """Return *image* with its remote layers spooled to paths that *fresh* gives."""
    layers = tuple(spooled_layer(layer, fresh) for layer in image.layers)
    return Image(image.raw_manifest, image.raw_config, layers)


def spooled_layer(layer: Layer, fresh: Callable[[], Path]) -> Layer:
    """Return *layer*, spooled to the path that *fresh* gives if it is in a registry."""
    if not isinstance(layer, Housed):
        return layer
    kind = _ReplaceableSpooledLayer if isinstance(layer, Replaceable) else SpooledLayer
    return kind(layer, fresh())
