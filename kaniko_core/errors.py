"""Every error that a person can act on: one sentence, an optional hint, an exit status.

    KanikoError
    ├── UsageError              an option or reference cannot be used
    ├── DockerfileError         path, line, column, source text
    ├── ContextError            the build context cannot be fetched or read
    ├── RegistryError           what a registry answered
    │   ├── Unauthorized        the hint names the credential sources that were tried
    │   ├── NotFound            no such manifest or blob
    │   └── TagImmutable        a tag is there already, and may not change
    ├── ContentError            bytes are not what was promised
    │   ├── DigestMismatch
    │   └── UnsafeEntry         a tar entry that would leave the root
    ├── DiskError               our own disk: full, read-only, no permission
    ├── SandboxError            the kernel refused; the hint says which right is missing
    └── CommandFailed           a RUN ended with another status than 0

Leaf classes exist only where a caller acts differently. Bugs are not KanikoErrors: they
are assertions, and their traceback shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from errno import EACCES, EDQUOT, ENOSPC, EPERM, EROFS
from pathlib import Path


class KanikoError(Exception):
    """Something went wrong that is not a bug; ``str()`` is one sentence for a person.

    Attributes:
        hint: what to try, or None.
        exit_status: what a program that ends because of it exits with.
    """

    exit_status: int = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(KanikoError):
    """An option, or a value given by the user, cannot be used."""

    exit_status = 2


class DockerfileError(KanikoError):
    """The Dockerfile is wrong at a known line.

    Args:
        source: the text that is wrong: the line itself where *column* is given, since a caret
            points into it.

    Attributes:
        path: how the user named the file.
        line: 1 for the first; 0 where the file as a whole is meant.
        column: 1 for the line's first character; 0 where the line as a whole is meant.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str,
        line: int = 0,
        column: int = 0,
        source: str = "",
        hint: str | None = None,
    ) -> None:
        where = ":".join([path, *(str(number) for number in (line, column) if number)])
        text = f"{where}: {message}"
        if source.strip():
            text += f"\n    {source.strip()}"
            text += _caret(source, column) if column else ""
        super().__init__(text, hint=hint)
        self.path = path
        self.line = line
        self.column = column


def _caret(source: str, column: int) -> str:
    """Return a line with a mark below the character of *source* that *column* counts to."""
    before = source[: column - 1].lstrip()
    # A tab is as wide here as it is above.
    return "\n    " + "".join("\t" if c == "\t" else " " for c in before) + "^"


class ContextError(KanikoError):
    """The build context cannot be fetched or read."""


class RegistryError(KanikoError):
    """A registry refused, failed or could not be reached.

    Attributes:
        status: the HTTP status, or None when there was no answer.
        code: the error code of the distribution specification, such as ``DENIED``.
        temporary: whether trying again later can help.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        temporary: bool = False,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.temporary = temporary


class Unauthorized(RegistryError):  # noqa: N818 - named after HTTP's status
    """The registry wants credentials, or better ones (401, 403)."""


class NotFound(RegistryError):  # noqa: N818 - named after HTTP's status
    """The registry has no such manifest, blob or repository (404)."""


class TagImmutable(RegistryError):  # noqa: N818 - what the tag is
    """The registry has the tag already, and its tags may not change."""


class ContentError(KanikoError):
    """Bytes are not what was promised: a damaged or hostile archive, manifest or layer."""


class DigestMismatch(ContentError):  # noqa: N818 - names what is wrong
    """Content has another digest or size than its descriptor says."""


class UnsafeEntry(ContentError):  # noqa: N818 - names what is wrong
    """A tar entry would leave the root it is unpacked into."""


class DiskError(KanikoError):
    """Our own disk refused a write or read."""


class SandboxError(KanikoError):
    """The kernel refused what sandbox mode needs; the hint says which right is missing."""


class CommandFailed(KanikoError):  # noqa: N818 - reads as the fact that it is
    """A command of a RUN instruction ended with another status than 0.

    Attributes:
        argv: the command as it was executed.
        exit_status: the command's own, or 128 plus the signal that ended it.
    """

    def __init__(
        self, message: str, *, argv: Sequence[str], exit_status: int, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.argv = tuple(argv)
        self.exit_status = exit_status


_DISK_HINTS = {
    ENOSPC: "free some space there, or name a larger disk",
    EDQUOT: "the disk quota is used up; free some space, or name another directory",
    EROFS: "it is mounted read-only; name a writable directory",
    EACCES: "this user may not; change its permissions, or name another directory",
    EPERM: "this user may not; change its permissions, or name another directory",
}


def reason_of(error: OSError | ValueError) -> str:
    """Return what the system says, to end a sentence with; a ValueError is a NUL in a path."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def disk_error(error: OSError, doing: str, path: Path | str) -> DiskError:
    """Turn an OSError of our own disk into a sentence: *doing* reads "write layers to"."""
    return DiskError(
        f"cannot {doing} {path}: {reason_of(error)}",
        hint=_DISK_HINTS.get(error.errno or 0),
    )


@contextmanager
def disk_errors(doing: str, path: Path | str) -> Iterator[None]:
    """Translate any OSError inside the block with :func:`disk_error`."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, doing, path) from error
