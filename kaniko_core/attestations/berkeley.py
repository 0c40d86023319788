"""Reading the values of a Berkeley DB hash, which rpm kept its packages in.

    page 0        what the database is, how large its pages are, and how many
    hash pages    keys and values in turn, from the page's end downwards
    overflow      a value that is longer than a page, in a chain of pages

Only what is needed to see all values once: no look-up, no locks, no duplicates.

Source: Oracle Berkeley DB 5.3, the header dbinc/db_page.h.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from struct import Struct
from typing import BinaryIO

from kaniko_core.errors import ContentError

_MAGIC = 0x061561
_META = "8xIIII"  # position in the log; page, magic, version, page size
_LAST_PAGE = 32  # where in page 0 its number is
# Position in the log; page, previous, next, entries, bytes in use or where they begin, level, type.
_HEAD = "8xIIIHHBB"
_HEAD_SIZE = 26
_HASH_PAGES = frozenset({2, 13})  # unsorted, as before version 4.6, and sorted
_OVERFLOW = 7
_HERE, _ELSEWHERE = 1, 3  # kinds of values
_SMALLEST, _LARGEST = 512, 64 << 10  # bytes of a page


class _Pages:
    """The pages of a database, in the byte order of the machine that wrote it."""

    def __init__(self, stream: BinaryIO) -> None:
        first = stream.read(_SMALLEST)
        self._stream = stream
        for order in "<>":
            meta = Struct(order + _META)
            if len(first) == _SMALLEST and meta.unpack_from(first)[1] == _MAGIC:
                break
        else:
            raise ContentError("it is no Berkeley DB hash")
        self.size = meta.unpack_from(first)[3]
        if not _SMALLEST <= self.size <= _LARGEST:
            raise ContentError("its pages have an impossible size")
        self.head = Struct(order + _HEAD)
        self.number = Struct(order + "I")
        self.short = Struct(order + "H")
        self.last = self.number.unpack_from(first, _LAST_PAGE)[0]
        # Each is looked at, and belongs to one value at most: where pages form rings, that ends.
        self._unread = 2 * stream.seek(0, os.SEEK_END) // self.size

    def page(self, number: int) -> bytes:
        self._unread -= 1
        if self._unread < 0:
            raise ContentError("it uses pages twice")
        self._stream.seek(number * self.size)
        data = self._stream.read(self.size)
        if len(data) < self.size:
            raise ContentError("it is incomplete")
        return data


def berkeley_values(stream: BinaryIO, largest: int) -> Iterator[bytes]:
    """Yield all values of the hash in *stream*, but those of rpm's own counter: four bytes.

    Args:
        stream: can be positioned.
        largest: bytes that a value may have.

    Raises:
        ContentError: it is no such database, or damaged.
    """
    pages = _Pages(stream)
    for number in range(1, pages.last + 1):
        page = pages.page(number)
        *_, count, _, _, kind = pages.head.unpack_from(page)
        if kind in _HASH_PAGES:
            yield from _values(pages, page, count, largest)


def _values(pages: _Pages, page: bytes, count: int, largest: int) -> Iterator[bytes]:
    if _HEAD_SIZE + 2 * count > pages.size:
        raise ContentError("a page is damaged")
    starts = [pages.short.unpack_from(page, _HEAD_SIZE + 2 * item)[0] for item in range(count)]
    for item in range(1, count, 2):
        start, end = starts[item], starts[item - 1]
        if not _HEAD_SIZE < start < end <= pages.size:
            raise ContentError("a page is damaged")
        kind = page[start]
        if kind == _HERE and end - start - 1 > pages.number.size:
            yield page[start + 1 : end]
        elif kind == _ELSEWHERE:
            if end - start < 12:
                raise ContentError("a page is damaged")
            first = pages.number.unpack_from(page, start + 4)[0]
            size = pages.number.unpack_from(page, start + 8)[0]
            yield _overflow(pages, first, size, largest)


def _overflow(pages: _Pages, number: int, size: int, largest: int) -> bytes:
    if size > largest:
        raise ContentError("a value is too large")
    value = bytearray()
    while len(value) < size:
        if not 0 < number <= pages.last:
            raise ContentError("a value is incomplete")
        page = pages.page(number)
        _, _, number, _, used, _, kind = pages.head.unpack_from(page)
        if kind != _OVERFLOW or not 0 < used <= pages.size - _HEAD_SIZE:
            raise ContentError("a value is damaged")
        value += page[_HEAD_SIZE : _HEAD_SIZE + used]
    return bytes(value[:size])
