"""Patterns leave out what moby's matcher leaves out."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaniko_core.context.ignore import IgnorePatterns, read_ignore_file
from kaniko_core.errors import UsageError
from tests.dockerfile import tables

PARTS = st.sampled_from(["a", "b", "foo", "x.go", "*", "?", "**", "[ab]", "**foo", "f*", ".git"])
PATTERNS = st.builds(
    lambda mark, parts: mark + "/".join(parts),
    st.sampled_from(["", "!"]),
    st.lists(PARTS, min_size=1),
)
PATHS = st.lists(st.sampled_from(["a", "b", "foo", "xfoo", "x.go", ".git"]), min_size=1)


@pytest.mark.parametrize("table", ["dockerignore.json", "dockerignore-generated.json"])
def test_patterns_match_as_in_the_table(table: str) -> None:
    def ours(case: dict[str, Any]) -> object:
        patterns = IgnorePatterns(case["patterns"])
        return patterns.ignored(case["path"]), patterns.has_exclusions

    def theirs(out: dict[str, Any]) -> object:
        if "new_error" in out:
            return tables.REFUSED
        return out["matches_or_parent_matches"], out["exclusions"]

    tables.check(table, ours, theirs)


def test_an_ignore_file_is_read_as_in_the_table() -> None:
    tables.check(
        "dockerignore-file.json",
        lambda case: list(read_ignore_file(case["text"])),
        lambda out: out["patterns"] or [],
    )


def test_paths_are_tidied() -> None:
    text = "a/../b\n/../c\n../d\n../../e\na/./f//g/\n"
    assert read_ignore_file(text) == ("b", "c", "../d", "../../e", "a/f/g")


def test_no_patterns_ignore_nothing() -> None:
    assert not IgnorePatterns().ignored("a/b")
    assert not IgnorePatterns(["", "  "]).ignored("a")


def test_the_last_pattern_that_matches_counts() -> None:
    patterns = IgnorePatterns(["*.md", "!README*", "README-secret.md"])
    assert patterns.ignored("x.md")
    assert not patterns.ignored("README.md")
    assert patterns.ignored("README-secret.md")


def test_all_below_an_ignored_directory_is_ignored() -> None:
    assert IgnorePatterns(["node_modules"]).ignored("node_modules/a/b.js")
    assert not IgnorePatterns(["node_modules"]).ignored("src/node_modules")


def test_an_ignored_directory_is_looked_into_only_where_something_may_come_back() -> None:
    patterns = IgnorePatterns(["build", "vendor", "!vendor/*/LICENSE", "!build"])
    assert patterns.may_include_below("vendor")
    assert patterns.may_include_below("vendor/x")
    assert not patterns.may_include_below("vendor/x/y")
    assert not patterns.may_include_below("node_modules")
    assert patterns.may_include_below("build/deep/inside")


def test_a_negated_class_matches_a_slash() -> None:
    """As with moby; a walk must not leave out the directory before it."""
    patterns = IgnorePatterns(["*", "!a[^b]c"])
    assert not patterns.ignored("a/c")
    assert patterns.may_include_below("a")


def test_escaped_characters_are_themselves() -> None:
    assert IgnorePatterns(["a\\*b"]).ignored("a*b")
    assert not IgnorePatterns(["a\\*b"]).ignored("axb")
    assert IgnorePatterns(["[\\]a]"]).ignored("]")


@pytest.mark.parametrize(
    ("pattern", "path", "ignored"),
    [
        # Without a wildcard nothing has a meaning.
        ("a{2}|^$", "a{2}|^$", True),
        ("a{2}*", "aa.txt", True),
        ("a{2}*", "a{2}", False),
        ("*.{js,ts}", "a.{js,ts}", True),
        ("a^*", "a^b", False),
        ("^a*", "ab", True),
        ("b*|a", "xa", True),
        ("b*|a", "xb", False),
        ("[[:alpha:]]*", "x1", True),
        ("[[:^alpha:]]?", "x1", False),
        ("[[:^alpha:]]?", "é1", True),
        ("[*]", "*", False),
        ("[?]", "?", False),
        ("a\\d", "a7", True),
        ("a\\D", "a7", False),
        ("a\\x41\\101", "aAA", True),
        ("a\\tb", "a\tb", True),
        ("a\\_b", "a_b", True),
        ("*\\bb", "a-b", True),
        ("*a\\z", "a/b", True),
        ("a/**/b", "a/x\ny/b", False),
        ("a/**", "a/x\ny", True),
        ("**b", "x\ny/b", True),
    ],
)
def test_characters_mean_what_they_mean_in_mobys_expressions(
    pattern: str, path: str, ignored: bool
) -> None:
    assert IgnorePatterns([pattern]).ignored(path) is ignored


@pytest.mark.parametrize(
    "pattern", ["a\\p*", "src\\Lib", "a{2}{3}*", "a{1001}*", "[[:none:]]", "a\\1", "\\x{110000}"]
)
def test_what_becomes_no_expression_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="is no pattern"):
        IgnorePatterns([pattern])


@pytest.mark.parametrize("pattern", ["[", "[]", "[a", "[z-a]", "a\\", "!", "[a-", "[\\"])
def test_what_is_no_pattern_is_refused_with_a_hint(pattern: str) -> None:
    with pytest.raises(UsageError) as caught:
        IgnorePatterns([pattern])
    assert caught.value.hint


@settings(deadline=None)
@given(st.lists(PATTERNS, max_size=5), PATHS)
def test_a_directory_that_need_not_be_looked_into_holds_nothing(
    texts: list[str], path: list[str]
) -> None:
    patterns = IgnorePatterns(texts)
    directory = "/".join(path[:-1])
    if directory and patterns.ignored(directory) and not patterns.may_include_below(directory):
        assert patterns.ignored("/".join(path))


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("ab*?[]^-!\\/. \n#é"), max_size=12)))
def test_nothing_but_a_usage_error_is_raised(lines: list[str]) -> None:
    with suppress(UsageError):
        IgnorePatterns(read_ignore_file("\n".join(lines))).ignored("a/b")
