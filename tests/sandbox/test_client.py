"""What the builder's end asks the sandbox server."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from kaniko_core.sandbox.client import Sandbox
from kaniko_core.sandbox.conversation import Conversation
from kaniko_core.sandbox.start import Started


def test_server_is_told_absolute_paths_for_its_directory_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def answer(
        self: Conversation, name: str, request: object
    ) -> tuple[tuple[object, ...], list[int]]:
        asked.append(request)
        return ("checked", True), []

    monkeypatch.setattr(Conversation, "ask", answer)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "layers").mkdir()
    Sandbox(cast(Started, None)).check_lower(Path("layers"))
    assert [Path(str(request)).parent for request in asked] == [tmp_path / "layers"]
