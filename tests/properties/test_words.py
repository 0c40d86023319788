"""Words expand as a second statement of the rules says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaniko_core.dockerfile.words import Lexer, WordError
from tests.dockerfile import tables
from tests.properties.depth import tried
from tests.properties.grammar import Dialect, GrammarError, meaning

PIECES = st.sampled_from(
    [
        *"$${}}::--++??##%%//\\\\''\"\"`<<  \t\n*?.ABxyé_10[]",
        *(
            "${A}",
            "${U:-x}",
            "${B%",
            "${S//",
            "${P/",
            "${A:",
            "$A",
            "$U",
            "\\}",
            "\\/",
            "\\*",
            "$0",
        ),
        *("${A:-", "${U+", "${B##", "${P%%*/", "<< ", "\\$", "$$", "²", "\u2028", "\x1f"),
    ]
)
WORDS = st.lists(PIECES, max_size=14).map("".join)
VALUES = st.sampled_from(
    [
        "",
        "a value",
        "/usr/local/x.tar.gz",
        "*x?",
        "a\"b'c",
        "a\nb\nab",
        "aaa",
        "\\a}/",
        " x ",
        "한국",
    ]
)
ENVS = st.fixed_dictionaries({}, optional=dict.fromkeys(("A", "B", "P", "S", "1", "x"), VALUES))
DIALECTS = st.builds(
    Dialect, st.sampled_from("\\`"), st.booleans(), st.booleans(), st.booleans(), st.booleans()
)


@tried(4)
@given(WORDS, ENVS, DIALECTS)
def test_a_word_means_what_the_grammar_says(
    word: str, env: dict[str, str], dialect: Dialect
) -> None:
    assert expanded(word, env, dialect) == stated(word, env, dialect)


@tried()
@given(
    st.lists(st.sampled_from([*"ab*?\n", "\\*", "\\?", "\\\\"]), max_size=6).map("".join), VALUES
)
def test_trimming_and_replacing_agree_with_sets_of_positions(pattern: str, value: str) -> None:
    for form in ("${V#P}", "${V##P}", "${V%P}", "${V%%P}", "${V/P/-}", "${V//P/<\\$0>}"):
        word = form.replace("P", pattern)
        assert expanded(word, {"V": value}, Dialect()) == stated(word, {"V": value}, Dialect())


@pytest.mark.parametrize("table", ["words.json", "words-generated.json"])
def test_the_second_statement_is_that_of_the_table(table: str) -> None:
    def ours(case: dict[str, Any]) -> object:
        dialect = Dialect(
            case.get("escape", "\\"),
            raw_quotes=case.get("raw_quotes", False),
            skip_quotes=case.get("skip_process_quotes", False),
            skip_unset=case.get("skip_unset_env", False),
        )
        env = dict(item.split("=", 1) for item in case["env"])
        return stated(case["word"], env, dialect)

    def theirs(out: dict[str, Any]) -> object:
        return (
            out["result"],
            tuple(out["words"] or ()),
            frozenset(out["matched"]),
            frozenset(out["unmatched"]),
        )

    tables.check(table, ours, theirs)


def expanded(word: str, env: dict[str, str], dialect: Dialect) -> object:
    lexer = Lexer(
        dialect.escape,
        raw_quotes=dialect.raw_quotes,
        raw_escapes=dialect.raw_escapes,
        skip_quotes=dialect.skip_quotes,
        skip_unset=dialect.skip_unset,
    )
    try:
        found = lexer.process(word, env)
    except WordError:
        return tables.REFUSED
    return found.text, found.words, found.matched, found.unmatched


def stated(word: str, env: dict[str, str], dialect: Dialect) -> object:
    try:
        found = meaning(word, env, dialect)
    except GrammarError:
        return tables.REFUSED
    return found.text, found.words, found.matched, found.unmatched
