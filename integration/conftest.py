"""The world that integration tests share; each pytest process has its own registry and storages.

What is costly to make (the base images) is kept in the world cache between runs.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from integration import images
from integration.container import Container, running_container
from integration.kaniko_images import KanikoImages, kaniko_images
from integration.programs import Build, Programs
from integration.readers import Buildah, Podman
from integration.rebuilds import (
    MODES,
    PLACES,
    InDirectory,
    InLayout,
    InRegistry,
    Place,
    Rebuild,
    in_place,
    in_sandbox,
)
from integration.world import (
    Passwords,
    Registry,
    missing_tools,
    running_registry,
)
from tests.web_server import WebServer, running_web

_TOOLS = ("docker-registry", "skopeo", "umoci", "podman", "buildah", "mmdebstrap", "busybox")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip everything in this folder where it cannot run, and say why."""
    missing = missing_tools(*_TOOLS)
    if os.geteuid() != 0:
        reason = "integration tests make base images and run containers: they need root"
    elif missing:
        reason = f"not installed: {', '.join(missing)} (`make setup` installs them)"
    else:
        return
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry over plain HTTP that lasts as long as the run: push under your own names."""
    with running_registry(tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture
def make_registry(tmp_path: Path) -> Iterator[Callable[..., Registry]]:
    """Start registries of the test's own: ``make_registry(tls=True, passwords=...)``."""
    with ExitStack() as stack:

        def make(*, tls: bool = False, passwords: Passwords | None = None) -> Registry:
            directory = tmp_path / f"registry-{len(list(tmp_path.glob('registry-*')))}"
            return stack.enter_context(running_registry(directory, tls=tls, passwords=passwords))

        yield make


@pytest.fixture(scope="session")
def busybox(registry: Registry) -> str:
    """A small base image: its reference in the session's registry."""
    return images.push(images.busybox_layout(), registry, "base/busybox:1.35")


@pytest.fixture(scope="session")
def debian(registry: Registry) -> str:
    """Debian bookworm, with apt: its reference in the session's registry."""
    return images.push(images.debian_layout(), registry, "base/debian:bookworm")


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    """Podman with a storage of its own; its name must be short, for podman makes sockets there."""
    started = Podman(Path(tempfile.mkdtemp(prefix="kaniko-", dir="/var/tmp")))
    yield started
    started.close()


@pytest.fixture(scope="session", name="kaniko_images")
def fixture_kaniko_images() -> KanikoImages:
    """Our own images, made from the working tree."""
    return kaniko_images()


@pytest.fixture(scope="session")
def container(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A container in which builds run in place; it sees every test's temporary files."""
    visible = tmp_path_factory.getbasetemp().parent
    directory = tmp_path_factory.mktemp("container")
    with running_container(podman, directory, visible=visible) as started:
        yield started


@pytest.fixture(scope="session")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """Buildah with a storage of its own."""
    started = Buildah(tmp_path_factory.mktemp("buildah"))
    yield started
    started.close()


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    """Our two programs, writing below a directory of the test's own."""
    directory = tmp_path / "programs"
    directory.mkdir()
    return Programs(directory)


@pytest.fixture
def destination(registry: Registry, request: pytest.FixtureRequest) -> str:
    """A name in the session's registry that no other test pushes to."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return f"{registry.address}/built/{name}:latest"


@pytest.fixture
def registry_names(destination: str) -> list[str]:
    """Three more names of this test's own in the session's registry."""
    base = destination.removesuffix(":latest")
    return [f"{base}/{number}:latest" for number in ("one", "two", "three")]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    """A web server of the test's own, which also serves git repositories."""
    repositories = tmp_path / "repositories"
    repositories.mkdir()
    with running_web(repositories=repositories) as started:
        yield started


@pytest.fixture
def build(programs: Programs, tmp_path: Path, destination: str) -> Build:
    """Builds a Dockerfile in a context of the test's own and pushes it to ``build.image``."""
    context = tmp_path / "context"
    context.mkdir()
    return Build(programs, context, destination)


@pytest.fixture(params=PLACES)
def place(
    request: pytest.FixtureRequest, tmp_path: Path, make_registry: Callable[..., Registry]
) -> Place:
    """Where cached layers are: each kind of place in turn, and the test's own."""
    match request.param:
        case "registry":
            return InRegistry(make_registry())
        case "layout":
            return InLayout(tmp_path / "layers")
        case _:
            return InDirectory(tmp_path / "layers")


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """How commands run: in a sandbox on this machine, and in place in a container."""
    return str(request.param)


@pytest.fixture
def make_rebuild(
    request: pytest.FixtureRequest, programs: Programs, tmp_path: Path, destination: str
) -> Callable[..., Rebuild]:
    """Make what builds with the layer cache: ``make_rebuild(place, mode)``."""

    def make(place: Place | None, mode: str = "sandbox") -> Rebuild:
        """Build the test's context; builds of both modes push to the same image."""
        (tmp_path / "context").mkdir(exist_ok=True)
        if mode == "sandbox":
            return Rebuild(in_sandbox(programs), tmp_path, destination, place)
        container = request.getfixturevalue("container")
        return Rebuild(in_place(container), tmp_path, destination, place)

    return make


@pytest.fixture
def rebuild(make_rebuild: Callable[..., Rebuild], tmp_path: Path) -> Rebuild:
    """What builds in a sandbox and keeps layers in a directory, where neither matters."""
    return make_rebuild(InDirectory(tmp_path / "layers"))
