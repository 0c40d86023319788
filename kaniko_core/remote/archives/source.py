"""``tar://``: archives on this machine, or on standard input, as they come."""

from __future__ import annotations

import io
import os
import stat
import sys
from errno import ENOENT
from typing import TYPE_CHECKING, BinaryIO, cast

from kaniko_core.addresses.archives import TarFile
from kaniko_core.errors import ContextError, reason_of
from kaniko_core.remote.incoming import Incoming

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PIPE_IT = "pipe the archive into it: tar cz . | kubectl run -i …, or podman run -i …"


def open_tar_file(wanted: TarFile) -> Incoming:
    """Open an archive on this machine.

    Standard input can be opened once only; it is not closed with the result.

    Raises:
        ContextError: it is not there, no file, or cannot be read; nobody feeds standard input.
    """
    if wanted.path is None:
        return _open_stdin(wanted.name)
    try:
        status = wanted.path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ContextError(
                f"{wanted.name} is a directory",
                hint=f"name it without tar://, as {wanted.path}",
            )
        fd = os.open(wanted.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(wanted.name, error) from error
    except ValueError as error:  # a NUL in the path
        raise ContextError(f"cannot read {wanted.name!r}: {reason_of(error)}") from error
    plain = stat.S_ISREG(status.st_mode)
    return Incoming(
        cast("BinaryIO", _Descriptor(fd, wanted.name, owned=True)),
        wanted.name,
        status.st_size if plain else None,
        status.st_mtime_ns if plain else 0,
    )


def _open_stdin(name: str) -> Incoming:
    try:
        fd = -1 if sys.stdin is None else sys.stdin.fileno()
        terminal = fd >= 0 and os.isatty(fd)
        status = os.fstat(fd) if fd >= 0 else None
    except (OSError, ValueError):
        status = None
    if status is None:
        raise ContextError(f"cannot read {name}: it is closed", hint=_PIPE_IT)
    if terminal:
        raise ContextError(f"cannot read {name}: it is a terminal", hint=_PIPE_IT)
    # From the descriptor: Python's own buffer would wait until it is full.
    return Incoming(cast("BinaryIO", _Descriptor(fd, name, owned=False)), name)


class _Descriptor(io.RawIOBase):
    """Reads what is there at once, and knows for its errors what it reads."""

    def __init__(self, fd: int, name: str, *, owned: bool) -> None:
        super().__init__()
        self._fd = fd
        self._name = name
        self._owned = owned

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        try:
            return os.readv(self._fd, (buffer,))
        except OSError as error:
            raise _unreadable(self._name, error) from error

    def read(self, size: int | None = -1) -> bytes:
        """Read up to *size* bytes, fewer if fewer are there now; none at the end.

        Raises:
            ContextError: it cannot be read.
        """
        if size is None or size < 0:
            return self.readall()
        try:
            return os.read(self._fd, size)
        except OSError as error:
            raise _unreadable(self._name, error) from error

    def close(self) -> None:
        """Close the file, unless it is somebody else's."""
        if not self.closed and self._owned:
            os.close(self._fd)
        super().close()


def _unreadable(name: str, error: OSError) -> ContextError:
    hint = "is the path right, and mounted here?" if error.errno == ENOENT else None
    return ContextError(f"cannot read {name}: {reason_of(error)}", hint=hint)
