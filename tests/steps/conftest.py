"""Stores of every kind, and a registry that misbehaves on request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kaniko_core.oci.reference import Repository
from kaniko_core.options import RegistryOptions
from kaniko_core.progress import Progress, silent
from kaniko_core.registry.client import Registry
from kaniko_core.registry.pacing import Pacing
from kaniko_core.steps.directory import DirectorySteps
from kaniko_core.steps.layout import LayoutSteps
from kaniko_core.steps.repository import RepositorySteps
from kaniko_core.steps.store import StepStore
from tests.registry_server import RegistryServer, running_registry

NewStore = Callable[[], StepStore]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "no docker config"))


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with running_registry() as started:
        yield started


@pytest.fixture
def make_registry() -> Iterator[Callable[..., Registry]]:
    with ExitStack() as stack:

        def make(progress: Progress = silent) -> Registry:
            return stack.enter_context(
                Registry(RegistryOptions(), push=True, progress=progress, pacing=Pacing(1, 0.001))
            )

        yield make


@pytest.fixture
def registry(make_registry: Callable[..., Registry]) -> Registry:
    return make_registry()


@pytest.fixture
def repository(server: RegistryServer) -> Repository:
    return Repository(server.address, "app/cache")


@pytest.fixture(params=["registry", "layout", "directory"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> NewStore:
    """Make one store after another of the same place, as one build after another does."""
    match request.param:
        case "registry":
            make = request.getfixturevalue("make_registry")
            repository = request.getfixturevalue("repository")
            return lambda: RepositorySteps(repository, make())
        case "layout":
            return lambda: LayoutSteps(tmp_path / "layout")
        case _:
            return lambda: DirectorySteps(tmp_path / "deep" / "directory")


@pytest.fixture
def store(new_store: NewStore) -> StepStore:
    return new_store()
