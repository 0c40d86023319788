"""Servers that say nothing any more: who asks them does not wait for ever."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path

import pytest

from kaniko_core.remote.git.run import Access, GitFailed, GitProgram, find_git

PATIENCE = 1.5


def test_server_of_gits_own_protocol_that_is_silent_is_given_up(tmp_path: Path) -> None:
    git = find_git(tmp_path / "home", threading.Event())
    patient = GitProgram(git.path, git.home, git.stopped, PATIENCE)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"git://127.0.0.1:{server.getsockname()[1]}/code.git"
        with pytest.raises(GitFailed, match=r"nothing came from the server in 1\.5 seconds"):
            patient.run(Access(("git",)), "ls-remote", address)


@pytest.mark.parametrize(
    "waits",
    ["time.sleep(0.1); print(flush=True)", "None"],
    ids=["writes now and then", "computes"],
)
def test_who_moves_is_waited_for(tmp_path: Path, waits: str) -> None:
    program = tmp_path / "git"
    program.write_text(
        f"#!{sys.executable}\nimport time\nend = time.monotonic() + {2 * PATIENCE}\n"
        f"while time.monotonic() < end: {waits}\n"
    )
    program.chmod(0o755)

    GitProgram(str(program), tmp_path, threading.Event(), PATIENCE).run(Access(()))
