"""The build context: a directory, and what of it is left out; and where the Dockerfile is.

The Dockerfile is looked for where the user stands, then in the context. Patterns come from
``<Dockerfile>.dockerignore`` beside it if there is one, else from the context's
``.dockerignore``.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from kaniko_core.context.ignore import IgnorePatterns, read_ignore_file
from kaniko_core.errors import ContextError, UsageError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_LOCAL = "dir"
_IGNORE_FILE = ".dockerignore"
# Bytes; whoever names a disk image by mistake should hear of it before it fills the memory.
_LARGEST_DOCKERFILE = 16 << 20


@dataclass(frozen=True, slots=True)
class BuildContext:
    """The files that COPY and ADD see: *directory* without what *ignore* leaves out."""

    directory: Path
    ignore: IgnorePatterns = field(default_factory=IgnorePatterns)


@dataclass(frozen=True, slots=True)
class DockerfileSource:
    """The bytes of a Dockerfile; *path* is where they were found, for messages."""

    path: str
    data: bytes


def open_context(
    location: str, sub_path: str = "", dockerfile: str = "Dockerfile"
) -> tuple[BuildContext, DockerfileSource]:
    """Find the context at *location*, and the Dockerfile that builds from it.

    Args:
        location: a directory, or a URL: of those, ``dir://`` only.
        sub_path: a directory below it, which becomes the context.
        dockerfile: a path from the current directory, or else from the context.

    Raises:
        ContextError: there is no such directory or file, it cannot be read, or a pattern of
            its .dockerignore is none.
        UsageError: contexts of this kind are not supported, or *sub_path* leaves the directory.
    """
    directory = _directory(location, sub_path)
    source = locate_dockerfile(dockerfile, directory)
    return BuildContext(directory, _ignore_patterns(Path(source.path), directory)), source


def locate_dockerfile(name: str, context: Path) -> DockerfileSource:
    """Read the Dockerfile *name*: the one in the current directory, else the one in *context*.

    Raises:
        ContextError: it is in neither place, or cannot be read.
        UsageError: *name* is a URL.
    """
    if scheme := _SCHEME.match(name):
        raise UsageError(
            f"cannot read the Dockerfile {name}: {scheme[1]}:// is not supported yet",
            hint="download it first, and name the file with --dockerfile",
        )
    for path in (Path(name), context / name):
        data = _read(path, "the Dockerfile")
        if data is not None:
            return DockerfileSource(str(path), data)
    raise ContextError(
        f"there is no Dockerfile {name}, neither in the current directory nor in {context}",
        hint=_similar(name, context),
    )


def _directory(location: str, sub_path: str) -> Path:
    scheme = _SCHEME.match(location)
    if scheme and scheme[1] != _LOCAL:
        raise UsageError(
            f"cannot use the build context {location}: {scheme[1]}:// is not supported yet",
            hint="fetch it into a directory first, and name that with --context",
        )
    root = Path(location[scheme.end() :] if scheme else location)
    below = PurePosixPath(sub_path.lstrip("/"))
    if ".." in below.parts:
        raise UsageError(
            f"--context-sub-path {sub_path} does not stay in the build context",
            hint="write it relative to --context, without ..",
        )
    directory = root / below
    try:
        if directory.is_dir():
            return directory
        exists = directory.exists()
    except (OSError, ValueError) as error:
        raise _unreadable("the build context", directory, error) from error
    raise ContextError(
        f"the build context {directory} {'is not a directory' if exists else 'does not exist'}",
        hint="name the directory that COPY takes files from with --context",
    )


def _ignore_patterns(dockerfile: Path, directory: Path) -> IgnorePatterns:
    own = dockerfile.with_name(dockerfile.name + _IGNORE_FILE)
    for path in (own, directory / _IGNORE_FILE):
        data = _read(path, "the patterns in")
        if data is None:
            continue
        try:
            return IgnorePatterns(read_ignore_file(data.decode("utf-8", "surrogateescape")))
        except UsageError as error:
            raise ContextError(f"{path}: {error}", hint=error.hint) from None
    return IgnorePatterns()


def _read(path: Path, what: str) -> bytes | None:
    """Return what is in the file *path*; None where there is none."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_DOCKERFILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise _unreadable(what, path, error) from error
    if len(data) > _LARGEST_DOCKERFILE:
        raise ContextError(
            f"cannot read {what} {path}: it is larger than 16 MiB",
            hint="is it the right file?",
        )
    return data


def _unreadable(what: str, path: Path, error: OSError | ValueError) -> ContextError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return ContextError(
        f"cannot read {what} {path}: {reason}",
        hint="it must be there for the user who builds to read",
    )


def _similar(name: str, context: Path) -> str:
    directory = (context / name).parent
    try:
        names = [path.name for path in directory.iterdir()]
    except OSError:
        names = []
    close = difflib.get_close_matches(PurePosixPath(name).name, names, 1)
    if close:
        return f"there is {directory / close[0]}; name it with --dockerfile"
    return "name it with --dockerfile, or the directory that holds it with --context"
