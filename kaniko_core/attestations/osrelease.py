"""Which distribution an image is of.

Source: os-release(5) of systemd.
"""

from __future__ import annotations

import re
import shlex
from typing import BinaryIO

from kaniko_core.attestations.package import Distribution

_LARGEST = 64 << 10  # bytes
_ASSIGNMENT = re.compile(r"([A-Z0-9_]+)=(.*)")


def read_distribution(stream: BinaryIO) -> Distribution:
    """Return what the file says; empty where it says nothing."""
    values: dict[str, str] = {}
    for line in stream.read(_LARGEST).decode(errors="replace").splitlines():
        match = _ASSIGNMENT.fullmatch(line.strip())
        if match is not None:
            values[match[1]] = _unquoted(match[2])
    name = values.get("PRETTY_NAME") or values.get("NAME", "")
    return Distribution(values.get("ID", "").lower(), values.get("VERSION_ID", ""), name)


def _unquoted(text: str) -> str:
    try:
        return "".join(shlex.split(text))
    except ValueError:
        return text
