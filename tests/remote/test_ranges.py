from __future__ import annotations

import io
import random
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaniko_core.errors import ContextError, RegistryError
from kaniko_core.remote.ranges import RangeReader

DATA = random.Random(1).randbytes(5000)
NEVER = threading.Event()


class Source:
    """Gives ranges of DATA, and remembers which it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.broken: set[int] = set()  # starts
        self.held: dict[int, threading.Event] = {}
        self._lock = threading.Lock()

    def __call__(self, start: int, end: int) -> bytes:
        with self._lock:
            self.asked.append((start, end))
        if start in self.held:
            assert self.held[start].wait(20)
        if start in self.broken:
            raise RegistryError(f"part {start} is broken")
        return DATA[start:end]


@pytest.fixture(autouse=True)
def no_threads_stay() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("range")]


def reader(source: Source, *, part: int = 1000, at_once: int = 2, start: int = 0) -> RangeReader:
    return RangeReader(source, len(DATA), start=start, part=part, at_once=at_once, stopped=NEVER)


@settings(deadline=None)
@given(
    part=st.integers(150, 6000),
    at_once=st.integers(1, 5),
    start=st.integers(0, len(DATA)),
    reads=st.lists(st.integers(1, 3000), min_size=1),
    slow=st.lists(st.booleans(), min_size=1, max_size=10),
)
def test_any_parts_in_any_order_are_exactly_the_bytes(
    part: int, at_once: int, start: int, reads: list[int], slow: list[bool]
) -> None:
    ended = {at: threading.Event() for at in range(start, len(DATA), part)}

    def fetch(begin: int, end: int) -> bytes:
        # A slow one lets the next one overtake it, where there are threads for that.
        if slow[(begin - start) // part % len(slow)] and begin + part in ended and at_once > 1:
            ended[begin + part].wait(0.001)
        ended[begin].set()
        return DATA[begin:end]

    found = bytearray()
    with RangeReader(
        fetch, len(DATA), start=start, part=part, at_once=at_once, stopped=NEVER
    ) as stream:
        while chunk := stream.read(reads[len(found) % len(reads)]):
            found += chunk
        assert stream.read(1) == b""

    assert bytes(found) == DATA[start:]


def test_all_ways_of_reading_agree() -> None:
    with reader(Source()) as stream:
        assert stream.read() == DATA
    with reader(Source()) as stream:
        assert io.BufferedReader(stream, 333).read() == DATA
    with reader(Source(), start=10) as stream:
        assert stream.read(0) == b""
        assert stream.readable()
        assert stream.readall() == DATA[10:]


def test_empty_file_asks_for_nothing() -> None:
    source = Source()

    with reader(source, start=len(DATA)) as stream:
        assert stream.read() == b""

    assert source.asked == []


def test_each_byte_is_asked_for_once() -> None:
    source = Source()

    with reader(source, part=1300) as stream:
        stream.read()

    assert sorted(source.asked) == [(0, 1300), (1300, 2600), (2600, 3900), (3900, 5000)]


def test_nothing_is_asked_for_before_somebody_reads() -> None:
    source = Source()

    reader(source).close()

    assert source.asked == []


def test_window_is_bounded_whatever_the_reader_does() -> None:
    source = Source()

    with reader(source, part=100) as stream:
        stream.read(1)
        assert len(source.asked) <= 4
        stream.read(99)
        stream.read(1)
    # Threads have ended: whatever they would have fetched, they have.
    assert len(source.asked) <= 5


def test_slow_part_does_not_let_the_window_grow() -> None:
    source = Source()
    source.held[0] = threading.Event()
    with reader(source, part=100) as stream:
        waiting = threading.Thread(target=stream.read, args=(1,))
        waiting.start()
        threading.Event().wait(0.05)
        source.held[0].set()
        waiting.join()

    assert len(source.asked) <= 4


def test_error_is_raised_where_its_part_is_due_and_ever_after() -> None:
    source = Source()
    source.broken.add(2000)

    with reader(source) as stream:
        assert stream.read(1000) + stream.read(1000) == DATA[:2000]
        for _ in range(3):
            with pytest.raises(RegistryError, match="part 2000 is broken"):
                stream.read(1)


def test_fetch_that_times_out_is_an_error_and_no_waiting() -> None:
    def fetch(_start: int, _end: int) -> bytes:
        raise TimeoutError

    with (
        RangeReader(fetch, 10, part=5, at_once=1, stopped=NEVER) as stream,
        pytest.raises(TimeoutError),
    ):
        stream.read()


@pytest.mark.parametrize("given", [b"", b"1234", b"123456"])
def test_part_of_another_size_is_refused(given: bytes) -> None:
    with (
        RangeReader(lambda _start, _end: given, 10, part=5, at_once=1, stopped=NEVER) as stream,
        pytest.raises(ContextError, match=f"{len(given)} bytes instead of the expected 5"),
    ):
        stream.read()


def test_giving_up_ends_a_read_that_waits() -> None:
    source, stopped = Source(), threading.Event()
    source.held[0] = threading.Event()
    with RangeReader(source, len(DATA), part=1000, at_once=2, stopped=stopped) as stream:
        threading.Timer(0.05, stopped.set).start()
        with pytest.raises(ContextError, match="cancelled"):
            stream.read(1)
        source.held[0].set()


def test_closing_asks_for_nothing_more() -> None:
    source = Source()
    source.held[1000] = source.held[2000] = threading.Event()
    stream = reader(source)
    stream.read(1)
    threading.Timer(0.05, source.held[1000].set).start()

    stream.close()
    stream.close()

    # The fourth part of the window waited for a thread.
    assert {start for start, _ in source.asked} <= {0, 1000, 2000}
    with pytest.raises(ValueError, match="closed"):
        stream.read(1)
