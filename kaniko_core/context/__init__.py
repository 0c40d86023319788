"""The build context: a directory, and what of it is left out; and where the Dockerfile is.

The Dockerfile is looked for where the user stands, then in the context; it may be anywhere, and
the patterns may leave it out without it being missed. They come from
``<Dockerfile>.dockerignore`` beside it if there is one, else from the context's
``.dockerignore``. A Dockerfile from stdin, or from elsewhere, has nothing beside it.

Source: docker buildx v0.29, build/opt.go (``loadInputs``), and BuildKit's frontend/dockerui.
"""

from __future__ import annotations

import difflib
import sys
from dataclasses import field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from kaniko_core.addresses.url import scheme_of, shown
from kaniko_core.context.ignore import IgnorePatterns
from kaniko_core.context.leaving import IGNORE_FILE, read_patterns
from kaniko_core.errors import ContextError, UsageError, reason_of
from kaniko_core.lean import dataclass

_LOCAL = "dir"
_STDIN = "-"
_USUAL_NAME = "Dockerfile"
# Docker takes this for the usual name, where there is no other.
_LOWER_NAME = "dockerfile"
# Bytes; whoever names a disk image by mistake should hear of it before it fills the memory.
_LARGEST_DOCKERFILE = 16 << 20
# How many names a hint lists.
_SHOWN = 8


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
    location: str, sub_path: str = "", dockerfile: str | DockerfileSource = _USUAL_NAME
) -> tuple[BuildContext, DockerfileSource]:
    """Find the context in the directory *location*, and the Dockerfile that builds from it.

    Args:
        location: a directory, with or without ``dir://``.
        sub_path: a directory below it, which becomes the context.
        dockerfile: a path from the current directory, or else from the context; ``-`` for
            stdin; or the Dockerfile itself, where the caller has fetched it.

    Raises:
        ContextError: there is no such directory or file, it cannot be read, or a pattern of
            its .dockerignore is none.
        UsageError: *sub_path* leaves the directory.
    """
    directory = Path(location.removeprefix(f"{_LOCAL}://")) / below(sub_path)
    hint = "name the directory that COPY takes files from with --context"
    _existing(directory, "the build context", hint)
    if isinstance(dockerfile, DockerfileSource):
        return open_directory(directory), dockerfile
    source = locate_dockerfile(dockerfile, directory)
    beside = None if dockerfile == _STDIN else Path(source.path)
    return open_directory(directory, beside), source


def open_directory(directory: Path, dockerfile: Path | None = None) -> BuildContext:
    """Return *directory* as a context, without what its patterns leave out.

    Args:
        directory: the files.
        dockerfile: the file whose own patterns come before those of the directory.

    Raises:
        ContextError: the file with the patterns cannot be read, or one of them is none.
    """
    return BuildContext(directory, _ignore_patterns(dockerfile, directory))


def open_named(name: str, directory: Path) -> BuildContext:
    """Return the *directory* of the named context *name*; its own .dockerignore counts.

    Raises:
        ContextError: there is no such directory, or its patterns cannot be used.
    """
    what = f"the directory of the build context {name}"
    _existing(directory, what, f"name a directory with --build-context {name}=DIRECTORY")
    return open_directory(directory)


def locate_dockerfile(name: str, context: Path) -> DockerfileSource:
    """Read the Dockerfile *name*: the one in the current directory, else the one in *context*.

    ``-`` is stdin. ``Dockerfile`` may be spelled ``dockerfile`` on disk.

    Raises:
        ContextError: it is in neither place, or cannot be read.
        UsageError: *name* is a URL.
    """
    for spelling in spellings(name):
        if (here := outside_dockerfile(spelling)) is not None:
            return here
        data = read_file(context / spelling, "the Dockerfile")
        if data is not None:
            return DockerfileSource(str(context / spelling), data)
    raise ContextError(
        f"there is no Dockerfile {shown(name)}, neither in the current directory nor in {context}",
        hint=missing_hint(name, context),
    )


def outside_dockerfile(name: str) -> DockerfileSource | None:
    """Read the Dockerfile *name* where it is on stdin, or is found from the current directory.

    Raises:
        ContextError: it cannot be read.
        UsageError: *name* is a URL.
    """
    if name == _STDIN:
        return DockerfileSource("stdin", _from_stdin())
    if scheme := scheme_of(name):
        raise UsageError(
            f"cannot read the Dockerfile {shown(name)}: {scheme}:// is not supported",
            hint="download it first, and name the file with --dockerfile",
        )
    data = read_file(Path(name), "the Dockerfile")
    return None if data is None else DockerfileSource(str(Path(name)), data)


def spellings(name: str) -> tuple[str, ...]:
    """Return *name* as it may be spelled on disk: the usual one may be in lower case."""
    path = PurePosixPath(name)
    if path.name != _USUAL_NAME:
        return (name,)
    return (name, str(path.with_name(_LOWER_NAME)))


def read_dockerfile(path: Path, name: str) -> DockerfileSource:
    """Read a Dockerfile that was fetched to *path*; *name* is what messages call it.

    Raises:
        ContextError: it cannot be read, or is too large.
    """
    data = read_file(path, "the Dockerfile")
    if data is None:
        raise ContextError(f"there is no Dockerfile {name}")
    return DockerfileSource(name, data)


def _from_stdin() -> bytes:
    if sys.stdin is None:
        raise ContextError(
            "cannot read the Dockerfile from stdin: it is closed",
            hint="send it as in: kaniko-executor --dockerfile=- < Dockerfile",
        )
    try:
        return _whole(sys.stdin.buffer, "the Dockerfile from stdin")
    except (OSError, ValueError) as error:
        raise ContextError(f"cannot read the Dockerfile from stdin: {reason_of(error)}") from error


def below(sub_path: str) -> PurePosixPath:
    """Return what ``--context-sub-path`` says, relative to the context.

    Raises:
        UsageError: it leaves the context.
    """
    relative = PurePosixPath(sub_path.lstrip("/"))
    if ".." in relative.parts:
        raise UsageError(
            f"--context-sub-path {sub_path} does not stay in the build context",
            hint="write it relative to --context, without ..",
        )
    return relative


def _existing(directory: Path, what: str, hint: str) -> None:
    try:
        if directory.is_dir():
            return
        exists = directory.exists()
    except (OSError, ValueError) as error:
        raise _unreadable(what, directory, error) from error
    wrong = "is not a directory" if exists else "does not exist"
    raise ContextError(f"{what} {shown(str(directory))} {wrong}", hint=hint)


def _ignore_patterns(dockerfile: Path | None, directory: Path) -> IgnorePatterns:
    paths = [directory / IGNORE_FILE]
    if dockerfile is not None:
        paths.insert(0, dockerfile.with_name(dockerfile.name + IGNORE_FILE))
    for path in paths:
        data = read_file(path, "the patterns in")
        if data is not None:
            return read_patterns(data, str(path))
    return IgnorePatterns()


def read_file(path: Path, what: str) -> bytes | None:
    """Return what is in the file *path*; None where there is none.

    Raises:
        ContextError: it cannot be read, or is too large; *what* says what it is.
    """
    try:
        with path.open("rb") as file:
            return _whole(file, f"{what} {path}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise _unreadable(what, path, error) from error


def _whole(file: BinaryIO, what: str) -> bytes:
    data = file.read(_LARGEST_DOCKERFILE + 1)
    if len(data) > _LARGEST_DOCKERFILE:
        raise ContextError(
            f"cannot read {what}: it is larger than 16 MiB", hint="is it the right file?"
        )
    return data


def _unreadable(what: str, path: Path, error: OSError | ValueError) -> ContextError:
    return ContextError(
        f"cannot read {what} {shown(str(path))}: {reason_of(error)}",
        hint="it must be there for the user who builds to read",
    )


def missing_hint(name: str, context: Path) -> str:
    """Return what to do where *context* has no Dockerfile *name*: what it has instead."""
    directory = (context / name).parent
    try:
        names = sorted(path.name for path in directory.iterdir())
        only = directory / names[0] if len(names) == 1 else None
        nested = only is not None and not only.is_symlink() and (only / _USUAL_NAME).exists()
    except OSError:
        return "name it with --dockerfile, or the directory that holds it with --context"
    close = difflib.get_close_matches(PurePosixPath(name).name, names, 1)
    if close:
        return f"there is {directory / close[0]}; name it with --dockerfile"
    if nested:
        return f"it is in {names[0]}: say so with --context-sub-path={names[0]}"
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    return f"it has {shown or 'no files'}; name the Dockerfile with --dockerfile"
