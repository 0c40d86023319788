"""Traces of builds: what is sent, to a real collector, and what happens without one."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from kaniko_core.errors import CommandFailed, KanikoError
from kaniko_core.progress import (
    BytesMoved,
    Direction,
    Event,
    Noted,
    Output,
    StageFinished,
    StageStarted,
    StepFinished,
    StepStarted,
    Warned,
)
from kaniko_core.tracing import Trace, traced
from kaniko_core.tracing.settings import Settings, settings
from tests.otlp_collector import Collector, running_collector

TRACE = Trace("build", "1.2")
ROOT = Path(__file__).parents[1]

BUILD: tuple[Event, ...] = (
    StageStarted("base", "debian:12", 2),
    BytesMoved(Direction.PULL, "debian:12 sha256:1a", 10, 30),
    StepStarted("base", 1, 2, "RUN make"),
    StageStarted("other", "scratch", 1),
    StepStarted("other", 1, 1, "copy a b"),
    BytesMoved(Direction.PULL, "debian:12 sha256:1a", 30, 30),
    StepFinished("other", 1, 0.1, cached=True),
    StageFinished("other", 0.1),
    Output("base", b"making"),
    StepFinished("base", 1, 1.0),
    StepStarted("base", 2, 2, "WORKDIR /srv"),
    StepFinished("base", 2, 0.0),
    StageFinished("base", 1.0),
    Noted("pushed"),
    BytesMoved(Direction.PUSH, "r.io/a sha256:2b", 5, 5),
)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Only what a test sets; OpenTelemetry reads its own from the process's environment."""
    import os

    for name in list(os.environ):
        if name.startswith(("OTEL_", "KANIKO_TELEMETRY", "TRACE")) or name.lower().endswith(
            "_proxy"
        ):
            monkeypatch.delenv(name)
    return os.environ


@pytest.fixture
def endpoint(
    collector: Collector, variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> str:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address)
    return collector.address


def trace(variables: Mapping[str, str], *events: Event) -> list[Event]:
    """Make a trace of *events*, and return what the user was shown."""
    shown: list[Event] = []
    with traced(shown.append, TRACE, variables) as progress:
        for event in events:
            progress(event)
    return shown


# --- what is sent ---------------------------------------------------------------------------


@pytest.mark.usefixtures("endpoint")
def test_a_build_is_one_trace(collector: Collector, variables: Mapping[str, str]) -> None:
    assert trace(variables, *BUILD) == list(BUILD)
    assert len({span.trace for span in collector.spans}) == 1
    root = collector.only("build")
    assert root.parent == ""
    assert root.error is None
    stages = {span.attributes["kaniko.stage.name"]: span for span in collector.named("Stage")}
    assert {span.parent for span in stages.values()} == {root.id}
    assert stages["base"].attributes["kaniko.stage.base"] == "debian:12"
    commands = {span.attributes["kaniko.command"]: span for span in collector.named("Command")}
    assert {text: span.parent for text, span in commands.items()} == {
        "RUN make": stages["base"].id,
        "WORKDIR /srv": stages["base"].id,
        "copy a b": stages["other"].id,
    }
    assert [commands[text].attributes["kaniko.cache.hit"] for text in sorted(commands)] == [
        *(False, False, True)
    ]
    assert commands["copy a b"].attributes["kaniko.instruction.name"] == "COPY"
    assert commands["WORKDIR /srv"].attributes["kaniko.instruction.index"] == 2
    for child in (*stages.values(), *commands.values()):
        assert root.start <= child.start <= child.end <= root.end


@pytest.mark.usefixtures("endpoint")
def test_transfers_are_spans(collector: Collector, variables: Mapping[str, str]) -> None:
    trace(variables, *BUILD)
    pull, push = collector.only("pull"), collector.only("push")
    assert pull.attributes["kaniko.transfer.what"] == "debian:12 sha256:1a"
    assert pull.attributes["kaniko.transfer.bytes"] == 30
    assert pull.end > pull.start
    assert push.parent == pull.parent == collector.only("build").id


@pytest.mark.usefixtures("endpoint")
def test_an_error_is_on_the_whole_and_on_what_did_not_finish(
    collector: Collector, variables: Mapping[str, str]
) -> None:
    error = CommandFailed("the command ended with 7", argv=["false"], exit_status=7)
    with (
        pytest.raises(CommandFailed) as raised,
        traced(lambda _: None, TRACE, variables) as progress,
    ):
        for event in BUILD[:4]:
            progress(event)
        raise error
    assert raised.value is error
    root = collector.only("build")
    assert root.error == "the command ended with 7"
    assert root.events["exception"] == {
        "exception.type": "CommandFailed",
        "exception.message": "the command ended with 7",
        "kaniko.exit_status": 7,
    }
    assert {span.name for span in collector.spans if span.error} == {
        *("build", "Stage", "Command", "pull")
    }


@pytest.mark.usefixtures("endpoint")
def test_a_stage_that_begins_anew_has_two_spans(
    collector: Collector, variables: Mapping[str, str]
) -> None:
    again = (*BUILD[:3], *BUILD[:3], StepFinished("base", 1, 0.0), StageFinished("base", 0.0))
    trace(variables, *again)
    assert sorted(span.error or "" for span in collector.named("Stage")) == [
        *("", "it did not finish")
    ]


@pytest.mark.usefixtures("endpoint")
def test_warnings_are_events_of_the_whole(
    collector: Collector, variables: Mapping[str, str]
) -> None:
    trace(variables, Warned("something is odd"))
    assert collector.only("build").events["warning"] == {"message": "something is odd"}


@pytest.mark.usefixtures("endpoint")
def test_text_of_the_dockerfile_can_be_left_out(
    collector: Collector, variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KANIKO_TELEMETRY_OMIT_DOCKERFILE", "true")
    with pytest.raises(KanikoError), traced(lambda _: None, TRACE, variables) as progress:
        progress(StageStarted("base", "scratch", 1))
        progress(StepStarted("base", 1, 1, "RUN curl -H 'token: hidden'"))
        progress(Warned("hidden is no good name"))
        raise KanikoError("Dockerfile:2: hidden")
    assert collector.only("Command").attributes["kaniko.instruction.name"] == "RUN"
    assert collector.only("build").error == "KanikoError"
    assert b"hidden" not in collector.raw


@pytest.mark.usefixtures("endpoint")
def test_long_texts_are_cut(
    collector: Collector, variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = StepStarted("base", 1, 1, "RUN " + "x" * 100_000)
    trace(variables, long)
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "70000")
    trace(variables, long)
    sent = [len(span.attributes["kaniko.command"]) for span in collector.named("Command")]
    assert sent == [1 << 16, 70_000]


def test_resource_says_who_builds(
    collector: Collector,
    endpoint: str,
    variables: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trace(variables)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "tenant=blue,service.name=less")
    trace(variables)
    monkeypatch.delenv("OTEL_SERVICE_NAME")
    trace(variables)
    first, second, third = collector.resources
    assert (first["service.name"], first["service.version"]) == ("kaniko", "1.2")
    assert (second["service.name"], second["tenant"]) == ("ours", "blue")
    assert third["service.name"] == "less"
    assert endpoint == collector.address


@pytest.mark.usefixtures("endpoint")
def test_a_trace_continues_that_of_the_caller(
    collector: Collector, variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    above, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    monkeypatch.setenv("TRACEPARENT", f"00-{above}-{parent}-01")
    trace(variables, *BUILD)
    assert {span.trace for span in collector.spans} == {above}
    assert collector.only("build").parent == parent


@pytest.mark.usefixtures("endpoint")
@pytest.mark.parametrize("value", ["nonsense", "00-0-0-01", "ff-" + "0" * 32 + "-" + "1" * 16])
def test_a_caller_that_cannot_be_read_is_passed_over(
    value: str,
    collector: Collector,
    variables: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRACEPARENT", value)
    assert trace(variables) == []
    assert collector.only("build").parent == ""


@pytest.mark.usefixtures("variables")
@pytest.mark.parametrize(
    ("name", "path", "expected"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "", "/v1/traces"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "/base/", "/base/v1/traces"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "/exactly/here", "/exactly/here"),
        ("KANIKO_TELEMETRY_ENDPOINT", "", "/v1/traces"),
        ("KANIKO_TELEMETRY_ENDPOINT", "/", "/v1/traces"),
        ("KANIKO_TELEMETRY_ENDPOINT", "/own/traces", "/own/traces"),
    ],
)
def test_address_is_that_of_the_variables(
    name: str,
    path: str,
    expected: str,
    collector: Collector,
    variables: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(name, collector.address + path)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20key")
    assert trace(variables) == []
    ((requested, headers),) = collector.requests
    assert requested == expected
    assert {key.lower(): value for key, value in headers.items()}["authorization"] == "Bearer key"


@pytest.mark.usefixtures("endpoint")
def test_events_come_from_any_thread(collector: Collector, variables: Mapping[str, str]) -> None:
    def stage(progress: object, name: str) -> None:
        assert callable(progress)
        for event in (
            StageStarted(name, "scratch", 1),
            StepStarted(name, 1, 1, f"RUN {name}"),
            StepFinished(name, 1, 0.0),
            StageFinished(name, 0.0),
        ):
            progress(event)

    with traced(lambda _: None, TRACE, variables) as progress:
        threads = [threading.Thread(target=stage, args=(progress, f"s{n}")) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    stages = {span.id: span.attributes["kaniko.stage.name"] for span in collector.named("Stage")}
    assert {
        (stages[span.parent], span.attributes["kaniko.command"])
        for span in collector.named("Command")
    } == {(f"s{n}", f"RUN s{n}") for n in range(20)}


# --- without a collector --------------------------------------------------------------------


def test_nobody_listening_is_told_once(
    variables: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hunter2@127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer sesame")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    shown = trace(variables, *BUILD)
    (warning,) = [event for event in shown if event not in BUILD]
    assert isinstance(warning, Warned)
    assert warning.message == (
        "traces cannot be sent to 127.0.0.1:9: it cannot be reached, or refuses them"
    )
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


@pytest.mark.usefixtures("endpoint")
def test_a_collector_that_refuses_is_told_of_once(
    collector: Collector, variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    collector.status = 401
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    shown = trace(variables, *BUILD)
    assert len([event for event in shown if isinstance(event, Warned)]) == 1
    assert len(collector.requests) == 1


@pytest.mark.usefixtures("endpoint")
def test_a_collector_that_does_not_answer_holds_nobody_up(
    collector: Collector, variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    collector.gate = threading.Event()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    monkeypatch.setattr("kaniko_core.tracing.sending._LAST_WAIT", 0.2)
    (warning,) = trace(variables)
    assert isinstance(warning, Warned)
    assert warning.message.endswith("it takes too long")


@pytest.mark.usefixtures("endpoint")
def test_logging_is_left_as_it_was(variables: Mapping[str, str]) -> None:
    # Loaded before: urllib3 gives its own logger a handler when it is first imported.
    importlib.import_module("urllib3")
    names = ("opentelemetry", "urllib3", "")
    before = [
        (logging.getLogger(name).propagate, list(logging.getLogger(name).handlers))
        for name in names
    ]
    trace(variables)
    after = [
        (logging.getLogger(name).propagate, list(logging.getLogger(name).handlers))
        for name in names
    ]
    assert after == before


_CODE = """
import os, sys
{first}
from kaniko_core.tracing import Trace, traced
with traced(lambda event: print(event.message, "|", event.hint), Trace("build", "1"), os.environ):
    pass
print("opentelemetry" in sys.modules, "requests" in sys.modules)
"""


def run(first: str = "", **variables: str) -> list[str]:
    """Make a trace of nothing in a process of its own; return what it says."""
    done = subprocess.run(
        [sys.executable, "-c", _CODE.format(first=first)],
        env={"PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_nothing_is_imported_where_nobody_asks() -> None:
    assert run() == ["False False"]
    assert run(OTEL_SDK_DISABLED="true", OTEL_EXPORTER_OTLP_ENDPOINT="http://c:4318") == [
        "False False"
    ]


def test_a_missing_library_is_a_warning_that_says_what_to_install() -> None:
    said = run("sys.modules['opentelemetry'] = None", OTEL_EXPORTER_OTLP_ENDPOINT="http://c:4318")
    assert len(said) == 2
    assert said[0].startswith("no traces are sent: OpenTelemetry is not installed")
    assert "pip install 'kaniko-py[otel]'" in said[0]


def test_variables_that_the_library_passes_over_are_no_matter() -> None:
    said = run(
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
        OTEL_BSP_SCHEDULE_DELAY="x",
    )
    assert len(said) == 2


def test_variables_that_the_library_cannot_use_are_a_warning() -> None:
    said = run(
        OTEL_EXPORTER_OTLP_ENDPOINT="http://c:4318", OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="hunter2"
    )
    assert said[0].startswith("no traces are sent: OpenTelemetry failed with ValueError")
    assert "hunter2" not in said[0]


# --- what the variables say -----------------------------------------------------------------


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "x", "TRACEPARENT": "y"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"},
        {"KANIKO_TELEMETRY_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "TRUE"},
    ],
)
def test_traces_are_for_those_who_ask(environ: dict[str, str]) -> None:
    assert settings(environ) == Settings()


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER names zipkin"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "the protocol grpc is not spoken here",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "c:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT is no address"),
        ({"KANIKO_TELEMETRY_ENDPOINT": "http://[c"}, "KANIKO_TELEMETRY_ENDPOINT is no address"),
    ],
)
def test_what_cannot_be_done_is_a_warning(environ: dict[str, str], sentence: str) -> None:
    found = settings(environ)
    assert not found.on
    (complaint,) = found.complaints
    assert sentence in complaint.message
    assert complaint.hint


def test_an_exporter_that_is_asked_for_has_a_default_address() -> None:
    found = settings({"OTEL_TRACES_EXPORTER": "otlp"})
    assert found.on
    assert found.place == "localhost:4318"


def test_a_password_in_the_address_is_not_shown() -> None:
    found = settings({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://user:hunter2@c.example:4318/x?key=1"})
    assert found.place == "c.example:4318"


def test_a_doubtful_wish_to_leave_text_out_is_granted() -> None:
    found = settings(
        {"KANIKO_TELEMETRY_ENDPOINT": "http://c", "KANIKO_TELEMETRY_OMIT_DOCKERFILE": "ja"}
    )
    assert found.omit_text
    assert "neither true nor false" in found.complaints[0].message
