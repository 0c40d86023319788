"""Which checks run, and when what they find is an error."""

from __future__ import annotations

import pytest

from kaniko_core.dockerfile.checks.check import Report, check_source
from kaniko_core.dockerfile.checks.policy import CheckPolicy, check_policy
from kaniko_core.dockerfile.checks.surroundings import Surroundings
from kaniko_core.dockerfile.stages import Check
from kaniko_core.errors import DockerfileError, UsageError


def checked(text: str, **build_args: str) -> Report:
    return check_source(text.encode(), "Dockerfile", Surroundings(build_args))


def rules(text: str, **build_args: str) -> list[str]:
    report = checked(text, **build_args)
    assert report.error is None
    return [check.rule for check in report.checks]


FAULTS = "FROM scratch as a\ncopy b /\n"


@pytest.mark.parametrize(
    ("directive", "expected"),
    [
        ("", ["FromAsCasing", "ConsistentInstructionCasing"]),
        ("# check=skip=all\n", []),
        ("# check=skip=FromAsCasing\n", ["ConsistentInstructionCasing"]),
        ("#check = skip=FromAsCasing,ConsistentInstructionCasing\n", []),
        ("# syntax=x\n# CHECK=skip=all\n", []),
        ("#!/bin/x\n# check=skip=all\n", []),
        ("# check=skip=fromascasing\n", ["FromAsCasing", "ConsistentInstructionCasing"]),
        ("# check=skip=Unknown\n", ["FromAsCasing", "ConsistentInstructionCasing"]),
        # What is behind a space is a remark.
        ("# check=skip=FromAsCasing // since we like it\n", ["ConsistentInstructionCasing"]),
        ("# check=error=true\n", ["FromAsCasing", "ConsistentInstructionCasing"]),
    ],
)
def test_the_directive_skips_rules(directive: str, expected: list[str]) -> None:
    assert rules(f"{directive}{FAULTS}") == expected


DESCRIBED = "#\n# words\nFROM scratch as a\n"


@pytest.mark.parametrize(
    ("directive", "expected"),
    [
        ("", ["FromAsCasing"]),
        ("experimental=all", ["FromAsCasing", "InvalidDefinitionDescription"]),
        (
            "experimental=InvalidDefinitionDescription",
            ["FromAsCasing", "InvalidDefinitionDescription"],
        ),
        ("experimental=Other", ["FromAsCasing"]),
        # Who asks for an experimental rule gets it.
        ("skip=all;experimental=all", ["InvalidDefinitionDescription"]),
        ("skip=InvalidDefinitionDescription", ["FromAsCasing"]),
    ],
)
def test_experimental_rules_run_where_they_are_asked_for(
    directive: str, expected: list[str]
) -> None:
    found = rules(DESCRIBED, BUILDKIT_DOCKERFILE_CHECK=directive)
    assert sorted(found) == expected


def test_the_build_argument_replaces_the_directive() -> None:
    text = f"# check=skip=all;error=true\n{FAULTS}"
    found = rules(text, BUILDKIT_DOCKERFILE_CHECK="skip=ConsistentInstructionCasing")
    assert found == ["FromAsCasing"]
    given = {"BUILDKIT_DOCKERFILE_CHECK": "skip=A"}
    assert not check_policy({"check": "error=true"}, given, "Dockerfile").errors
    assert check_policy({"check": "error=true"}, {}, "Dockerfile").errors
    # An empty one is none.
    empty = {"BUILDKIT_DOCKERFILE_CHECK": ""}
    assert check_policy({"check": "error=true"}, empty, "Dockerfile").errors


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# check=skip=LegacyKeyValueFormat\nENV a b\n", 1),
        ("# why\n# check=skip=LegacyKeyValueFormat since we want it\nENV a b\n", 1),
        ("#CHECK=skip=all\nENV a b\n", 1),
        ("# check=skip=Other\nENV a b\n", 2),
        ("# check=skip=all\n#\nENV a b\n", 2),
        ("# check=nonsense\nENV a b\n", 2),
        ("# check=error=maybe\n# check=skip=all\nENV a b\n", 2),
    ],
)
def test_a_comment_right_above_an_instruction_is_for_it_alone(text: str, expected: int) -> None:
    assert rules(f"FROM scratch\n{text}ENV c d\n") == ["LegacyKeyValueFormat"] * expected


def test_a_comment_on_either_of_two_instructions_allows_both() -> None:
    skip = "# check=skip=MultipleInstructionsDisallowed\n"
    assert rules(f'FROM scratch\n{skip}CMD ["a"]\nCMD ["b"]\n') == []
    assert rules(f'FROM scratch\nCMD ["a"]\n{skip}CMD ["b"]\n') == []


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", CheckPolicy()),
        ("  ", CheckPolicy()),
        ("skip= A , B", CheckPolicy(frozenset({"A", "B"}))),
        ("skip=A;error=true", CheckPolicy(frozenset({"A"}), errors=True)),
        ("error=1;experimental=all", CheckPolicy(experimental=frozenset({"all"}), errors=True)),
        ("error=F", CheckPolicy()),
        # Three options are all there are; a semicolon more is part of the last.
        (
            "skip=A;error=t;experimental=B;C",
            CheckPolicy(frozenset({"A"}), frozenset({"B;C"}), errors=True),
        ),
    ],
)
def test_options_are_read(text: str, policy: CheckPolicy) -> None:
    assert CheckPolicy.parse(text) == policy


@pytest.mark.parametrize("text", ["skip", "skip=A;", "warn=all", "error=yes", "error=", "=A"])
def test_a_policy_that_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        CheckPolicy.parse(text)
    assert caught.value.hint is not None
    for report, where in (
        (checked(f"# check={text}\n{FAULTS}"), "Dockerfile: the directive check"),
        (checked(FAULTS, BUILDKIT_DOCKERFILE_CHECK=text), "--build-arg BUILDKIT_DOCKERFILE_CHECK"),
    ):
        assert report.checks == ()
        assert str(report.error).startswith(where)


def test_findings_are_an_error_where_the_policy_says_so() -> None:
    found = (Check("A", "a", 3), Check("B", "b", 5), Check("A", "c", 7))
    assert CheckPolicy().refusal(found, "Dockerfile") is None
    assert CheckPolicy(errors=True).refusal((), "Dockerfile") is None
    error = CheckPolicy(errors=True).refusal(found, "Dockerfile")
    assert isinstance(error, DockerfileError)
    assert str(error).startswith("Dockerfile:3: ")
    assert str(error).endswith(": A, B")


def test_what_cannot_be_parsed_is_checked_up_to_there() -> None:
    report = checked(
        "# check=experimental=all\n#\n# what\nFROM scratch as A\nMAINTAINER me\nRUNN x\n"
        "MAINTAINER me\n"
    )
    assert [(check.rule, check.line) for check in report.checks] == [
        ("StageNameCasing", 4),
        ("FromAsCasing", 4),
        ("InvalidDefinitionDescription", 4),
        ("MaintainerDeprecated", 5),
    ]
    assert str(report.error).startswith("Dockerfile:6:1: unknown instruction RUNN")


@pytest.mark.parametrize("text", ["FROM a as b\nRUN <<E\n", "# escape=x\nFROM a as b\n"])
def test_what_cannot_be_split_into_instructions_is_not_checked(text: str) -> None:
    report = checked(text)
    assert report.checks == ()
    assert report.error is not None
