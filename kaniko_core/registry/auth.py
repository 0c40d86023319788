"""The keychain: all sources of credentials, in order; the first that has some wins.

1. ``DOCKER_AUTH_CONFIG``: the content of a config file (Docker, GitLab runners)
2. ``DOCKER_CONFIG`` (a directory, or the file itself), else ``~/.docker/config.json``
3. ``REGISTRY_AUTH_FILE``
4. ``$XDG_RUNTIME_DIR/containers/auth.json``
5. ``$XDG_CONFIG_HOME/containers/auth.json``, else ``~/.config/containers/auth.json``
6. ``/run/containers/UID/auth.json`` where it exists and ``XDG_RUNTIME_DIR`` is not set
7. what ``--credential-helpers`` selects: variables and the clouds' own ways

This, ``helpers.py`` and ``cli/`` are the only readers of the environment; so are the libraries of
Amazon and Google, whose own variables they are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from kaniko_core.oci.reference import Repository
from kaniko_core.options.credentials import CredentialHelper
from kaniko_core.registry.clouds_amazon import amazon
from kaniko_core.registry.clouds_azure import azure
from kaniko_core.registry.clouds_google import google
from kaniko_core.registry.configs import (
    ConfigFiles,
    config_paths,
    docker_config,
    server_name,
)
from kaniko_core.registry.credentials import (
    Anonymous,
    Credentials,
    Finding,
    Keychain,
    Lookup,
    Source,
    first_found,
)
from kaniko_core.registry.environment import GitLab, Variables
from kaniko_core.registry.helpers import HelperProgram

# Names of helper programs that people's configs have for what we do ourselves.
_BUILT_IN = {
    "gcr": CredentialHelper.GOOGLE,
    "gcloud": CredentialHelper.GOOGLE,
    "ecr-login": CredentialHelper.ECR,
    "acr-env": CredentialHelper.ACR,
    "gitlabci": CredentialHelper.GITLAB,
}


class DockerKeychain:
    """The keychain of this module's docstring.

    Args:
        environment: the process's by default.
        helpers: which of our own ways are used beside config files; all by default.
    """

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        helpers: tuple[CredentialHelper, ...] | None = None,
    ) -> None:
        self._environment = dict(os.environ if environment is None else environment)
        self._own = _own_sources(self._environment)
        chosen = tuple(self._own) if helpers is None else dict.fromkeys(helpers)
        files = ConfigFiles(self._environment, self._ask_helper)
        self._sources: tuple[Source, ...] = (
            files,
            *(self._own[name] for name in chosen if name is not CredentialHelper.NONE),
        )

    def look_up(self, repository: Repository) -> Lookup:
        """Return the first credentials found.

        Raises:
            UsageError: a config file is damaged, or a credential helper fails.
        """
        return first_found(self._sources, repository)

    def _ask_helper(self, name: str, repository: Repository, named_in: str) -> Finding:
        helper = HelperProgram(name, named_in, self._environment)
        if name in _BUILT_IN and not helper.installed:
            own = first_found((self._own[_BUILT_IN[name]],), repository)
            told = ", then ".join(own.sources) or "it is for other registries"
            return Finding(name, f", built in: {told}", own.credentials)
        found = helper.ask(server_name(repository))
        return Finding(name, "" if found else " knows none", found)


def _own_sources(env: Mapping[str, str]) -> dict[CredentialHelper, Source]:
    """Return our own ways, in the order in which they are asked."""
    return {
        CredentialHelper.ENV: Variables(env),
        CredentialHelper.GOOGLE: google(env),
        CredentialHelper.ECR: amazon(env),
        CredentialHelper.ACR: azure(env),
        CredentialHelper.GITLAB: GitLab(env),
    }


# What the clouds' variables name: files, which are read again whenever a token runs out.
_CLOUD_FILES = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "AWS_CONFIG_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AZURE_FEDERATED_TOKEN_FILE",
)


def config_files(environment: Mapping[str, str] | None = None) -> list[Path]:
    """Return the files that credentials are read from, also late in a build; they may be missing.

    Docker's and Podman's are in the order in which they are asked.
    """
    env = os.environ if environment is None else environment
    named = (env.get(name) for name in _CLOUD_FILES)
    return [*config_paths(env), *(Path(name) for name in named if name)]


def own_config(environment: Mapping[str, str] | None = None) -> Path | None:
    """Return the config file that ``login`` writes; None where there is no place for one."""
    return docker_config(os.environ if environment is None else environment)


__all__ = [
    "Anonymous",
    "Credentials",
    "DockerKeychain",
    "Finding",
    "Keychain",
    "Lookup",
    "config_files",
    "own_config",
]
