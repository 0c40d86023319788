"""What a web server says of the bytes of a file, in the headers of its answer.

    Repr-Digest: sha-256=:…:          RFC 9530
    Digest: SHA-256=…                 RFC 3230, which that replaces
    x-goog-hash: crc32c=…,md5=…       Google Cloud Storage
    Content-MD5: …                    RFC 1864; Azure's and other object stores

CRC-32C is left out: a checksum that only Python could compute would take longer than the
transfer, and stores that give it give MD5 too, but for objects that were put together of others.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping

from kaniko_core.oci.digest import Digest

# What headers call them; the best first: it is also the fastest, by the processor's own commands.
_ALGORITHMS = {"sha-256": "sha256", "sha-512": "sha512", "md5": "md5"}
_LENGTHS = {"sha256": 32, "sha512": 64, "md5": 16}  # bytes
_ENTRY = re.compile(r"(?:^|,)\s*([A-Za-z0-9-]+)\s*=\s*:?([A-Za-z0-9+/]+={0,2})")
_LISTS = ("repr-digest", "digest", "x-goog-hash")


def promised_digest(headers: Mapping[str, str]) -> Digest | None:
    """Return the best digest that an answer with a whole file gives; None where it gives none.

    Args:
        headers: of an answer without Content-Encoding; names in lower case find them.
    """
    # Such an object is stored compressed, and its hash is that of what is stored.
    stored = headers.get("x-goog-stored-content-encoding", "identity")
    found: dict[str, Digest] = {}
    for name, text in _texts(headers):
        algorithm = _ALGORITHMS.get(name)
        value = _decoded(text)
        if algorithm and value is not None and len(value) == _LENGTHS[algorithm]:
            found.setdefault(algorithm, Digest(algorithm, value.hex()))
    best = (found[name] for name in _ALGORITHMS.values() if name in found)
    return next(best, None) if stored == "identity" else None


def _texts(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for header in _LISTS:
        for match in _ENTRY.finditer(headers.get(header, "")):
            yield match[1].lower(), match[2]
    yield "md5", headers.get("content-md5", "")


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
