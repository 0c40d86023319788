"""Patterns that have many readings match what regular expressions say, without their patience."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaniko_core.context import expressions
from kaniko_core.context.expressions import ExpressionError, expression_of
from kaniko_core.context.ignore import IgnorePatterns

PIECES = st.sampled_from(
    [*"ab*?/|^.", "**", "**/", "[ab]", "[^a]", "{2}", "{0,2}", "{1,}", "\\b", "\\*", "\\d", "\n"]
)
PATHS = st.text(st.sampled_from("aab/1.*\n"), max_size=10)


@given(st.lists(PIECES, max_size=7).map("".join), PATHS)
def test_an_automaton_finds_what_its_expression_finds(pattern: str, path: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expressions, "_MOST_VARYING", -2)
        try:
            expression = expression_of(pattern)
        except ExpressionError:
            return
    if expression.automaton is None:
        return  # a plain pattern is never followed
    ends = [*(match.start() for match in re.finditer("/", path)), len(path)]
    search = re.compile(expression.text)
    look = search.fullmatch if expression.whole else search.search
    assert expression.automaton.matches(path) == any(look(path[:end]) for end in ends)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 30 + "*b", "a" * 200),
        ("**/a/" * 20 + "b", "a/" * 60 + "c"),
        ("**/a*/" * 20 + "b", "a/" * 60 + "c"),
        ("a{1,1000}" * 5 + "b|c*c*c*d", "a" * 200),
        ("!" + "**/*a" * 20 + "b", "a/" * 60 + "c"),
    ],
)
def test_no_path_takes_a_pattern_long(pattern: str, path: str) -> None:
    patterns = IgnorePatterns(["**", pattern] if pattern.startswith("!") else [pattern])

    assert patterns.ignored(path) is pattern.startswith("!")
    patterns.may_include_below(path)


def test_a_pattern_of_a_few_readings_stays_an_expression() -> None:
    assert expression_of("**/*.py[co]").automaton is None
    assert expression_of("**/a*/**/*.py").automaton is not None
    assert replace(expression_of("a*"), automaton=None) == expression_of("a*")
