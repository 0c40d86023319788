"""Paragraphs of fields, as Debian's control files and Python's metadata are written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

# Bytes of a line that are read; what is longer is no name or version.
_LONGEST_LINE = 64 << 10
# Characters of a field that are kept: of whole licenses, for instance, the beginning.
_LONGEST_FIELD = 4 << 10


def lines(stream: BinaryIO) -> Iterator[str]:
    """Yield the lines of *stream* without their ends; of a very long one, its beginning."""
    while line := stream.readline(_LONGEST_LINE):
        whole = line
        while whole and not whole.endswith(b"\n"):
            whole = stream.readline(_LONGEST_LINE)
        yield line.decode(errors="replace").rstrip("\r\n")


def paragraphs(stream: BinaryIO) -> Iterator[dict[str, str]]:
    """Yield the fields of each paragraph, names in lower case; of several, the first counts.

    A line that begins with a blank continues the one before; what is no field is passed over.
    """
    fields: dict[str, str] = {}
    last = ""
    for line in lines(stream):
        if not line.strip():
            if fields:
                yield fields
            fields, last = {}, ""
        elif line[0] in " \t":
            if last and len(fields[last]) < _LONGEST_FIELD:
                fields[last] += "\n" + line.strip()
        else:
            name, colon, value = line.partition(":")
            last = name.strip().lower() if colon else ""
            if last in fields:
                last = ""
            elif last:
                fields[last] = value.strip()
    if fields:
        yield fields
