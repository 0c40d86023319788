"""The members of a layer as values: what a changeset adds, and what it removes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from enum import Enum
from typing import BinaryIO

from kaniko_core.lean import dataclass

# Docker and OCI: image-spec v1.1, layer.md, "Whiteouts".
WHITEOUT_PREFIX = b".wh."
OPAQUE_MARK = b".wh..wh..opq"
# Nanoseconds, which times of files are counted in.
SECOND = 1_000_000_000


class Kind(Enum):
    """What an entry makes; values are tar type flags, but for the two whiteouts."""

    FILE = b"0"
    HARDLINK = b"1"
    SYMLINK = b"2"
    CHARACTER = b"3"
    BLOCK = b"4"
    DIRECTORY = b"5"
    FIFO = b"6"
    WHITEOUT = b"W"  # removes `name` of the layers below
    OPAQUE = b"O"  # hides everything that the layers below have in the directory `name`


@dataclass(slots=True)
class Entry:
    """One member of a layer.

    Attributes:
        name: relative to the root, without leading or trailing slash, never with ``..``;
            ``b""`` is the root directory itself.
        mode: permission bits only (at most 0o7777).
        size: bytes of content; 0 for everything but FILE.
        mtime_ns: nanoseconds since the epoch.
        link: target of a SYMLINK as stored, or of a HARDLINK relative to the root (as `name`).
        xattrs: extended attributes by full name (``b"security.capability"``).
        device: (major, minor) of CHARACTER and BLOCK.
        content: for a FILE to be *written*: opens its bytes (``size`` of them) as an
            unbuffered or buffered binary stream; the writer closes it. A host path (bytes)
            is the fast form of the same. None where size is 0 or the entry was read.
    """

    name: bytes
    kind: Kind
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    link: bytes = b""
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    device: tuple[int, int] = (0, 0)
    content: bytes | Callable[[], BinaryIO] | None = None
