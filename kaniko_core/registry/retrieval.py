"""Layers from where they are good: a stream that has more than one try.

    place ─▶ spool ─▶ good? ─▶ reader
             (disk)    no? ─▶ the same place again, as often as wanted, or the next place
    last try ────────────────▶ reader

What was handed to a reader cannot be taken back, and by then may be half unpacked. So as long as
there is another try left, a layer is fetched to its end, and checked, before a byte of it is
used. The last try goes straight to the reader, as does the only one, which is the usual case.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from kaniko_core.errors import ContentError, RegistryError
from kaniko_core.lean import dataclass
from kaniko_core.oci.reference import Reference
from kaniko_core.progress import Progress, Warned, silent
from kaniko_core.registry.mirrors import Mirrors, Place

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PIECE = 1 << 20  # bytes
_IN_MEMORY = 4 << 20  # bytes; smaller layers need no disk


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How layers are retrieved.

    Attributes:
        again: how often the last place is asked once more for a layer that came to nothing.
        directory: where layers are checked; that of temporary files where it is None.
        progress: told of tries that came to nothing.
    """

    again: int = 0
    directory: Path | None = None
    progress: Progress = silent


ONCE = Retrieval()


def opened(
    reference: Reference, ask: Callable[[Place], BinaryIO], places: Mirrors, how: Retrieval
) -> BinaryIO:
    """Return a layer of the image *reference*; nothing is asked before the first read.

    Args:
        reference: the image, by its own name.
        ask: begins to fetch the layer, verified, from one place.
        places: where it may be.
        how: how often, and where it is kept meanwhile.
    """
    return cast("BinaryIO", _Retrieved(lambda: _good(reference, ask, places, how)))


class _Retrieved(io.RawIOBase):
    """A stream that is begun by its first read."""

    def __init__(self, begin: Callable[[], BinaryIO]) -> None:
        super().__init__()
        self._begin = begin
        self._stream: BinaryIO | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        if self._stream is None:
            self._stream = self._begin()
        return self._stream.read(-1 if size is None else size)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        chunk = self.read(len(view))
        view[: len(chunk)] = chunk
        return len(chunk)

    def readall(self) -> bytes:
        return self.read(-1)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        super().close()


def _good(
    reference: Reference, ask: Callable[[Place], BinaryIO], places: Mirrors, how: Retrieval
) -> BinaryIO:
    """Return the layer from the first place that has it whole; the last one need not be."""
    for place in places.places(reference, part=True):
        if not place.last:
            try:
                return _checked(ask, place, how.directory)
            except (RegistryError, ContentError) as error:
                places.passed_over(reference, place, error)
                continue
        for _ in range(how.again):
            try:
                return _checked(ask, place, how.directory)
            except (RegistryError, ContentError) as error:
                place.session.go_on()
                if isinstance(error, RegistryError) and not error.temporary:
                    raise
                how.progress(Warned(f"{error}; fetching it again", hint=error.hint))
        return ask(place)
    raise AssertionError("there is always a last place")


def _checked(ask: Callable[[Place], BinaryIO], place: Place, directory: Path | None) -> BinaryIO:
    """Return the layer after it has been read to its end; unchecked where no disk can hold it."""
    import tempfile  # with what it needs, a few milliseconds that most runs do without

    stream = ask(place)
    spool = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - returned
        _IN_MEMORY, dir=None if directory is None else str(directory)
    )
    try:
        for piece in _pieces(stream):
            try:
                spool.write(piece)
            except OSError:
                spool.close()
                stream.close()
                return ask(place)
        spool.seek(0)
    except BaseException:
        spool.close()
        raise
    finally:
        stream.close()
    return cast("BinaryIO", spool)


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    while piece := stream.read(_PIECE):
        yield piece
