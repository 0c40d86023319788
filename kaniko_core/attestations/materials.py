"""What a build was made of, as addresses that anybody may read, and digests.

Source: BuildKit, docs/attestations/slsa-definitions.md, "resolvedDependencies".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

from kaniko_core.addresses.git import GitReference, parse_git_reference
from kaniko_core.addresses.url import is_http_address, parse_url
from kaniko_core.attestations.purl import digest_set, image_url, package_url
from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference

_SHA256_DIGITS = 64


@dataclass(frozen=True, slots=True)
class Dependency:
    """Something that was fetched for a build, and is known by its digest."""

    uri: str
    digest: Mapping[str, str]

    @classmethod
    def image(cls, reference: Reference, digest: Digest, platform: Platform) -> Self:
        """Return an image that *reference* named, and the digest that it had."""
        return cls(image_url(reference, platform), digest_set(digest))

    @classmethod
    def layout(cls, name: str, digest: Digest, platform: Platform) -> Self:
        """Return an image of an OCI layout on this machine; *name* is its context's."""
        qualifiers = {"platform": str(platform)}
        return cls(package_url("oci", "", name, "", qualifiers), digest_set(digest))

    @classmethod
    def git(cls, address: str, commit: str) -> Self:
        """Return a git repository, and the commit that was taken from it."""
        return cls(published(address), commit_set(commit))

    @classmethod
    def http(cls, address: str, digest: Digest) -> Self:
        """Return a file, and the digest that it had."""
        return cls(published(address), digest_set(digest))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {"uri": self.uri, "digest": dict(self.digest)}


def commit_set(commit: str) -> dict[str, str]:
    """Return the hash of a commit as in-toto writes it: by its algorithm."""
    return {"sha256" if len(commit) == _SHA256_DIGITS else "sha1": commit}


def published(address: str) -> str:
    """Return *address* without what may be a secret: user, password, and the query of a file's."""
    try:
        repository = parse_git_reference(address)
        if repository is not None:
            return _published_repository(repository)
        if is_http_address(address):
            return parse_url(address).name
        url = parse_url(address)
        return str(url.anonymous) if url.user else address
    except UsageError:
        # Of what cannot be read, nobody can tell where the secret is.
        return "" if "@" in address else address


def _published_repository(repository: GitReference) -> str:
    url = repository.url
    name = repository.remote if url is None else repository.address
    if url is not None and url.scheme in ("http", "https"):
        name = str(replace(url.anonymous, query="", fragment="", force_query=False))
    where = f":{repository.subdirectory}" if repository.subdirectory else ""
    ref = repository.ref or ""
    return f"{name}#{ref}{where}" if ref or where else name
