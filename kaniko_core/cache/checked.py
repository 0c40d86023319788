"""Layers of cached images: nothing is made of one that is damaged.

A look-up reads no layer, so a disk that flipped a bit is found out when the layer is wanted:

    open        reads the layer to its end first, and then again for the caller: to send it on
    unchecked   for who can throw away what was made of it, as unpacking into a directory can:
                the end of the stream tells, and whoever doubts it then asks for what is mended

Where it is damaged, the spare image, from the registry, takes its place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import BinaryIO

from kaniko_core.errors import ContentError, DiskError, KanikoError
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image, Layer
from kaniko_core.oci.spec import Descriptor

_CHUNK = 1 << 20


def with_spare(
    image: Image, spare: Callable[[], Image], damaged: Callable[[KanikoError], None]
) -> Image:
    """Return *image* with layers that come from another place where they are bad in the cache.

    Args:
        image: from the cache.
        spare: fetches the same image from elsewhere; called once at most, and only when needed.
        damaged: is told why, once for each bad layer, before the spare is fetched.
    """
    replacement = _Spare(spare)
    layers = tuple(
        _CheckedLayer(layer, partial(replacement.layer, number), damaged)
        for number, layer in enumerate(image.layers)
    )
    return Image.of(image.raw_manifest, image.raw_config, layers)


class _Spare:
    """The other image, fetched with the first layer that is wanted of it."""

    def __init__(self, fetch: Callable[[], Image]) -> None:
        self._fetch = fetch
        self._image: Image | None = None
        self._lock = threading.Lock()

    def layer(self, number: int) -> Layer:
        with self._lock:
            if self._image is None:
                self._image = self._fetch()
            return self._image.layers[number]


class _CheckedLayer:
    """A layer that has been read to its end before it is first opened."""

    def __init__(
        self, cached: Layer, spare: Callable[[], Layer], damaged: Callable[[KanikoError], None]
    ) -> None:
        self._cached = cached
        self._spare = spare
        self._damaged = damaged
        self._lock = threading.Lock()
        self._good: Layer | None = None

    @property
    def descriptor(self) -> Descriptor:
        return self._cached.descriptor

    @property
    def diff_id(self) -> Digest:
        return self._cached.diff_id

    def open(self) -> BinaryIO:
        """Return the blob, from where it is good; as the Layer protocol says."""
        return self._good_one().open()

    def unchecked(self) -> Layer:
        """Return the layer in the cache, unless that is known to be damaged."""
        with self._lock:
            return self._good or self._cached

    def mended(self) -> Layer | None:
        """Return the spare layer, if the cached one turns out to be damaged."""
        good = self._good_one()
        return None if good is self._cached else good

    def _good_one(self) -> Layer:
        with self._lock:
            if self._good is None:
                self._good = self._checked()
            return self._good

    def _checked(self) -> Layer:
        try:
            with self._cached.open() as stream:
                while stream.read(_CHUNK):
                    pass
        except (ContentError, DiskError) as error:
            self._damaged(error)
            return self._spare()
        return self._cached
