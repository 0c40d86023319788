"""Paths of WORKDIR, and of the destination of COPY and ADD."""

from __future__ import annotations

import posixpath


def workdir_path(current: str, path: str) -> str:
    """Return the working directory after ``WORKDIR path``.

    An absolute path is taken as it is written; a relative one joins *current* and is tidied.
    """
    if path.startswith("/"):
        return path
    return _clean(posixpath.join("/", current, path))


def destination_path(parent: str, path: str, *, keep_slash: bool = True) -> str:
    """Return the absolute path that *path* means in the working directory *parent*.

    Args:
        parent: the working directory.
        path: as written; an absolute one stays as it is.
        keep_slash: whether a trailing slash, which says "directory", stays.
    """
    if path.startswith("/"):
        return path
    result = _clean(posixpath.join("/", parent, path))
    if keep_slash and path.endswith("/") and result != "/":
        result += "/"
    return result


def _clean(path: str) -> str:
    # normpath keeps two leading slashes, which POSIX allows to mean something.
    return "/" + posixpath.normpath(path).lstrip("/")
