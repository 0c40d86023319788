"""Named contexts: what ``--build-context NAME=VALUE`` means. Pure: nothing is looked at.

    base=docker-image://debian:12            an image, in the place of a stage or an image
    base=oci-layout://./images:v1            an image in an OCI layout; also ``@sha256:…``
    code=https://example.com/code.git#main   a git repository
    data=https://example.com/data.tar.gz     an archive behind a URL; also s3://, gs:// and az://
    more=tar://more.tar.zst                  an archive here; tar://stdin comes from stdin
    docs=../docs                             a directory, from the current one

A name stands in for stages and for images: ``alpine``, ``alpine:latest`` and
``docker.io/library/alpine`` are one name. ``name::linux/arm64`` is for that platform alone.

Source: docker buildx v0.29, build/opt.go; BuildKit's frontend/dockerui, namedcontext.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path
from types import MappingProxyType

from kaniko_core.addresses.archives import ArchiveAddress, parse_archive
from kaniko_core.addresses.git import GitReference, parse_git_reference
from kaniko_core.addresses.url import scheme_of
from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import DEFAULT_TAG, SCRATCH, Reference

_IMAGE = "docker-image://"
_LAYOUT = "oci-layout://"
_DIRECTORY = "dir://"
_TARGET = "target:"
_KINDS = (
    "it is a directory, tar://FILE, a git, https://, s3://, gs:// or az:// address, "
    "docker-image://IMAGE or oci-layout://DIRECTORY"
)


@dataclass(frozen=True, slots=True)
class LocalContext:
    """A directory; where it is relative, from the current one."""

    directory: Path


@dataclass(frozen=True, slots=True)
class ImageContext:
    """An image in a registry, with a tag or a digest; None is ``scratch``, the empty image."""

    reference: Reference | None


@dataclass(frozen=True, slots=True)
class LayoutContext:
    """An image in an OCI layout; *selector* is a tag, a digest, or empty where it is not said."""

    path: Path
    selector: str


@dataclass(frozen=True, slots=True)
class GitContext:
    """A git repository: which commit of it, and which directory there."""

    reference: GitReference


@dataclass(frozen=True, slots=True)
class ArchiveContext:
    """An archive: a file, standard input, an object in a bucket, or what a URL serves."""

    address: ArchiveAddress


NamedContext = LocalContext | ImageContext | LayoutContext | GitContext | ArchiveContext


@dataclass(frozen=True, slots=True)
class NamedContexts:
    """Named contexts by their names, and by platform where a name has one."""

    _contexts: Mapping[tuple[str, Platform | None], NamedContext] = field(
        default_factory=lambda: MappingProxyType({})
    )

    @classmethod
    def parse(cls, pairs: Iterable[tuple[str, str]]) -> NamedContexts:
        """Read names and values; where a name comes twice, the later value counts.

        Raises:
            UsageError: a name or a value is none.
        """
        found = {_parsed_name(name): parse_named(name, value) for name, value in pairs}
        return cls(MappingProxyType(found))

    def find(self, name: str, platform: Platform) -> NamedContext | None:
        """Return what *name* (of a stage, or an image) stands for on *platform*, if anything.

        A context for the very platform comes before one for all.
        """
        key = _canonical(name)
        if key is None:
            return None
        return self._contexts.get((key, platform)) or self._contexts.get((key, None))

    @property
    def repositories(self) -> tuple[GitReference, ...]:
        """The git repositories among them, in their order."""
        found = self._contexts.values()
        return tuple(item.reference for item in found if isinstance(item, GitContext))

    def __contains__(self, context: object) -> bool:
        return context in self._contexts.values()

    def __bool__(self) -> bool:
        return bool(self._contexts)


def parse_named(name: str, value: str) -> NamedContext:
    """Return what *value* means as the context called *name*.

    Raises:
        UsageError: contexts of this kind are not supported, or it is not what it seems to be.
    """
    try:
        return _parsed_value(value)
    except UsageError as error:
        raise UsageError(f"the build context {name}: {error}", hint=error.hint) from None


def _parsed_value(value: str) -> NamedContext:
    if (repository := parse_git_reference(value)) is not None:
        return GitContext(repository)
    if (archive := parse_archive(value)) is not None:
        return ArchiveContext(archive)
    if value.startswith(_IMAGE):
        name = value.removeprefix(_IMAGE)
        return ImageContext(None if name == SCRATCH else Reference.parse(name).with_default_tag)
    if value.startswith(_LAYOUT):
        return _parsed_layout(value)
    if value.startswith(_TARGET):
        raise UsageError(
            f"{value} is a target of docker buildx bake, which is not supported",
            hint="build that image first, and name it as docker-image:// or oci-layout://",
        )
    path = value.removeprefix(_DIRECTORY)
    if scheme := scheme_of(path):
        raise UsageError(f"{scheme}:// is not supported", hint=_KINDS)
    if not path:
        raise UsageError(f"{value!r} names nothing", hint=_KINDS)
    return LocalContext(Path(path))


def _parsed_layout(value: str) -> LayoutContext:
    text, at, digest = value.removeprefix(_LAYOUT).partition("@")
    path, colon, tag = text.partition(":")
    if not path or (colon and not tag):
        raise UsageError(
            f"{value!r} is not an image in an OCI layout",
            hint="write it as oci-layout://DIRECTORY:TAG or oci-layout://DIRECTORY@sha256:…",
        )
    # With a digest, a tag is for people.
    return LayoutContext(Path(path), str(Digest.parse(digest)) if at else tag)


def _parsed_name(name: str) -> tuple[str, Platform | None]:
    text, colons, platform = name.partition("::")
    key = _canonical(text)
    if key is None:
        raise UsageError(
            f"{name!r} cannot be the name of a build context",
            hint="it is the name of a stage or of an image, such as base or debian:12",
        )
    return key, Platform.parse(platform) if colons else None


def _canonical(name: str) -> str | None:
    """Return the one form of a name; None where it can be none."""
    try:
        reference = Reference.parse(name.lower())
    except UsageError:
        return None
    return reference.familiar.removesuffix(f":{DEFAULT_TAG}")


__all__ = [
    "ArchiveContext",
    "GitContext",
    "ImageContext",
    "LayoutContext",
    "LocalContext",
    "NamedContext",
    "NamedContexts",
    "parse_named",
]
