"""Names of images: ``registry/path:tag@digest``, with Docker Hub's defaults.

The defaults (``docker.io``, ``library/``, ``latest``) live here and only here.
Source: the distribution project's reference grammar, as Docker uses it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Self

from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest

DOCKER_HUB = "docker.io"
# The host that answers for docker.io; the name itself serves web pages.
DOCKER_HUB_HOST = "registry-1.docker.io"
DEFAULT_TAG = "latest"
# Docker Hub reserves this name: no image has it, because it stands for the empty one.
SCRATCH = "scratch"

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])"
_REGISTRY = re.compile(rf"{_HOST}(?::[0-9]+)?")
_SEPARATOR = r"(?:[._]|__|[-]+)"
_COMPONENT = rf"[a-z0-9]+(?:{_SEPARATOR}[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_MAX_NAME = 255


@dataclass(frozen=True, slots=True, order=True)
class Repository:
    """A registry's host (with port) and a path in it: ``docker.io`` and ``library/debian``."""

    registry: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a repository without tag or digest; raise :class:`UsageError` otherwise."""
        reference = Reference.parse(text)
        if reference.tag is not None or reference.digest is not None:
            raise UsageError(f"{text!r} names a tag or digest where a repository is expected")
        return cls(reference.repository.registry, reference.repository.path)

    @property
    def host(self) -> str:
        """The host and port to talk to: another one than the name for Docker Hub."""
        return DOCKER_HUB_HOST if self.registry == DOCKER_HUB else self.registry

    def __str__(self) -> str:
        return f"{self.registry}/{self.path}"


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """A repository with a tag, a digest, both or neither; ``str()`` is fully qualified."""

    repository: Repository
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an image name as Docker does, adding Docker Hub and ``library/``, not the tag.

        Raises:
            UsageError: *text* is not an image name.
        """
        name, at, digest_text = text.partition("@")
        digest = _parse_digest(digest_text, text) if at else None
        first, slash, rest = name.partition("/")
        if slash and _is_host(first):
            registry, remainder = first, rest
        else:
            registry, remainder = DOCKER_HUB, name
        path, colon, tag = remainder.partition(":")
        if registry in (DOCKER_HUB, f"index.{DOCKER_HUB}"):
            registry = DOCKER_HUB
            if path and "/" not in path:
                path = f"library/{path}"
        _check(text, registry, path, tag if colon else None)
        return cls(Repository(registry, path), tag if colon else None, digest)

    @property
    def with_default_tag(self) -> Reference:
        """This reference, with ``latest`` where it has neither tag nor digest."""
        if self.tag is None and self.digest is None:
            return replace(self, tag=DEFAULT_TAG)
        return self

    @property
    def identifier(self) -> str:
        """What a manifest request asks for: the digest if there is one, else the tag."""
        return str(self.digest) if self.digest else (self.tag or DEFAULT_TAG)

    @property
    def familiar(self) -> str:
        """As people write it: without Docker Hub's defaults."""
        text = str(self)
        if self.repository.registry != DOCKER_HUB:
            return text
        text = text.removeprefix(f"{DOCKER_HUB}/")
        # What has more components keeps the first: a/b is another name than library/a/b.
        short = self.repository.path.removeprefix("library/")
        return text if "/" in short else text.removeprefix("library/")

    def at(self, digest: Digest) -> Reference:
        """Return the same repository at *digest*, without tag."""
        return Reference(self.repository, None, digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return f"{self.repository}{tag}{digest}"


def _is_host(text: str) -> bool:
    # Docker's rule: a first component with a dot or a port, or "localhost", or with
    # upper-case letters (which no path may have), is a registry.
    return "." in text or ":" in text or text == "localhost" or text.lower() != text


def _parse_digest(digest_text: str, text: str) -> Digest:
    try:
        return Digest.parse(digest_text)
    except UsageError as error:
        raise UsageError(f"{text!r} is not an image name: bad digest", hint=error.hint) from None


def _check(text: str, registry: str, path: str, tag: str | None) -> None:
    hint = "an image name looks like registry.example.com/team/app:tag"
    if not _REGISTRY.fullmatch(registry):
        raise UsageError(f"{text!r} is not an image name: bad registry {registry!r}", hint=hint)
    if not _PATH.fullmatch(path):
        if path.lower() != path and _PATH.fullmatch(path.lower()):
            hint = "repository names are lower-case"
        raise UsageError(f"{text!r} is not an image name: bad repository {path!r}", hint=hint)
    if tag is not None and not _TAG.fullmatch(tag):
        raise UsageError(f"{text!r} is not an image name: bad tag {tag!r}", hint=hint)
    if len(f"{registry}/{path}") > _MAX_NAME and len(path) > _MAX_NAME:
        raise UsageError(f"{text!r} is not an image name: longer than {_MAX_NAME} characters")
    if re.fullmatch(r"[0-9a-f]{64}", text):
        raise UsageError(f"{text!r} is an image ID, not an image name", hint=hint)
