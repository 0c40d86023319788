"""What apk says is installed.

Source: Alpine's wiki, "Apk spec", installed database V2: fields of one letter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from kaniko_core.attestations.fields import lines
from kaniko_core.attestations.package import Package, person

_WANTED = frozenset("PVALomU")


def read_installed(stream: BinaryIO) -> Iterator[Package]:
    """Yield the packages of the database."""
    fields: dict[str, str] = {}
    for line in lines(stream):
        if line:
            # Lower-case and upper-case letters are different fields.
            key, colon, value = line.partition(":")
            if colon and key in _WANTED:
                fields.setdefault(key, value)
        else:
            yield from _package(fields)
            fields = {}
    yield from _package(fields)


def _package(fields: dict[str, str]) -> Iterator[Package]:
    name, version = fields.get("P", ""), fields.get("V", "")
    if not name or not version:
        return
    origin = fields.get("o", "")
    yield Package(
        "apk",
        name,
        version,
        qualifiers=(
            ("arch", fields.get("A", "")),
            ("upstream", "" if origin == name else origin),
        ),
        license=fields.get("L", ""),
        maker=person(fields.get("m", "")),
        homepage=fields.get("U", ""),
        source="APK DB",
    )
