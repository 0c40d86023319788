"""Words are quoted and expanded as BuildKit does it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaniko_core.dockerfile.words import Lexer, WordError
from tests.dockerfile import tables

ENV = {"A": "a value", "EMPTY": "", "P": "/usr/local/x.tar.gz"}


def expanded(case: dict[str, Any]) -> object:
    lexer = Lexer(
        case.get("escape", "\\"),
        raw_quotes=case.get("raw_quotes", False),
        skip_quotes=case.get("skip_process_quotes", False),
        skip_unset=case.get("skip_unset_env", False),
    )
    env = dict(item.split("=", 1) for item in case["env"])
    found = lexer.process(case["word"], env)
    return found.text, list(found.words), sorted(found.matched), sorted(found.unmatched)


def expected(out: dict[str, Any]) -> object:
    return out["result"], out["words"] or [], sorted(out["matched"]), sorted(out["unmatched"])


@pytest.mark.parametrize("table", ["words.json", "words-generated.json"])
def test_words_expand_as_in_the_table(table: str) -> None:
    tables.check(table, expanded, expected)


def test_expand_and_expand_words_are_the_two_views_of_one_expansion() -> None:
    assert Lexer().expand("$A '$A' b", ENV) == "a value $A b"
    assert Lexer().expand_words("$A '$A' b", ENV) == ["a", "value", "$A", "b"]


def test_raw_escapes_stay() -> None:
    lexer = Lexer(raw_escapes=True, raw_quotes=True)
    assert lexer.expand(r'\$A "\"" "\\"', ENV) == r'\$A "\"" "\\"'
    # One that protects nothing is protected itself.
    assert lexer.expand(r'\x "\x"', ENV) == r'\x "\\x"'


def test_skip_unset_leaves_every_form_of_variable_as_it_is_written() -> None:
    lexer = Lexer(skip_unset=True)
    for text in ("$NO", "${NO}", "${NO:-x}", "${NO#x}", "${NO/x/y}", "${NO:0:1}"):
        assert lexer.expand(text, ENV) == text


def test_a_message_of_an_unset_variable_is_the_error() -> None:
    with pytest.raises(WordError, match="NO: tell me"):
        Lexer().expand("${NO:?tell me}", ENV)
    with pytest.raises(WordError, match="EMPTY: is not allowed to be empty"):
        Lexer().expand("${EMPTY:?}", ENV)


def test_substitutions_nested_too_deeply_are_refused_not_a_crash() -> None:
    deep = "${NO:-" * 5000 + "x" + "}" * 5000
    with pytest.raises(WordError, match="nested too deeply"):
        Lexer().expand(deep, ENV)


@pytest.mark.parametrize("word", ['"$A', '"\\', "'", "${", "${A", "${A/x", "${A/x/y", "${A#\\x}"])
def test_what_is_left_open_is_refused(word: str) -> None:
    with pytest.raises(WordError):
        Lexer().expand(word, ENV)


def test_a_pattern_stops_at_the_end_of_a_line() -> None:
    env = {"L": "ab\ncb\n"}
    assert Lexer().expand("${L#*c}", env) == env["L"]
    assert Lexer().expand("${L##*b}", env) == "\ncb\n"
    assert Lexer().expand("${L//?/x}", env) == "xx\nxx\n"


def test_a_replacement_everywhere_may_name_the_match() -> None:
    env = {"V": "abc"}
    assert Lexer().expand("${V//b/'<$0${0}$$$1$x>'}", env) == "a<bb$>c"
    assert Lexer().expand("${V/b/'<$0>'}", env) == "a<$0>c"


def test_a_backslash_at_the_end_of_a_suffix_escapes_what_is_before_it() -> None:
    assert Lexer("`").expand("${V%b*\\}", {"V": "ab*"}) == "a"


def test_names_are_letters_decimal_digits_and_underscores() -> None:
    env = {"é_1": "x", "٣": "y"}
    assert Lexer().expand("$é_1² $٣x", env) == "x² yx"


def test_a_modifier_that_is_none_is_left_to_the_shell_where_the_variable_is_unset() -> None:
    assert Lexer(skip_unset=True).expand("${NO:0:1} ${NO:=x}", {}) == "${NO:0:1} ${NO:=x}"
    with pytest.raises(WordError):
        Lexer(skip_unset=True).expand("${A:0:1}", ENV)


def test_a_word_begun_before_a_substitution_with_an_operand_is_forgotten() -> None:
    """Also where the substitution is in double quotes."""
    assert Lexer().expand_words('x a"${NO:-b}"c', {}) == ["x", "bc"]
    assert Lexer().expand_words('x a"$NO"c', {}) == ["x", "ac"]


def test_white_space_does_not_part_a_heredoc_from_its_name() -> None:
    assert Lexer().expand_words("a x<< \tEOF b", {}) == ["a", "x<< \tEOF", "b"]
    assert Lexer().expand_words("<<- EOF", {}) == ["<<-", "EOF"]


@settings(deadline=None)
@given(
    st.text(st.sampled_from("$${}}\\`'\"AP:-+?#%/*x <0é"), max_size=30),
    st.sampled_from("\\`"),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_nothing_but_a_word_error_is_raised(
    word: str, escape: str, quotes: bool, escapes: bool, skip: bool, unset: bool
) -> None:
    lexer = Lexer(
        escape, raw_quotes=quotes, raw_escapes=escapes, skip_quotes=skip, skip_unset=unset
    )
    try:
        found = lexer.process(word, ENV)
    except WordError:
        return
    # What was split was there before.
    assert all(word in found.text or "<<" in word for word in found.words)


@settings(deadline=None)
@given(
    st.text(
        st.characters(exclude_characters="$'\"\\<\ufeff\x1c\x1d\x1e\x1f", exclude_categories=["Cs"])
    )
)
def test_a_word_without_special_characters_is_itself(word: str) -> None:
    assert Lexer().expand(word, {}) == word
    assert Lexer().expand_words(word, {}) == word.split()


@pytest.mark.parametrize("form", ["V##", "V%%", "V#", "V%", "V/", "V//"])
def test_no_value_takes_a_pattern_long(form: str) -> None:
    env = {"V": "a" * 20_000}
    word = "${" + form + "*a" * 20 + "*b" + ("/x}" if "/" in form else "}")
    assert Lexer().expand(word, env) == env["V"]


def test_variables_that_name_each_other_do_not_fill_the_memory() -> None:
    env = {"A": "a" * 10}
    with pytest.raises(WordError, match="beyond all bounds"):
        for _ in range(10):
            env["A"] = Lexer().expand("$A" * 10, env)
    assert len(env["A"]) <= 4 << 20


@pytest.mark.parametrize("replacement", ["b" * 60_000, "$0" * 30_000])
def test_replacements_do_not_fill_the_memory(replacement: str) -> None:
    env = {"V": "a" * 60_000, "R": replacement}
    with pytest.raises(WordError, match="beyond all bounds"):
        Lexer().expand("${V//a/$R}", env)


def test_a_message_shows_the_beginning_of_a_long_word() -> None:
    with pytest.raises(WordError) as caught:
        Lexer().expand("${" + "x" * 50_000, {})
    assert len(str(caught.value)) < 400
    assert len(caught.value.word) > 50_000
