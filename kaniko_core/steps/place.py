"""Where --cache-repo says that steps are kept.

    --cache-repo registry.example.com/team/app/cache    a repository
    --cache-repo oci:DIRECTORY                          one OCI image layout
    --cache-repo dir:DIRECTORY                          an entry for each step; so does a path
                                                        that begins with / or ./ or ../

Where it says nothing, it is the first destination's repository with /cache added; without a
destination, ``.built`` in the cache directory.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.oci.reference import Reference, Repository
from kaniko_core.options import OutputOptions

# Below the cache directory.
BUILT = ".built"
_LAYOUT, _DIRECTORY = "oci:", "dir:"
_INFERRED = "cache"


class PlaceKind(Enum):
    """What a directory is."""

    LAYOUT = "layout"
    DIRECTORY = "directory"


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """A directory that steps are kept in."""

    kind: PlaceKind
    path: Path


def cache_place(
    text: str, output: OutputOptions, shared: Path | None
) -> LocalPlace | Repository | None:
    """Return what --cache-repo means, or None where there is no place to infer.

    Args:
        text: the option's value.
        output: whose first destination counts where *text* is empty.
        shared: the cache directory, where it is in use.

    Raises:
        UsageError: *text* names no place.
    """
    if not text:
        return _inferred(output, shared)
    if text.startswith(_LAYOUT):
        return LocalPlace(PlaceKind.LAYOUT, _directory(text, _LAYOUT))
    if text.startswith(_DIRECTORY):
        return LocalPlace(PlaceKind.DIRECTORY, _directory(text, _DIRECTORY))
    if text.startswith(("/", "./", "../")):
        return LocalPlace(PlaceKind.DIRECTORY, Path(text).absolute())
    reference = Reference.parse(text)
    if reference.tag is not None or reference.digest is not None:
        raise UsageError(
            f"--cache-repo {text} names a tag or digest; each cached layer has a tag of its own",
            hint=f"name the repository: --cache-repo {Reference(reference.repository).familiar}",
        )
    return reference.repository


def _inferred(output: OutputOptions, shared: Path | None) -> LocalPlace | Repository | None:
    # Who pushes nothing may have no rights there, or no network.
    for destination in () if output.no_push else output.destination:
        repository = destination.reference.repository
        return Repository(repository.registry, f"{repository.path}/{_INFERRED}")
    if shared is not None:
        return LocalPlace(PlaceKind.DIRECTORY, shared.absolute() / BUILT)
    return None


def _directory(text: str, prefix: str) -> Path:
    path = text.removeprefix(prefix)
    if not path:
        raise UsageError(f"--cache-repo {text} names no directory", hint=f"write {prefix}DIRECTORY")
    return Path(path).absolute()
