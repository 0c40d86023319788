"""A root with busybox, a sandbox, and a workshop to try things in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.sandbox.workshop import Workshop
from kaniko_core.sandbox.client import Sandbox, open_sandbox
from tests.contracts.commands import busybox_root


@pytest.fixture(scope="package")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with nothing but busybox in /bin."""
    root = tmp_path_factory.mktemp("image")
    busybox_root(root)
    return root


@pytest.fixture(scope="package")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with open_sandbox(tmp_path_factory.mktemp("sandbox")) as opened:
        yield opened


@pytest.fixture
def workshop(sandbox: Sandbox, image: Path, tmp_path: Path) -> Workshop:
    return Workshop(sandbox, tmp_path, [image])
