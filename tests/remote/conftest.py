"""A web server, and what fetches from it without dawdling."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kaniko_core.builder.remote import RemoteSources
from kaniko_core.options import RegistryOptions
from kaniko_core.progress import Progress, silent
from kaniko_core.registry.pacing import Pacing
from tests.web_server import WebServer, running_web

MakeSources = Callable[..., RemoteSources]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    repositories = tmp_path / "repositories"
    repositories.mkdir()
    with running_web(repositories=repositories) as started:
        yield started


@pytest.fixture
def other_web() -> Iterator[WebServer]:
    """Another host."""
    with running_web("127.0.0.2") as started:
        yield started


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Where everything that is fetched goes."""
    path = tmp_path / "workspace"
    path.mkdir()
    return path


@pytest.fixture
def make_sources(workspace: Path) -> Iterator[MakeSources]:
    numbers = itertools.count()
    lock = threading.Lock()

    def fresh(kind: str) -> Path:
        with lock:
            (workspace / kind).mkdir(exist_ok=True)
            return workspace / kind / str(next(numbers))

    with ExitStack() as stack:

        def make(
            *,
            secrets: dict[str, bytes] | None = None,
            ssh_socket: Path | None = None,
            progress: Progress = silent,
            retries: int = 3,
            **options: object,
        ) -> RemoteSources:
            return stack.enter_context(
                RemoteSources(
                    fresh,
                    options=RegistryOptions(**options),  # type: ignore[arg-type]
                    secrets=secrets,
                    ssh_socket=lambda: ssh_socket,
                    progress=progress,
                    pacing=Pacing(retries, first=0.001),
                )
            )

        yield make


@pytest.fixture
def sources(make_sources: MakeSources) -> RemoteSources:
    return make_sources()
