from __future__ import annotations

from datetime import timedelta

import pytest

from kaniko_core.cache.tables import aligned, amount, span


def test_cells_are_below_those_of_the_first_row() -> None:
    assert aligned([("A", "B", "C"), ("long", "", "x"), ("y", "z", "")]) == (
        "A     B  C\nlong     x\ny     z"
    )


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0.0 MB"),
        (48_240_000, "48.2 MB"),
        (999_900_000, "999.9 MB"),
        (1_500_000_000, "1.5 GB"),
        (2_000_000_000_000, "2.0 TB"),
    ],
)
def test_amounts(size: int, text: str) -> None:
    assert amount(size) == text


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (timedelta(seconds=-5), "0 seconds"),
        (timedelta(seconds=1), "1 second"),
        (timedelta(seconds=59), "59 seconds"),
        (timedelta(seconds=60), "1 minute"),
        (timedelta(hours=23), "23 hours"),
        (timedelta(days=1), "1 day"),
        (timedelta(days=40), "40 days"),
    ],
)
def test_spans(time: timedelta, text: str) -> None:
    assert span(time) == text
