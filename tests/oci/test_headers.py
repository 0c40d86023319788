"""The two ways to a header give the same bytes."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kaniko_core.errors import ContentError
from kaniko_core.oci.entry import SECOND, Entry, Kind
from kaniko_core.oci.headers import Headers, blocks
from kaniko_core.oci.tarheader import LARGEST_ID, LARGEST_NUMBER, check

numbers = st.one_of(st.integers(0, 3), st.integers(LARGEST_ID - 1, LARGEST_ID + 1))
names = st.one_of(
    st.binary(min_size=1, max_size=12),
    st.sampled_from([b"", b"a", b"n" * 99, b"n" * 100, b"n" * 101, b"d" * 150 + b"/" + b"n" * 90]),
).map(lambda name: name.replace(b"\0", b"0"))


@st.composite
def some_entries(draw: st.DrawFn) -> Entry:
    return Entry(
        draw(names),
        draw(st.sampled_from(Kind)),
        draw(st.integers(0, 0o7777)),
        draw(numbers),
        draw(numbers),
        draw(st.one_of(st.integers(0, 600), st.integers(LARGEST_NUMBER - 1, LARGEST_NUMBER + 1))),
        draw(
            st.one_of(
                st.integers(0, 2_000).map(lambda seconds: seconds * SECOND),
                st.integers(-2, 2),
                st.integers(LARGEST_NUMBER - 1, LARGEST_NUMBER + 1).map(lambda s: s * SECOND),
            )
        ),
        link=draw(names),
        xattrs=draw(st.sampled_from([{}, {b"user.a": b"1"}])),
        device=(1, 3),
    )


@given(st.lists(some_entries(), max_size=12))
@example([Entry(b"f", Kind.FILE, 0o644), Entry(b"f", Kind.DIRECTORY, 0o644)])
@example([Entry(b"", Kind.FILE, 0o644), Entry(b"", Kind.DIRECTORY, 0o644)])
def test_what_entries_have_in_common_changes_no_byte(entries: list[Entry]) -> None:
    headers = Headers()
    for entry in entries:
        try:
            expected = blocks(entry)
        except ContentError as error:
            with pytest.raises(ContentError, match="cannot be stored") as raised:
                headers.of(entry)
            assert str(raised.value) == str(error)
            continue
        found = headers.of(entry)
        assert found == expected
        assert len(found) % 512 == 0
        check(found[-512:])


def test_names_that_mean_deletions_are_refused() -> None:
    for kind in (Kind.FILE, Kind.DIRECTORY):
        with pytest.raises(ContentError, match="deleted"):
            Headers().of(Entry(b"a/.wh.b", kind))
    assert Headers().of(Entry(b"a.wh.b", Kind.FILE)) == blocks(Entry(b"a.wh.b", Kind.FILE))


def test_many_owners_are_no_burden() -> None:
    headers = Headers()
    made, expected = hashlib.sha256(), hashlib.sha256()
    for uid in range(2_000):
        entry = Entry(b"f", Kind.FILE, 0o600, uid % 700, uid)
        made.update(headers.of(entry))
        expected.update(blocks(entry))
    assert made.digest() == expected.digest()
    assert len(headers._known) <= 256
