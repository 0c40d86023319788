from __future__ import annotations

from pathlib import Path

import pytest

from kaniko_core.errors import UsageError
from kaniko_core.values import Secret, boolean, csv_fields, secret


@pytest.mark.parametrize("text", ["1", "t", "T", "true", "TRUE", "True"])
def test_true(text: str) -> None:
    assert boolean(text) is True


@pytest.mark.parametrize("text", ["0", "f", "F", "false", "FALSE", "False"])
def test_false(text: str) -> None:
    assert boolean(text) is False


@pytest.mark.parametrize("text", ["", "yes", "no", "tRUE", "on", "2", " true"])
def test_neither_true_nor_false(text: str) -> None:
    assert boolean(text) is None


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", [""]),
        ("a", ["a"]),
        ("a=1,b", ["a=1", "b"]),
        ("a,,b,", ["a", "", "b", ""]),
        ('"a,b",c', ["a,b", "c"]),
        ('"say ""so""",', ['say "so"', ""]),
    ],
)
def test_fields_of_a_line(text: str, fields: list[str]) -> None:
    assert csv_fields(text) == fields


@pytest.mark.parametrize("text", ['a"b', '"a"b', '"a', 'a,"b'])
def test_a_quote_inside_a_field_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="quote inside a field"):
        csv_fields(text)


def test_a_comma_in_the_name_of_a_secrets_file_is_quoted() -> None:
    assert secret('id=token,"src=a,b.txt"') == Secret("token", path=Path("a,b.txt"))
