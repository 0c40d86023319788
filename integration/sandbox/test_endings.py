"""However a command, the sandbox or the builder ends: nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from integration.sandbox.workshop import Workshop, process
from kaniko_core.errors import SandboxError
from kaniko_core.sandbox.client import open_sandbox, probe
from tests.contracts.commands import eventually, processes_with

_PROJECT = Path(__file__).parents[2]


def test_a_daemon_that_holds_the_output_open_dies_with_the_command(workshop: Workshop) -> None:
    marker = f"{os.getpid()}00.{time.monotonic_ns() % 1000}"
    started = time.monotonic()

    workshop.shell(f"(setsid sleep {marker} &) ; echo up")

    assert time.monotonic() - started < 5
    assert not processes_with(marker)


def test_orphans_are_reaped_while_the_command_runs(workshop: Workshop) -> None:
    script = "for i in 1 2 3 4 5; do (sleep 0 &) ; done; sleep 0.2; ps | grep -c '[Zz]ombie'; true"

    assert workshop.shell(script) == "0\n"


def test_an_output_that_raises_ends_the_command(workshop: Workshop) -> None:
    def refuse(data: bytes, is_stderr: bool) -> None:
        raise ValueError("enough")

    marker = f"77{os.getpid()}"
    with workshop.mount() as root, pytest.raises(ValueError, match="enough"):
        workshop.sandbox.run(process("/bin/sh", "-c", f"echo x; sleep {marker}"), root, refuse)

    assert not processes_with(marker)


def test_closing_the_sandbox_ends_a_running_command(image: Path, tmp_path: Path) -> None:
    marker = f"88{os.getpid()}"
    errors: list[BaseException] = []
    opened = open_sandbox(tmp_path)
    running = threading.Event()
    (tmp_path / "w").mkdir()

    def run() -> None:
        try:
            with Workshop(opened, tmp_path / "w", [image]).mount() as root:
                opened.run(
                    process("/bin/sh", "-c", f"echo up; sleep {marker}"),
                    root,
                    lambda data, is_stderr: running.set(),
                )
        except SandboxError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert running.wait(10)
    opened.close()
    thread.join(10)

    assert "closed" in str(errors[0])
    assert not processes_with(marker)
    with pytest.raises(SandboxError, match="closed"):
        opened.mounted([image])


def test_a_closed_sandbox_leaves_nothing_in_its_directory(image: Path, tmp_path: Path) -> None:
    with open_sandbox(tmp_path) as opened, opened.mounted([image]):
        # Others on this machine may mount what they like.
        assert str(tmp_path) not in Path("/proc/self/mounts").read_text()

    assert list(tmp_path.iterdir()) == []
    assert probe(tmp_path).whiteouts == "trusted"
    assert list(tmp_path.iterdir()) == []


_VICTIM = """
import sys
from pathlib import Path
sys.path.insert(0, {project!r})
from kaniko_core.sandbox.client import open_sandbox
from kaniko_core.sandbox.runner import Process
place = Path({place!r})
sandbox = open_sandbox(place)
root = sandbox.mounted([Path({image!r})], upper=place / "upper", work=place / "work")
def output(data, is_stderr):
    print(data.decode(), flush=True)
sandbox.run(Process(("/bin/sh", "-c", {script!r}), ("PATH=/bin",)), root, output)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_an_ended_builder_leaves_no_process_and_no_mount(
    image: Path, tmp_path: Path, end: signal.Signals
) -> None:
    marker = f"99{os.getpid()}"
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    program = _VICTIM.format(
        project=str(_PROJECT),
        place=str(tmp_path),
        image=str(image),
        script=f"(setsid sleep {marker} &) ; trap '' INT TERM; echo up; sleep {marker}",
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as victim:
        try:
            assert victim.stdout is not None
            assert victim.stdout.readline() == b"up\n"
            servers = processes_with(str(tmp_path))
            victim.send_signal(end)
            victim.communicate(timeout=20)
        finally:
            victim.kill()

    assert len(servers) >= 3
    eventually(lambda: not processes_with(marker) and not processes_with(str(tmp_path)))
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
