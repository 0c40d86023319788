"""A password in a variable is one that nobody sees in a list of processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.programs import PROGRAMS
from tests.registry_server import running_registry

WARNING = "the password was given on the command line"


@pytest.mark.parametrize("by_variable", [True, False])
def test_only_a_password_on_the_command_line_is_warned_of(
    ended: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by_variable: bool
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("KANIKO_USERNAME", "me")
    argv = []
    if by_variable:
        monkeypatch.setenv("KANIKO_PASSWORD", "hunter2")
    else:
        argv.append("--password=hunter2")
    with running_registry() as server:
        result = ended(PROGRAMS["kaniko-executor"], "login", server.address, *argv)

    assert result.status == 0
    assert (WARNING in result.stderr) is not by_variable
    assert "hunter2" not in result.stdout + result.stderr
    assert server.address in json.loads((tmp_path / "config.json").read_text())["auths"]


def test_standard_input_that_is_closed_has_no_password(
    ended: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setattr("sys.stdin", None)
    argv = ("login", "localhost:1", "--username=me", "--password-stdin")
    result = ended(PROGRAMS["kaniko-executor"], *argv)

    assert result.status == 2
    assert "error: the password is empty" in result.stderr
