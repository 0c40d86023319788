"""Commands in place: what is theirs alone, and that nothing is left however things end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaniko_core.errors import CommandFailed, SandboxError
from kaniko_core.sandbox import start
from kaniko_core.sandbox.inplace import InPlaceRunner, open_in_place
from kaniko_core.sandbox.runner import Process
from tests.contracts.commands import Heard, children_of, eventually, processes_with

_PROJECT = Path(__file__).parents[2]
_ENV = ("PATH=/usr/bin:/bin",)


def _shell(script: str, *, network: bool = True, privileged: bool = False) -> Process:
    argv = ("/bin/sh", "-c", script)
    return Process(argv, _ENV, network=network, privileged=privileged)


def _marker() -> str:
    return f"4{os.getpid()}{time.monotonic_ns() % 100000}"


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[InPlaceRunner]:
    with open_in_place(tmp_path) as opened:
        yield opened


def test_a_command_has_the_root_the_names_and_the_network_of_the_builder(
    runner: InPlaceRunner,
) -> None:
    kinds = ("mnt", "pid", "net", "uts", "ipc", "user")
    heard = Heard()
    runner.run(_shell(f"for k in {' '.join(kinds)}; do readlink /proc/self/ns/$k; done"), heard)

    ours = [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in kinds]
    assert heard.stdout.decode().split() == ours


def test_a_command_without_network_is_refused_before_it_runs(
    runner: InPlaceRunner, tmp_path: Path
) -> None:
    with pytest.raises(SandboxError, match="RUN --network=none cannot be had in place") as refused:
        runner.run(_shell(f"touch {tmp_path}/ran", network=False), Heard())

    assert "sandbox mode" in (refused.value.hint or "")
    assert not (tmp_path / "ran").exists()


def test_a_privileged_command_has_the_capabilities_of_the_builder(runner: InPlaceRunner) -> None:
    heard = Heard()
    runner.run(_shell("grep CapEff /proc/self/status", privileged=True), heard)

    assert heard.stdout.decode() in Path("/proc/self/status").read_text()


def test_the_environment_of_the_builder_is_not_the_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", "swordfish")
    with open_in_place(tmp_path) as runner:
        heard = Heard()
        runner.run(_shell("cat /proc/$PPID/environ; env"), heard)

    assert b"swordfish" not in heard.stdout


@pytest.mark.parametrize("victim", ["init", "server", "keeper"])
def test_a_command_that_kills_its_parents_does_not_get_away(tmp_path: Path, victim: str) -> None:
    marker = _marker()
    up = {"init": "$PPID", "server": "$(above $PPID)", "keeper": "$(above $(above $PPID))"}[victim]
    script = (
        f"above() {{ cut -d ' ' -f 4 /proc/$1/stat; }}; (setsid sleep {marker} &); sleep 0.1;"
        f" kill -9 {up}; sleep {marker}"
    )
    with open_in_place(tmp_path) as runner:
        if victim == "init":
            with pytest.raises(CommandFailed, match="SIGKILL"):
                runner.run(_shell(script), Heard())
            assert not processes_with(marker)
            heard = Heard()
            runner.run(_shell("echo alive"), heard)
            assert heard.stdout == b"alive\n"
        else:
            with pytest.raises(SandboxError, match="its server was killed"):
                runner.run(_shell(script), Heard())
            if victim == "keeper":  # then nobody is left to adopt the daemon
                runner.close()
                for pid in processes_with(marker):
                    os.kill(pid, signal.SIGKILL)

    eventually(lambda: not processes_with(marker))


def test_no_zombie_is_left(runner: InPlaceRunner) -> None:
    for _ in range(3):
        runner.run(_shell("for i in 1 2 3 4 5 6; do (setsid sleep 100 &); done; exit 0"), Heard())

    keeper = children_of(os.getpid())
    servers = [pid for parent in keeper for pid in children_of(parent)]
    assert [pid for server in servers for pid in children_of(server)] == []


def test_a_closed_runner_leaves_nothing(tmp_path: Path) -> None:
    before = set(children_of(os.getpid()))
    with open_in_place(tmp_path) as runner:
        runner.run(_shell("true"), Heard())
        assert set(children_of(os.getpid())) > before

    assert set(children_of(os.getpid())) == before
    assert list(tmp_path.iterdir()) == []
    runner.close()


_WATCHED = """
import os, sys
sys.addaudithook(lambda event, args: event == "import" and os.write(2, repr(args).encode()))
"""


def test_a_ready_server_imports_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """By then the root may be another image's, with another library or none at all."""
    monkeypatch.setattr(start, "_BOOT", _WATCHED + start._BOOT)
    with open_in_place(tmp_path) as runner:
        assert "sandbox.server" in capfd.readouterr().err
        runner.run(Process(("/bin/sh", "-c", "(setsid sleep 9 &)"), _ENV, uid=1, gid=1), Heard())
        with pytest.raises(CommandFailed):
            runner.run(Process(("nothing-like-it",), _ENV, cwd=str(tmp_path / "new")), Heard())

    assert capfd.readouterr().err == ""


_VICTIM = """
import sys
from pathlib import Path
sys.path.insert(0, {project!r})
from kaniko_core.sandbox.inplace import open_in_place
from kaniko_core.sandbox.runner import Process
def output(data, is_stderr):
    print(data.decode(), flush=True)
with open_in_place(Path({place!r})) as runner:
    runner.run(Process(("/bin/sh", "-c", {script!r}), ("PATH=/usr/bin:/bin",)), output)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_an_ended_builder_leaves_no_process(tmp_path: Path, end: signal.Signals) -> None:
    marker = _marker()
    script = f"(setsid sleep {marker} &) ; trap '' INT TERM; echo up; sleep {marker}"
    program = _VICTIM.format(project=str(_PROJECT), place=str(tmp_path), script=script)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as victim:
        try:
            assert victim.stdout is not None
            assert victim.stdout.readline() == b"up\n"
            eventually(lambda: len(processes_with(marker)) >= 3)
            victim.send_signal(end)
            victim.communicate(timeout=20)
        finally:
            victim.kill()

    eventually(lambda: not processes_with(marker) and not processes_with(str(tmp_path)), 1)


_PLAIN = """
import sys
from pathlib import Path
sys.path.insert(0, {project!r})
from kaniko_core.errors import KanikoError
from kaniko_core.sandbox.inplace import open_in_place
from kaniko_core.sandbox.runner import Process
try:
    with open_in_place(Path({place!r})) as runner:
        runner.run(
            Process(("/bin/sh", "-c", {script!r}), ("PATH=/usr/bin:/bin",), uid={uid}, gid={uid}),
            lambda data, is_stderr: print(data.decode(), end="", flush=True),
        )
except KanikoError as error:
    print(type(error).__name__, error, "HINT", error.hint)
"""


def _with_rights(rights: str, place: Path, script: str, uid: int = 0) -> str:
    program = _PLAIN.format(project=str(_PROJECT), place=str(place), script=script, uid=uid)
    wrapper = ["setpriv", "--inh-caps=-all", "--clear-groups", f"--bounding-set={rights}"]
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr


def test_less_than_dockers_capabilities_are_kept(tmp_path: Path) -> None:
    """Without CAP_SETPCAP the bounding set stays what it is: the container's."""
    rights = "-all,+chown,+setuid,+setgid,+sys_admin"

    said = _with_rights(rights, tmp_path, "grep -E 'CapEff|CapBnd' /proc/self/status; id -u", 1)

    assert said.split() == ["CapEff:", "0" * 16, "CapBnd:", f"{1 | 3 << 6 | 1 << 21:016x}", "1"]


def test_a_container_without_any_capability_can_run_commands_of_root(tmp_path: Path) -> None:
    assert _with_rights("-all", tmp_path, "id -u; exit 0") == "0\n"


def test_a_missing_right_to_change_users_is_named(tmp_path: Path) -> None:
    said = _with_rights("-all", tmp_path, "true", uid=1000)

    assert said.startswith("SandboxError the command `true` cannot be run as user 1000")
    assert "SETUID" in said
