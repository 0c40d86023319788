"""What is told while layers are unpacked: how far it is, and what could not be made."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import BinaryIO

from kaniko_core.lean import dataclass
from kaniko_core.oci.image import Layer
from kaniko_core.progress import BytesMoved, Direction, Progress, Warned
from kaniko_core.rootfs.unpack import Unpacked

_SHOWN = 3  # names of what was lost
_REPORT = 0.1  # seconds between two events


@dataclass(frozen=True, slots=True)
class Reporter:
    """Tells *progress* about the layers of the image *name*."""

    progress: Progress
    name: str

    def warn_of_losses(self, layer: Layer, made: Unpacked) -> None:
        """Say what commands will miss; the layer itself, and so the image, still has it."""
        lost = [
            f"{what} ({', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''})"
            for what, names in (
                ("extended attributes", made.lost_xattrs),
                ("device nodes", made.lost_devices),
            )
            if names
        ]
        if lost:
            self.progress(
                Warned(
                    f"RUN will not see some {' and '.join(lost)} of "
                    f"{self.name} sha256:{layer.descriptor.digest.short}: "
                    "they cannot be made here; the image keeps them"
                )
            )

    def transfer(self, layer: Layer) -> Callable[[int, bool], None]:
        """Return what to call with the bytes done, and whether they are all."""
        what = f"{self.name} sha256:{layer.descriptor.digest.short}".strip()
        last = 0.0

        def report(done: int, complete: bool) -> None:
            nonlocal last
            now = time.monotonic()
            if complete or now - last >= _REPORT:
                last = now
                total = done if complete else 0
                self.progress(BytesMoved(Direction.UNPACK, what, done, total))

        return report


class Counted:
    """As much of a stream as unpacking needs, counted.

    Args:
        source: the stream.
        check: called before each read; raises where it shall be the last.
        report: is told how many bytes were read, and whether they are all.
    """

    def __init__(
        self, source: BinaryIO, check: Callable[[], None], report: Callable[[int, bool], None]
    ) -> None:
        self._source = source
        self._check = check
        self._report = report
        self._done = 0

    def read(self, size: int) -> bytes:
        """Read up to *size* bytes."""
        self._check()
        data = self._source.read(size)
        self._done += len(data)
        self._report(self._done, False)
        return data

    def finish(self) -> None:
        """Report that everything has been read."""
        self._report(self._done, True)
