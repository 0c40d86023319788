from __future__ import annotations

from kaniko_core.builder.packing import in_whole_seconds, not_later
from kaniko_core.oci.entry import SECOND, Entry, Kind


def file(name: bytes, mtime_ns: int) -> Entry:
    return Entry(name, Kind.FILE, 0o644, mtime_ns=mtime_ns)


def test_fractions_of_times_are_dropped_before_and_after_1970() -> None:
    entries = in_whole_seconds([file(b"a", 5 * SECOND + 7), file(b"b", -SECOND + 1)])
    assert [entry.mtime_ns for entry in entries] == [5 * SECOND, -SECOND]


def test_what_is_younger_gets_the_latest_time_in_the_layer_alone() -> None:
    young, old = file(b"young", 9 * SECOND), file(b"old", 2 * SECOND)
    packed = list(not_later([young, old], 5))
    assert [(entry.name, entry.mtime_ns) for entry in packed] == [
        (b"young", 5 * SECOND),
        (b"old", 2 * SECOND),
    ]
    assert young.mtime_ns == 9 * SECOND  # a RUN that comes next sees the file as it is
