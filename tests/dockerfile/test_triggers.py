"""What ONBUILD keeps, and how it is read where it fires."""

from __future__ import annotations

import pytest

from kaniko_core.dockerfile.instructions import Add, Copy, Env, OnBuild, Run
from kaniko_core.dockerfile.parser import parse_dockerfile, parse_trigger
from kaniko_core.errors import DockerfileError


def fired(text: str) -> object:
    """Write *text* behind ONBUILD, and read what that keeps."""
    stage = parse_dockerfile(f"FROM a\nONBUILD {text}\n".encode(), "Dockerfile").stages[0]
    (onbuild,) = stage.instructions
    assert isinstance(onbuild, OnBuild)
    return parse_trigger(onbuild.text, "Child", 7)


def refused(text: str) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        parse_trigger(text, "Child", 7)
    assert (caught.value.path, caught.value.line, caught.value.column) == ("Child", 7, 0)
    return caught.value


def test_a_trigger_is_the_instruction_that_it_would_be_on_its_own() -> None:
    run = fired("run --network=none \\\n  make")
    assert isinstance(run, Run)
    assert (run.command.argv, run.network) == (("make",), "none")
    # It stands where the FROM stands that brings it.
    assert (run.source.path, run.source.line, run.source.end_line) == ("Child", 7, 7)
    assert run.source.text == "run --network=none   make"
    assert run.source.keyword == "run"


def test_a_trigger_takes_its_heredocs_along() -> None:
    run = fired("RUN cat <<A 3<<-'B C'\none\nA\n\ttwo\n\tB C\n")
    assert isinstance(run, Run)
    assert [(h.name, h.content, h.chomp, h.expand) for h in run.heredocs] == [
        ("A", "one\n", False, True),
        ("B C", "\ttwo\n", True, False),
    ]
    copy = fired("COPY <<a <<b /to/\n1\na\n2\nb\n")
    assert isinstance(copy, Copy)
    assert (copy.sources, copy.destination) == (("<<a", "<<b"), "/to/")
    add = fired('ADD ["<<a", "/to"]')
    assert isinstance(add, Add)
    assert add.sources == ("<<a",)


def test_a_trigger_from_an_image_may_have_several_lines() -> None:
    env = parse_trigger("ENV a=b \\\n c=d\n", "Child", 7)
    assert isinstance(env, Env)
    assert env.pairs == (("a", "b"), ("c", "d"))


def test_a_trigger_is_read_with_a_backslash_unless_told() -> None:
    text = "ENV a=b` c=d"
    env, other = parse_trigger(text, "Child", 7), parse_trigger(text, "Child", 7, "`")
    assert isinstance(env, Env)
    assert isinstance(other, Env)
    assert env.pairs == (("a", "b`"), ("c", "d"))
    assert other.pairs == (("a", "b` c=d"),)


@pytest.mark.parametrize("keyword", ["FROM", "onbuild", "Maintainer"])
def test_some_instructions_are_no_triggers(keyword: str) -> None:
    error = refused(f"{keyword} x")
    assert f"{keyword.upper()} is not allowed as an ONBUILD trigger" in str(error)
    assert f"ONBUILD {keyword} x" in str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RUN a\nRUN b", "has to be one instruction"),
        ("", "has to be one instruction"),
        ("# nothing", "has to be one instruction"),
        ("RUN cat <<E\nx", "the here-document E does not end"),
        ("# escape=x\nRUN a", "cannot be the escape character"),
        ("RUN --nonsense a", "RUN has no flag --nonsense"),
        ("COPY a", "at least two arguments"),
    ],
)
def test_a_wrong_trigger_is_located_at_its_from(text: str, message: str) -> None:
    assert message in str(refused(text))


def test_an_unknown_trigger_gets_a_suggestion() -> None:
    error = refused("RNU make")
    assert str(error) == "Child:7: unknown instruction RNU\n    ONBUILD RNU make"
    assert error.hint == "did you mean RUN?"
    with pytest.raises(DockerfileError, match="Dockerfile:2:9: unknown instruction RNU") as caught:
        fired("RNU make")
    assert caught.value.hint == "did you mean RUN?"
