"""What the layers beneath one layer show at a path, looked up in their unpacked directories.

The answer is overlayfs's, without a mount: the topmost layer that has something at the path
wins, unless a layer between hides it with a whiteout, an opaque directory, or anything that is
no directory where one would have to be.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from enum import Enum
from errno import ENODATA, ENOTSUP
from pathlib import Path

from kaniko_core.lean import dataclass


class Whiteouts(Enum):
    """What becomes of the whiteouts of a layer that is unpacked."""

    APPLY = "apply"  # delete what the target tree has
    OVERLAY_TRUSTED = "trusted"  # overlayfs: character devices 0/0, trusted.overlay.opaque
    OVERLAY_USER = "user"  # the same, and user.overlay.opaque: mounts in a user namespace

    @property
    def opaque_xattr(self) -> bytes:
        """The extended attribute of an opaque directory; its value is ``y``.

        Source: Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
        """
        namespace = b"user" if self is Whiteouts.OVERLAY_USER else b"trusted"
        return namespace + b".overlay.opaque"


def is_whiteout(status: os.stat_result) -> bool:
    """Whether a file is overlayfs's mark for a name that is not there."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


@dataclass(frozen=True, slots=True)
class Found:
    """What is at a path: where this process can open it, and its status."""

    host_path: bytes
    status: os.stat_result


class Beneath:
    """The layers beneath, asked for only when somebody looks.

    Args:
        layers: gives their unpacked directories, topmost first; may block, called once.
        whiteouts: how their whiteouts are stored.
    """

    def __init__(self, layers: Callable[[], Sequence[Path]], whiteouts: Whiteouts) -> None:
        self._ask = layers
        self._opaque = whiteouts.opaque_xattr
        self._known: tuple[bytes, ...] | None = None

    def find(self, path: bytes) -> Found | None:
        """Return what the layers show at *path*, whose parents are no symbolic links.

        Raises:
            OSError: a layer's directory cannot be read.
        """
        prefixes = _prefixes(path)
        for layer in self._layers():
            opaque = False
            for prefix in prefixes:
                here = layer + prefix
                status = _lstat(here)
                if status is None:
                    break
                if prefix == path:
                    return None if is_whiteout(status) else Found(here, status)
                if not stat.S_ISDIR(status.st_mode):
                    return None
                opaque = opaque or self._is_opaque(here)
            if opaque:
                return None
        return None

    def top_names(self) -> set[bytes]:
        """Return every name that any layer has in its root directory."""
        return {name for layer in self._layers() for name in os.listdir(layer)}

    def _layers(self) -> tuple[bytes, ...]:
        if self._known is None:
            self._known = tuple(os.fsencode(path) + b"/" for path in self._ask())
        return self._known

    def _is_opaque(self, host_path: bytes) -> bool:
        try:
            return os.getxattr(host_path, self._opaque, follow_symlinks=False) == b"y"
        except OSError as error:
            if error.errno in {ENODATA, ENOTSUP}:
                return False
            raise


def _prefixes(path: bytes) -> list[bytes]:
    parts = path.split(b"/")
    return [b"/".join(parts[: count + 1]) for count in range(len(parts))]


def _lstat(host_path: bytes) -> os.stat_result | None:
    try:
        return os.stat(host_path, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
