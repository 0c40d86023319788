"""Help, for people: in groups, whole, and no wider than their terminal."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer.main

import kaniko_core
from kaniko_core.cli.flags import groups_of
from kaniko_core.cli.pages import WIDEST
from tests.cli.conftest import Run
from tests.cli.programs import PROGRAMS


def commands() -> list[tuple[str, list[str]]]:
    """Return each program with the words that lead to each of its commands."""
    roots: dict[str, Any] = {name: typer.main.get_command(app) for name, app in PROGRAMS.items()}
    return [(name, words) for name in roots for words in ([], *([c] for c in roots[name].commands))]


def sections(text: str) -> list[str]:
    return re.findall(r"^(\S.*):$", text, re.MULTILINE)


COMMANDS = pytest.mark.parametrize(("program", "words"), commands(), ids=str)


@COMMANDS
@pytest.mark.parametrize("columns", [40, 80, 100, 240])
def test_no_line_is_wider_than_the_terminal(
    ended: Run, monkeypatch: pytest.MonkeyPatch, program: str, words: list[str], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    result = ended(PROGRAMS[program], *words, "--help", name=program)
    assert (result.status, result.stderr) == (0, "")
    for line in result.stdout.splitlines():
        # A word that is longer than a line cannot be broken: it would not be a flag any more.
        words_of = line.split()
        assert len(line) <= min(columns, WIDEST) or len(words_of) <= 3, line


@pytest.mark.parametrize("columns", [80, 100, 240])
@COMMANDS
def test_there_are_two_columns_where_there_is_room(
    ended: Run, monkeypatch: pytest.MonkeyPatch, program: str, words: list[str], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = ended(PROGRAMS[program], *words, "--help", name=program).stdout.splitlines()
    margins = {len(line) - len(line.lstrip()) for line in lines if line}
    assert margins <= {0, 2, 28}


@COMMANDS
def test_help_is_whole_at_any_width(
    ended: Run, monkeypatch: pytest.MonkeyPatch, program: str, words: list[str]
) -> None:
    found = []
    for columns in (40, 80, 240):
        monkeypatch.setenv("COLUMNS", str(columns))
        text = ended(PROGRAMS[program], *words, "--help", name=program).stdout
        # Prose may be broken at a hyphen.
        found.append("".join(text.split()))
    assert found[0] == found[1] == found[2]


@COMMANDS
def test_options_are_in_the_groups_that_declare_them(
    ended: Run, program: str, words: list[str]
) -> None:
    root: Any = typer.main.get_command(PROGRAMS[program])
    command = root.commands[words[0]] if words else root
    text = ended(PROGRAMS[program], *words, "--help", name=program).stdout
    titles = [group.title for group in groups_of(command)]
    if words and not titles:
        assert sections(text)[-1:] == ["Other options"]
        return
    shown = [title for title in sections(text) if title not in ("Commands", "Arguments")]
    rest = [] if "Other options" in titles else ["Other options"]
    assert shown == titles + rest
    for group in groups_of(command):
        section = text.split(f"\n{group.title}:\n")[1].split("\n\n")[0]
        for option in group.options:
            assert option.flag.hidden or f" {option.spelling}" in section


@COMMANDS
def test_help_can_be_shown_on_any_terminal(ended: Run, program: str, words: list[str]) -> None:
    assert ended(PROGRAMS[program], *words, "--help", name=program).stdout.isascii()


def test_commands_come_first_each_with_a_sentence(ended: Run) -> None:
    text = ended(PROGRAMS["kaniko-executor"], "--help").stdout
    assert sections(text)[0] == "Commands"
    block = " ".join(text.split("\nCommands:\n")[1].split("\n\n")[0].split())
    assert "..." not in block
    for name in ("login", "logout", "completion", "help", "version"):
        assert re.search(rf"(^|\. ){name} [A-Z]", block), name


def test_help_says_how_variables_are_called_and_which_are_not(ended: Run) -> None:
    text = " ".join(ended(PROGRAMS["kaniko-executor"], "--help").stdout.split())
    assert "--cache-dir by KANIKO_CACHE_DIR" in text
    assert "[env: KANIKO_DIR]" in text
    assert "[env: KANIKO_NO_PUSH, which beats the flag]" in text
    assert "[env: KANIKO_REGISTRY_MAP, which adds to the flag]" in text
    assert "[env: KANIKO_CACHE" not in text
    assert "KANIKO_CACHE_DIR" not in ended(PROGRAMS["kaniko-executor"], "version", "-h").stdout


def test_a_default_is_not_torn_apart(ended: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in range(60, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        text = ended(PROGRAMS["kaniko-executor"], "--help").stdout
        assert "[default: /workspace/]" in text
        assert "\N{NO-BREAK SPACE}" not in text


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_option_has_a_long_story(program: str) -> None:
    root: Any = typer.main.get_command(PROGRAMS[program])
    for command in (root, *root.commands.values()):
        for group in groups_of(command):
            for option in group.options:
                assert len(option.flag.help) <= 300, option.spelling


# --- the commands that all programs have ---------------------------------------------------


@pytest.mark.parametrize("program", PROGRAMS)
def test_version_is_that_of_the_package(ended: Run, program: str) -> None:
    result = ended(PROGRAMS[program], "version", name=program)
    assert (result.status, result.stderr) == (0, "")
    assert result.stdout == f"kaniko-py version: {kaniko_core.__version__}\n"


@COMMANDS
def test_help_command_shows_what_the_option_does(
    ended: Run, program: str, words: list[str]
) -> None:
    asked = ended(PROGRAMS[program], "help", *words, name=program)
    assert asked == ended(PROGRAMS[program], *words, "--help", name=program)
    assert asked.stdout.startswith(f"Usage: {program} {' '.join(words)}".rstrip())


def test_help_for_what_is_no_command_suggests_one(ended: Run) -> None:
    result = ended(PROGRAMS["kaniko-executor"], "help", "lgoin")
    assert (result.status, result.stdout) == (2, "")
    assert result.stderr == "error: there is no command lgoin\nhint: did you mean login?\n"
    far = ended(PROGRAMS["kaniko-executor"], "help", "x")
    assert far.stderr.endswith("hint: kaniko-executor --help lists them all\n")
