"""Other parts, another key; and every key stays what it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaniko_core.cache.key import Part, key_of

TEXT = st.text(st.characters(codec=None), max_size=4) | st.sampled_from(["", "a", "b", "ab", "-"])
PARTS = st.lists(st.builds(Part, TEXT, TEXT, TEXT | st.binary(max_size=4)), max_size=4)


def spelled(parts: list[Part]) -> list[tuple[bytes, ...]]:
    """Return what is hashed of each part: a text is its bytes."""
    return [
        tuple(
            field if isinstance(field, bytes) else field.encode("utf-8", "surrogatepass")
            for field in (part.kind, part.name, part.value)
        )
        for part in parts
    ]


def test_key_of_the_same_parts_never_changes() -> None:
    """A change here empties every cache there is: it has to be meant, and the version with it."""
    parts = [Part("file", "a.txt", "mode=644"), Part("variable", "A", b"\xff")]
    assert key_of(parts) == "52c1636ba3c59d6a4369be3f88696813765c729bfa48e9e07044ed3ba266d41d"


def test_key_is_what_a_tag_may_be() -> None:
    assert len(key_of([])) == 64
    assert set(key_of([])) <= set("0123456789abcdef")


@given(PARTS, PARTS)
def test_other_parts_have_another_key(one: list[Part], other: list[Part]) -> None:
    assert (key_of(one) == key_of(other)) == (spelled(one) == spelled(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([Part("a", "b", "c")], [Part("ab", "", "c")]),
        ([Part("file", "ab", "c")], [Part("file", "a", "bc")]),
        ([Part("a", "", ""), Part("b", "", "")], [Part("a", "", "b")]),
        ([Part("a", "", ""), Part("b", "", "")], [Part("b", "", ""), Part("a", "", "")]),
        ([Part("a", "", "")], [Part("a", "", ""), Part("", "", "")]),
        ([Part("a", "", "\udcff")], [Part("a", "", "\\udcff")]),
    ],
)
def test_what_a_plain_join_confuses_is_told_apart(one: list[Part], other: list[Part]) -> None:
    assert key_of(one) != key_of(other)
