"""``--check`` and ``--dryrun``: what they say, on stdout, and that they do nothing else."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from integration.programs import Build, Finished, Programs, finished
from integration.world import Registry


def run(
    programs: Programs, context: Path, dockerfile: str, *flags: str, check: bool = True
) -> Finished:
    """Run the executor on a Dockerfile in *context*, without any destination."""
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(dockerfile)
    return programs.executor("-c", context, *flags, check=check)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return tmp_path / "context"


# --- --check --------------------------------------------------------------------------------


def test_check_finds_nothing(programs: Programs, context: Path, busybox: str) -> None:
    done = run(programs, context, f"FROM {busybox}\nRUN echo hello\n", "--check")
    assert done.stdout == "Check complete, no warnings found.\n"
    assert done.stderr == ""
    assert programs.leftovers() == []


def test_check_shows_what_it_finds_and_fails(
    programs: Programs, context: Path, busybox: str
) -> None:
    text = f"FROM {busybox} as one\nENV legacy form\nRUN false\nCMD echo $nothing\n"
    done = run(programs, context, text, "--check", check=False)
    assert done.status == 1
    assert done.stderr == ""
    first, second, third, summary = done.stdout.split("\n\n")
    assert first.splitlines()[0] == (
        "WARNING: FromAsCasing - https://docs.docker.com/go/dockerfile/rule/from-as-casing/"
    )
    assert second.splitlines()[2:] == [
        f"{context}/Dockerfile:2",
        "-" * 20,
        f"   1 |     FROM {busybox} as one",
        "   2 | >>> ENV legacy form",
        "   3 |     RUN false",
        "   4 |     CMD echo $nothing",
        "-" * 20,
    ]
    assert third.startswith("WARNING: JSONArgsRecommended - ")
    assert summary == "Check complete, 3 warnings have been found!\n"
    assert programs.leftovers() == []


def test_check_for_machines_is_one_object(programs: Programs, context: Path) -> None:
    text = "FROM scratch as one\n"
    done = run(programs, context, text, "--check", "--log-format=json", check=False)
    assert done.status == 1
    (line,) = done.stdout.splitlines()
    assert [found["ruleName"] for found in json.loads(line)["warnings"]] == ["FromAsCasing"]


def test_check_tells_of_a_dockerfile_that_is_wrong(programs: Programs, context: Path) -> None:
    done = run(programs, context, "FROM scratch as one\nCOPPY a b\n", "--check", check=False)
    assert done.status == 1
    assert "WARNING: FromAsCasing" in done.stdout
    assert done.stdout.endswith("Check incomplete, 1 warning has been found!\n")
    assert "Dockerfile:2:" in done.stderr
    assert "COPPY" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_needs_no_registry(programs: Programs, context: Path) -> None:
    """A Dockerfile can be looked at where its base image cannot: then the rest is."""
    text = "FROM 127.0.0.1:1/base as one\nENV A=$HOME_OF_BASE\n"
    done = run(programs, context, text, "--check", "--image-download-retry=0", check=False)
    assert done.status == 1
    assert done.stderr.startswith("warning: 127.0.0.1:1/base is not looked at: ")
    assert "FromAsCasing" in done.stdout
    assert "UndefinedVar" not in done.stdout


def test_check_of_a_dockerfile_from_stdin(programs: Programs, context: Path) -> None:
    context.mkdir()
    (context / "Dockerfile").write_text("FROM nobody/reads/this as one\n")
    process = programs.start(
        "kaniko_executor",
        "--check",
        "--dockerfile=-",
        f"--context={context}",
        prefix=("bash", "-c", 'printf "FROM scratch\\nMAINTAINER me\\n" | "$@"', "bash"),
    )
    done = finished(process, check=False)
    assert done.status == 1
    assert "\nstdin:2\n" in done.stdout
    assert "FromAsCasing" not in done.stdout


# --- builds ---------------------------------------------------------------------------------


def test_build_warns_once_of_each_finding(build: Build, busybox: str) -> None:
    done = build(f"FROM {busybox} as one\nRUN true\n")
    assert done.stderr.count("(FromAsCasing)") == 1
    assert done.stderr.count("see https://docs.docker.com/go/dockerfile/rule/from-as-casing/") == 1


def test_build_fails_on_findings_where_the_dockerfile_says_so(build: Build, busybox: str) -> None:
    done = build(f"# check=error=true\nFROM {busybox} as one\nRUN echo it ran\n", check=False)
    assert done.status == 1
    assert "FromAsCasing" in done.stderr.splitlines()[-2]
    assert "it ran" not in done.written
    assert build.programs.leftovers() == []


# --- --dryrun -------------------------------------------------------------------------------


def test_dryrun_tells_what_a_build_would_do_and_does_nothing(
    programs: Programs, context: Path, busybox: str, destination: str, registry: Registry
) -> None:
    text = (
        f"FROM {busybox} AS one\n"
        "RUN echo it ran\n"
        "FROM scratch AS unused\n"
        "FROM one\n"
        "LABEL a=b\n"
        f"COPY --from={busybox} /bin /bin\n"
    )
    done = run(programs, context, text, "--dryrun", f"--destination={destination}")
    digest = _digest(busybox)
    image = f"image {busybox}@{digest}, linux/amd64, to be fetched"
    assert done.stdout == (
        f"{context}/Dockerfile: stage stage-2 for linux/amd64\n"
        "\n"
        "build stage one (line 1)\n"
        f"  from {image}\n"
        "  2  to do   RUN echo it ran\n"
        "\n"
        "build stage stage-2 (line 4)\n"
        "  from stage one\n"
        f"  --from={busybox} is {image}\n"
        "  5  config  LABEL a=b\n"
        f"  6  to do   COPY --from={busybox} /bin /bin\n"
        "\n"
        "skip stage unused (line 3)\n"
        "\n"
        f"push to {destination}\n"
    )
    assert done.stderr == ""
    assert programs.leftovers() == []
    assert _digest(destination) is None


def test_dryrun_knows_the_cache(
    programs: Programs, context: Path, busybox: str, tmp_path: Path
) -> None:
    cache = f"--cache-dir={tmp_path / 'cache'}"
    programs.warmer(f"--image={busybox}", cache, "--insecure-pull")
    done = run(programs, context, f"FROM {busybox}\n", "--dryrun", "--cache", cache)
    assert f"{busybox}@{_digest(busybox)}, linux/amd64, in the cache\n" in done.stdout
    assert done.stdout.endswith("\n\npush nowhere\n")


def test_dryrun_shows_the_triggers_of_the_base(
    build: Build, programs: Programs, tmp_path: Path, busybox: str
) -> None:
    build(f"FROM {busybox}\nONBUILD RUN echo triggered\nONBUILD ENV a=b\n")
    done = run(programs, tmp_path / "next", f"FROM {build.image}\nRUN true\n", "--dryrun")
    assert [line for line in done.stdout.splitlines() if line.startswith("  1")] == [
        "  1  to do   RUN echo triggered  (ONBUILD of the base)",
        "  1  config  ENV a=b  (ONBUILD of the base)",
    ]


def test_dryrun_fails_where_the_build_would(programs: Programs, context: Path) -> None:
    done = run(programs, context, "FROM scratch\nCOPY --from=9 / /\n", "--dryrun", check=False)
    assert done.status == 1
    assert done.stdout == ""
    assert "there is no stage 9" in done.stderr


def _digest(name: str) -> str | None:
    """Return what skopeo says that *name* is; None where there is no such image."""
    done = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", "--format={{.Digest}}", f"docker://{name}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or None
