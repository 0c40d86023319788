"""What tests of trees in place start from: entries of this user's, and layers of them."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path

from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.oci.image import Image, Layer, compose
from kaniko_core.oci.layer import open_tar, write_layer
from kaniko_core.oci.spec import ImageConfig
from kaniko_core.oci.tarreader import TarReader
from tests.samples import AMD64

OURS = (os.getuid(), os.getgid())


def file(name: str, text: str) -> Entry:
    data = text.encode()
    return Entry(
        name.encode(), Kind.FILE, 0o644, *OURS, size=len(data), content=lambda: io.BytesIO(data)
    )


def directory(name: str, mode: int = 0o755) -> Entry:
    return Entry(name.encode(), Kind.DIRECTORY, mode, *OURS)


def symlink(name: str, target: str) -> Entry:
    return Entry(name.encode(), Kind.SYMLINK, 0o777, *OURS, link=target.encode())


class Layers:
    """Packs layers into a directory, at once."""

    def __init__(self, where: Path) -> None:
        self._where = where
        where.mkdir()

    def layer(self, *entries: Entry) -> Layer:
        path = self._where / str(len(list(self._where.iterdir())))
        return write_layer(entries, path, docker=False)

    def image(self, *entries: Entry) -> Image:
        return compose(ImageConfig(AMD64), (self.layer(*entries),), docker=False)

    def pack(self, entries: Callable[[], Iterable[Entry]]) -> Future[Layer]:
        done: Future[Layer] = Future()
        done.set_result(self.layer(*entries()))
        return done


def names_in(layer: Layer) -> list[str]:
    """Return the names of a layer's entries; those of whiteouts begin with a dash."""
    found = []
    with open_tar(layer) as tar:
        reader = TarReader(tar)
        while (entry := reader.next()) is not None:
            mark = "-" if entry.kind is Kind.WHITEOUT else ""
            found.append(mark + entry.name.decode())
    return found
