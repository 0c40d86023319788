"""Full disks, failing commands and builds that are ended: one sentence, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from integration import readers
from integration.programs import Build, Finished, Programs, finished, said

_PATIENCE = 20.0  # seconds for a process to appear or to go


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until *condition* holds."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


# --- disks --------------------------------------------------------------------------------

# Mounts its first argument's kind of disk on the second, runs the rest, and lists what is left.
_ON_A_DISK = """
set -e
mount -t tmpfs -o "$1" tmpfs "$2"
at=$2; shift 2
status=0; "$@" || status=$?
find "$at" -mindepth 1 -printf 'left behind: %P\\n'
exit $status
"""


def _on_a_disk(programs: Programs, options: str, at: Path, module: str, *flags: str) -> Finished:
    """Run a program with a small disk of its own mounted on *at*, in a private namespace."""
    at.mkdir(parents=True, exist_ok=True)
    prefix = ("unshare", "--mount", "--propagation=private", "sh", "-c", _ON_A_DISK, "sh")
    process = programs.start(module, *flags, prefix=(*prefix, options, str(at)))
    return finished(process, check=False)


def test_full_work_directory(build: Build, debian: str) -> None:
    build.fill({"Dockerfile": f"FROM {debian}\nRUN true\n"})
    done = _on_a_disk(
        *(build.programs, "size=20m", build.programs.work, "kaniko_executor"),
        *(*build.arguments, "--insecure", "--insecure-pull"),
        f"--kaniko-dir={build.programs.work}",
    )

    said(done, "No space left on device")
    assert "left behind" not in done.stdout
    assert build.programs.leftovers() == []


def test_run_that_fills_the_disk(build: Build, busybox: str) -> None:
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN dd if=/dev/zero of=/big bs=1M count=100\n"})
    done = _on_a_disk(
        *(build.programs, "size=30m", build.programs.work, "kaniko_executor"),
        *(*build.arguments, "--insecure", "--insecure-pull"),
        f"--kaniko-dir={build.programs.work}",
    )

    said(done, "dd if=/dev/zero")
    assert "No space left on device" in done.stderr
    assert "left behind" not in done.stdout


def test_full_disk_under_the_tarball(build: Build, busybox: str, tmp_path: Path) -> None:
    build.fill({"Dockerfile": f"FROM {busybox}\nCOPY noise /\n", "noise": os.urandom(3_000_000)})
    at = tmp_path / "small"
    done = _on_a_disk(
        *(build.programs, "size=2m", at, "kaniko_executor"),
        *(*build.arguments, "--insecure", "--insecure-pull", "--no-push"),
        *(f"--kaniko-dir={build.programs.work}", f"--tar-path={at / 'image.tar'}"),
    )

    said(done, "image.tar", "No space left on device")
    assert "left behind" not in done.stdout
    assert build.programs.leftovers() == []


def test_full_cache_directory(programs: Programs, debian: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    done = _on_a_disk(
        *(programs, "size=20m", cache, "kaniko_warmer"),
        *(f"--image={debian}", f"--cache-dir={cache}", "--insecure-pull"),
    )

    assert done.status != 0
    assert "Traceback" not in done.written
    assert "No space left on device" in done.stderr
    left = [line for line in done.stdout.splitlines() if line.startswith("left behind: ")]
    assert not [line for line in left if not line.endswith((".locks", ".tags", ".lock"))], left


def test_warmer_cannot_write_its_cache(programs: Programs, busybox: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    done = _on_a_disk(
        *(programs, "ro", cache, "kaniko_warmer"),
        *(f"--image={busybox}", f"--cache-dir={cache}", "--insecure-pull"),
    )

    assert done.status != 0
    assert "Traceback" not in done.written
    assert str(cache) in done.stderr
    assert "Read-only file system" in done.stderr


def test_read_only_cache_is_no_hindrance(build: Build, busybox: str, tmp_path: Path) -> None:
    """As in a pod that mounts its warmed volume read-only."""
    cache = tmp_path / "cache"
    build.programs.warmer("--image", busybox, "--cache-dir", cache, "--insecure-pull")
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN echo x > /x\n"})
    script = 'mount --bind -o ro "$1" "$1" && shift && exec "$@"'
    process = build.programs.start(
        *("kaniko_executor", *build.arguments, "--insecure", "--insecure-pull"),
        *("--cache", f"--cache-dir={cache}", f"--kaniko-dir={build.programs.work}"),
        prefix=(
            *("unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh"),
            str(cache),
        ),
    )
    finished(process)

    assert "x" in readers.layers(build.image)[-1].names
    assert build.programs.leftovers() == []


def test_outputs_that_cannot_be_written_are_found_before_the_build(
    build: Build, busybox: str
) -> None:
    done = build(f"FROM {busybox}\nRUN echo this ran\n", "--digest-file=/proc/at/all", check=False)

    said(done, "/proc/at/all")
    assert "this ran\n" not in done.written.replace("RUN echo this ran\n", "")


# --- commands that fail, and builds that are ended ----------------------------------------


def test_failing_command_gives_its_words_and_its_status(build: Build, busybox: str) -> None:
    done = build(f"FROM {busybox}\nRUN echo last words >&2; exit 42\n", check=False)

    said(done, "echo last words", "42")
    assert done.status == 42
    assert "last words\n" in done.written
    assert build.programs.leftovers() == []


def test_command_ended_by_a_signal(build: Build, busybox: str) -> None:
    done = build(f"FROM {busybox}\nRUN kill -KILL $$\n", check=False)

    said(done)
    assert done.status == 128 + signal.SIGKILL


def test_command_that_is_not_there(build: Build, busybox: str) -> None:
    done = build(f'FROM {busybox}\nRUN ["/no/such/program"]\n', check=False)

    said(done, "/no/such/program")
    assert done.status == 127


def test_failing_stage_ends_the_others(build: Build, busybox: str) -> None:
    """A stage that would run for ever does not hold up the bad news."""
    forever = _seconds()
    done = build(
        f"""FROM {busybox} AS slow
RUN sleep {forever}
FROM {busybox} AS broken
RUN sleep 1; exit 3
FROM {busybox}
COPY --from=slow /etc/passwd /a
COPY --from=broken /etc/passwd /b
""",
        check=False,
    )

    assert done.status == 3
    assert build.programs.processes(f"sleep {forever}") == []
    assert build.programs.leftovers() == []


def _seconds() -> str:
    """Make up a number that no other test's sleep has."""
    return str(1_000_000 + int.from_bytes(os.urandom(3)))


@pytest.fixture
def sleeping(build: Build, busybox: str) -> tuple[subprocess.Popen[bytes], str]:
    """A build in the middle of a RUN that sleeps, and how that command looks."""
    command = f"sleep {_seconds()}"
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN {command}\n"})
    process = build.programs.start_executor(*build.arguments)

    def asleep() -> bool:
        lines = [line.split(": ", 1)[1].strip() for line in build.programs.processes(command)]
        return command in lines or process.poll() is not None

    until(asleep, command)
    if process.poll() is not None:
        raise AssertionError(finished(process, check=False).written)
    return process, command


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_build_leaves_nothing(
    build: Build, sleeping: tuple[subprocess.Popen[bytes], str], number: signal.Signals
) -> None:
    """Ctrl-C reaches the whole process group; a pod's end only the first process."""
    process, command = sleeping
    if number is signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    done = finished(process, check=False)

    assert done.status in (128 + number, -number)
    assert "Traceback" not in done.written
    assert build.programs.processes(command) == []
    assert build.programs.leftovers() == []


def test_killed_build_takes_its_commands_with_it(
    build: Build, busybox: str, sleeping: tuple[subprocess.Popen[bytes], str]
) -> None:
    """After SIGKILL no process and no mount is left; the next build clears the files away."""
    process, command = sleeping
    process.kill()
    finished(process, check=False)

    until(lambda: not build.programs.processes(command), "the end of all processes")
    assert [line for line in build.programs.leftovers() if not line.startswith("file ")] == []
    build(f"FROM {busybox}\nRUN echo x > /x\n")
    assert build.programs.leftovers() == []


def test_json_log_is_json_to_the_last_line(build: Build, busybox: str) -> None:
    done = build(f"FROM {busybox}\nRUN echo words; exit 5\n", "--log-format=json", check=False)

    assert done.status == 5
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert any("words" in json.dumps(line) for line in lines)
