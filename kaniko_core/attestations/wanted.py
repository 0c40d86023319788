"""What ``--provenance`` asks for, in BuildKit's words.

Source: BuildKit, docs/attestations/slsa-provenance.md, "Parameters".
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.values import boolean, csv_fields

_Choice = TypeVar("_Choice", bound=Enum)
_HINT = "write true, false, or mode=min|max with builder-id=URL, version=v1|v0.2"
_KNOWN = frozenset({"mode", "builder-id", "version", "reproducible", "inline-only", "filename"})


class Mode(Enum):
    """How much provenance tells."""

    MIN = "min"
    MAX = "max"


class SlsaVersion(Enum):
    """Which of the provenance formats of SLSA is written."""

    V0_2 = "v0.2"
    V1 = "v1"


@dataclass(frozen=True, slots=True)
class Provenance:
    """What provenance shall say, and how.

    Attributes:
        mode: with MIN no values of arguments, no names of secrets, no Dockerfile.
        builder_id: the URL of what runs this build; empty where nobody said.
        reproducible: whether the user promises that the build can be repeated byte for byte.
    """

    mode: Mode = Mode.MAX
    builder_id: str = ""
    version: SlsaVersion = SlsaVersion.V1
    reproducible: bool = False


def provenance(text: str) -> Provenance | None:
    """Read ``true``, ``false``, or ``mode=min|max[,builder-id=URL][,version=…][,reproducible=…]``.

    None where there shall be none. ``true`` is BuildKit's default: mode ``max``, version ``v1``.

    Raises:
        UsageError: a key or value is not known, or asks for what is not done here.
    """
    if (wanted := boolean(text)) is not None:
        return Provenance() if wanted else None
    fields = _fields(text)
    # A file beside the image is what BuildKit's local exporter makes of it.
    if "filename" in fields or not _truth(fields, "inline-only", default="true"):
        raise UsageError(
            "provenance goes into images only, not into a file beside them",
            hint="leave out filename and inline-only=false",
        )
    mode = fields.get("mode", Mode.MAX.value)
    return Provenance(
        # BuildKit's first name for it.
        mode=_one_of(Mode, "mode", "max" if mode == "full" else mode),
        builder_id=fields.get("builder-id", ""),
        version=_one_of(SlsaVersion, "version", fields.get("version", SlsaVersion.V1.value)),
        reproducible=_truth(fields, "reproducible", default="false"),
    )


def _fields(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for item in csv_fields(text):
        key, equals, value = item.partition("=")
        key = key.strip().lower()
        if not equals or key not in _KNOWN:
            raise UsageError(f"{item!r} says nothing about provenance", hint=_HINT)
        fields[key] = value.strip()
    return fields


def _truth(fields: Mapping[str, str], key: str, *, default: str) -> bool:
    text = fields.get(key, default)
    value = boolean(text)
    if value is None:
        raise UsageError(f"{key}={text} is neither true nor false")
    return value


def _one_of(choices: type[_Choice], key: str, text: str) -> _Choice:
    try:
        return choices(text)
    except ValueError:
        known = " or ".join(choice.value for choice in choices)
        raise UsageError(f"{key}={text} is not known", hint=f"{key} is {known}") from None
