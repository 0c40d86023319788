"""What tests of several parts need: registries in this process, no proxy before them, no clock."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.registry_server import RegistryServer, running_registry

# Hypothesis fails an example that takes 200 ms, which says more about the machine than about us.
settings.register_profile("no clock", deadline=None)
settings.load_profile("no clock")


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing of the environment stand between us and this machine."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server(no_proxy: None) -> Iterator[RegistryServer]:
    """A registry that can misbehave."""
    with running_registry() as started:
        yield started


@pytest.fixture
def other_server(no_proxy: None) -> Iterator[RegistryServer]:
    """Another host."""
    with running_registry("127.0.0.2") as started:
        yield started
