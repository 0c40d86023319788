"""The maps of sparse files in a tar: where in the file the bytes that are stored belong.

    S header          GNU's first format: in the header, and in blocks after it
    PAX 0.0, 0.1      in the extended header
    PAX 1.0           in front of the data: a count and twice as many numbers, one on each line

Source: the GNU tar manual, "Storing Sparse Files".
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from kaniko_core.errors import ContentError
from kaniko_core.oci import pax
from kaniko_core.oci.tarheader import BLOCK, number

_LARGEST_MAP = 1 << 20  # bytes
_SEGMENT = Struct("12s12s")

Segments = list[tuple[int, int]]


def of_header(header: bytes, block: Callable[[], bytes]) -> tuple[int, Segments]:
    """Return the size of a file, and its map, from the header and the blocks after it.

    Args:
        header: of type ``S``.
        block: reads the next one.

    Raises:
        ContentError: the map is too large.
    """
    segments: Segments = []
    part, start, count, more = header, 386, 4, header[482]
    while True:
        for offset, length in _SEGMENT.iter_unpack(part[start : start + 24 * count]):
            # Unused places are NUL.
            if offset[0]:
                segments.append((number(offset), number(length)))
        if not more:
            return number(header[483:495]), segments
        if len(segments) * _SEGMENT.size > _LARGEST_MAP:
            raise ContentError("the tar archive has a sparse file with too large a map")
        part, start, count = block(), 0, 21
        more = part[504]


def of_records(
    extended: dict[bytes, bytes], block: Callable[[], bytes]
) -> tuple[int, Segments] | None:
    """Return the size and map of a sparse file in GNU's PAX formats; None if it is none.

    Args:
        extended: the records of its extended header.
        block: reads the next block of what is stored of it.

    Raises:
        ContentError: the map is damaged, or of another format.
    """
    if b"GNU.sparse.major" in extended:
        version = (extended[b"GNU.sparse.major"], extended.get(b"GNU.sparse.minor", b"0"))
        if version != (b"1", b"0"):
            raise ContentError(f"the tar archive has a sparse file of format {version}")
        numbers = _stored_map(block)
        size = extended.get(b"GNU.sparse.realsize", b"")
    elif b"GNU.sparse.map" in extended or b"GNU.sparse.size" in extended:
        value = extended.get(b"GNU.sparse.map", b"")
        numbers = [pax.decimal(item) for item in value.split(b",")] if value else []
        size = extended.get(b"GNU.sparse.size", b"")
    else:
        return None
    if len(numbers) % 2:
        raise ContentError("the tar archive is damaged: a sparse file's map is incomplete")
    return pax.decimal(size), list(zip(numbers[::2], numbers[1::2], strict=True))


def _stored_map(block: Callable[[], bytes]) -> list[int]:
    lines: list[bytes] = []
    rest = b""
    wanted = 1
    taken = 0
    while len(lines) < wanted:
        taken += BLOCK
        if taken > _LARGEST_MAP:
            raise ContentError("the tar archive has a sparse file with too large a map")
        *complete, rest = (rest + block()).split(b"\n")
        lines += complete
        if lines:
            wanted = 1 + 2 * pax.decimal(lines[0])
    return [pax.decimal(line) for line in lines[1:wanted]]


def check(segments: Segments, size: int, stored: int) -> None:
    """Refuse a map that is no map of a file of *size* bytes, of which *stored* are in the tar.

    Raises:
        ContentError: the segments overlap, or do not fit.
    """
    end = total = 0
    for offset, length in segments:
        if offset < end or length < 0 or offset + length > size:
            raise ContentError("the tar archive is damaged: a sparse file's map is impossible")
        end = offset + length
        total += length
    if total != stored or size >= 1 << 63:
        raise ContentError("the tar archive is damaged: a sparse file's map is impossible")
