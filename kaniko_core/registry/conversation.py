"""oras's conversation with a registry, carried by our session.

oras knows what is said: the addresses of manifests, blobs, tags and uploads, whether a blob
exists, lists of tags with their pages, deletion. How it is said is ours: its ``do_request``, the
one door to its network, goes through :class:`~kaniko_core.registry.session.Session`, so that
TLS, proxies, retries, redirects and credentials are the same everywhere; and its
``AuthBackend`` has nothing to decide, because the session's keychain does, for each registry,
repository and scope.

Smaller than oras offers, and why: blobs are sent by ``upload.py`` and fetched by ``download.py``
(oras holds a whole blob in memory, and verifies none); manifests are sent as the bytes that they
are (oras writes the JSON anew, and so changes the digest).

Importing oras takes longer than a whole run of the warmer that finds everything in its cache.
So this module is imported when something is pushed, and reading manifests, which a warmer does
each time, is ``manifests.py`` and does without.
"""

from __future__ import annotations

import io
import json as json_module
from collections.abc import Mapping
from typing import Any

import oras.auth.base
import oras.container
import oras.defaults
import oras.provider
import requests

from kaniko_core.oci.digest import Digest
from kaniko_core.oci.reference import Reference, Repository
from kaniko_core.registry.failures import Answer
from kaniko_core.registry.session import Request, Session
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


class KeychainAuth(oras.auth.base.AuthBackend):
    """Leaves everything to the session, which authorizes each request by itself."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def get_auth_header(self) -> dict[str, str]:
        """Return nothing: the session adds the header, for its own host only."""
        return {}

    def load_configs(
        self, container: oras.container.Container, configs: list[str] | None = None
    ) -> None:
        """Read nothing: the keychain reads Docker's config when it is needed."""


class Conversation(oras.provider.Registry):
    """Speaks with one repository; everything that oras offers goes through our session.

    Answers are held in memory and limited to manifests' size.
    """

    def __init__(self, session: Session, repository: Repository, *, push: bool) -> None:
        plain = session.origin(repository).startswith("http://")
        super().__init__(hostname=repository.host, insecure=plain)
        self.auth = KeychainAuth()
        self._session = session
        self._repository = repository
        self._push = push
        self._container = container_of(Reference(repository))

    def get_container(self, name: Any) -> oras.container.Container:
        """Return oras's container for a reference of ours, or for the text of one."""
        if isinstance(name, oras.container.Container):
            return name
        return container_of(name if isinstance(name, Reference) else Reference.parse(str(name)))

    def do_request(  # noqa: PLR0917 - oras's own parameters
        self,
        url: str,
        method: str = "GET",
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        stream: bool = False,
    ) -> requests.Response:
        """Send one of oras's requests; *stream* has no effect.

        Raises:
            RegistryError: there is no answer, or it is 429 or 5xx, in spite of retries.
        """
        body = data if json is None else json_module.dumps(json).encode()
        request = self.request(method, url, headers=headers or {}, body=body)
        return _as_requests(self._session.ask(request), method)

    def has(self, digest: Digest) -> bool:
        """Whether the repository has the blob."""
        return bool(self.blob_exists({"digest": str(digest)}, self._container))

    def upload_url(self) -> str:
        """Return where uploads begin."""
        return f"{self.prefix}://{self._container.upload_blob_url()}"

    def manifest_url(self, reference: Reference) -> str:
        """Return the address of a manifest in this repository."""
        return f"{self.prefix}://{container_of(reference).manifest_url()}"

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: Any = None,
        also: tuple[Repository, ...] = (),
    ) -> Request:
        """Return a request to this repository, as the session sends it.

        Args:
            method: HTTP's.
            url: absolute.
            headers: without ``Authorization``.
            body: bytes, or a function that begins to give them anew.
            also: other repositories that are read from on the way.
        """
        repository = self._repository
        scope = push_scope(repository) if self._push else pull_scope(repository)
        return Request(
            method=method,
            repository=repository,
            scopes=(scope, *map(pull_scope, also)),
            target=url,
            doing=f"{'push to' if self._push else 'read'} {repository}",
            headers=headers,
            body=body,
        )

    def _check_200_response(self, response: requests.Response) -> None:
        """Raise our error with its sentence, where oras would log the registry's words."""
        if response.status_code not in (200, 201, 202):
            headers = {name.lower(): value for name, value in response.headers.items()}
            answer = Answer(response.status_code, headers, response.content, response.url)
            raise self._session.refused(answer, self.request("GET", response.url, headers={}))


def _as_requests(answer: Answer, method: str) -> requests.Response:
    """Return *answer* in the form that oras reads."""
    response = requests.Response()
    response.status_code = answer.status
    response.headers.update(answer.headers)
    response.url = answer.url
    response.raw = io.BytesIO(answer.body)
    response.request = requests.Request(method, answer.url).prepare()
    return response
