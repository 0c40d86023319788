"""Packages of npm, yarn and pnpm: each ``package.json`` directly below a ``node_modules``.

Source: npm's documentation, "package.json".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from kaniko_core.attestations.package import Package, person
from kaniko_core.errors import ContentError

_LARGEST = 4 << 20  # bytes


def read_package(stream: BinaryIO) -> Iterator[Package]:
    """Yield the package that the file describes, if it has a name and a version.

    Raises:
        ContentError: it is no JSON, or too large to be a package's.
    """
    raw = stream.read(_LARGEST + 1)
    if len(raw) > _LARGEST:
        raise ContentError("it is too large")
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ContentError("it is not JSON") from error
    name, version = _text(data, "name"), _text(data, "version")
    if not name or not version:
        return
    scope, slash, base = name.rpartition("/")
    yield Package(
        "npm",
        base if slash else name,
        version,
        namespace=scope,
        license=_license(data),
        maker=_maker(data.get("author")),
        homepage=_text(data, "homepage"),
        source="npm package manifest",
    )


def _text(data: Any, key: str) -> str:
    return _plain(data.get(key)) if isinstance(data, dict) else ""


def _plain(value: Any) -> str:
    # JSON can have halves of characters, which nothing else can.
    return value.encode(errors="replace").decode().strip() if isinstance(value, str) else ""


def _license(data: dict[str, Any]) -> str:
    plain = _text(data, "license") or _text(data.get("license"), "type")
    several = data.get("licenses")
    if plain or not isinstance(several, list):
        return plain
    # Before there were expressions: a choice.
    names = (_text(item, "type") or _plain(item) for item in several)
    return " OR ".join(filter(None, names))


def _maker(author: Any) -> str:
    if isinstance(author, str):
        # ``Name <address> (page)``, of which the page is no part of a name.
        return person(_plain(author).partition("(")[0])
    name, address = _text(author, "name"), _text(author, "email")
    return person(f"{name} <{address}>" if address else name)
