"""Directories of steps: filled by the first who asks, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaniko_core.builder.overlays import StepDirectory
from kaniko_core.steps.step import LostLayer


def test_each_stage_that_lies_on_a_lost_layer_is_told_that_it_is_lost(tmp_path: Path) -> None:
    """Two stages ask for what the one below them has; any other error would fail the build."""

    def fill(directory: Path) -> None:
        directory.mkdir()
        (directory / "half").write_text("of a layer")
        raise LostLayer("5eed", "it is damaged")

    directory = StepDirectory(tmp_path / "step", fill)
    for _ in range(2):
        with pytest.raises(LostLayer):
            directory.path()

    assert not (tmp_path / "step").exists()
