"""Statements: a predicate about an image, and which image that is.

Source: the in-toto attestation framework, spec/v1/statement.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from kaniko_core.attestations.purl import digest_set, image_url
from kaniko_core.lean import dataclass
from kaniko_core.oci.image import Image
from kaniko_core.oci.reference import Reference

_TYPE = "https://in-toto.io/Statement/v1"
# Of an image that nobody named; a statement has to have a subject, and a subject a name.
_NO_NAME = "_"


@dataclass(frozen=True, slots=True)
class Statement:
    """What is said about an image.

    Attributes:
        kind: the predicate's type, a URL.
        raw: the statement as JSON.
    """

    kind: str
    raw: bytes


def state(kind: str, predicate: Any, image: Image, names: Sequence[Reference]) -> Statement:
    """Return the statement that *predicate* is true of *image*, under each of its *names*."""
    platform = image.config.platform
    subjects = dict.fromkeys(image_url(name, platform) for name in names) or {_NO_NAME: None}
    digest = digest_set(image.digest)
    statement = {
        "_type": _TYPE,
        "predicateType": kind,
        "subject": [{"name": name, "digest": digest} for name in subjects],
        "predicate": predicate,
    }
    # In ASCII, because what comes from the command line may be no text at all.
    return Statement(kind, json.dumps(statement, separators=(",", ":")).encode())
