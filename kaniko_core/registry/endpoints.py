"""Requests that push, at the addresses that oras has for them.

Where a registry keeps manifests, blobs and uploads is what ``oras.container`` knows. It is a
small module; oras's client, which ``conversation.py`` carries, imports eighty others, and twice
as long as everything else here together, for lists of tags and deletions that no push needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import oras.container
import oras.defaults

from kaniko_core.oci.digest import Digest
from kaniko_core.oci.reference import Reference, Repository
from kaniko_core.registry.session import Request
from kaniko_core.registry.tokens import pull_scope, push_scope


def container_of(reference: Reference) -> oras.container.Container:
    """Return oras's form of *reference*, for the host that answers.

    Its own parser is passed over: it does not know Docker Hub's defaults, takes ``localhost/x``
    for a name on Docker Hub, and any component with a dot for a host.
    """
    container = oras.container.Container("repository", registry=reference.repository.host)
    namespace, _, name = reference.repository.path.rpartition("/")
    container.namespace, container.repository = namespace, name
    container.tag = reference.tag or oras.defaults.default_tag
    container.digest = str(reference.digest) if reference.digest else None
    return container


class Endpoints:
    """The addresses of one repository, and requests to them, for reading or for pushing."""

    def __init__(self, repository: Repository, *, push: bool) -> None:
        self._repository = repository
        self._container = container_of(Reference(repository))
        self._scope = push_scope(repository) if push else pull_scope(repository)
        self._doing = f"{'push to' if push else 'read'} {repository}"

    @property
    def uploads(self) -> str:
        """Where uploads begin."""
        return _target(self._container.upload_blob_url())

    def blob(self, digest: Digest) -> str:
        """Return the address of a blob in this repository."""
        return _target(self._container.get_blob_url(str(digest)))

    def manifest(self, reference: Reference) -> str:
        """Return the address of a manifest in this repository."""
        return _target(self._container.manifest_url(reference.identifier))

    def request(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        body: Any = None,
        also: tuple[Repository, ...] = (),
    ) -> Request:
        """Return a request to this repository, as the session sends it.

        Args:
            method: HTTP's.
            target: an address of this class, or an absolute one.
            headers: without ``Authorization``.
            body: bytes, or a function that begins to give them anew.
            also: other repositories that are read from on the way.
        """
        return Request(
            method=method,
            repository=self._repository,
            scopes=(self._scope, *map(pull_scope, also)),
            target=target,
            doing=self._doing,
            headers=headers,
            body=body,
        )


def _target(address: str) -> str:
    # Without a scheme, as oras gives it: the session finds out which one the registry speaks.
    return f"//{address}"
