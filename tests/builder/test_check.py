"""``--check``, and the warnings at the start of a build."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kaniko_core.builder.base import BaseImages
from kaniko_core.builder.check import CheckReport, announce_checks, check
from kaniko_core.builder.project import open_preview, open_project
from kaniko_core.dockerfile.stages import Check
from kaniko_core.errors import ContextError, DockerfileError, UsageError
from kaniko_core.oci.image import compose
from kaniko_core.oci.layout import LayoutStore
from kaniko_core.oci.spec import ImageConfig, RuntimeConfig
from kaniko_core.options import BuildOptions, RegistryOptions
from kaniko_core.progress import Event, Warned
from tests.samples import AMD64, layer

ONCE = RegistryOptions(image_download_retry=0, insecure_pull=True)
# Nobody listens there.
NOWHERE = "127.0.0.1:1/base"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    return directory


@pytest.fixture
def base(tmp_path: Path) -> str:
    """A base image in an OCI layout: it sets HOME_OF_IT."""
    path = tmp_path / "layout"
    config = ImageConfig(AMD64, config=RuntimeConfig(env=("HOME_OF_IT=/it",)))
    LayoutStore(path).put(None, compose(config, (layer({"a": b"b"}),), docker=False))
    return f"oci-layout://{path}"


def options(context: Path, dockerfile: str, *, base: str | None = None) -> BuildOptions:
    (context / "Dockerfile").write_text(dockerfile)
    named = (("base", base),) if base else ()
    return BuildOptions(context=str(context), build_context=named, custom_platform=(AMD64,))


def rules(report: CheckReport) -> list[tuple[str, int]]:
    return [(found.rule, found.line) for found in report.checks]


def announced(given: BuildOptions) -> list[Event]:
    events: list[Event] = []
    images = BaseImages(None, None, events.append)  # type: ignore[arg-type]
    with open_preview(given, RegistryOptions(), events.append) as remote:
        project = open_project(given, remote)
        announce_checks(project, project.plan_with(images), images, events.append)
    return events


# --- the report -----------------------------------------------------------------------------


def test_report_shows_each_place_with_the_lines_around_it() -> None:
    lines = ("FROM a", "", "WORKDIR x", "RUN y", "RUN z", "CMD a")
    checks = (
        Check("WorkdirRelativePath", "Relative workdir", 3),
        Check("InvalidBaseImagePlatform", "Another platform", 1),
    )
    assert CheckReport("dir/Dockerfile", lines, checks).text() == (
        "WARNING: WorkdirRelativePath - "
        "https://docs.docker.com/go/dockerfile/rule/workdir-relative-path/\n"
        "Relative workdir\n"
        "dir/Dockerfile:3\n"
        "--------------------\n"
        "   1 |     FROM a\n"
        "   2 |\n"
        "   3 | >>> WORKDIR x\n"
        "   4 |     RUN y\n"
        "   5 |     RUN z\n"
        "--------------------\n"
        "\n"
        "WARNING: InvalidBaseImagePlatform\n"
        "Another platform\n"
        "dir/Dockerfile:1\n"
        "--------------------\n"
        "   1 | >>> FROM a\n"
        "   2 |\n"
        "   3 |     WORKDIR x\n"
        "--------------------\n"
        "\n"
        "Check complete, 2 warnings have been found!"
    )


def test_report_without_warnings() -> None:
    report = CheckReport("Dockerfile", ("FROM a",), ())
    assert report.text() == "Check complete, no warnings found."
    assert report.status == 0
    assert json.loads(report.json()) == {"warnings": [], "sources": [{"filename": "Dockerfile"}]}


def test_report_for_machines_is_one_line() -> None:
    report = CheckReport("Dockerfile", ("FROM a",), (Check("FromAsCasing", "casing\n\x1b", 1),))
    (found,) = json.loads(report.json())["warnings"]
    assert "\n" not in report.json()
    assert "\x1b" not in report.json()
    assert found["ruleName"] == "FromAsCasing"
    assert found["detail"] == "casing\n\x1b"
    assert found["url"].endswith("/from-as-casing/")
    assert found["description"]
    assert found["location"]["ranges"][0]["start"] == {"line": 1}


def test_report_that_an_error_cut_short_says_so() -> None:
    error = DockerfileError("wrong", path="Dockerfile", line=2)
    report = CheckReport("Dockerfile", ("FROM a",), (), error)
    assert report.status == 1
    assert report.text() == "Check incomplete, no warnings found."
    assert json.loads(report.json())["buildError"] == {"message": "Dockerfile:2: wrong"}


# --- what is checked ------------------------------------------------------------------------


def test_variables_of_the_base_image_are_known(context: Path, base: str) -> None:
    given = options(context, "FROM base\nWORKDIR $HOME_OF_IT\nCOPY $OTHER /\n", base=base)
    assert rules(check(given)) == [("UndefinedVar", 3)]


def test_base_image_that_cannot_be_looked_at_leaves_the_other_checks(context: Path) -> None:
    events: list[Event] = []
    given = options(
        context,
        f"FROM {NOWHERE} AS one\nWORKDIR $HOME_OF_IT\nWORKDIR x\n"
        "FROM one AS two\nCOPY $HOME_OF_IT /\n"
        "FROM scratch\nCOPY $OTHER /\nCOPY --from=two / /\n",
    )
    report = check(given, registry=ONCE, progress=events.append)
    assert rules(report) == [("UndefinedVar", 7)]
    (warning,) = events
    assert isinstance(warning, Warned)
    assert warning.message.startswith(f"{NOWHERE} is not looked at: cannot reach")


def test_dockerfile_that_cannot_be_parsed_is_checked_up_to_there(context: Path) -> None:
    report = check(options(context, "FROM scratch as a\nMAINTAINER me\nCOPPY a b\nFROM a as b\n"))
    assert isinstance(report.error, DockerfileError)
    assert report.error.line == 3
    assert ("MaintainerDeprecated", 2) in rules(report)
    assert all(line <= 3 for _, line in rules(report))


def test_plan_that_cannot_be_is_an_error_of_the_report(context: Path) -> None:
    report = check(options(context, "FROM scratch\nCOPY --from=7 a b\nMAINTAINER me\n"))
    assert "there is no stage 7" in str(report.error)
    assert ("MaintainerDeprecated", 3) in rules(report)


def test_target_that_is_not_there_is_no_report(context: Path) -> None:
    with pytest.raises(UsageError, match="no stage named"):
        check(replace(options(context, "FROM scratch"), target=("no",)))
    with pytest.raises(ContextError):
        check(BuildOptions(context=str(context / "no")))


def test_files_that_are_ignored_are_known(context: Path) -> None:
    (context / ".dockerignore").write_text("secret\n")
    given = options(context, "FROM scratch\nCOPY secret /\nCOPY other /\n")
    assert rules(check(given)) == [("CopyIgnoredFile", 2)]


@pytest.mark.parametrize(
    "patterns",
    ["d\n!d/other\n", "d\n!e\n", "d\n!none/such\n", "!d/other\nd\n", "**\n!d/sec*ts\n"],
)
def test_file_that_no_pattern_takes_back_is_ignored(context: Path, patterns: str) -> None:
    (context / ".dockerignore").write_text(patterns)
    given = options(context, "FROM scratch\nCOPY d/secret /\n")
    assert rules(check(given)) == [("CopyIgnoredFile", 2)]


@pytest.mark.parametrize(
    "source", ["d", "d/", ".", "d/kept", "d/*", "*/kept", "d/k?pt", "d/kept/below", "d/./kept"]
)
@pytest.mark.parametrize("patterns", ["d\n!d/kept\n", "*\n!d/kept\n", "**\n!d/ke[p]t\n"])
def test_what_may_be_taken_back_is_not_called_ignored(
    context: Path, source: str, patterns: str
) -> None:
    (context / ".dockerignore").write_text(patterns)
    assert rules(check(options(context, f"FROM scratch\nCOPY {source} /\n"))) == []


def test_every_stage_is_checked_unless_there_is_a_target(context: Path, base: str) -> None:
    text = (
        "FROM base AS first\nENV v $HOME_OF_IT\nADD $it /\n"
        "FROM first AS second\nEXPOSE 1:1\n"
        "FROM scratch\nENV v w\n"
    )
    given = options(context, text, base=base)
    legacy, unknown, port = "LegacyKeyValueFormat", "UndefinedVar", "ExposeInvalidFormat"

    every = [(legacy, 2), (unknown, 3), (port, 5), (legacy, 7)]
    assert rules(check(given)) == every
    assert rules(check(replace(given, target=("first",)))) == every[:2]
    assert rules(check(replace(given, target=("2",)))) == every[3:]


def test_circle_of_stages_that_nobody_needs_is_found(context: Path) -> None:
    text = "FROM scratch AS a\nCOPY --from=b / /\nFROM a AS b\nFROM scratch\n"
    given = options(context, text)
    assert check(given).error is not None
    assert check(replace(given, target=("2",))).error is None


def test_lines_end_where_windows_ends_them(context: Path) -> None:
    (context / "Dockerfile").write_bytes(b"FROM scratch\r\nMAINTAINER me\r\n")
    report = check(BuildOptions(context=str(context)))
    assert report.lines == ("FROM scratch", "MAINTAINER me")


# --- at the start of a build ----------------------------------------------------------------


def test_build_warns_of_each_finding_once(context: Path, base: str) -> None:
    events = announced(options(context, "FROM base as x\nMAINTAINER me\n", base=base))
    path = context / "Dockerfile"
    assert [e.message for e in events if isinstance(e, Warned)] == [
        f"{path}:1: 'as' and 'FROM' keywords' casing do not match (FromAsCasing)",
        f"{path}:2: Maintainer instruction is deprecated in favor of using label "
        "(MaintainerDeprecated)",
    ]
    hints = [e.hint for e in events if isinstance(e, Warned)]
    assert hints[0] == "see https://docs.docker.com/go/dockerfile/rule/from-as-casing/"


def test_dockerfile_may_make_findings_errors(context: Path) -> None:
    given = options(context, "# check=error=true\nFROM scratch\nMAINTAINER me\n")
    with pytest.raises(DockerfileError, match=r"Dockerfile:3: .*MaintainerDeprecated"):
        announced(given)
    skipping = "# check=skip=MaintainerDeprecated;error=true\nFROM scratch\nMAINTAINER me\n"
    assert announced(options(context, skipping)) == []


def test_build_argument_comes_before_the_directive(context: Path) -> None:
    given = options(context, "# check=error=true\nFROM scratch\nMAINTAINER me\n")
    argument = ("BUILDKIT_DOCKERFILE_CHECK", "skip=all")
    assert announced(replace(given, build_arg=(argument,))) == []
