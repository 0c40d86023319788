"""Completion of command lines: what shells ask, and what they are answered."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Ended, Run
from tests.cli.programs import PROGRAMS

VARIABLE = "_KANIKO_EXECUTOR_COMPLETE"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_script_of_each_shell_names_the_program(ended: Run, program: str, shell: str) -> None:
    result = ended(PROGRAMS[program], "completion", shell, name=program)
    assert (result.status, result.stderr) == (0, "")
    variable = f"_{program.upper().replace('-', '_')}_COMPLETE=complete_{shell}"
    assert program in result.stdout
    assert variable in result.stdout


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], "there is no shell that completions are for"),
        (["tcsh"], "'tcsh' is no shell that completions are for"),
        (["powershell"], "'powershell' is no shell that completions are for"),
    ],
)
def test_other_shells_are_refused(ended: Run, argv: list[str], sentence: str) -> None:
    result = ended(PROGRAMS["kaniko-executor"], "completion", *argv)
    assert (result.status, result.stdout) == (2, "")
    error, hint = result.stderr.splitlines()
    assert error == f"error: {sentence}"
    assert hint == "hint: there are bash, zsh, fish: kaniko-executor completion bash"


@pytest.fixture
def asked(ended: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Ask as bash does: with the words so far, of which the last is not complete."""

    def ask(*words: str) -> Ended:
        from kaniko_executor.cli import application

        monkeypatch.setenv(VARIABLE, "complete_bash")
        monkeypatch.setenv("COMP_WORDS", "\n".join(("kaniko-executor", *words)))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        return ended(application())

    return ask


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["log"], ["login", "logout"]),
        (["--log-f"], ["--log-format"]),
        (["--log-format", ""], ["auto", "text", "color", "json"]),
        (["--log-format", "j"], ["json"]),
        (["--log-format", "="], ["auto", "text", "color", "json"]),
        (["--log-format", "=", "j"], ["json"]),
        (["--verbosity", "=", "debug", "--isol"], ["--isolation"]),
        (["--cache", "--dest"], ["--destination"]),
        (["login", "--user"], ["--username"]),
        (["completion", "z"], ["zsh"]),
        (["--customP"], []),
        (["--use-"], ["--use-new-run"]),
        (["--skip-un"], []),
        (["--context", "/"], []),
    ],
)
def test_what_is_typed_is_completed(asked: Run, words: list[str], expected: list[str]) -> None:
    result = asked(*words)
    assert (result.status, result.stderr) == (0, "")
    assert result.stdout.split() == expected


def test_a_switch_needs_no_value(asked: Run) -> None:
    """Go kaniko's users write --cache, and then the next flag."""
    assert "login" in asked("--cache", "").stdout.split()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_flag_is_one_line_with_what_it_does(
    ended: Run, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    from kaniko_executor.cli import application

    monkeypatch.setenv(VARIABLE, f"complete_{shell}")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "kaniko-executor --")
    lines = ended(application()).stdout.splitlines()
    if shell == "fish":
        assert all(line.startswith("--") and "\t" in line for line in lines)
    else:
        assert len(lines) > 50
    assert any("--context" in line and "build context" in line for line in lines)
