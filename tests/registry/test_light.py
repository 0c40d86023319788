from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_COMMAND_LINE = {"httpx._main", "rich", "pygments", "click"}


def said_by(code: str) -> set[str]:
    """Return the words that a new interpreter prints for *code*."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    return set(done.stdout.split())


def test_httpx_comes_without_its_command_line() -> None:
    pytest.importorskip("click", reason="without it httpx has none anyway")
    loaded = said_by(
        "from kaniko_core.registry.light import httpx\n"
        "with httpx.Client(trust_env=False) as client: pass\n"
        "import sys; print(*sys.modules)"
    )
    assert {"httpx", "httpcore"} <= loaded
    assert not _COMMAND_LINE & loaded


def test_its_command_line_can_be_imported_afterwards() -> None:
    pytest.importorskip("click", reason="without it httpx has none")
    loaded = said_by(
        "import kaniko_core.registry.light\nimport httpx._main, sys; print(*sys.modules)"
    )
    assert loaded >= {"httpx._main", "click"}


def test_whoever_imported_httpx_before_keeps_all_of_it() -> None:
    pytest.importorskip("click", reason="without it httpx has none")
    assert said_by(
        "import httpx\n"
        "before = httpx.main\n"
        "from kaniko_core.registry.light import httpx as light\n"
        "import sys; print(light is httpx, light.main is before, 'httpx._main' in sys.modules)"
    ) == {"True"}
