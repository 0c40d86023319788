"""What of a root belongs to somebody else, and is left alone: mounts, our own files.

A path is *covered* when it, or a directory it is in, is in the rules: nothing there is deleted,
moved, unpacked onto, nor put into a layer. A directory *shelters* when something covered is
below it: it can be written into, but not moved, replaced or removed as a whole.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import field
from pathlib import Path

from kaniko_core.errors import disk_errors
from kaniko_core.lean import dataclass

_MOUNTINFO = Path("/proc/self/mountinfo")
# Blanks, tabs, line feeds, backslashes and number signs are written so.
_ESCAPED = re.compile(rb"\\([0-7]{3})")
# Follows the path of a mount whose directory was removed in another namespace.
_DELETED = b"//deleted"


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The paths that are left alone.

    Attributes:
        covered: relative to the root, without a slash at either end; real paths, no link is on
            the way to them.
        sheltering: every directory that something covered is strictly below; ``b""`` is the root.
    """

    covered: frozenset[bytes] = frozenset()
    sheltering: frozenset[bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        above = frozenset(parent for path in self.covered for parent in _parents(path))
        object.__setattr__(self, "sheltering", above)

    def covers(self, path: bytes) -> bool:
        """Whether *path*, or a directory it is in, is covered."""
        covered = self.covered
        if not covered:
            return False
        while path not in covered:
            if not path:
                return False
            path = path.rpartition(b"/")[0]
        return True

    def over(self, path: bytes) -> bytes | None:
        """Return the topmost covered path that *path* is, or is below; None where there is none."""
        return min((p for p in (path, *_parents(path)) if p in self.covered), default=None)

    def shelters(self, path: bytes) -> bool:
        """Whether something covered is strictly below *path*; ``b""`` is the root."""
        return path in self.sheltering

    def below(self, *directories: bytes) -> IgnoreRules:
        """Return what is covered in any of *directories*, relative to them."""
        return IgnoreRules(
            frozenset(
                path[len(directory) + 1 :]
                for directory in directories
                for path in self.covered
                if path.startswith(directory + b"/")
            )
        )

    def and_paths(self, paths: Iterable[bytes]) -> IgnoreRules:
        """Return rules that cover *paths* too."""
        return IgnoreRules(self.covered.union(paths))


def mount_points(root: Path) -> frozenset[bytes]:
    """Return what is mounted strictly below *root*, as this process sees it: relative, real paths.

    Raises:
        DiskError: there is no /proc to ask.
    """
    with disk_errors("read", _MOUNTINFO):
        return points_in(_MOUNTINFO.read_bytes(), os.fsencode(root.resolve()))


def points_in(mountinfo: bytes, root: bytes) -> frozenset[bytes]:
    """Return the mount points below the absolute path *root* that *mountinfo* lists.

    Source: proc(5), /proc/[pid]/mountinfo.
    """
    prefix = root.rstrip(b"/") + b"/"
    found = set()
    for line in mountinfo.strip(b"\n").split(b"\n"):
        raw = line.split(b" ")[4]
        point = _ESCAPED.sub(lambda octal: bytes([int(octal[1], 8)]), raw)
        if point.startswith(prefix) and point != prefix and not point.endswith(_DELETED):
            found.add(point[len(prefix) :])
    return frozenset(found)


def _parents(path: bytes) -> Iterable[bytes]:
    while path:
        path = path.rpartition(b"/")[0]
        yield path
