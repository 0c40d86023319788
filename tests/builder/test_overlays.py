"""Directories of steps: filled by the first who asks, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kaniko_core.builder.overlays import OverlayTree, StepDirectory
from kaniko_core.builder.workspace import open_workspace
from kaniko_core.errors import KanikoError, SandboxError
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.progress import silent
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


def test_copied_files_are_written_when_somebody_looks(tmp_path: Path) -> None:
    (tmp_path / "source").write_text("one")
    entry = Entry(b"d/f", Kind.FILE, 0o644, os.geteuid(), os.getegid(), size=3)
    entry.content = os.fsencode(tmp_path / "source")
    with open_workspace(tmp_path / "work", None, silent) as workspace:
        try:
            _ = workspace.sandbox
        except SandboxError as error:
            pytest.skip(str(error))
        tree = OverlayTree(workspace, "stage").copied([entry], None)
        assert list((workspace.directory / "steps").iterdir()) == []
        (directory,) = tree.lowers()
        assert (directory / "d/f").read_text() == "one"

        given_up = OverlayTree(workspace, "stage").copied([entry], None)
        workspace.cancel()
        with pytest.raises(KanikoError, match="given up"):
            given_up.lowers()
        assert list((workspace.directory / "steps").iterdir()) == [directory]
