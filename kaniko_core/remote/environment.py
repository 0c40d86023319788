"""The environment, in which users of Go kaniko give their credentials for contexts.

GIT_USERNAME, S3_ENDPOINT, AZURE_STORAGE_ACCESS_KEY, NETRC and their like; docs/CONTEXTS.md lists
them. Whoever fetches something is given them as a value.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

# Keys and signatures of an account, and what identities of workloads leave in pods.
_AZURE = (
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_CLIENT_SECRET",
    "AZURE_CLIENT_ID",
    "IDENTITY_ENDPOINT",
)


def variables() -> Mapping[str, str]:
    """Return the variables of this process."""
    return dict(os.environ)


def opens_azure(environment: Mapping[str, str]) -> bool:
    """Whether there is anything in *environment* that could open blobs that are not public."""
    return any(environment.get(name) for name in _AZURE)
