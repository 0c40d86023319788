"""Each form of a variable once, for people; the tables have them by the thousand."""

from __future__ import annotations

import pytest

from kaniko_core.dockerfile.words import Lexer, WordError

ENV = {"A": "a", "EMPTY": "", "P": "/usr/lib/x.tar.gz", "STARS": "a*b?c"}


@pytest.mark.parametrize(
    ("word", "result"),
    [
        ("$A-${A}", "a-a"),
        ("[$1$@$*$#$?$-$$$!$0]", "[]"),
        ("$.", "$."),
        ("$NO$NOT", ""),
    ],
)
def test_plain_variables(word: str, result: str) -> None:
    assert Lexer().expand(word, ENV) == result


@pytest.mark.parametrize("word", ["${}", "${:x}", "${{A}}"])
def test_braces_without_a_name_are_bad(word: str) -> None:
    with pytest.raises(WordError, match="bad substitution"):
        Lexer().expand(word, ENV)


@pytest.mark.parametrize(
    ("word", "result"),
    [
        ("${A:-w}", "a"),
        ("${EMPTY:-w}", "w"),
        ("${NO:-w}", "w"),
        ("${NO:-${NOT:-$A}}", "a"),
        ("${A:+w}", "w"),
        ("${EMPTY:+w}", ""),
        ("${NO:+w}", ""),
    ],
)
def test_with_a_colon_empty_counts_as_unset(word: str, result: str) -> None:
    assert Lexer().expand(word, ENV) == result


@pytest.mark.parametrize(
    ("word", "result"),
    [("${EMPTY-w}", ""), ("${NO-w}", "w"), ("${EMPTY+w}", "w"), ("${NO+w}", "")],
)
def test_without_a_colon_empty_counts_as_set(word: str, result: str) -> None:
    assert Lexer().expand(word, ENV) == result


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("${NO:?say it}", "NO: say it"),
        ("${EMPTY:?say it}", "EMPTY: say it"),
        ("${NO?say it}", "NO: say it"),
        ("${NO?}", "NO: is not allowed to be unset"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
    ],
)
def test_what_is_required_is_an_error_where_it_is_missing(word: str, message: str) -> None:
    with pytest.raises(WordError, match=message):
        Lexer().expand(word, ENV)


def test_what_is_required_is_itself_where_it_is_there() -> None:
    assert Lexer().expand("${A:?say it}${EMPTY?say it}", ENV) == "a"


@pytest.mark.parametrize(
    ("word", "result"),
    [
        ("${P#*/}", "usr/lib/x.tar.gz"),
        ("${P##*/}", "x.tar.gz"),
        ("${P%.*}", "/usr/lib/x.tar"),
        ("${P%%.*}", "/usr/lib/x"),
        ("${P#?usr}", "/lib/x.tar.gz"),
        (r"${STARS#a\*}", "b?c"),
        (r"${STARS%\?c}", "a*b"),
        ("${P#[/]}", "/usr/lib/x.tar.gz"),
    ],
)
def test_patterns_trim_either_end(word: str, result: str) -> None:
    assert Lexer().expand(word, ENV) == result


def test_a_pattern_escapes_no_other_character() -> None:
    with pytest.raises(WordError):
        Lexer().expand(r"${P#\x}", ENV)


@pytest.mark.parametrize(
    ("word", "result"),
    [
        ("${P/l*r/X}", "/usr/X.gz"),
        ("${P/r/R}", "/usR/lib/x.tar.gz"),
        ("${P//r/R}", "/usR/lib/x.taR.gz"),
        ("${A//a/$P}", "/usr/lib/x.tar.gz"),
        ("${A//x}", None),
    ],
)
def test_patterns_are_replaced(word: str, result: str | None) -> None:
    if result is None:
        with pytest.raises(WordError):
            Lexer().expand(word, ENV)
    else:
        assert Lexer().expand(word, ENV) == result


@pytest.mark.parametrize("word", ["${A=x}", "${A:=x}", "${#A}", "${A:0:1}", "${A^^}", "${A,,}"])
def test_other_modifiers_are_refused(word: str) -> None:
    with pytest.raises(WordError):
        Lexer().expand(word, ENV)


@pytest.mark.parametrize(
    ("word", "result"),
    [
        (r"'$A \$A'", r"$A \$A"),
        (r'"$A \$A \\ \" \x"', r"a $A \ " + '" ' + r"\x"),
        (r"\$A\x", "$Ax"),
    ],
)
def test_quotes(word: str, result: str) -> None:
    assert Lexer().expand(word, ENV) == result


@pytest.mark.parametrize("word", ["'open", '"open', "it's"])
def test_a_quote_that_is_left_open_is_refused(word: str) -> None:
    with pytest.raises(WordError):
        Lexer().expand(word, ENV)
