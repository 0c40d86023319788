"""Layers of a cache: what is wrong with one of them says which step it belongs to.

A look-up reads no layer, so that one is gone or damaged is found out when it is wanted. A file is
read to its end before a byte of it is used; a blob of a registry is not, since whoever reads it
reads it to its end, and learns there that it was wrong.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

from kaniko_core.errors import ContentError, DiskError, KanikoError, RegistryError
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Layer
from kaniko_core.oci.reference import Repository
from kaniko_core.oci.spec import Descriptor
from kaniko_core.registry.client import RemoteLayer
from kaniko_core.steps.step import LostLayer

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class _Watch:
    """Turns what can go wrong with the layer of a step into a LostLayer.

    Attributes:
        key: the step's.
        place: where the layer is, for people.
        given_up: whether the build is: then nothing is lost, and nothing starts over.
    """

    key: str
    place: str
    given_up: Callable[[], bool]

    @contextmanager
    def __call__(self) -> Iterator[None]:
        try:
            yield
        except (ContentError, DiskError, RegistryError) as error:
            if self.given_up():
                raise
            raise self.lost(error) from error

    def lost(self, error: KanikoError) -> LostLayer:
        message = f"a cached layer in {self.place} cannot be used: {error}"
        return LostLayer(self.key, message, hint=error.hint)


def watched(key: str, layer: Layer, place: str, given_up: Callable[[], bool]) -> Layer:
    """Return *layer*, such that opening or reading it raises LostLayer where bytes are wrong.

    Args:
        key: of the step that it belongs to.
        layer: as a store returns it.
        place: the store's name.
        given_up: whether the build is; errors are then raised as they are.
    """
    watch = _Watch(key, place, given_up)
    if isinstance(layer, RemoteLayer):
        return _WatchedRemote(layer, watch)
    return _WatchedFile(layer, watch)


class _Watched:
    """A layer of a cache, but for how it is opened."""

    def __init__(self, layer: Layer, watch: _Watch) -> None:
        self._layer = layer
        self._watch = watch

    @property
    def descriptor(self) -> Descriptor:
        return self._layer.descriptor

    @property
    def diff_id(self) -> Digest:
        return self._layer.diff_id

    def lost(self, error: ContentError) -> LostLayer:
        """Return what to raise where *error* shows that the layer is damaged."""
        return self._watch.lost(error)

    def open(self) -> BinaryIO:
        """Return the blob; as the Layer protocol says."""
        return _opened(self._layer, self._watch)


class _WatchedFile(_Watched):
    """A layer on a disk, read to its end before it is first used."""

    def __init__(self, layer: Layer, watch: _Watch) -> None:
        super().__init__(layer, watch)
        self._lock = threading.Lock()
        self._checked = False

    def open(self) -> BinaryIO:
        """Return the blob; as the Layer protocol says."""
        with self._lock, self._watch():
            if not self._checked:
                with self._layer.open() as stream:
                    while stream.read(_CHUNK):
                        pass
                self._checked = True
        return super().open()


class _WatchedRemote(_Watched):
    """A layer in a registry."""

    def __init__(self, layer: RemoteLayer, watch: _Watch) -> None:
        super().__init__(layer, watch)
        self._repository = layer.repository

    @property
    def repository(self) -> Repository:
        """Where it is: a push to the same registry need not move it."""
        return self._repository


def _opened(layer: Layer, watch: _Watch) -> BinaryIO:
    with watch():
        stream = layer.open()
    return cast(BinaryIO, _WatchedStream(stream, watch))


class _WatchedStream(io.RawIOBase):
    """A stream whose reads are watched; a read may give less than was asked for."""

    def __init__(self, source: BinaryIO, watch: _Watch) -> None:
        super().__init__()
        self._source = source
        self._watch = watch

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        with self._watch():
            return self._source.read(-1 if size is None else size)

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()
