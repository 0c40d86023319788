"""What every runner promises, whether its commands have a root of their own or not.

The tests want a fixture ``bench`` (a :class:`Bench`) from the module that imports them.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from kaniko_core.errors import CommandFailed, SandboxError
from kaniko_core.sandbox.runner import Process
from kaniko_core.sandbox.streams import Output
from tests.contracts.commands import Heard, children_of, eventually, processes_with


class Runner(Protocol):
    """Runs commands."""

    def run(self, process: Process, output: Output) -> None: ...

    def put(self, name: str, content: bytes, mode: int) -> str:
        """Make a file, and return its path for commands."""

    def close(self) -> None: ...


@dataclass
class Bench:
    """A runner of its own for one test.

    Attributes:
        bin: where commands find busybox.
        place: a directory, for commands; everybody may write to it.
    """

    runner: Runner
    bin: str
    place: str

    def process(self, *argv: str, **how: Any) -> Process:
        return Process(argv, **{"env": (f"PATH={self.bin}", "HOME=/root"), **how})

    def shell(self, script: str, **how: Any) -> Heard:
        heard = Heard()
        self.runner.run(self.process("sh", "-c", script, **how), heard)
        return heard

    def lines(self, script: str, **how: Any) -> list[str]:
        return self.shell(script, **how).stdout.decode().splitlines()


def _marker() -> str:
    """Return an argument for sleep by which it is known again."""
    return f"3{os.getpid()}{time.monotonic_ns() % 100000}"


def test_both_streams_arrive_whole_and_in_order(bench: Bench) -> None:
    heard = bench.shell("echo one; echo two >&2; head -c 3000000 /dev/zero; echo end >&2")

    assert heard.stderr == b"two\nend\n"
    assert heard.stdout == b"one\n" + bytes(3_000_000)


def test_output_comes_while_the_command_runs(bench: Bench) -> None:
    times: list[float] = []
    process = bench.process("sh", "-c", "echo one; sleep 0.3; echo two")
    bench.runner.run(process, lambda data, is_stderr: times.append(time.monotonic()))

    assert len(times) == 2
    assert times[1] - times[0] > 0.2


def test_standard_input_is_empty(bench: Bench) -> None:
    assert bench.lines("cat; readlink /proc/self/fd/0") == ["/dev/null"]


def test_no_other_file_is_open(bench: Bench) -> None:
    # The last one is the directory itself.
    assert bench.lines("ls /proc/self/fd") == ["0", "1", "2", "3"]


def test_who_where_and_with_what_are_the_processs(bench: Bench) -> None:
    env = (f"PATH={bench.bin}", "WORD=a=b", "LAST=é", "=strange")
    lines = bench.lines(
        "id -u; id -g; id -G; pwd; umask; env | sort",
        env=env,
        secret_env=("HIDDEN=yes",),
        cwd=bench.place,
        uid=1000,
        gid=1001,
        groups=(1001, 7, 8),
    )

    assert lines[:5] == ["1000", "1001", "1001 7 8", bench.place, "0022"]
    variables = {line for line in lines[5:] if not line.startswith(("PWD=", "SHLVL=", "_="))}
    assert variables == {*env[:3], "HIDDEN=yes"}


def test_a_working_directory_is_made_for_the_user(bench: Bench) -> None:
    deep = f"{bench.place}/new/deep"

    assert bench.lines("pwd; stat -c '%u:%g %a' . ..", cwd=deep, uid=5, gid=6) == [
        deep,
        "5:6 755",
        "5:6 755",
    ]


def test_it_has_at_most_dockers_fourteen_capabilities(bench: Bench) -> None:
    status = dict(line.split() for line in bench.lines("grep Cap /proc/self/status"))

    docker = 0xA80425FB
    assert {name: int(text, 16) & ~docker for name, text in status.items()} == dict.fromkeys(
        ("CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"), 0
    )
    assert int(status["CapInh:"], 16) == int(status["CapAmb:"], 16) == 0


def test_another_user_than_root_has_no_capability(bench: Bench) -> None:
    status = bench.lines("grep CapEff /proc/self/status", uid=1, gid=1)

    assert status[0].endswith("\t" + "0" * 16)


def test_signals_have_their_defaults(bench: Bench) -> None:
    lines = bench.lines("exec grep -E 'Sig(Ign|Blk)' /proc/self/status")

    assert [line.split()[1] for line in lines] == ["0" * 16] * 2


def test_it_is_the_first_of_its_session_and_group(bench: Bench) -> None:
    pid, group, session = bench.lines("cut -d ' ' -f 1,5,6 /proc/$$/stat")[0].split()

    assert pid == group == session


@pytest.mark.parametrize("status", [1, 126, 127, 255])
def test_exit_status_is_the_commands_own(bench: Bench, status: int) -> None:
    with pytest.raises(CommandFailed, match=f"`exit {status}` ended with exit status") as failed:
        bench.shell(f"exit {status}")

    assert failed.value.exit_status == status
    assert failed.value.argv == ("sh", "-c", f"exit {status}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_a_command_ended_by_a_signal_says_which(bench: Bench, number: signal.Signals) -> None:
    with pytest.raises(CommandFailed, match=rf"signal {number} \({number.name}\)") as failed:
        bench.shell(f"kill -{number} $$")

    assert failed.value.exit_status == 128 + number


@pytest.mark.parametrize(
    ("content", "mode", "status", "message"),
    [
        (b"", 0o644, 126, "may not be executed by this user"),
        (b"#!/usr/bin/none\n", 0o755, 127, "its interpreter or loader is not in the image"),
        (b"\x7fELF but not really", 0o755, 126, "it is no program for this machine"),
    ],
)
def test_a_file_that_cannot_be_executed_says_why(
    bench: Bench, content: bytes, mode: int, status: int, message: str
) -> None:
    path = bench.runner.put("program", content, mode)

    with pytest.raises(CommandFailed, match=f"{re.escape(path)}.* {message}") as failed:
        bench.runner.run(bench.process(path), Heard())

    assert failed.value.exit_status == status


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing-like-it", "nothing-like-it is not in any directory of PATH in the image"),
        ("/usr/bin/nothing-like-it", "/usr/bin/nothing-like-it is not in the image"),
    ],
)
def test_a_missing_program_is_named(bench: Bench, name: str, message: str) -> None:
    with pytest.raises(CommandFailed, match=f"^{message}$") as failed:
        bench.runner.run(bench.process(name), Heard())

    assert failed.value.exit_status == 127


def test_a_program_is_looked_up_on_the_path_of_the_environment(bench: Bench) -> None:
    path = bench.runner.put("greet", f"#!{bench.bin}/sh\necho hello $1\n".encode(), 0o755)
    directory = path.rpartition("/")[0]
    heard = Heard()

    env = (f"PATH=/nowhere:{directory}:{bench.bin}",)
    bench.runner.run(bench.process("greet", "you", env=env), heard)

    assert heard.stdout == b"hello you\n"


def test_a_directory_that_the_user_may_not_enter_is_named(bench: Bench) -> None:
    path = bench.runner.put("closed", b"", 0o600)

    with pytest.raises(CommandFailed, match=f"cannot start in the directory {path}"):
        bench.shell("true", cwd=path)


def test_a_very_long_script_fits(bench: Bench) -> None:
    script = "echo start\n" + "# comment\n" * 12_000 + "echo end"

    assert bench.lines(script) == ["start", "end"]


def test_a_zero_byte_is_refused_and_the_next_command_runs(bench: Bench) -> None:
    with pytest.raises((SandboxError, CommandFailed)):
        bench.shell("true", env=("A=\0",))

    assert bench.lines("echo alive") == ["alive"]


def test_several_threads_run_commands_at_once(bench: Bench) -> None:
    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        heard = list(pool.map(lambda n: bench.lines(f"sleep 0.5; echo {n}"), range(8)))

    assert heard == [[str(number)] for number in range(8)]
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    "daemon",
    [
        "sleep {0} &",
        "(setsid sleep {0} &)",
        "(setsid sh -c '(setsid sh -c \"sleep {0} & sleep {0}\" &)' &)",
        "nohup sh -c 'trap \"\" TERM INT HUP; while :; do sleep {0}; done' &",
    ],
    ids=["background", "own session", "forked twice", "ignores signals"],
)
def test_a_daemon_that_holds_the_output_open_ends_with_the_command(
    bench: Bench, daemon: str
) -> None:
    marker = _marker()
    started = time.monotonic()

    # Up before the command ends, so that there is something to end.
    heard = bench.shell(f"{daemon.format(marker)}\n sleep 0.2; echo up")

    assert heard.stdout == b"up\n"
    assert time.monotonic() - started < 5
    assert not processes_with(marker)


def test_a_stopped_daemon_ends_with_the_command(bench: Bench) -> None:
    marker = _marker()

    bench.shell(f"sleep {marker} & kill -STOP $!")

    assert not processes_with(marker)


def test_daemons_of_a_failing_command_end_too(bench: Bench) -> None:
    marker = _marker()

    with pytest.raises(CommandFailed, match="exit status 3"):
        bench.shell(f"(setsid sleep {marker} &); exit 3")

    assert not processes_with(marker)


def test_a_storm_of_processes_ends_with_the_command(bench: Bench) -> None:
    marker = _marker()
    # Each one that finds its child gone starts another.
    keep = f"while :; do sleep {marker} & wait; done"

    bench.shell(f"for i in $(seq 150); do (setsid sh -c '{keep}' &); done; sleep 0.2")

    assert not processes_with(marker)


def test_what_never_stays_the_same_process_ends_with_the_command(bench: Bench) -> None:
    """A process whose number is old when it has been read: each hands over to the next."""
    path = bench.runner.put("comet", b"", 0o755)
    hops = 20_000  # not for ever, should this test fail
    script = f'#!{bench.bin}/sh\n[ "$1" = 0 ] || setsid {path} $(($1 - 1)) &\n'
    bench.runner.put("comet", script.encode(), 0o755)
    started = time.monotonic()

    bench.shell(f"{path} {hops}; sleep 0.1")

    assert time.monotonic() - started < 5
    assert not processes_with(path)


def test_orphans_are_reaped_while_the_command_runs(bench: Bench) -> None:
    script = (
        "for i in 1 2 3 4 5; do (sh -c 'exit' &); done; sleep 0.3;"
        " cut -d ' ' -f 3,4 /proc/[0-9]*/stat 2>/dev/null | grep -c \"^Z $PPID\"; true"
    )
    assert bench.lines(script) == ["0"]


def test_nothing_is_below_us_but_the_server_afterwards(bench: Bench) -> None:
    bench.shell("(setsid sleep 1000 &); (sleep 1000 &); true")
    ours = children_of(os.getpid())
    bench.runner.close()

    assert not {pid for pid in children_of(os.getpid()) if pid not in ours}


def test_an_output_that_raises_ends_the_command(bench: Bench) -> None:
    marker = _marker()

    def refuse(data: bytes, is_stderr: bool) -> None:
        raise ValueError("enough")

    process = bench.process("sh", "-c", f"(setsid sleep {marker} &); echo x; sleep {marker}")
    with pytest.raises(ValueError, match="enough"):
        bench.runner.run(process, refuse)

    assert not processes_with(marker)
    assert bench.lines("echo alive") == ["alive"]


def test_closing_ends_what_runs_within_a_second(bench: Bench) -> None:
    marker = _marker()
    errors: list[BaseException] = []
    running = threading.Event()
    script = f"trap '' TERM INT; (setsid sleep {marker} &); echo up; sleep {marker}"

    def run() -> None:
        try:
            bench.runner.run(bench.process("sh", "-c", script), lambda *_: running.set())
        except SandboxError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert running.wait(10)
    eventually(lambda: len(processes_with(marker)) >= 2)
    started = time.monotonic()
    bench.runner.close()
    thread.join(10)

    assert time.monotonic() - started < 1
    assert "closed" in str(errors[0])
    assert not processes_with(marker)
    with pytest.raises(SandboxError, match="closed"):
        bench.shell("true")
