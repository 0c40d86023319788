"""A build's directory lives as long as the build, and no longer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kaniko_core.builder.workspace import open_workspace
from kaniko_core.errors import DiskError
from kaniko_core.progress import silent

_VICTIM = """
import sys, time
from pathlib import Path
from kaniko_core.builder.workspace import open_workspace
from kaniko_core.progress import silent
with open_workspace(Path(sys.argv[1]), None, silent) as workspace:
    workspace.fresh("steps").mkdir()
    print(workspace.directory, flush=True)
    time.sleep(60)
"""


def test_nothing_is_left(tmp_path: Path) -> None:
    with open_workspace(tmp_path, None, silent) as workspace:
        (workspace.fresh("steps")).mkdir()
        assert workspace.directory.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_tree_that_is_deeper_than_python_recurses(tmp_path: Path) -> None:
    with open_workspace(tmp_path, None, silent) as workspace:
        fd = os.open(workspace.directory, os.O_RDONLY)
        for _ in range(3000):
            os.mkdir("d", dir_fd=fd)
            deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = deeper
        os.close(fd)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError), open_workspace(tmp_path, None, silent) as workspace:
        workspace.fresh("blobs").write_bytes(b"x")
        raise ValueError
    assert list(tmp_path.iterdir()) == []


def test_paths_are_never_given_twice(tmp_path: Path) -> None:
    with open_workspace(tmp_path, None, silent) as workspace:
        paths = {workspace.fresh("blobs") for _ in range(100)}
        assert len(paths) == 100


def test_leftovers_of_a_killed_build_are_swept_and_a_living_one_is_not(tmp_path: Path) -> None:
    victims = [
        subprocess.Popen(
            [sys.executable, "-c", _VICTIM, str(tmp_path)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            text=True,
        )
        for _ in range(2)
    ]
    try:
        killed, living = (
            Path(victim.stdout.readline().strip()) for victim in victims if victim.stdout
        )
        os.kill(victims[0].pid, signal.SIGKILL)
        victims[0].wait()
        assert killed.is_dir()
        with open_workspace(tmp_path, None, silent):
            assert not killed.exists()
            assert (living / "steps").is_dir()
    finally:
        for victim in victims:
            victim.kill()
            victim.wait()
            assert victim.stdout
            victim.stdout.close()


def test_place_that_cannot_be_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(DiskError, match="cannot keep the build's files in"),
        open_workspace(tmp_path / "file", None, silent),
    ):
        pass
