"""Where an image's own cache goes and comes from: what --export-cache and --import-cache say.

    cache_export("type=inline")                      CacheExport.INLINE
    cache_import("type=inline")                      CacheImport(None): the first destination
    cache_import("type=registry,ref=HOST/APP:TAG")   CacheImport(Reference(…))
    cache_import("HOST/APP:TAG")                     the same, as docker build --cache-from has it

The words are those of BuildKit's client, so that a command line can be taken over; the kinds of
cache that it knows and we do not are refused by name. The module stands above ``oci``, whose
references it returns, and below ``options``.
"""

from __future__ import annotations

from enum import Enum

from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.oci.reference import Reference
from kaniko_core.values import csv_fields

_INSTEAD = "--cache-repo keeps a cache of every step beside the image"
# BuildKit's other kinds, and what is near to each here.
_ELSEWHERE = {
    "registry": _INSTEAD,
    "local": "--cache-repo takes a directory, too",
    "gha": _INSTEAD,
    "s3": _INSTEAD,
    "azblob": _INSTEAD,
}


class CacheExport(Enum):
    """Where a build leaves what later builds need to find its layers."""

    INLINE = "inline"


@dataclass(frozen=True, slots=True)
class CacheImport:
    """An image that carries the cache of the build that made it.

    Attributes:
        reference: the image; None stands for the first destination.
    """

    reference: Reference | None = None


def cache_export(text: str) -> CacheExport:
    """Read ``type=inline``; raise UsageError for anything else."""
    fields = _fields(text, "--export-cache", "type=inline")
    kind = fields.pop("type")
    if kind != CacheExport.INLINE.value:
        raise UsageError(
            f"a cache cannot be exported with type={kind}, only with type=inline",
            hint=_ELSEWHERE.get(kind),
        )
    if fields.get("mode") == "max":
        raise UsageError(
            "an inline cache cannot have mode=max: it holds the layers of the image, no others",
            hint=_INSTEAD,
        )
    if fields.pop("mode", "min") != "min":
        raise UsageError("the mode of an inline cache can only be min")
    if "ref" in fields:
        raise UsageError(
            "an inline cache has no ref: it is in the image itself",
            hint="leave it out; --destination says where the image goes",
        )
    _refuse_others(fields, "--export-cache")
    return CacheExport.INLINE


def cache_import(text: str) -> CacheImport:
    """Read ``type=inline[,ref=IMAGE]``, ``type=registry[,ref=IMAGE]``, or the image alone.

    Raises:
        UsageError: it is of another type, or names no image.
    """
    if "=" not in text and "," not in text:
        return CacheImport(Reference.parse(text))
    fields = _fields(text, "--import-cache", "type=registry,ref=IMAGE")
    kind, name = fields.pop("type"), fields.pop("ref", None)
    if kind not in ("inline", "registry"):
        raise UsageError(
            f"a cache cannot be imported with type={kind}, only with type=inline or type=registry",
            hint=_ELSEWHERE.get(kind),
        )
    _refuse_others(fields, "--import-cache")
    return CacheImport(None if name is None else Reference.parse(name))


def _fields(text: str, flag: str, example: str) -> dict[str, str]:
    """Return what stands before and behind each ``=``; there is a ``type`` among it."""
    fields: dict[str, str] = {}
    for item in csv_fields(text):
        key, equals, value = item.partition("=")
        key = key.strip().lower()
        if not equals or not key:
            raise UsageError(f"{flag}: {item!r} has no key and value", hint=f"write {example}")
        if key in fields:
            raise UsageError(f"{flag}: {key} is given twice in {text!r}")
        fields[key] = value
    if not fields.get("type"):
        raise UsageError(f"{flag}: {text!r} has no type", hint=f"write {example}")
    return fields


def _refuse_others(fields: dict[str, str], flag: str) -> None:
    if fields:
        raise UsageError(f"{flag}: {', '.join(sorted(fields))} is not known here")
