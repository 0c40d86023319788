"""The programs as their users see them: on terminals, in pipes, in logs."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from integration import readers
from integration.programs import Build, Finished, Programs, finished
from integration.world import REPOSITORY
from tests.web_server import WebServer

_PATIENCE = 60.0  # seconds
_SHORT = pytest.mark.parametrize("module", ["kaniko_executor", "kaniko_warmer"])


def in_shell(
    programs: Programs, script: str, module: str, *flags: str, check: bool = True
) -> Finished:
    """Run a program as ``"$@"`` of a bash script."""
    prefix = ("bash", "-c", script, "bash")
    return finished(programs.start(module, *flags, prefix=prefix), check=check)


def flags(build: Build, *more: str) -> tuple[str, ...]:
    """The flags of a build of *build*'s context."""
    work = build.programs.work
    work.mkdir(parents=True, exist_ok=True)
    return (*build.arguments, "--insecure", "--insecure-pull", f"--kaniko-dir={work}", *more)


# --- a few words ---------------------------------------------------------------------------


@_SHORT
def test_help_is_quick(
    programs: Programs, module: str, record_property: Callable[[str, object], None]
) -> None:
    best = _PATIENCE
    for _ in range(5):
        started = time.monotonic()
        done = finished(programs.start(module, "--help"))
        best = min(best, time.monotonic() - started)
        assert done.stdout.startswith("Usage: kaniko-")
        assert done.stderr == ""
    record_property("seconds", best)
    assert best < 0.5


@_SHORT
def test_help_into_a_pipe_that_nobody_reads_is_quiet(programs: Programs, module: str) -> None:
    done = in_shell(programs, '"$@" | true; exit "${PIPESTATUS[0]}"', module, "--help", check=False)

    assert done.stderr == ""
    assert done.status in (0, 128 + signal.SIGPIPE)


@_SHORT
def test_help_onto_a_full_disk_is_told(programs: Programs, module: str) -> None:
    done = in_shell(programs, '"$@" > /dev/full', module, "--help", check=False)

    assert done.status == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_installed_commands_are_these_modules() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text()
    assert 'kaniko-executor = "kaniko_executor.__main__:main"' in text
    assert 'kaniko-warmer = "kaniko_warmer.__main__:main"' in text


def test_version(programs: Programs) -> None:
    done = finished(programs.start("kaniko_executor", "version"))

    assert re.fullmatch(r"kaniko-py version: \d+\.\d+\.\d+\n", done.stdout)


# --- logs ----------------------------------------------------------------------------------


def test_successful_build_says_what_it_pushed_and_prints_nothing(
    build: Build, busybox: str
) -> None:
    done = build(f"FROM {busybox}\nRUN echo words; echo worries >&2\n", "--log-format=text")

    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert {"words", "worries"} <= set(lines)
    assert "[stage-0 1/1] RUN echo words; echo worries >&2" in lines
    assert f"pushed {build.image}@{readers.digest(build.image)}" in lines
    assert "\x1b" not in done.stderr


def test_lines_of_stages_that_run_at_once_bear_their_names(build: Build, busybox: str) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do printf '%s-' $i; sleep 0.1; echo line; done"
    done = build(
        f"FROM {busybox} AS one\nRUN {script}\n"
        f"FROM {busybox} AS two\nRUN {script}\n"
        "FROM scratch\nCOPY --from=one /etc/passwd /1\nCOPY --from=two /etc/passwd /2\n"
    )

    lines = [line for line in done.stderr.splitlines() if line.endswith("-line")]
    assert len(lines) == 16
    assert all(re.fullmatch(r"(\[(one|two)\] )?\d-line", line) for line in lines)
    assert any(line.startswith("[one] ") for line in lines)
    assert any(line.startswith("[two] ") for line in lines)


def test_json_is_json_from_the_first_line_to_the_last(build: Build, busybox: str) -> None:
    done = build(f"FROM {busybox}\nRUN printf 'a\\377b\\n'\n", "--log-format=json", "-v", "debug")

    objects = [json.loads(line) for line in done.stderr.splitlines()]
    assert all({"time", "level", "event", "msg"} <= item.keys() for item in objects)
    assert "a�b" in [item["msg"] for item in objects if item["event"] == "output"]
    assert f"pushed {build.image}@{readers.digest(build.image)}" in [o["msg"] for o in objects]


@pytest.mark.parametrize("verbosity", ["panic", "fatal", "error", "warn", "info", "debug", "trace"])
def test_every_verbosity_builds_and_tells_of_failure(
    build: Build, busybox: str, verbosity: str
) -> None:
    done = build(
        f"FROM {busybox}\nRUN echo words; exit 7\n", f"--verbosity={verbosity}", check=False
    )

    assert done.status == 7
    quiet = verbosity in ("panic", "fatal", "error", "warn")
    assert done.stderr.startswith("error: ") is quiet
    assert "error: " in done.stderr
    # The error repeats what the command said at last.
    assert "    words" in done.stderr


def test_timestamps(build: Build, busybox: str) -> None:
    done = build(f"FROM {busybox}\nRUN echo words\n", "--log-timestamp")

    for line in done.stderr.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", line), line


@pytest.mark.parametrize("script", ['"$@" 2>&-', '"$@" 2> >(true)', '"$@" 2> /dev/full'])
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_build_does_not_need_anybody_to_listen(
    build: Build, busybox: str, script: str, log_format: str
) -> None:
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN echo words; echo x > /x\n"})
    done = in_shell(
        build.programs, script, "kaniko_executor", *flags(build, f"--log-format={log_format}")
    )

    assert done.status == 0
    assert "x" in readers.layers(build.image)[-1].names


# --- the environment -----------------------------------------------------------------------


def test_kaniko_no_push(build: Build) -> None:
    build.fill({"Dockerfile": "FROM scratch\nLABEL a=b\n"})
    done = build.programs.executor(*build.arguments, env={"KANIKO_NO_PUSH": "true"})

    assert "pushed" not in done.stderr
    with pytest.raises(AssertionError, match="manifest unknown"):
        readers.digest(build.image)


def test_build_argument_from_the_environment(build: Build) -> None:
    build.fill({"Dockerfile": "FROM scratch\nARG GREETING\nLABEL said=$GREETING\n"})
    build.programs.executor(
        *build.arguments, "--build-arg=GREETING", env={"GREETING": "hello from outside"}
    )

    assert readers.config(build.image)["config"]["Labels"] == {"said": "hello from outside"}


def test_variables_of_a_pod_are_enough_to_build(build: Build, busybox: str) -> None:
    """Where a manifest has env, and no args."""
    work = build.programs.work
    work.mkdir(parents=True)
    build.fill({"Containerfile": f"FROM {busybox}\nARG A B\nLABEL a=$A b=$B\nRUN echo x > /x\n"})
    done = finished(
        build.programs.start(
            "kaniko_executor",
            env={
                "KANIKO_CONTEXT": str(build.context),
                "KANIKO_DOCKERFILE": "Containerfile",
                "KANIKO_DESTINATION": f"{build.image}\n{build.image}-too\n",
                "KANIKO_INSECURE": "true",
                "KANIKO_INSECURE_PULL": "1",
                "KANIKO_BUILD_ARG": "A=1\nB=two words\n",
                "KANIKO_DIR": str(work),
                "KANIKO_LOG_FORMAT": "json",
                # What Kubernetes says of services that are called kaniko and kaniko-cache.
                "KANIKO_PORT": "tcp://10.0.0.7:80",
                "KANIKO_SERVICE_HOST": "10.0.0.7",
                "KANIKO_PORT_80_TCP": "tcp://10.0.0.7:80",
                "KANIKO_CACHE_SERVICE_PORT": "5000",
                "KANIKO_CACHE_PORT": "tcp://10.0.0.8:5000",
            },
        )
    )

    assert {json.loads(line)["level"] for line in done.stderr.splitlines()} == {"info"}
    assert readers.config(build.image)["config"]["Labels"] == {"a": "1", "b": "two words"}
    assert readers.digest(f"{build.image}-too") == readers.digest(build.image)


def test_variable_that_makes_no_sense_ends_the_build_before_it_begins(build: Build) -> None:
    build.fill({"Dockerfile": "FROM scratch\nLABEL a=b\n"})
    done = build.programs.executor(
        *build.arguments, env={"KANIKO_PUSH_RETRY": "s3cret"}, check=False
    )

    assert done.status == 2
    assert done.stderr == "error: KANIKO_PUSH_RETRY: 's3cret' is not a whole number\n"


def test_plan_is_printed_and_the_image_pushed(build: Build) -> None:
    build.fill({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
    done = build.programs.executor(*build.arguments, env={"KANIKO_PRINT_PLAN": "1"})

    assert "COPY Dockerfile /\n" in done.stdout
    assert f"push to {build.image}\n" in done.stdout
    assert f"pushed {build.image}@{readers.digest(build.image)}" in done.stderr.splitlines()


def test_image_from_scratch_is_of_ocis_format(build: Build) -> None:
    build("FROM scratch\nCOPY Dockerfile /\n")

    assert "vnd.oci.image.manifest" in readers.manifest(build.image)["mediaType"]


def test_dockerfile_of_the_warmer_may_be_behind_a_url(
    programs: Programs, web: WebServer, busybox: str, tmp_path: Path
) -> None:
    address = web.add("/Dockerfile", b"ARG BASE\nFROM $BASE\nRUN x\n")
    done = programs.warmer(
        f"--dockerfile={address}",
        f"--build-arg=BASE={busybox}",
        f"--cache-dir={tmp_path}",
        "--insecure-pull",
    )

    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == [busybox]
    assert [path.suffix for path in tmp_path.glob("sha256*.json")] == [".json"]
    assert programs.leftovers() == []

    web.add("/broken", b"FROM a\nRUNN b\n")
    for name, sentence in (
        ("/broken?token=s3cret", f"error: {web.address}/broken:2:1: "),
        ("/none?token=s3cret", f"error: cannot fetch {web.address}/none: "),
    ):
        wrong = programs.warmer(
            f"--dockerfile={web.address}{name}", "--verbosity=trace", check=False
        )
        assert wrong.status == 1
        assert sentence in wrong.stderr
        assert "s3cret" not in wrong.written
        assert "Traceback" not in wrong.written


# --- shells --------------------------------------------------------------------------------

_COMPLETE = """
set -eu
kaniko-executor() { "$PYTHON" -m kaniko_executor "$@"; }
eval "$(kaniko-executor completion bash)"
complete -p kaniko-executor > /dev/null
# What readline does at a Tab: it splits words at = too.
asked() {
    COMP_WORDS=("$@") COMP_CWORD=$(( $# - 1 )) COMPREPLY=()
    _kaniko_executor_completion "$PROGRAM" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
    echo "${COMPREPLY[*]}"
}
asked kaniko-executor log
asked kaniko-executor --cache --desti
asked kaniko-executor --log-format = j
"""


def test_bash_completes(programs: Programs) -> None:
    program = programs.directory / "kaniko-executor"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m kaniko_executor "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", _COMPLETE],
        env=programs.environment({"PYTHON": sys.executable, "PROGRAM": str(program)}),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["login logout", "--destination", "json"]


# --- terminals -----------------------------------------------------------------------------


def on_a_terminal(
    programs: Programs, *argv: str, interrupt_at: str = "", no_color: str = ""
) -> tuple[int, str]:
    """Run kaniko-executor on a terminal, press Ctrl-C once it shows a text; status and text."""
    variables = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", "NO_COLOR": no_color}
    controller, terminal = pty.openpty()
    programs.temporary.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        # A session of its own, whose terminal is standard input: so that Ctrl-C is a signal.
        ["setsid", "--ctty", "--wait", sys.executable, "-m", "kaniko_executor", *argv],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=programs.directory,
        env=programs.environment(variables),
    )
    os.close(terminal)
    written = b""
    deadline = time.monotonic() + _PATIENCE
    try:
        while chunk := _next(controller, deadline):
            written += chunk
            if interrupt_at and interrupt_at.encode() in written:
                os.write(controller, b"\x03")
                interrupt_at = ""
        return process.wait(_PATIENCE), written.decode(errors="replace")
    finally:
        os.close(controller)
        process.kill()
        process.wait()


def _next(controller: int, deadline: float) -> bytes:
    """Return what was written next; nothing at the end."""
    ready, _, _ = select.select([controller], [], [], max(deadline - time.monotonic(), 0))
    if not ready:
        raise AssertionError("the program did not end")
    try:
        return os.read(controller, 1 << 16)
    except OSError:  # all of the terminal's users are gone
        return b""


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_terminal_shows_what_goes_on_below_what_scrolls(build: Build, busybox: str) -> None:
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN echo begun; sleep 1.5; echo done\n"})
    status, text = on_a_terminal(build.programs, *flags(build))

    assert status == 0
    lines = re.split(r"[\r\n]+", _plain(text))
    assert "begun" in lines
    assert "done" in lines
    assert re.search(r" 1\.\ds \[stage-0 1/1\] RUN echo begun", _plain(text))
    assert f"pushed {build.image}@" in _plain(text)
    # The cursor is there again.
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") > -1


def test_ctrl_c_on_a_terminal(build: Build, busybox: str) -> None:
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN echo begun; sleep 1000\n"})
    status, text = on_a_terminal(build.programs, *flags(build), interrupt_at="begun\r\n")

    assert status == 128 + signal.SIGINT
    assert "Traceback" not in text
    assert _plain(text).rstrip().endswith("error: interrupted")
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") > -1
    assert build.programs.leftovers() == []


def test_no_color_is_respected(build: Build) -> None:
    build.fill({"Dockerfile": "FROM scratch\nRUNN x\n"})
    _, colored = on_a_terminal(build.programs, *flags(build))
    _, plain = on_a_terminal(build.programs, *flags(build), no_color="1")

    assert "\x1b[1;31merror:" in colored
    assert "error: " in plain
    assert "\x1b[1;31m" not in plain
