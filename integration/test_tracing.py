"""Traces of real builds and warmings, as a collector gets them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration import images
from integration.programs import Build, Programs, said
from integration.world import Passwords, Registry
from tests.otlp_collector import Collector, running_collector

_DOCKERFILE = """\
FROM {base} AS tools
RUN echo built > /tool

FROM {base}
COPY --from=tools /tool /tool
RUN --mount=type=secret,id=word cat /run/secrets/word > /dev/null
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


def _variables(collector: Collector) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address}


def test_a_build_is_one_trace(build: Build, busybox: str, collector: Collector) -> None:
    build.fill({"Dockerfile": _DOCKERFILE.format(base=busybox)})
    build.programs.executor(
        *(*build.arguments, "--secret", "id=word,env=WORD"),
        env={**_variables(collector), "WORD": "correct horse"},
    )

    assert len({span.trace for span in collector.spans}) == 1
    root = collector.only("build")
    assert (root.parent, root.error) == ("", None)
    stages = {span.attributes["kaniko.stage.name"]: span.id for span in collector.named("Stage")}
    assert stages.keys() == {"tools", "stage-1"}
    commands = {
        (span.parent, span.attributes["kaniko.instruction.name"])
        for span in collector.named("Command")
    }
    assert commands == {
        *((stages["tools"], "RUN"), (stages["stage-1"], "COPY"), (stages["stage-1"], "RUN")),
    }
    assert collector.named("pull")
    assert collector.named("push")
    assert all(span.parent == root.id for span in collector.named("pull"))
    assert {resource["service.name"] for resource in collector.resources} == {"kaniko"}
    assert b"correct horse" not in collector.raw


def test_a_failed_build_says_so_and_has_no_password(
    make_registry: Callable[..., Registry], build: Build, tmp_path: Path, collector: Collector
) -> None:
    registry = make_registry(passwords=Passwords("builder", "correct horse"))
    config = tmp_path / "docker"
    config.mkdir()
    auth = base64.b64encode(b"builder:wrong battery").decode()
    (config / "config.json").write_text(json.dumps({"auths": {registry.address: {"auth": auth}}}))
    build.fill({"Dockerfile": f"FROM {registry.address}/private:1\n"})
    done = build.programs.executor(
        *(f"--context={build.context}", "--no-push"),
        check=False,
        env={**_variables(collector), "DOCKER_CONFIG": str(config)},
    )

    said(done, registry.address)
    root = collector.only("build")
    assert root.error
    assert root.events["exception"]["exception.type"]
    assert b"wrong battery" not in collector.raw
    assert auth.encode() not in collector.raw


def test_the_instruction_that_failed_is_marked(
    build: Build, busybox: str, collector: Collector
) -> None:
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN true\nRUN exit 7\n"})
    done = build.programs.executor(*build.arguments, check=False, env=_variables(collector))

    assert done.status == 7
    assert [
        (span.attributes["kaniko.command"], bool(span.error)) for span in collector.named("Command")
    ] == [("RUN true", False), ("RUN exit 7", True)]
    assert collector.only("build").events["exception"]["kaniko.exit_status"] == 7


def test_a_collector_that_is_down_is_a_warning(
    build: Build, busybox: str, programs: Programs
) -> None:
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN true\n"})
    for level in ("info", "trace"):
        done = build.programs.executor(
            *(*build.arguments, f"--verbosity={level}"),
            env={
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:hunter2@127.0.0.1:9",
                "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20sesame",
            },
        )
        assert done.status == 0
        assert done.stderr.count("traces cannot be sent to 127.0.0.1:9") == 1
        assert "hunter2" not in done.written
        assert "sesame" not in done.written
        assert "Traceback" not in done.written
    assert programs.leftovers() == []


def test_the_old_variable_does_the_same(build: Build, busybox: str, collector: Collector) -> None:
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN echo quiet\n"})
    done = build.programs.executor(
        *build.arguments,
        env={
            "KANIKO_TELEMETRY_ENDPOINT": collector.address,
            "KANIKO_TELEMETRY_OMIT_DOCKERFILE": "true",
        },
    )
    assert collector.only("build").error is None
    assert b"echo quiet" not in collector.raw
    assert "KANIKO_TELEMETRY" not in done.stderr


def test_a_warming_is_one_trace(
    registry: Registry, programs: Programs, tmp_path: Path, collector: Collector
) -> None:
    image = images.push(images.busybox_layout(), registry, "traced/busybox:1")
    cache = tmp_path / "cache"
    cache.mkdir()
    programs.warmer(
        *(f"--image={image}", f"--cache-dir={cache}", "--insecure-pull"), env=_variables(collector)
    )
    root = collector.only("warm")
    assert {span.parent for span in collector.named("pull")} == {root.id}


def test_plans_and_checks_are_not_traced(build: Build, busybox: str, collector: Collector) -> None:
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN true\n"})
    for flag in ("--dryrun", "--check"):
        build.programs.executor(*build.arguments, flag, env=_variables(collector))
    assert collector.requests == []
