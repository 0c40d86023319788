"""What rpm says is installed: the headers of packages.

Source: the RPM reference manual, "Package format", header structure and tags.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from struct import Struct, error

from kaniko_core.attestations.package import Package
from kaniko_core.errors import ContentError

_INTRO = Struct(">II")  # entries in the index, bytes of data
_ENTRY = Struct(">IIII")  # tag, type, offset, count
_NUMBER = Struct(">I")
_INT32, _STRING, _STRINGS, _TRANSLATED = 4, 6, 8, 9
_TEXTS = frozenset({_STRING, _STRINGS, _TRANSLATED})
_NAME, _VERSION, _RELEASE, _EPOCH = 1000, 1001, 1002, 1003
_VENDOR, _LICENSE, _URL, _ARCHITECTURE, _SOURCE = 1011, 1014, 1020, 1022, 1044
_WANTED = frozenset(
    {_NAME, _VERSION, _RELEASE, _EPOCH, _VENDOR, _LICENSE, _URL, _ARCHITECTURE, _SOURCE}
)
# Keys that packages are signed with are kept among the packages.
_KEY = "gpg-pubkey"
_NONE = "(none)"
_SPACE = re.compile(r"\s+")


def packages_of(headers: Iterable[bytes]) -> Iterator[Package]:
    """Yield the packages that *headers* are of.

    Raises:
        ContentError: one of them is damaged.
    """
    for header in headers:
        tags = _tags(header)
        name, version, release = (str(tags.get(tag, "")) for tag in (_NAME, _VERSION, _RELEASE))
        if not name or not version or name == _KEY:
            continue
        vendor = _told(tags, _VENDOR)
        yield Package(
            "rpm",
            name,
            f"{version}-{release}" if release else version,
            qualifiers=(
                ("arch", _told(tags, _ARCHITECTURE)),
                ("epoch", _told(tags, _EPOCH)),
                ("upstream", _told(tags, _SOURCE)),
            ),
            license=_told(tags, _LICENSE),
            maker=f"Organization: {vendor}" if vendor else "",
            homepage=_told(tags, _URL),
            source="RPM DB",
        )


def _told(tags: dict[int, str | int], tag: int) -> str:
    text = _SPACE.sub(" ", str(tags.get(tag, ""))).strip()
    return "" if text == _NONE else text


def _tags(header: bytes) -> dict[int, str | int]:
    """Return those values of *header* that we want; of several, the first."""
    tags: dict[int, str | int] = {}
    try:
        count, size = _INTRO.unpack_from(header)
        start = _INTRO.size + count * _ENTRY.size
        if start + size > len(header):
            raise ContentError("a package's header is incomplete")
        for number in range(count):
            tag, kind, offset, _ = _ENTRY.unpack_from(header, _INTRO.size + number * _ENTRY.size)
            if tag not in _WANTED:
                continue
            if kind == _INT32:
                tags[tag] = _NUMBER.unpack_from(header, start + offset)[0]
            elif kind in _TEXTS:
                end = header.index(b"\0", start + offset)
                tags[tag] = header[start + offset : end].decode(errors="replace")
    except (error, ValueError) as problem:
        raise ContentError("a package's header is damaged") from problem
    return tags
