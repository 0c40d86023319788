"""A build's directory lives as long as the build, and no longer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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


def _wait_for(fact: Callable[[], bool]) -> None:
    while not fact():
        time.sleep(0.001)


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


def test_what_was_unpacked_goes_while_images_are_pushed_and_their_layers_stay(
    tmp_path: Path,
) -> None:
    with open_workspace(tmp_path, None, silent) as workspace:
        unpacked = [workspace.fresh("steps"), workspace.fresh("layers")]
        for path in unpacked:
            (path / "deep").mkdir(parents=True)
        blob = workspace.fresh("blobs")
        blob.touch()
        workspace.rest()
        # The build may start over meanwhile.
        again = workspace.fresh("steps")
        again.mkdir()
        _wait_for(lambda: not any(path.exists() for path in unpacked))
        assert blob.is_file()
        assert again.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_sandbox_that_cannot_start_is_told_to_whoever_needs_it(tmp_path: Path) -> None:
    with open_workspace(tmp_path, None, silent) as workspace:
        workspace.directory.rmdir()
        workspace.begin_sandbox()
        for _ in range(2):
            with pytest.raises(DiskError, match="prepare a sandbox"):
                _ = workspace.sandbox
        workspace.cancel()
        workspace.rest()


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
