"""What ``--output`` says: where the files of the image go, if files are what is wanted.

The spelling is that of ``docker buildx build --output``; what it has for images has flags of its
own here, which the refusals name.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Self

from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.values import boolean, csv_fields

_STANDARD_OUTPUT = "-"
_KEYS = frozenset({"type", "dest", "platform-split"})
_HINT = "write type=local,dest=DIRECTORY or type=tar,dest=FILE; - is a tar on standard output"


class ExportKind(Enum):
    """How the files are written."""

    LOCAL = "local"
    TAR = "tar"


@dataclass(frozen=True, slots=True)
class Export:
    """One place for the files of the image.

    Attributes:
        kind: as files of a directory, or as one tar.
        dest: the directory or file; None for a tar on standard output.
        split: whether each platform has a directory of its own; None leaves it to their number.
    """

    kind: ExportKind
    dest: Path | None
    split: bool | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a value of ``--output``; raise :class:`UsageError` for what cannot be done."""
        if text == _STANDARD_OUTPUT:
            return cls(ExportKind.TAR, None)
        fields = csv_fields(text)
        if fields == [text] and "=" not in text:
            return cls(ExportKind.LOCAL, _path(text, text))
        given = _given(fields, text)
        kind = _kind(given, text)
        if strange := sorted(given.keys() - _KEYS):
            raise UsageError(
                f"{strange[0]} has no meaning for type={kind.value}", hint=_meaning(strange[0])
            )
        split = _boolean("platform-split", given)
        dest = given.get("dest", _STANDARD_OUTPUT if kind is ExportKind.TAR else "")
        if dest != _STANDARD_OUTPUT:
            return cls(kind, _path(dest, text), split)
        if kind is ExportKind.LOCAL:
            raise UsageError(
                "a directory cannot be written to standard output", hint="write type=tar,dest=-"
            )
        return cls(kind, None, split)


def _given(fields: list[str], text: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for field in fields:
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if not equals or not key:
            raise UsageError(f"{field!r} in {text!r} is not KEY=VALUE", hint=_HINT)
        if key in given:
            raise UsageError(f"{text!r} says {key} twice", hint=_HINT)
        given[key] = value
    return given


def _kind(given: dict[str, str], text: str) -> ExportKind:
    name = given.get("type")
    if name is None:
        raise UsageError(f"{text!r} has no type", hint=_HINT)
    try:
        return ExportKind(name)
    except ValueError:
        pass
    hint = _instead(name, given)
    if hint is None:
        raise UsageError(f"there is no output of type {name!r}", hint=_HINT)
    raise UsageError(f"type={name} is no output of files", hint=hint)


def _instead(name: str, given: dict[str, str]) -> str | None:
    """Return which flags do what another builder's output *name* does; None for no such output."""
    dest = given.get("dest", "")
    match name:
        case "registry":
            return f"push with --destination={given.get('name') or 'IMAGE'}"
        case "image" if _boolean("push", given):
            return f"push with --destination={given.get('name') or 'IMAGE'}"
        case "image":
            return (
                "there is no daemon to keep the image: push it with --destination=IMAGE, or write "
                "it with --oci-layout-path or --tar-path"
            )
        case "docker":
            return f"write a docker-save tarball with --tar-path={dest or 'FILE'}"
        case "oci" if _boolean("tar", given) is False:
            return f"write an OCI layout with --oci-layout-path={dest or 'DIRECTORY'}"
        case "oci":
            return "write an OCI layout with --oci-layout-path=DIRECTORY, and pack it with tar"
        case "cacheonly":
            return "build without any output with --no-push"
        case _:
            return None


def _boolean(key: str, given: dict[str, str]) -> bool | None:
    """Return what *given* says about *key*; None where it says nothing."""
    if key not in given:
        return None
    value = boolean(given[key])
    if value is None:
        raise UsageError(f"{key}={given[key]} is neither true nor false", hint=_HINT)
    return value


def _meaning(key: str) -> str:
    if key == "attestation-prefix":
        return "attestations are attached to images, which --destination pushes"
    return f"it may have {', '.join(sorted(_KEYS))}"


def _path(dest: str, text: str) -> Path:
    if not dest or "\0" in dest:
        raise UsageError(f"{text!r} does not say where to", hint=_HINT)
    return Path(dest)
