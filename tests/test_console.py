"""What the user sees: lines for logs, a live display on terminals, JSON for machines."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import pytest

from kaniko_core.console import Failure, Renderer, Terminal, open_console, renderer
from kaniko_core.console.jsonlines import JsonLines
from kaniko_core.console.live import Activity, tame
from kaniko_core.console.stream import OutputLines, Sink
from kaniko_core.console.textlines import TextLines
from kaniko_core.console.words import duration, heading, printable, size, timestamp
from kaniko_core.options import LogFormat, LogOptions, Verbosity
from kaniko_core.progress import (
    BytesMoved,
    Direction,
    Event,
    Noted,
    Output,
    Progress,
    StageFinished,
    StageStarted,
    StepFinished,
    StepStarted,
    Warned,
)

PULL, PUSH, UNPACK = Direction.PULL, Direction.PUSH, Direction.UNPACK
LIVE = Terminal(color=True, live=True)
# Every kind, as one build would send them.
EVENTS: tuple[Event, ...] = (
    StageStarted("builder", "debian:12", 2),
    BytesMoved(PULL, "debian:12 0123456789ab", 0, 48_500_000),
    BytesMoved(PULL, "debian:12 0123456789ab", 48_500_000, 48_500_000),
    StepStarted("builder", 1, 2, "RUN make \t &&   make install"),
    Output("builder", b"compiling\nlinking\n"),
    Output("builder", b"careful\n", stderr=True),
    StepFinished("builder", 1, 12.34),
    StepStarted("builder", 2, 2, "COPY . /src"),
    StepFinished("builder", 2, 0.2, cached=True),
    StageFinished("builder", 15.0),
    Warned("the cache is old", hint="warm it"),
    Noted("pushed registry.example.com/app:1@sha256:0123"),
)


@dataclass
class Clock:
    """Time that goes on when a test says so."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Screen:
    """Lines of text, and the clock that they were written by."""

    clock: Clock = field(default_factory=Clock)
    stream: io.StringIO = field(default_factory=io.StringIO)

    def text(self, **options: bool) -> TextLines:
        return TextLines(Sink(self.stream), wall=self.clock, clock=self.clock, **options)

    def json(self) -> JsonLines:
        return JsonLines(Sink(self.stream), wall=self.clock, clock=self.clock)

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def screen() -> Screen:
    return Screen()


def show(progress: Progress, *events: Event) -> None:
    for event in events:
        progress(event)


# --- lines of text -------------------------------------------------------------------------


def test_a_build_as_text(screen: Screen) -> None:
    show(screen.text(), *EVENTS)
    assert screen.lines == [
        "[builder] FROM debian:12",
        "pulled debian:12 0123456789ab (48.5 MB in 0.0s)",
        "[builder 1/2] RUN make && make install",
        "compiling",
        "linking",
        "careful",
        "[builder 1/2] done in 12.3s",
        "[builder 2/2] COPY . /src",
        "[builder 2/2] cached",
        "[builder] built in 15.0s",
        "warning: the cache is old",
        "hint: warm it",
        "pushed registry.example.com/app:1@sha256:0123",
    ]


def test_instruction_that_took_no_time_needs_no_second_line(screen: Screen) -> None:
    show(screen.text(), StepStarted("a", 1, 1, "ENV A=1"), StepFinished("a", 1, 0.01))
    assert screen.lines == ["[a 1/1] ENV A=1"]


def test_output_bears_its_stage_while_several_are_built(screen: Screen) -> None:
    show(
        screen.text(),
        StageStarted("a", "x", 1),
        Output("a", b"alone\n"),
        StageStarted("b", "y", 1),
        Output("a", b"one\n"),
        Output("b", b"two\n"),
        StageFinished("b", 1.0),
        Output("a", b"alone again\n"),
    )
    assert [line for line in screen.lines if "FROM" not in line] == [
        "alone",
        "[a] one",
        "[b] two",
        "[b] built in 1.0s",
        "alone again",
    ]


def test_lines_are_whole_however_they_come(screen: Screen) -> None:
    show(
        screen.text(),
        StageStarted("a", "x", 1),
        StageStarted("b", "y", 1),
        Output("a", b"fi"),
        Output("b", b"sec"),
        Output("a", b"warn", stderr=True),
        Output("a", b"rst\nth"),
        Output("b", b"ond\n"),
        Output("a", b"ing\n", stderr=True),
        Output("a", b"ird\n"),
    )
    assert screen.lines[2:] == ["[a] first", "[b] second", "[a] warning", "[a] third"]


@pytest.mark.parametrize("last", [StepFinished("a", 1, 0.0), StageFinished("a", 0.0)])
def test_line_without_end_is_shown_when_its_instruction_ends(screen: Screen, last: Event) -> None:
    show(screen.text(), Output("a", b"no line feed"), Output("b", b"another stage's"), last)
    assert screen.lines[0] == "no line feed"
    assert "another" not in screen.stream.getvalue()


def test_line_without_end_is_shown_before_the_error(screen: Screen) -> None:
    lines = screen.text()
    lines(Output("a", b"last words"))
    lines.fail(Failure("RUN failed"))
    assert screen.lines == ["last words", "error: RUN failed"]


def test_long_transfers_are_told_now_and_then(screen: Screen) -> None:
    lines = screen.text()
    for second in range(100):
        screen.clock.now = float(second)
        lines(BytesMoved(PUSH, "layer", second * 1_000_000, 100_000_000))
    lines(BytesMoved(PUSH, "layer", 100_000_000, 100_000_000))
    assert screen.lines == [
        "pushing layer: 1.0 MB of 100.0 MB",
        "pushing layer: 31.0 MB of 100.0 MB",
        "pushing layer: 61.0 MB of 100.0 MB",
        "pushing layer: 91.0 MB of 100.0 MB",
        "pushed layer (100.0 MB in 1m39s)",
    ]


def test_transfer_of_unknown_size_is_told_without(screen: Screen) -> None:
    lines = screen.text()
    lines(BytesMoved(PULL, "layer", 0, 0))
    screen.clock.now += 2
    lines(BytesMoved(PULL, "layer", 5_000, 0))
    assert screen.lines == ["pulling layer: 5.0 kB"]


def test_small_blob_needs_one_line(screen: Screen) -> None:
    show(screen.text(), BytesMoved(PULL, "config", 1234, 1234))
    assert screen.lines == ["pulled config (1.2 kB)"]


def test_work_on_our_own_disk_is_told_only_where_it_takes_long(screen: Screen) -> None:
    lines = screen.text()
    show(lines, BytesMoved(UNPACK, "quick", 0, 9), BytesMoved(UNPACK, "quick", 9, 9))
    lines(BytesMoved(UNPACK, "slow", 0, 9))
    screen.clock.now += 3
    lines(BytesMoved(UNPACK, "slow", 9, 9))
    assert screen.lines == ["unpacked slow (9 B in 3.0s)"]


def test_failure_as_text(screen: Screen) -> None:
    screen.text().fail(
        Failure("it broke\n    here", "mend it", ("in stage a",), "Traceback\n  line 1\n")
    )
    assert screen.lines == [
        "Traceback",
        "  line 1",
        "error: it broke",
        "    here",
        "note: in stage a",
        "hint: mend it",
    ]


def test_every_line_bears_the_time_where_that_is_wanted(screen: Screen) -> None:
    lines = screen.text(stamps=True)
    show(lines, *EVENTS)
    lines.fail(Failure("it\nbroke"))
    assert len(screen.lines) == 15
    assert all(line.startswith("2023-11-14T22:13:20.000Z ") for line in screen.lines)


def test_colors_are_for_labels_and_end(screen: Screen) -> None:
    lines = screen.text(color=True)
    show(lines, Warned("careful"), StepStarted("a", 1, 1, "RUN x"))
    assert screen.lines == ["\x1b[1;33mwarning:\x1b[0m careful", "\x1b[1;34m[a 1/1]\x1b[0m RUN x"]


def test_words_of_others_cannot_move_the_cursor(screen: Screen) -> None:
    show(
        screen.text(),
        Noted("a \x1b[2J\x07"),
        Warned("b \x1b]0;title\x07", hint="c \r"),
        StageStarted("\x9b2J", "d\x08", 1),
        StepStarted("s", 1, 1, "RUN \x1b[A"),
    )
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", screen.stream.getvalue())


def test_output_of_commands_passes_as_it_is(screen: Screen) -> None:
    """CI systems show a compiler's colours."""
    show(screen.text(), Output("a", b"\x1b[31mred\x1b[0m\n"))
    assert screen.lines == ["\x1b[31mred\x1b[0m"]


# --- lines of output -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([b"a\nb\n"], ["a", "b"]),
        ([b"a\r\nb\r\n"], ["a", "b"]),
        ([b"a\r", b"\nb\n"], ["a", "b"]),
        ([b"10%\r50%\r100%\n"], ["100%"]),
        ([b"10%\r", b"50%\r", b"100%\r", b"\n"], ["100%"]),
        ([b"\n\n"], ["", ""]),
        ([b"z\xc3", b"\xb6\n"], ["zö"]),
        ([b"\xff\n"], ["�"]),
        ([b"a\x00b\n"], ["a\x00b"]),
        ([b"no end"], []),
    ],
)
def test_bytes_become_lines(chunks: list[bytes], expected: list[str]) -> None:
    output = OutputLines()
    assert [line for chunk in chunks for line in output.lines(Output("a", chunk))] == expected


def test_line_without_end_does_not_fill_the_memory() -> None:
    output = OutputLines()
    shown = [line for _ in range(1000) for line in output.lines(Output("a", b"x" * 1000))]
    rest = [line for _, _, line in output.rest()]
    assert "".join((*shown, *rest)) == "x" * 1_000_000
    assert max(map(len, shown)) < 100_000


def test_progress_bar_does_not_fill_the_memory() -> None:
    output = OutputLines()
    for percent in range(100_000):
        assert output.lines(Output("a", b"%d%%\r" % percent)) == []
    assert [line for _, _, line in output.rest()] == ["99999%"]


# --- JSON ----------------------------------------------------------------------------------


def test_every_event_is_an_object(screen: Screen) -> None:
    show(screen.json(), *EVENTS)
    events = [item["event"] for item in screen.objects]
    assert events == [
        "stage_started",
        "bytes_moved",
        "bytes_moved",
        "step_started",
        "output",
        "output",
        "output",
        "step_finished",
        "step_started",
        "step_finished",
        "stage_finished",
        "warned",
        "noted",
    ]
    for item in screen.objects:
        assert item["time"] == "2023-11-14T22:13:20.000Z"
        assert item["level"] in ("info", "warning")
        assert isinstance(item["msg"], str)


def test_fields_of_events_are_kept(screen: Screen) -> None:
    show(screen.json(), *EVENTS)
    by_event = {item["event"]: item for item in screen.objects}
    common = {"time": "2023-11-14T22:13:20.000Z", "level": "info"}
    assert by_event["step_started"] == common | {
        "event": "step_started",
        "msg": "[builder 2/2] COPY . /src",
        "stage": "builder",
        "number": 2,
        "steps": 2,
        "text": "COPY . /src",
    }
    assert by_event["step_finished"] == common | {
        "event": "step_finished",
        "msg": "[builder 2] cached",
        "stage": "builder",
        "number": 2,
        "cached": True,
        "seconds": 0.2,
    }
    assert by_event["output"] == common | {
        "event": "output",
        "msg": "careful",
        "stage": "builder",
        "stream": "stderr",
    }
    assert by_event["bytes_moved"] == common | {
        "event": "bytes_moved",
        "msg": "pulled debian:12 0123456789ab: 48.5 MB",
        "direction": "pull",
        "what": "debian:12 0123456789ab",
        "done": 48_500_000,
        "total": 48_500_000,
    }
    assert by_event["warned"]["hint"] == "warm it"


def test_failure_is_an_object(screen: Screen) -> None:
    lines = screen.json()
    lines(Output("a", b"last words"))
    lines.fail(Failure("it broke", "mend it", ("in stage a",)))
    words, failed = screen.objects
    assert words["msg"] == "last words"
    assert failed == {
        "time": "2023-11-14T22:13:20.000Z",
        "level": "error",
        "event": "failed",
        "msg": "it broke",
        "hint": "mend it",
        "notes": ["in stage a"],
    }


def test_json_is_ascii_on_one_line_whatever_is_in_it(screen: Screen) -> None:
    show(screen.json(), Output("ä", b"\xff\x00\x1b[2J\xe2\x80\xa8\n"), Noted("two\nlines \udcff"))
    text = screen.stream.getvalue()
    assert text.isascii()
    assert [item["msg"] for item in screen.objects] == ["�\x00\x1b[2J\u2028", "two\nlines \udcff"]


def test_transfers_do_not_flood_json(screen: Screen) -> None:
    lines = screen.json()
    for tenth in range(100):
        screen.clock.now = tenth / 10
        lines(BytesMoved(PULL, "layer", tenth, 100))
    lines(BytesMoved(PULL, "layer", 100, 100))
    assert [item["done"] for item in screen.objects] == [*range(0, 100, 10), 100]


# --- the stream ----------------------------------------------------------------------------


class Broken(io.StringIO):
    """A stream whose reader went away."""

    def write(self, text: str, /) -> int:
        raise BrokenPipeError


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("log_format", LogFormat)
@pytest.mark.parametrize("make", [Broken, closed, lambda: None], ids=["broken", "closed", "none"])
def test_stream_that_goes_away_does_not_end_the_build(
    log_format: LogFormat, make: Callable[[], TextIO | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with open_console(LogOptions(log_format=log_format), make(), LIVE) as progress:
        show(progress, *EVENTS)


def test_pipe_that_nobody_reads_is_left_alone() -> None:
    """Python would complain, and exit with 120, if it had to flush it at its end."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        sink = Sink(stream)
        sink.write("into the void\n")
        sink.write("again\n")


def test_full_disk_does_not_end_the_build() -> None:
    with Path("/dev/full").open("w") as stream:
        show(TextLines(Sink(stream)), *EVENTS)


def test_stream_that_knows_only_ascii_shows_the_rest_escaped() -> None:
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding="ascii")
    show(TextLines(Sink(stream)), Noted("grün"), Output("a", b"\xff\n"), Noted("plain"))
    assert buffer.getvalue() == b"gr\\xfcn\n\\ufffd\nplain\n"


@pytest.mark.parametrize("make", [Screen.text, Screen.json], ids=["text", "json"])
def test_lines_of_threads_do_not_mix(screen: Screen, make: Callable[[Screen], Renderer]) -> None:
    lines = make(screen)

    def build(stage: str) -> None:
        for _ in range(200):
            show(lines, Output(stage, stage.encode() * 20), Output(stage, b"\n"), Noted(stage))

    threads = [threading.Thread(target=build, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = {text for name in "abcd" for text in (name, name * 20)}
    seen = [item["msg"] for item in screen.objects] if make is Screen.json else screen.lines
    assert set(seen) == wanted
    assert len(seen) == 1600


# --- how much is shown ---------------------------------------------------------------------


def shown(verbosity: Verbosity, *events: Event, log_format: LogFormat = LogFormat.TEXT) -> str:
    stream = io.StringIO()
    options = LogOptions(verbosity=verbosity, log_format=log_format)
    with open_console(options, stream, Terminal()) as progress:
        show(progress, *events)
        logging.getLogger("kaniko_core.part").debug("a detail of %s", "ours")
        logging.getLogger("kaniko_core.part").warning("a warning for maintainers")
        logging.getLogger("other").warning("not ours")
        logging.getLogger("other").debug("not ours, and a detail")
    return stream.getvalue()


@pytest.mark.parametrize("verbosity", [Verbosity.PANIC, Verbosity.FATAL, Verbosity.ERROR])
def test_with_errors_only_progress_is_silent(verbosity: Verbosity) -> None:
    assert shown(verbosity, *EVENTS) == ""


def test_with_warnings_only_these_are_shown() -> None:
    assert shown(Verbosity.WARN, *EVENTS) == "warning: the cache is old\nhint: warm it\n"


def test_usually_log_records_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(Verbosity.INFO, Noted("x")) == "x\n"
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("verbosity", [Verbosity.DEBUG, Verbosity.TRACE])
def test_details_are_shown_to_those_who_ask(verbosity: Verbosity) -> None:
    assert shown(verbosity, Noted("x")).splitlines() == [
        "x",
        "debug: kaniko_core.part: a detail of ours",
        "warning: kaniko_core.part: a warning for maintainers",
        "warning: other: not ours",
    ]


def test_details_are_json_where_all_is() -> None:
    *_, last = shown(Verbosity.DEBUG, log_format=LogFormat.JSON).splitlines()
    assert json.loads(last) | {"time": ""} == {
        "time": "",
        "level": "warning",
        "event": "logged",
        "msg": "not ours",
        "logger": "other",
    }


def test_loggers_are_afterwards_as_before() -> None:
    root, library = logging.getLogger(), logging.getLogger("kaniko_core")
    before = (list(root.handlers), library.level)
    shown(Verbosity.DEBUG)
    assert (list(root.handlers), library.level) == before


@pytest.mark.parametrize(
    ("log_format", "terminal", "colored"),
    [
        (LogFormat.AUTO, Terminal(color=True), True),
        (LogFormat.COLOR, Terminal(color=True), True),
        (LogFormat.COLOR, Terminal(), False),
        (LogFormat.AUTO, Terminal(), False),
        (LogFormat.TEXT, Terminal(color=True), False),
        (LogFormat.JSON, Terminal(color=True), False),
    ],
)
def test_colors_are_for_terminals(log_format: LogFormat, terminal: Terminal, colored: bool) -> None:
    stream = io.StringIO()
    renderer(LogOptions(log_format=log_format), stream, terminal).fail(Failure("no"))
    assert ("\x1b[" in stream.getvalue()) is colored


# --- terminals -----------------------------------------------------------------------------


def visible(text: str) -> list[str]:
    """Return the lines that were written, without escape sequences; drawn ones too."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", text).splitlines()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "10")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return io.StringIO()


def test_on_a_terminal_the_same_lines_scroll(screen: Screen, terminal: io.StringIO) -> None:
    with open_console(LogOptions(), terminal, LIVE) as progress:
        show(progress, *EVENTS)
    show(screen.text(), *EVENTS)
    written = iter(visible(terminal.getvalue()))
    for line in screen.lines:
        assert any(re.sub(" in 0.0s", "", line) in re.sub(" in 0.0s", "", w) for w in written), line


def test_cursor_is_back_at_the_end(terminal: io.StringIO) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        open_console(LogOptions(), terminal, LIVE) as progress,
    ):
        progress(StepStarted("a", 1, 1, "RUN sleep"))
        raise KeyboardInterrupt
    assert terminal.getvalue().rfind("\x1b[?25h") > terminal.getvalue().rfind("\x1b[?25l")


def test_lines_are_not_cut_at_the_terminals_edge(terminal: io.StringIO) -> None:
    with open_console(LogOptions(), terminal, LIVE) as progress:
        progress(Noted("x" * 500))
        progress(Output("a", b"y" * 500 + b"\n"))
    assert "x" * 500 in terminal.getvalue()
    assert "y" * 500 in terminal.getvalue()


@pytest.mark.parametrize(
    "options",
    [
        LogOptions(log_format=LogFormat.TEXT),
        LogOptions(log_format=LogFormat.JSON),
        LogOptions(verbosity=Verbosity.WARN),
    ],
)
def test_nothing_is_drawn_where_lines_are_wanted(
    options: LogOptions, terminal: io.StringIO
) -> None:
    with open_console(options, terminal, LIVE) as progress:
        show(progress, *EVENTS)
    assert "\x1b[?25l" not in terminal.getvalue()


def test_display_shows_what_goes_on_and_for_how_long() -> None:
    clock = Clock()
    activity = Activity(clock)
    show(activity, StageStarted("a", "debian", 2), BytesMoved(PULL, "debian 01", 0, 9_000_000))
    clock.now += 3
    show(activity, StepStarted("b", 1, 2, "RUN make"))
    show(activity, BytesMoved(PULL, "debian 01", 6_000_000, 9_000_000))
    assert activity.lines() == [
        "   3.0s [a] FROM debian",
        "   0.0s [b 1/2] RUN make",
        "   3.0s pulling debian 01: 6.0 MB of 9.0 MB, 2.0 MB/s",
    ]
    show(
        activity,
        BytesMoved(PULL, "debian 01", 9_000_000, 9_000_000),
        StepFinished("b", 1, 1.0),
        StageFinished("a", 3.0),
    )
    assert activity.lines() == []


def test_display_leaves_room_for_what_scrolls(terminal: io.StringIO) -> None:
    from rich.console import Console

    activity = Activity()
    show(activity, *(StageStarted(f"s{number}", "x", 1) for number in range(30)))
    drawn = io.StringIO()
    Console(file=drawn, width=60, height=10).print(activity)
    lines = drawn.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[-1].strip() == "and 26 more"


@pytest.mark.parametrize(
    ("text", "color", "expected"),
    [
        ("plain\n", True, "plain\n"),
        ("\x1b[31mred\x1b[0m\n", True, "\x1b[31mred\x1b[0m\n"),
        ("\x1b[31mred\n", True, "\x1b[31mred\x1b[0m\n"),
        ("\x1b[31mred\n", False, "red\n"),
        ("a\x1b[2J\x1b[3Ab\n", True, "ab\n"),
        ("a\x1b]0;title\x07b\x1b]8;;url\x1b\\c\n", True, "abc\n"),
        ("a\x08\x07\x00b\tc\n", True, "ab\tc\n"),
        ("one\x1b[1A\ntwo\n", True, "one\ntwo\n"),
        ("cut\x1b[\n", True, "cut\n"),
    ],
)
def test_output_keeps_its_colors_and_cannot_tear_the_display(
    text: str, color: bool, expected: str
) -> None:
    assert tame(text, color=color) == expected


# --- words ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (48_500_000, "48.5 MB"),
        (999_960, "1.0 MB"),
        (2_000_000_000, "2.0 GB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0s"), (59.94, "59.9s"), (59.96, "1m00s"), (125, "2m05s"), (3605.4, "1h00m05s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN  make\t&&  true ", "RUN make && true"),
        ("RUN <<EOF\nmake\nEOF", "RUN <<EOF …"),
        ("RUN " + "x" * 400, "RUN " + "x" * 296 + "…"),
        ("RUN \x1b[2J", "RUN \\x1b[2J"),
    ],
)
def test_headings_are_one_line(text: str, expected: str) -> None:
    assert heading(text) == expected


def test_text_of_every_script_is_printable() -> None:
    assert printable("日本語\tgrün\n") == "日本語\tgrün\n"
    assert printable("\x00\x7f\x9b") == "\\x00\\x7f\\x9b"


def test_time_is_rfc_3339() -> None:
    assert timestamp(0.0) == "1970-01-01T00:00:00.000Z"
