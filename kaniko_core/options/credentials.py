"""Which of our own ways to credentials are used: what ``--credential-helpers`` selects."""

from __future__ import annotations

from enum import Enum

from kaniko_core.errors import UsageError


class CredentialHelper(Enum):
    """A way to credentials that needs no config file and no helper program.

    - ENV: ``KANIKO_<HOST>_USER`` and ``KANIKO_<HOST>_PASSWORD``
    - GOOGLE: for gcr.io and pkg.dev, application default credentials or the metadata server
    - ECR: for Amazon's registries, whatever botocore finds
    - ACR: for Azure's registries, workload identity, a service principal or a managed identity
    - GITLAB: the variables that a GitLab job has
    - NONE: nothing; so that ``--credential-helpers=`` can turn all others off
    """

    NONE = ""
    ENV = "env"
    GOOGLE = "google"
    ECR = "ecr"
    ACR = "acr"
    GITLAB = "gitlab"


def credential_helper(text: str) -> CredentialHelper:
    """Read a name; raise UsageError for what is none."""
    try:
        return CredentialHelper(text.strip().lower())
    except ValueError:
        names = ", ".join(member.value for member in CredentialHelper if member.value)
        raise UsageError(
            f"{text!r} is no credential helper of ours",
            hint=f"there are {names}; for several, give the flag several times",
        ) from None
