"""Python distributions: ``.dist-info``, ``.egg-info`` and eggs.

Source: the Python packaging specifications, "Core metadata".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from kaniko_core.attestations.fields import paragraphs
from kaniko_core.attestations.package import Package, person

_UNKNOWN = frozenset({"", "UNKNOWN"})  # what old versions of setuptools write for nothing


def read_metadata(stream: BinaryIO) -> Iterator[Package]:
    """Yield the distribution that the file describes, if it names one."""
    fields = next(paragraphs(stream), {})
    name, version = fields.get("name", ""), fields.get("version", "")
    if name in _UNKNOWN or version in _UNKNOWN:
        return
    told = (fields.get(key, "") for key in ("license-expression", "license"))
    yield Package(
        "pypi",
        name,
        version,
        license=next((text for text in told if text not in _UNKNOWN), ""),
        maker=person(_author(fields)),
        homepage=fields.get("home-page", ""),
        source="Python package metadata",
    )


def _author(fields: dict[str, str]) -> str:
    author, address = fields.get("author", ""), fields.get("author-email", "")
    if author in _UNKNOWN:
        # Since pyproject.toml both are in one: ``Name <address>``; of several, the first.
        return address.partition(",")[0] if "<" in address else ""
    # Several in one field cannot be told from one person.
    return f"{author} <{address}>" if "@" in address and "," not in address else author
