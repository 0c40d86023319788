"""Commands keep the same promises in a sandbox and in place."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree

import pytest

from kaniko_core.sandbox.client import Sandbox, open_sandbox
from kaniko_core.sandbox.inplace import InPlaceRunner, open_in_place
from kaniko_core.sandbox.runner import Process
from kaniko_core.sandbox.streams import Output
from tests.contracts.commands import busybox_root
from tests.contracts.runners import *  # noqa: F403
from tests.contracts.runners import Bench


@dataclass
class Sandboxed:
    """Commands in a mount of their own each, and the files that they find there."""

    sandbox: Sandbox
    directory: Path
    image: Path
    number: Iterator[int] = field(default_factory=itertools.count)

    def run(self, process: Process, output: Output) -> None:
        place = self.directory / f"mount-{next(self.number)}"
        for part in ("upper", "work"):
            (place / part).mkdir(parents=True)
        lowers = [self.image, self.directory / "files"]
        with self.sandbox.mounted(lowers, upper=place / "upper", work=place / "work") as root:
            self.sandbox.run(process, root, output)

    def put(self, name: str, content: bytes, mode: int) -> str:
        return _put(self.directory / "files/place", name, content, mode, "/place")

    def close(self) -> None:
        self.sandbox.close()


@dataclass
class Placed:
    """Commands on this machine, which touch nothing but the test's own directory."""

    runner: InPlaceRunner
    directory: Path

    def run(self, process: Process, output: Output) -> None:
        self.runner.run(process, output)

    def put(self, name: str, content: bytes, mode: int) -> str:
        return _put(self.directory, name, content, mode, str(self.directory))

    def close(self) -> None:
        self.runner.close()


def _put(directory: Path, name: str, content: bytes, mode: int, shown: str) -> str:
    path = directory / name
    path.write_bytes(content)
    path.chmod(mode)
    return f"{shown}/{name}"


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that every user can enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="kaniko-runner-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        rmtree(path)


@pytest.fixture(params=["sandbox", "in-place"])
def bench(request: pytest.FixtureRequest, directory: Path) -> Iterator[Bench]:
    image, files = directory / "image", directory / "files"
    image.mkdir()
    busybox_root(image)
    (files / "place").mkdir(parents=True)
    (files / "place").chmod(0o1777)
    if request.param == "sandbox":
        with open_sandbox(directory) as sandbox:
            yield Bench(Sandboxed(sandbox, directory, image), "/bin", "/place")
        return
    with open_in_place(directory) as runner:
        place = files / "place"
        yield Bench(Placed(runner, place), str(image / "bin"), str(place))
