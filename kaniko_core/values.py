"""From what a user typed to a value: booleans, durations, sizes, lists, pairs, secrets, agents."""

from __future__ import annotations

import re
from dataclasses import field
from datetime import timedelta
from enum import Enum
from pathlib import Path

from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass

# What strconv.ParseBool of Go reads.
_BOOLEANS = {
    **dict.fromkeys("1 t T TRUE true True".split(), True),
    **dict.fromkeys("0 f F FALSE false False".split(), False),
}
# One field of a CSV line, quoted or plain, and what ends it.
_FIELD = re.compile(r'(?:"((?:[^"]|"")*)"|([^",]*))(,|$)')
# Nanoseconds. Go counts them in 63 bits: about 292 years.
_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_LONGEST = (1 << 63) - 1
_DURATION = re.compile(r"(\d*)(?:\.(\d*))?(ns|us|µs|ms|s|m|h)")

_DAYS = re.compile(r"(\d+)([dw])", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(?:([kmgtp])(i?))?b?", re.ASCII | re.IGNORECASE)


def boolean(text: str) -> bool | None:
    """Return what *text* says as Go reads it: ``true``, ``1``, ``F``, …; None if it is neither."""
    return _BOOLEANS.get(text)


def csv_fields(text: str) -> list[str]:
    """Return the fields of a line of CSV, which may be in double quotes.

    Raises:
        UsageError: there is a quote inside a field.
    """
    fields: list[str] = []
    position = 0
    more = True
    while more:
        match = _FIELD.match(text, position)
        if match is None:
            raise UsageError(
                f"{text} has a quote inside a field", hint="quote the field as a whole"
            )
        quoted, plain, end = match.groups()
        fields.append(plain if quoted is None else quoted.replace('""', '"'))
        position = match.end()
        more = end == ","
    return fields


def duration(text: str) -> timedelta:
    """Read Go's form of durations: ``336h``, ``1h30m``, ``0``; raise UsageError otherwise."""
    if text == "0":
        return timedelta(0)
    total, end = 0, 0
    for part in _DURATION.finditer(text):
        whole, fraction, unit = part[1], part[2] or "", _UNITS[part[3]]
        if part.start() != end or not whole + fraction:
            break
        total += int(whole or 0) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
        end = part.end()
    if not text or end != len(text) or total > _LONGEST:
        raise UsageError(f"{text!r} is not a duration", hint="a duration looks like 336h or 1h30m")
    return timedelta(microseconds=total // 1000)


def long_duration(text: str) -> timedelta:
    """Read ``7d``, ``2w``, or a duration in Go's form; raise UsageError otherwise."""
    match = _DAYS.fullmatch(text)
    try:
        if match is not None:
            return timedelta(days=int(match[1]) * (7 if match[2] == "w" else 1))
        return duration(text)
    except (UsageError, OverflowError):
        raise UsageError(
            f"{text!r} is not a duration", hint="a duration looks like 7d, 2w or 36h"
        ) from None


def size(text: str) -> int:
    """Read a number of bytes: ``500MB``, ``1.5 GiB``, ``4096``; raise UsageError otherwise."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a size", hint="a size looks like 500MB or 20GiB")
    from fractions import Fraction

    power = " kmgtp".index((match[2] or " ").lower())
    return int(Fraction(match[1]) * (1024 if match[3] else 1000) ** power)


def key_value(text: str) -> tuple[str, str]:
    """Read ``key=value``; raise UsageError where there is no ``=`` or no key."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"{text!r} has no key and value", hint="write it as key=value")
    return key, value


def names(text: str) -> tuple[str, ...]:
    """Read names with commas between them; empty ones count for nothing."""
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def build_arg(text: str) -> tuple[str, str | None]:
    """Read ``NAME=value``, or ``NAME`` alone: then the value is None (from the environment)."""
    key, equals, value = text.partition("=")
    if not key:
        raise UsageError(f"{text!r} is not a build argument", hint="write it as NAME=value")
    return key, value if equals else None


def named_context(text: str) -> tuple[str, str]:
    """Read ``name=value`` of a named context; names are lower-cased, as stages' are."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise UsageError(
            f"{text!r} is not a named context", hint="write it as NAME=DIRECTORY or NAME=ADDRESS"
        )
    return name.lower(), value


class Entitlement(Enum):
    """What a Dockerfile may ask for only where the user allows it."""

    INSECURE = "security.insecure"
    HOST_NETWORK = "network.host"


class Isolation(Enum):
    """Where the build's commands run."""

    AUTO = "auto"
    SANDBOX = "sandbox"
    IN_PLACE = "in-place"


class SnapshotMode(Enum):
    """How changes are found: all of them are exact here, so that none has a blind spot."""

    FULL = "full"
    REDO = "redo"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret comes from: a file, an environment variable, or *value* itself.

    The library reads no environment: whoever does puts what it found into *value*.
    """

    id: str
    path: Path | None = None
    variable: str | None = None
    value: bytes | None = field(default=None, repr=False)


def secret(text: str) -> Secret:
    """Read ``id=ID[,src=FILE][,env=NAME][,type=file|env]``.

    With the id alone, the source is not known yet: a variable of that name, else a file.

    Raises:
        UsageError: there is no id, or a key is not known.
    """
    fields: dict[str, str] = {}
    for item in csv_fields(text):
        key, equals, value = item.partition("=")
        key = {"source": "src"}.get(key.strip().lower(), key.strip().lower())
        if not equals or key not in ("id", "src", "env", "type"):
            raise UsageError(
                f"{item!r} says nothing about a secret",
                hint="write it as id=ID,src=FILE or id=ID,env=NAME",
            )
        fields[key] = value
    if not fields.get("id"):
        raise UsageError(f"the secret {text!r} has no id", hint="write it as id=ID,src=FILE")
    kind = fields.get("type", "")
    if kind not in ("", "file", "env"):
        raise UsageError(f"a secret of type {kind!r} is not known", hint="it is file or env")
    if "src" in fields and "env" in fields:
        raise UsageError(f"the secret {fields['id']} has both a file and a variable")
    name, source = fields["id"], fields.get("src")
    if kind == "env":
        return Secret(name, variable=fields.get("env", source or name))
    if kind == "file":
        return Secret(name, path=Path(source or name))
    return Secret(name, Path(source) if source else None, fields.get("env"))


@dataclass(frozen=True, slots=True)
class SshAgent:
    """An SSH agent to forward: its socket, or the private keys that one is to hold.

    Without *paths* it is the agent of the user's session: whoever reads the environment
    replaces it by one with the path of ``SSH_AUTH_SOCK``.
    """

    id: str
    paths: tuple[Path, ...] = ()


def ssh_agent(text: str) -> SshAgent:
    """Read ``ID[=PATH[,PATH…]]``; raise UsageError where there is no id."""
    name, equals, paths = text.partition("=")
    if not name or (equals and not all(paths.split(","))):
        raise UsageError(f"{text!r} is not an SSH agent", hint="write default, or ID=SOCKET")
    return SshAgent(name, tuple(map(Path, paths.split(","))) if equals else ())
