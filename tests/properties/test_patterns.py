"""Patterns match what a second statement of the rules says."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaniko_core.context.ignore import IgnorePatterns
from kaniko_core.dockerfile.wildcards import matches
from kaniko_core.errors import UsageError
from tests.dockerfile import tables
from tests.properties import positions
from tests.properties.depth import tried

COMPONENTS = st.sampled_from(
    [
        *("a", "b", "foo", "x.go", ".git", "a b", "é", ".", "..", ""),
        *("*", "?", "**", "***", "[ab]", "[^a]", "[a-c]", "[b-a]", "[\\]]", "\\*", "\\\\"),
        *("**foo", "foo**", "f*", "*.t?t", "?**", "b**c"),
    ]
)
PATTERNS = st.builds(
    lambda mark, joint, parts: mark + joint.join(parts),
    st.sampled_from(["", "", "!", " ", "/"]),
    st.sampled_from(["/", "/", "/", ""]),
    st.lists(COMPONENTS, min_size=1, max_size=4),
)
PATHS = st.lists(
    st.sampled_from(["a", "b", "foo", "xfoo", "x.go", ".git", "ab", "a b", "é", "x.txt", "*", "]"]),
    min_size=1,
    max_size=4,
).map("/".join)
# Classes of the second statement hold ASCII only.
WILDCARDS = (
    st.lists(
        st.sampled_from(
            [*"***??[]^-\\ab/.", "é", "☺", "[a-c]", "[^a]", "[\\]]", "[]", "*.go", "[z-a]"]
        ),
        max_size=7,
    )
    .map("".join)
    .filter(lambda pattern: re.search(r"\[.*[é☺]", pattern) is None)
)
NAMES = st.text(st.sampled_from("abc/.é☺]-\\^*"), max_size=6)


@tried(3)
@given(st.lists(PATTERNS, max_size=5), PATHS)
def test_ignore_patterns_leave_out_what_a_machine_of_states_does(
    patterns: list[str], path: str
) -> None:
    assert found(patterns, path) == stated(patterns, path)


@tried(2)
@given(st.text(st.sampled_from("a./"), max_size=12))
def test_patterns_are_tidied_by_the_four_rules(pattern: str) -> None:
    """The parents of a tidied pattern match what it matches."""
    tidied = positions.cleaned(pattern)
    for path in ("a", "a/a", "..", "../a", "aa/a"):
        assert found([pattern], path) == (pattern != "" and f"{path}/".startswith(f"{tidied}/"))


@tried(3)
@given(WILDCARDS, NAMES)
def test_wildcards_match_what_go_documents(pattern: str, name: str) -> None:
    try:
        expected: object = positions.matches(pattern, name)
    except positions.PatternError:
        expected = tables.REFUSED
    try:
        ours: object = matches(pattern, name)
    except UsageError:
        ours = tables.REFUSED
    assert ours == expected


@pytest.mark.parametrize("table", ["dockerignore.json", "dockerignore-generated.json"])
def test_the_second_statement_of_ignore_patterns_is_that_of_the_table(table: str) -> None:
    tables.check(
        table,
        lambda case: stated(case["patterns"], case["path"]),
        lambda out: tables.REFUSED if "new_error" in out else out["matches_or_parent_matches"],
    )


def test_the_second_statement_of_wildcards_is_that_of_the_table() -> None:
    def ours(case: dict[str, Any]) -> object:
        try:
            return positions.matches(case["pattern"], case["name"])
        except positions.PatternError:
            return tables.REFUSED

    tables.check("wildcards.json", ours, lambda out: out["match"])


def found(patterns: list[str], path: str) -> object:
    try:
        return IgnorePatterns(patterns).ignored(path)
    except UsageError:
        return tables.REFUSED


def stated(patterns: list[str], path: str) -> object:
    try:
        return positions.ignored(patterns, path)
    except positions.PatternError:
        return tables.REFUSED
