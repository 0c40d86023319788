"""From the changes of a step to a layer, in another thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace

from kaniko_core.builder.changes import ignored_changes, without
from kaniko_core.builder.locating import locate
from kaniko_core.builder.output import Delivery
from kaniko_core.builder.workspace import Workspace
from kaniko_core.dockerfile.instructions import From, Instruction
from kaniko_core.errors import KanikoError
from kaniko_core.lean import dataclass
from kaniko_core.oci.compression import Compression
from kaniko_core.oci.entry import SECOND, Entry
from kaniko_core.oci.layer import FileLayer, write_layer
from kaniko_core.options import BuildOptions, ImageOptions


@dataclass(slots=True)
class Packer:
    """Packs the layer of one step, and remembers it; see :data:`~kaniko_core.builder.trees.Pack`.

    Attributes:
        stage: the label of the stage that the step belongs to.
        docker: whether the layer gets Docker's media type.
        delivery: where the layer goes if it is part of the image; None where it is not.
        target: which of the build's images it is part of, from 0.
        contents: whether somebody wants to compare what is in the layer.
        latest: no file in it is younger, in seconds since 1970; None where any may be.
        layer: what comes of it, from the moment on when packing begins.
    """

    workspace: Workspace
    options: BuildOptions
    stage: str
    instruction: Instruction | From
    docker: bool
    delivery: Delivery | None
    target: int
    contents: bool
    image: ImageOptions
    latest: int | None
    layer: Future[FileLayer] | None = None

    def __call__(self, entries: Callable[[], Iterable[Entry]]) -> Future[FileLayer]:
        """Begin to pack what *entries* returns."""
        self.layer = self.workspace.packers.submit(self._packed, entries)
        return self.layer

    def _packed(self, entries: Callable[[], Iterable[Entry]]) -> FileLayer:
        whole = in_whole_seconds(without(entries(), ignored_changes(self.options)))
        if self.latest is not None:
            whole = not_later(whole, self.latest)
        try:
            layer = write_layer(
                whole,
                self.workspace.fresh("blobs"),
                compression=self.image.compression or Compression.GZIP,
                level=self.image.compression_level,
                docker=self.docker,
                moved=lambda _: self.workspace.check(),
                contents=self.contents,
            )
        except KanikoError as error:
            locate(error, self.stage, self.instruction)
            raise
        if self.delivery is not None:
            self.delivery.offer(layer, self.target)
        return layer


def in_whole_seconds(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Drop the fractions of times, as Docker and containerd do.

    Each would cost a kilobyte of tar, and few readers keep them.
    """
    for entry in entries:
        entry.mtime_ns -= entry.mtime_ns % SECOND
        yield entry


def not_later(entries: Iterable[Entry], seconds: int) -> Iterator[Entry]:
    """Give entries that are younger than *seconds* since 1970 that time.

    Source: BuildKit, docs/build-repro.md, ``rewrite-timestamp``.
    """
    latest = seconds * SECOND
    for entry in entries:
        # Another: the step's tree may be made of the same entries at this moment, and RUN sees it.
        yield entry if entry.mtime_ns <= latest else replace(entry, mtime_ns=latest)
