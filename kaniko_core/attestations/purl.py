"""Package URLs of images, as BuildKit writes them.

Sources: the package-url specification, "purl types"; BuildKit, docs/attestations,
slsa-definitions.md, "resolvedDependencies".
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlencode

from kaniko_core.oci.digest import Digest
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference


def image_url(reference: Reference, platform: Platform) -> str:
    """Return the URL of an image: ``pkg:docker/alpine@3.20?platform=linux%2Famd64``."""
    named = reference.with_default_tag
    # People's name of the repository alone: a tag would be taken for a part of it.
    familiar = Reference(named.repository).familiar
    qualifiers = {"platform": str(platform)}
    if named.digest is not None:
        qualifiers["digest"] = str(named.digest)
    namespace, _, name = familiar.rpartition("/")
    return package_url("docker", namespace, name, named.tag or "", qualifiers)


def package_url(
    kind: str, namespace: str, name: str, version: str, qualifiers: Mapping[str, str]
) -> str:
    """Return the URL of a package; empty qualifiers are left out."""
    from packageurl import PackageURL

    url = PackageURL(kind, namespace or None, name, version or None).to_string()
    known = sorted((key, value) for key, value in qualifiers.items() if value)
    # The library leaves marks as they are that BuildKit's escapes; both may be read.
    return f"{url}?{urlencode(known, safe='', quote_via=quote)}" if known else str(url)


def digest_set(digest: Digest) -> dict[str, str]:
    """Return *digest* as in-toto writes it: by its algorithm."""
    return {digest.algorithm: digest.hex}
