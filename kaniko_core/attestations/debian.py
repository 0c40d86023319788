"""What dpkg says is installed: in one file, or in a file for each package as distroless has it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from kaniko_core.attestations.fields import paragraphs
from kaniko_core.attestations.package import Package, person

# ``Source: name (version)``, where the version is another than the package's.
_SOURCE = re.compile(r"(\S+)(?:\s+\((\S+)\))?")


def read_status(stream: BinaryIO) -> Iterator[Package]:
    """Yield the packages that are installed; those of which only settings are left are not."""
    for fields in paragraphs(stream):
        name, version = fields.get("package", ""), fields.get("version", "")
        # In status.d every file is a package, and says nothing of that.
        state = fields.get("status", "install ok installed").split()
        if not name or not version or state[-1:] != ["installed"]:
            continue
        yield Package(
            "deb",
            name,
            version,
            qualifiers=(
                ("arch", fields.get("architecture", "")),
                ("upstream", _upstream(name, fields.get("source", ""))),
            ),
            maker=person(fields.get("maintainer", "")),
            homepage=fields.get("homepage", ""),
            source="DPKG DB",
        )


def _upstream(name: str, source: str) -> str:
    match = _SOURCE.match(source)
    if match is None or (match[1] == name and match[2] is None):
        return ""
    return f"{match[1]}@{match[2]}" if match[2] else match[1]
