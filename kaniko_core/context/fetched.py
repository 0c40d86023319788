"""A context that was fetched: whoever wrote it is not believed.

A link in it may lead anywhere. COPY never follows one out of the context; here, where the
Dockerfile and its patterns are read and the directory of ``--context-sub-path`` is found, one
that leads out is refused.
"""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

from kaniko_core.addresses.url import scheme_of
from kaniko_core.context import (
    BuildContext,
    DockerfileSource,
    below,
    missing_hint,
    read_dockerfile,
    read_file,
    spellings,
)
from kaniko_core.context.ignore import IgnorePatterns
from kaniko_core.context.leaving import IGNORE_FILE, IgnoreFiles, read_patterns
from kaniko_core.errors import ContextError
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class FetchedContext:
    """A context that was fetched.

    Attributes:
        directory: its files.
        name: how to name it to people.
        address: where it is from, for others; empty where that is this machine.
        version: the digest of an archive, or a commit.
        time: when it was made, in seconds since 1970, if that is known.
        archive: False for one file that is no archive.
    """

    directory: Path
    name: str
    address: str
    version: Digest | str
    time: int | None
    archive: bool = True

    @property
    def kind(self) -> str:
        """What its version is: a ``digest`` or a ``commit``."""
        return "digest" if isinstance(self.version, Digest) else "commit"


def ignore_files(
    dockerfile: str, sub_path: str = "", outside: DockerfileSource | None = None
) -> IgnoreFiles:
    """Return where the patterns of a context come from that is fetched now.

    Args:
        dockerfile: what the user named; or a URL, or ``-``.
        sub_path: of ``--context-sub-path``.
        outside: the Dockerfile, where it is not one of the context's: patterns that lie beside
            it come before those of the context.

    Raises:
        ContextError: the patterns beside it cannot be read, or one of them is none.
        UsageError: *sub_path* leaves the context.
    """
    top = str(below(sub_path)) if sub_path else ""
    if outside is None:
        return IgnoreFiles.of(posixpath.normpath(dockerfile.lstrip("/")), top)
    if dockerfile == "-" or scheme_of(dockerfile):
        return IgnoreFiles.of(None, top)  # nothing is beside stdin, or beside a URL
    beside = Path(outside.path + IGNORE_FILE)
    data = read_file(beside, "the patterns in")
    known = None if data is None else read_patterns(data, str(beside))
    return IgnoreFiles.of(None, top, known)


def open_fetched(
    root: Path,
    name: str,
    leaving: IgnoreFiles,
    dockerfile: str | DockerfileSource,
) -> tuple[BuildContext, DockerfileSource]:
    """Return the context that was fetched to *root*, and its Dockerfile.

    Args:
        root: what was fetched.
        name: what messages call it.
        leaving: where its patterns come from, and which directory of it is the context.
        dockerfile: its name in the context, or itself where it is not one of the context's.

    Raises:
        ContextError: there is no such directory or Dockerfile, it leads out of *root*, or a
            pattern is none.
    """
    directory = _inside(root, leaving.top, name) if leaving.top else root
    if directory is None or not directory.is_dir():
        there = ", ".join(sorted(item.name for item in root.iterdir())[:8]) or "no files"
        raise ContextError(
            f"{name} has no directory {leaving.top}",
            hint=f"it has {there}; check --context-sub-path",
        )
    context = BuildContext(directory, _patterns(root, name, leaving))
    if isinstance(dockerfile, DockerfileSource):
        return context, dockerfile
    return context, _dockerfile(directory, dockerfile.lstrip("/"), name)


def _patterns(root: Path, name: str, leaving: IgnoreFiles) -> IgnorePatterns:
    if leaving.known is not None:
        return leaving.known
    for candidate in leaving.names:
        path = _inside(root, candidate, name)
        if path is None or not path.is_file():
            continue
        data = read_file(path, "the patterns in")
        if data is not None:
            return read_patterns(data, candidate)
    return IgnorePatterns()


def _dockerfile(directory: Path, wanted: str, name: str) -> DockerfileSource:
    if posixpath.normpath(wanted).startswith("../"):
        raise ContextError(
            f"the Dockerfile {wanted} leads out of {name}",
            hint="write it relative to the context, without ..",
        )
    for spelling in spellings(wanted):
        path = _inside(directory, spelling, name)
        if path is not None and path.is_dir():
            raise ContextError(
                f"the Dockerfile {wanted} of {name} is a directory",
                hint=f"name the file in it: --dockerfile={posixpath.join(wanted, 'Dockerfile')}",
            )
        if path is not None and path.is_file():
            return read_dockerfile(path, posixpath.normpath(spelling))
    hint = "check --dockerfile: there is no such directory in it"
    # A link may lead there; what is elsewhere on this machine is no hint.
    if _inside(directory, posixpath.dirname(wanted), name) is not None:
        hint = missing_hint(wanted, directory).replace(f"{directory}/", "")
    raise ContextError(f"there is no Dockerfile {wanted} in {name}", hint=hint)


def _inside(root: Path, relative: str, name: str) -> Path | None:
    """Return where *relative* leads below *root*; None where nothing is there.

    Raises:
        ContextError: a link leads out of *root*.
    """
    top = os.path.realpath(root)
    try:
        found = os.path.realpath(os.path.join(top, relative), strict=True)  # noqa: PTH118
    except (OSError, ValueError):
        return None
    if found != top and not found.startswith(f"{top}/"):
        raise ContextError(
            f"{relative} of {name} leads out of the context",
            hint="it is a symbolic link, or in a directory that is one; put the file itself there",
        )
    return Path(found)
