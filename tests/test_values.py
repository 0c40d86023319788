from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from kaniko_core.errors import UsageError
from kaniko_core.values import Secret, boolean, csv_fields, long_duration, secret, size


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


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("7d", timedelta(days=7)),
        ("2w", timedelta(weeks=2)),
        ("36h", timedelta(hours=36)),
        ("1h30m", timedelta(minutes=90)),
        ("0", timedelta(0)),
    ],
)
def test_long_durations(text: str, time: timedelta) -> None:
    assert long_duration(text) == time


@pytest.mark.parametrize("text", ["", "7", "7 d", "-7d", "1d12h", "d", "9999999999d", "٣d"])
def test_what_is_no_long_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration") as caught:
        long_duration(text)
    assert caught.value.hint == "a duration looks like 7d, 2w or 36h"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("4096", 4096),
        ("10B", 10),
        ("1k", 1000),
        ("1KiB", 1024),
        ("500MB", 500 * 10**6),
        ("20GiB", 20 * 2**30),
        ("20g", 20 * 10**9),
        ("1.5 TB", 15 * 10**11),
        ("0.1kB", 100),
        ("2Pi", 2 * 2**50),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize("text", ["", "MB", "-1", "5iB", "1e9", "1,5GB", "10 X", ".5G", "5.GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        size(text)
