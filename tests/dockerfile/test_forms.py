"""Arguments are split as their instructions mean it."""

from __future__ import annotations

import pytest

from kaniko_core.dockerfile.forms import json_words, split_keyword, split_space, split_words
from kaniko_core.errors import UsageError


def test_quotes_and_escapes_keep_words_together() -> None:
    assert split_words("a  'b c'\t\"d 'e\"f g\\ h", "\\") == ["a", "'b c'", '"d \'e"f', "g\\ h"]


def test_an_escape_is_no_escape_in_single_quotes() -> None:
    assert split_words("'a\\' b", "\\") == ["'a\\'", "b"]


def test_an_escape_at_the_end_is_dropped() -> None:
    assert split_words("a b\\", "\\") == ["a", "b"]
    assert split_words(" \\", "\\") == []


def test_only_plain_white_space_parts_words() -> None:
    assert split_space("a\tb  c\u00a0d") == ("a", "b", "c\u00a0d")
    assert split_space("") == ()
    assert split_keyword("  RUN\v a b ") == ("RUN", "a b")
    assert split_keyword("RUN") == ("RUN", "")


def test_json_is_a_list_of_strings_or_no_json() -> None:
    assert json_words(' [ "a" , "b" ] ') == ("a", "b")
    assert json_words('{"a": 1}') is None
    assert json_words('["a",]') is None
    with pytest.raises(UsageError, match="not all that is in it are strings"):
        json_words('["a", null]')
