"""A misbehaving registry, and clients for it that do not dawdle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from kaniko_core.oci.reference import Repository
from kaniko_core.options import RegistryOptions
from kaniko_core.progress import Progress, silent
from kaniko_core.registry.auth import Credentials, Lookup
from kaniko_core.registry.client import Registry
from kaniko_core.registry.pacing import Pacing


class FixedKeychain:
    """Has the same credentials for everything, and counts how often it is asked."""

    def __init__(self, credentials: Credentials | None = None) -> None:
        self.credentials = credentials
        self.asked: list[Repository] = []

    def look_up(self, repository: Repository) -> Lookup:
        self.asked.append(repository)
        return Lookup(self.credentials, ("first.json (not there)", "second.json (entry x)"))


MakeRegistry = Callable[..., Registry]


@pytest.fixture(autouse=True)
def _nothing_between(no_proxy: None) -> None:
    """Every test here speaks to this machine, be it to a registry or not."""


@pytest.fixture
def make_registry() -> Iterator[MakeRegistry]:
    with ExitStack() as stack:

        def make(
            credentials: Credentials | None = None,
            *,
            push: bool = False,
            retries: int = 3,
            progress: Progress = silent,
            **options: object,
        ) -> Registry:
            return stack.enter_context(
                Registry(
                    RegistryOptions(**options),  # type: ignore[arg-type]
                    push=push,
                    progress=progress,
                    keychain=FixedKeychain(credentials),
                    pacing=Pacing(retries, first=0.001),
                )
            )

        yield make


@pytest.fixture
def registry(make_registry: MakeRegistry) -> Registry:
    return make_registry()
