"""Sets of positions are followed as one would by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kaniko_core import positions

TEXTS = st.text(st.sampled_from("ab\n"), max_size=8)


def as_set(found: int) -> set[int]:
    return {index for index in range(found.bit_length()) if found >> index & 1}


def as_number(found: set[int]) -> int:
    return sum(1 << index for index in found)


@given(TEXTS, st.sets(st.integers(0, 8)))
def test_one_and_many_lead_over_the_characters_that_are_asked_for(
    text: str, start: set[int]
) -> None:
    start = {index for index in start if index <= len(text)}
    characters = positions.where(text, "a".__eq__)
    once = {index + 1 for index in start if text[index : index + 1] == "a"}
    often, step = set(start), set(start)
    while step := {index + 1 for index in step if text[index : index + 1] == "a"}:
        often |= step

    assert as_set(positions.one(as_number(start), characters)) == once
    assert as_set(positions.many(as_number(start), characters)) == often


def test_places_of_a_text_have_names() -> None:
    assert as_set(positions.everywhere("ab")) == {0, 1, 2}
    assert as_set(positions.end("ab")) == {2}
    assert positions.first(as_number({3, 5})) == 3
    assert positions.last(as_number({3, 5})) == 5
    assert positions.where("", "a".__eq__) == 0
