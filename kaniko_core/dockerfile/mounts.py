"""RUN ``--mount``: from its comma-separated value to a :class:`Mount`.

Source: the Dockerfile reference, "RUN --mount"; checked against
``../shared/conformance/run-mounts.json``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import field, replace
from enum import Enum
from typing import TypeVar

from kaniko_core.dockerfile.places import did_you_mean
from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.values import boolean, csv_fields

_SIZE = re.compile(
    r"(\d{1,18}(?:\.\d{0,18})?|\.\d{1,18}) ?(?:([kmgtp])(?:i?b)?|b)?", re.ASCII | re.IGNORECASE
)
_SIZE_STEPS = ("", "k", "m", "g", "t", "p")
_VARIABLE = re.compile(r"\$.")
_LARGEST = 2**32 - 1
_MOST_DIGITS = 11
_ALIASES = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
    "rw": "readwrite",
}
_WITHOUT_ORIGIN = frozenset({"tmpfs", "secret", "ssh"})
_SWITCHES = frozenset({"readonly", "readwrite", "required"})


class MountKind(Enum):
    """What is mounted."""

    BIND = "bind"
    CACHE = "cache"
    TMPFS = "tmpfs"
    SECRET = "secret"
    SSH = "ssh"


class Sharing(Enum):
    """Who may use a cache at the same time."""

    SHARED = "shared"
    PRIVATE = "private"
    LOCKED = "locked"


@dataclass(frozen=True, slots=True)
class Mount:
    """One ``--mount``, expanded; empty texts and None where nothing is said.

    Attributes:
        target: as it is written; a relative one is below the working directory.
        size: of a tmpfs, in bytes; 0 for no limit.
        mode, uid, gid: of what a cache, secret or socket shows.
        env: the variable that takes a secret.
    """

    kind: MountKind = MountKind.BIND
    from_: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = True
    size: int = 0
    id: str = ""
    sharing: Sharing | None = None
    required: bool = False
    env: str | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


def parse_mount(text: str, expand: Callable[[str], str]) -> Mount:
    """Read the value of a ``--mount``; *expand* replaces the variables of a field's value.

    Raises:
        UsageError: a key or value is not known, or does not go with the kind of mount.
    """
    reader = _Reader(expand)
    for item in _fields(text):
        reader.take(item)
    return _checked(reader.finished())


def mount_origin(text: str) -> str | None:
    """Return what the ``from`` of a ``--mount`` names, before anything is expanded.

    None where it names nothing, or where the mount is of a kind that comes from nowhere: a
    tmpfs, a secret, an agent's socket. The type may be a variable: then it counts as a kind that
    has an origin.

    Raises:
        UsageError: the fields cannot be told apart.
    """
    found: dict[str, str] = {}
    for item in _fields(text):
        name, _, value = item.partition("=")
        found[name.lower()] = value
    kind = found.get("type", "").lower()
    return (found.get("from") or None) if kind not in _WITHOUT_ORIGIN else None


def _fields(text: str) -> list[str]:
    if not text:
        raise UsageError("--mount is empty", hint="write it as --mount=type=cache,target=/path")
    return csv_fields(text)


@dataclass(slots=True)
class _Reader:
    expand: Callable[[str], str]
    mount: Mount = field(default_factory=Mount)
    read_only: bool | None = None

    def take(self, item: str) -> None:
        """Read one field."""
        name, equals, value = item.partition("=")
        key = _ALIASES.get(name.lower(), name.lower())
        if not equals:
            if key not in _SWITCHES:
                raise UsageError(f"{item!r} in --mount has no value", hint="write it as key=value")
            self._switch(key, "true")
            return
        if key == "from" and _VARIABLE.search(value):
            raise UsageError(
                f"--mount from={value}: variables are not expanded here",
                hint="name the image in a FROM with a stage name, and mount from that stage",
            )
        value = self.expand(value)
        if key in _SWITCHES:
            self._switch(key, value)
        else:
            self.mount = self._with(key, value)

    def finished(self) -> Mount:
        read_only = self.read_only
        if read_only is None:
            read_only = self.mount.kind not in (MountKind.CACHE, MountKind.TMPFS)
        return replace(self.mount, read_only=read_only)

    def _switch(self, key: str, value: str) -> None:
        on = boolean(value)
        if on is None:
            raise UsageError(f"{key}={value} in --mount is neither true nor false")
        if key == "required":
            self._only(key, MountKind.SECRET, MountKind.SSH)
            self.mount = replace(self.mount, required=on)
        else:
            self.read_only = on is (key == "readonly")

    def _with(self, key: str, value: str) -> Mount:
        mount = self.mount
        match key:
            case "type":
                return replace(mount, kind=_choice("the type of a mount", value, MountKind))
            case "from":
                return replace(mount, from_=value)
            case "source":
                return replace(mount, source=value)
            case "target":
                return replace(mount, target=value)
            case "id":
                return replace(mount, id=value)
            case "sharing":
                return replace(mount, sharing=_choice("the sharing of a cache", value, Sharing))
            case "size":
                self._only(key, MountKind.TMPFS)
                return replace(mount, size=_size(value))
            case "env":
                self._only(key, MountKind.SECRET)
                return replace(mount, env=value)
            case "mode":
                return replace(mount, mode=_number(key, value, 8))
            case "uid":
                return replace(mount, uid=_number(key, value, 10))
            case "gid":
                return replace(mount, gid=_number(key, value, 10))
            case _:
                raise _unknown_key(key)

    def _only(self, key: str, *kinds: MountKind) -> None:
        if self.mount.kind not in kinds:
            names = " or ".join(kind.value for kind in kinds)
            raise UsageError(
                f"{key} does not go with a {self.mount.kind.value} mount",
                hint=f"write type={names} before it",
            )


def _checked(mount: Mount) -> Mount:
    kind = mount.kind
    if kind in (MountKind.BIND, MountKind.TMPFS):
        for name in ("mode", "uid", "gid"):
            if getattr(mount, name) is not None:
                raise UsageError(f"{name} does not go with a {kind.value} mount")
    if mount.sharing is not None and kind is not MountKind.CACHE:
        raise UsageError(f"sharing does not go with a {kind.value} mount")
    if kind is MountKind.SECRET:
        if mount.from_:
            raise UsageError("from does not go with a secret mount")
        if not (mount.source or mount.target or mount.id):
            raise UsageError("a secret mount names no secret", hint="name one with id=")
        if mount.source and mount.id:
            raise UsageError("a secret mount has a source and an id", hint="id= is enough")
    return mount


_Choice = TypeVar("_Choice", bound=Enum)


def _choice(what: str, value: str, choices: type[_Choice]) -> _Choice:
    names = {choice.value: choice for choice in choices}
    if value.lower() not in names:
        raise UsageError(f"{value!r} is not {what}", hint=_suggestion(value, names))
    return names[value.lower()]


def _unknown_key(key: str) -> UsageError:
    keys = (
        "type from source target readonly readwrite required id sharing size env mode uid gid "
        "src dst destination ro rw"
    ).split()
    return UsageError(f"--mount has no key {key!r}", hint=_suggestion(key, keys))


def _suggestion(value: str, known: Iterable[str]) -> str:
    names = list(known)
    return did_you_mean(value, names) or f"it is one of {', '.join(names)}"


def _number(key: str, value: str, base: int) -> int:
    digits = "01234567" if base == 8 else "0123456789"
    value = value.lstrip("0") or value[-1:]
    plain = 0 < len(value) <= _MOST_DIGITS and set(value) <= set(digits)
    if not plain or int(value, base) > _LARGEST:
        kind = "an octal number" if base == 8 else "a number"
        raise UsageError(f"{key}={value} in --mount is not {kind}")
    return int(value, base)


def _size(value: str) -> int:
    match = _SIZE.fullmatch(value)
    if match is None:
        raise UsageError(f"size={value} in --mount is not a size", hint="a size looks like 64m")
    return int(float(match[1]) * 1024 ** _SIZE_STEPS.index((match[2] or "").lower()))
