"""Programs in this process, as their users see them end."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import typer

from kaniko_core.cli import run


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended."""

    status: int
    stdout: str
    stderr: str


Run = Callable[..., Ended]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have variables that stand for flags."""
    for name in [name for name in os.environ if "KANIKO_" in name]:
        monkeypatch.delenv(name)


@pytest.fixture
def ended(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run an app to its end."""

    def to_the_end(app: typer.Typer, *argv: str, name: str = "kaniko-executor") -> Ended:
        status = run(app, argv, name=name)
        return Ended(status, *capsys.readouterr())

    return to_the_end
