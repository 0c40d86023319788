"""SOURCE_DATE_EPOCH is a number, or names something that has a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaniko_core.builder.epoch import epoch_of
from kaniko_core.builder.planner import make_plan
from kaniko_core.context.named import LocalContext, NamedContext
from kaniko_core.dockerfile.instructions import Add
from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.errors import DockerfileError, KanikoError, UsageError

OTHER = LocalContext(Path("other"))
SOURCES = "FROM scratch AS sources\nARG V=1\nADD https://example.com/$V.tar /x\n"


def epoch(text: str, given: str | None = None, **build_args: str) -> int | None:
    """Return the epoch; what is fetched was made in the year 1970 plus the length of its name."""
    dockerfile = parse_dockerfile(text.encode(), "Dockerfile")
    if given is not None:
        build_args["SOURCE_DATE_EPOCH"] = given

    def named(name: str) -> NamedContext | None:
        return OTHER if name == "other" else None

    def added(add: Add) -> int:
        return len(add.sources[0])

    return epoch_of(
        dockerfile,
        make_plan(dockerfile, build_args=build_args).arguments,
        build_args,
        named=named,
        named_time=lambda context: 2000 if context is OTHER else None,
        added_time=added,
    )


def test_nothing_is_said() -> None:
    assert epoch("FROM a\n") is None
    assert epoch("FROM a\n", "") is None


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("1700000000", 1700000000), ("-5", -5)])
def test_seconds(text: str, seconds: int) -> None:
    assert epoch("FROM a\n", text) == seconds


def test_a_build_argument_beats_the_default_in_the_dockerfile() -> None:
    assert epoch("ARG SOURCE_DATE_EPOCH=7\nFROM a\n") == 7
    assert epoch("ARG SOURCE_DATE_EPOCH=7\nFROM a\n", "8") == 8
    assert epoch("ARG SOURCE_DATE_EPOCH=7\nFROM a\n", "") is None


def test_an_argument_of_a_stage_is_not_the_epoch() -> None:
    assert epoch("FROM a\nARG SOURCE_DATE_EPOCH=7\n") is None


def test_the_build_context_and_a_named_one() -> None:
    assert epoch("FROM a\n", "context") is None
    assert epoch("FROM a\n", "other") == 2000


def test_a_stage_that_is_one_remote_add() -> None:
    text = SOURCES + "FROM a\n"
    assert epoch(text, "Sources") == len("https://example.com/1.tar")
    assert epoch(text, "sources", V="long") == len("https://example.com/long.tar")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SOURCES.replace("scratch", "a"), "FROM scratch"),
        (SOURCES + "RUN true\n", "nothing else"),
        (SOURCES + "ADD https://example.com/y /y\n", "nothing else"),
        (SOURCES.replace("/x", "y /x/"), "exactly one source"),
        ("FROM scratch AS sources\nARG V=1\n", "no remote ADD"),
    ],
)
def test_a_stage_that_does_more_is_refused(text: str, words: str) -> None:
    with pytest.raises(DockerfileError, match=words):
        epoch(text, "sources")


def test_a_value_that_means_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH=soon") as caught:
        epoch("FROM a\n", "soon")
    assert isinstance(caught.value, KanikoError) and caught.value.hint
