"""Paths of WORKDIR, and of the destination of COPY and ADD."""

from __future__ import annotations

import posixpath

from kaniko_core.errors import UsageError


def workdir_path(current: str, path: str) -> str:
    """Return the working directory after ``WORKDIR path``.

    An absolute path is taken as it is written; a relative one joins *current* and is tidied; an
    empty one is *current*.

    Raises:
        UsageError: it has a zero byte.
    """
    return _absolute(current, path)


def destination_path(parent: str, path: str, *, keep_slash: bool = True) -> str:
    """Return the absolute path that *path* means in the working directory *parent*.

    Args:
        parent: the working directory.
        path: as written; an absolute one stays as it is.
        keep_slash: whether a trailing slash, or a slash and a dot, which say "directory", stay.

    Raises:
        UsageError: it has a zero byte.
    """
    result = _absolute(parent, path)
    if keep_slash and path.endswith("/"):
        return result if result.endswith("/") else f"{result}/"
    if keep_slash and path.endswith("/."):
        return f"{'' if result == '/' else result}/."
    return result


def refuse_zero_bytes(path: str) -> None:
    """Raise a UsageError if *path* cannot be one: for the kernel it would end at a zero byte."""
    if "\0" in path:
        raise UsageError(f"the path {path!r} has a zero byte, which no name of a file has")


def _absolute(parent: str, path: str) -> str:
    """Join *path* to *parent* where it is relative; what is absolute is not tidied."""
    refuse_zero_bytes(path)
    parent = parent if parent.startswith("/") else _clean(f"/{parent}")
    if not path:
        return parent
    return path if path.startswith("/") else _clean(f"{parent}/{path}")


def _clean(path: str) -> str:
    # normpath keeps two leading slashes, which POSIX allows to mean something.
    return "/" + posixpath.normpath(path).lstrip("/")
