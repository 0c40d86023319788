"""Credentials in environment variables: ``KANIKO_<HOST>_USER`` and ``_PASSWORD``; GitLab's own.

The host is in capitals, every other character than a letter or digit is ``_``: for
``quay.example.com:5000`` that is ``KANIKO_QUAY_EXAMPLE_COM_5000_USER``. Then the name without the
port is tried, then without its first labels, down to two: ``KANIKO_EXAMPLE_COM_USER`` is for all
registries of example.com. Nothing less: a password for ``com`` is nobody's intention.

In a GitLab job the registry of the project is ``CI_REGISTRY``; its password is given by
``CI_REGISTRY_USER`` and ``CI_REGISTRY_PASSWORD``, or by ``CI_JOB_TOKEN``, which is for GitLab's
dependency proxy, too.
Sources: Go kaniko, ``docker-credential-env``; GitLab, "Predefined CI/CD variables".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from kaniko_core.oci.reference import DOCKER_HUB, Repository
from kaniko_core.registry.credentials import Credentials, Finding
from kaniko_core.registry.hosts import canonical, has_port, host_name

_TOKEN_USER = "gitlab-ci-token"


class Variables:
    """The source ``env``: a pair of variables for each registry, or for its domain."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def __call__(self, repository: Repository) -> Iterator[Finding]:
        """Yield what the variables for the registry say."""
        names = variable_names(repository.registry)
        for name in names:
            user, password = (f"KANIKO_{name}_{what}" for what in ("USER", "PASSWORD"))
            values = self._environment.get(user, ""), self._environment.get(password, "")
            if all(values):
                yield Finding(f"${user}", f"with ${password}", Credentials(*values))
                return
            if any(values):
                there, missing = (user, password) if values[0] else (password, user)
                yield Finding(f"${there}", f"but ${missing} is not set")
                return
        yield Finding(f"$KANIKO_{names[0]}_USER", "not set")


def variable_names(registry: str) -> tuple[str, ...]:
    """Return what stands for a registry in names of variables, the most exact first."""
    registry = f"index.{DOCKER_HUB}" if registry == DOCKER_HUB else registry
    host = host_name(registry)
    names = [registry] if has_port(registry) else []
    names.append(host)
    labels = host.split(".")
    # The parts of an address are no domains.
    if not labels[-1].isdigit() and ":" not in host:
        names.extend(".".join(labels[count:]) for count in range(1, len(labels) - 1))
    return tuple(re.sub(r"[^A-Z0-9]", "_", name.upper().strip("[]")) for name in names)


class GitLab:
    """The source ``gitlab``: what a GitLab job may use."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def __call__(self, repository: Repository) -> Iterator[Finding]:
        """Yield what the job has for the registry; nothing for registries that are not GitLab's."""
        env = self._environment
        ours = canonical(repository.registry)
        if (registry := env.get("CI_REGISTRY")) and canonical(registry) == ours:
            yield self._of_registry()
        proxy = env.get("CI_DEPENDENCY_PROXY_SERVER")
        if proxy and canonical(proxy) == ours:
            yield self._pair("CI_DEPENDENCY_PROXY_USER", "CI_DEPENDENCY_PROXY_PASSWORD")

    def _of_registry(self) -> Finding:
        token = self._environment.get("CI_JOB_TOKEN")
        pair = self._pair("CI_REGISTRY_USER", "CI_REGISTRY_PASSWORD")
        if pair.credentials is not None or not token:
            return pair
        return Finding("$CI_JOB_TOKEN", "GitLab", Credentials(_TOKEN_USER, token))

    def _pair(self, user: str, password: str) -> Finding:
        values = self._environment.get(user, ""), self._environment.get(password, "")
        if all(values):
            return Finding(f"${user}", "GitLab", Credentials(*values))
        missing = password if values[0] else user
        return Finding(f"${user}", f"GitLab: ${missing} is not set")
