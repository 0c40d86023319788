"""Blocks that deflate would not make smaller: recognised by samples, and stored as they are.

    the block  ▒▒▒│  ▒  │  ▒  │  ▒  │▒▒▒▒▒▒▒▒▒▒▒▒│  ▒  │  ▒  │
               a short sample every 128 kB, and a long one that would show repetitions

The first sample that shrinks well is the last, and the block is compressed: so text costs next to
nothing more. Where they shrink by less than a thirtieth, the block is noise, such as archives,
pictures and programs that are packed already, with a header between them; ISA-L would read all of
it only to store it. What is decided depends on the block alone: the same tar still gives the same
layer.

Source: RFC 1951, section 3.2.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct

_SAMPLE = 4 << 10
_APART = 128 << 10
# Twice as far as deflate looks back.
_LONG_SAMPLE = 64 << 10
# Of a smaller block, the samples would be too much.
_LEAST = 256 << 10
# Bytes by which the samples of noise may shrink: of the 96 kB that a whole block has.
_NOT_WORTH_IT = 3 << 10

_LONGEST = 0xFFFF
# Not the last block, and stored; how long it is, and the same number with all bits flipped.
_HEADER = Struct("<BHH")


def is_noise(block: bytes, compress: Callable[[bytes], bytes]) -> bool:
    """Return whether *compress* would hardly make *block* smaller."""
    if len(block) < _LEAST:
        return False
    saved = 0
    for sample in _samples(block):
        saved += len(sample) - len(compress(sample))
        if saved > _NOT_WORTH_IT:
            return False
    return True


def _samples(block: bytes) -> Iterator[bytes]:
    for start in range(0, len(block) - _SAMPLE, _APART):
        yield block[start : start + _SAMPLE]
    middle = len(block) // 2
    yield block[middle : middle + _LONG_SAMPLE]


def stored(block: bytes) -> bytes:
    """Return *block* as deflate stores it: five bytes more for each 64 kB."""
    view = memoryview(block)
    pieces: list[bytes | memoryview] = []
    for start in range(0, len(block), _LONGEST):
        piece = view[start : start + _LONGEST]
        pieces += (_HEADER.pack(0, len(piece), len(piece) ^ _LONGEST), piece)
    return b"".join(pieces)
