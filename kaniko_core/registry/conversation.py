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

Importing oras's client takes longer than a whole run of the warmer that finds everything in its
cache. So this module is imported by who wants tags listed or deleted; a push takes the addresses
from oras by ``endpoints.py``, and reading manifests is ``manifests.py``.
"""

from __future__ import annotations

import io
import json as json_module
from collections.abc import Mapping
from typing import Any

import oras.auth.base
import oras.container
import oras.provider
import requests

from kaniko_core.oci.reference import Reference, Repository
from kaniko_core.registry.endpoints import Endpoints, container_of
from kaniko_core.registry.failures import Answer
from kaniko_core.registry.session import Session


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
        self._endpoints = Endpoints(repository, push=push)
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
        request = self._endpoints.request(method, url, headers=headers or {}, body=body)
        return _as_requests(self._session.ask(request), method)

    def _check_200_response(self, response: requests.Response) -> None:
        """Raise our error with its sentence, where oras would log the registry's words."""
        if response.status_code not in (200, 201, 202):
            headers = {name.lower(): value for name, value in response.headers.items()}
            answer = Answer(response.status_code, headers, response.content, response.url)
            raise self._session.refused(
                answer, self._endpoints.request("GET", response.url, headers={})
            )


def _as_requests(answer: Answer, method: str) -> requests.Response:
    """Return *answer* in the form that oras reads."""
    response = requests.Response()
    response.status_code = answer.status
    response.headers.update(answer.headers)
    response.url = answer.url
    response.raw = io.BytesIO(answer.body)
    response.request = requests.Request(method, answer.url).prepare()
    return response
