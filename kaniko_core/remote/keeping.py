"""What is fetched, as a file: for ADD, which puts it into a layer as it is."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from kaniko_core.errors import ContextError, disk_errors
from kaniko_core.oci.digest import Digest
from kaniko_core.remote.incoming import Incoming

_PIECE = 1 << 20  # bytes


def stored(incoming: Incoming, path: Path, checksum: Digest | None = None) -> Digest:
    """Write what comes to the new file *path* (mode 0600), and return its digest.

    Raises:
        ContextError: it cannot be had to its end, or is not what *checksum* says; nothing is left.
        ContentError: it was damaged on its way; nothing is left.
        DiskError: *path* cannot be written.
    """
    with disk_errors("keep a download in", path.parent):
        file = path.open("xb")
    try:
        with file:
            path.chmod(0o600)
            digest = hashlib.new(checksum.algorithm if checksum else "sha256")
            while piece := incoming.stream.read(_PIECE):
                digest.update(piece)
                with disk_errors("write a download to", path):
                    file.write(piece)
        found = Digest(digest.name, digest.hexdigest())
        if checksum is not None and found != checksum:
            raise ContextError(
                f"{incoming.name} has the checksum {found} instead of the expected {checksum}",
                hint="it was changed since, or is another file; make sure that you want "
                "this one before you write its checksum down",
            )
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
    return found
