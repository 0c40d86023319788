"""What a command sees, says and cannot reach."""

from __future__ import annotations

import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from integration.sandbox.workshop import Workshop, process
from kaniko_core.errors import CommandFailed
from kaniko_core.sandbox.client import Sandbox
from kaniko_core.sandbox.runner import Process
from tests.contracts.commands import Heard


def test_a_command_sees_the_image_and_what_belongs_into_every_root(workshop: Workshop) -> None:
    assert workshop.shell("ls /").split() == ["bin", "dev", "etc", "proc", "sys"]


def test_the_root_is_its_only_mount_beside_pseudo_file_systems(workshop: Workshop) -> None:
    table = workshop.shell("cat /proc/self/mounts").splitlines()

    kinds = {line.split()[2] for line in table}
    assert kinds <= {"overlay", "tmpfs", "devpts", "mqueue", "proc", "sysfs"}
    assert not [line for line in table if line.split()[1].startswith("/tmp")]


def test_it_is_alone_among_processes(workshop: Workshop) -> None:
    pids = [int(name) for name in workshop.shell("ls /proc").split() if name.isdigit()]

    # The first process, and ls in the place of the shell.
    assert pids == [1, 2]


def test_devices_work_and_no_disk_is_among_them(workshop: Workshop) -> None:
    script = (
        "echo x > /dev/null; head -c 2 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c;"
        " ls /dev; echo to > /dev/stdout; (echo here) <&- ; cat /dev/fd/3 3< /bin/../etc/hosts"
    )
    lines = workshop.shell(script).split()

    assert lines[:2] == ["2", "3"]
    assert set(lines) >= {"null", "tty", "full", "random", "pts", "ptmx", "shm", "to", "here"}
    assert not [line for line in lines if re.match("[vs]d[a-z]", line)]


def test_a_user_may_write_to_standard_error_by_name(workshop: Workshop) -> None:
    heard = workshop.run("/bin/sh", "-c", "echo oops > /dev/stderr", uid=1000, gid=1000)

    assert heard.stderr == b"oops\n"


def test_standard_input_is_empty(workshop: Workshop) -> None:
    assert workshop.shell("cat; echo end") == "end\n"


def test_knobs_of_the_machine_are_out_of_reach(workshop: Workshop) -> None:
    script = (
        "echo 1 > /proc/sys/kernel/printk; echo h > /proc/sysrq-trigger;"
        " echo x > /sys/kernel/uevent_helper; mkdir /sys/x; cat /proc/keys /proc/timer_list;"
        " mount -t tmpfs x /bin; hostname other; echo done"
    )
    heard = workshop.run("/bin/sh", "-c", script)

    assert heard.stdout == b"done\n"
    assert heard.stderr.count(b"Read-only file system") >= 3
    assert heard.stderr.count(b"ermitted") + heard.stderr.count(b"denied") >= 2


def test_it_has_dockers_fourteen_capabilities(workshop: Workshop) -> None:
    status = workshop.shell("grep Cap /proc/self/status").split()

    assert dict(zip(status[::2], status[1::2], strict=True)) == {
        "CapInh:": "0" * 16,
        "CapPrm:": "00000000a80425fb",
        "CapEff:": "00000000a80425fb",
        "CapBnd:": "00000000a80425fb",
        "CapAmb:": "0" * 16,
    }


def test_the_builders_environment_is_out_of_reach(workshop: Workshop) -> None:
    """The first process is a copy of the builder's server, and has its environment."""
    heard = workshop.run("/bin/sh", "-c", "cat /proc/1/environ /proc/1/mem; ls /proc/1/root/; true")

    assert heard.stdout == b""
    assert heard.stderr.count(b"Permission denied") == 3


def test_user_group_directory_and_environment_are_the_processs(workshop: Workshop) -> None:
    heard = Heard()
    process = Process(
        (
            "/bin/sh",
            "-c",
            "id -u; id -g; id -G; pwd; umask; env | sort; grep CapEff /proc/self/status",
        ),
        env=("PATH=/bin", "WORD=a=b", "LAST=é"),
        cwd="/bin",
        uid=1000,
        gid=1001,
        groups=(1001, 7, 8),
    )
    with workshop.mount() as root:
        workshop.sandbox.run(process, root, heard)

    lines = heard.stdout.decode().splitlines()
    assert lines[:5] == ["1000", "1001", "1001 7 8", "/bin", "0022"]
    assert {"PATH=/bin", "WORD=a=b", "LAST=é"} <= set(lines[5:-1])
    assert not [line for line in lines if line.startswith(("VIRTUAL_ENV", "USER", "PYTHON"))]
    assert lines[-1].endswith("0" * 16)


def test_ignored_signals_are_not_inherited(workshop: Workshop) -> None:
    status = workshop.run("grep", "-E", "Sig(Ign|Blk)", "/proc/self/status").stdout.split()

    assert status == [b"SigBlk:", b"0" * 16, b"SigIgn:", b"0" * 16]


@pytest.mark.parametrize("status", [1, 3, 126, 255])
def test_exit_status_is_the_commands_own(workshop: Workshop, status: int) -> None:
    with pytest.raises(CommandFailed, match=f"exit status {status}") as failed:
        workshop.shell(f"exit {status}")

    assert failed.value.exit_status == status
    assert failed.value.argv == ("/bin/sh", "-c", f"exit {status}")


def test_a_command_ended_by_a_signal_says_which(workshop: Workshop) -> None:
    with pytest.raises(CommandFailed, match="SIGTERM") as failed:
        workshop.shell("kill -TERM $$")

    assert failed.value.exit_status == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (("nothing-like-it",), 127, "not in any directory of PATH"),
        (("/usr/bin/nothing",), 127, "/usr/bin/nothing is not in the image"),
        (("/etc/hosts",), 126, "may not be executed"),
        (("/bin",), 126, "may not be executed"),
        (("/script/no-interpreter",), 127, "interpreter or loader is not in the image"),
        (("/script/no-format",), 126, "no program for this machine"),
    ],
)
def test_a_command_that_cannot_start_says_why(
    workshop: Workshop, tmp_path: Path, argv: tuple[str, ...], status: int, message: str
) -> None:
    scripts = tmp_path / "scripts"
    (scripts / "script").mkdir(parents=True)
    (scripts / "script/no-interpreter").write_text("#!/usr/bin/none\n")
    (scripts / "script/no-format").write_bytes(b"\x7fELF but not really")
    for script in (scripts / "script").iterdir():
        script.chmod(0o755)

    with pytest.raises(CommandFailed, match=message) as failed:
        workshop.run(*argv, lowers=[*workshop.lowers, scripts])

    assert failed.value.exit_status == status


def test_an_image_without_a_shell_is_told_apart_from_a_failing_command(
    workshop: Workshop, tmp_path: Path
) -> None:
    with pytest.raises(CommandFailed, match="/bin/sh is not in the image") as failed:
        workshop.shell("true", lowers=[])

    assert failed.value.exit_status == 127
    assert "shell" in (failed.value.hint or "")


def test_a_directory_that_the_user_may_not_enter_is_named(
    workshop: Workshop, tmp_path: Path
) -> None:
    lower = tmp_path / "lower"
    (lower / "closed").mkdir(parents=True, mode=0o700)

    with pytest.raises(CommandFailed, match="/closed: Permission denied"):
        workshop.shell("true", lowers=[*workshop.lowers, lower], cwd="/closed", uid=5, gid=5)


def test_output_comes_in_order_as_it_is_written(workshop: Workshop) -> None:
    times: list[float] = []
    with workshop.mount() as root:
        workshop.sandbox.run(
            process("/bin/sh", "-c", "echo one; sleep 0.3; echo two >&2; sleep 0.3; echo three"),
            root,
            lambda data, is_stderr: times.append(time.monotonic()),
        )

    assert len(times) == 3
    assert times[1] - times[0] > 0.2
    assert times[2] - times[1] > 0.2


def test_big_output_arrives_whole(workshop: Workshop) -> None:
    heard = workshop.run("/bin/sh", "-c", "head -c 20000000 /dev/zero | tee /dev/stderr")

    assert (len(heard.stdout), len(heard.stderr)) == (20_000_000, 20_000_000)


def test_a_very_long_script_fits(workshop: Workshop) -> None:
    script = "echo start\n" + "# comment\n" * 12_000 + "echo end"

    assert workshop.shell(script) == "start\nend\n"


def test_runs_of_several_threads_do_not_wait_for_each_other(
    sandbox: Sandbox, image: Path, tmp_path: Path
) -> None:
    def run(number: int) -> bytes:
        (tmp_path / str(number)).mkdir()
        workshop = Workshop(sandbox, tmp_path / str(number), [image])
        return workshop.run("/bin/sh", "-c", f"sleep 0.5; echo {number}").stdout

    started = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        outputs = list(pool.map(run, range(16)))

    assert outputs == [f"{number}\n".encode() for number in range(16)]
    assert time.monotonic() - started < 4


def test_without_network_there_is_loopback_only(workshop: Workshop) -> None:
    alone = workshop.shell("cat /proc/net/dev; ip link; ping -c 1 -W 1 127.0.0.1", network=False)

    devices = [
        line.split(":")[0].strip() for line in alone.splitlines() if re.match(" *\\w+:", line)
    ]
    assert "1 packets received" in alone
    assert "lo" in devices
    assert "eth0" not in alone


def test_names_are_a_private_copy_with_its_own_host(workshop: Workshop) -> None:
    hosts = workshop.shell(
        "hostname; cat /etc/hosts; echo mine >> /etc/hosts; tail -n 1 /etc/hosts"
    )

    assert hosts.startswith("kaniko\n")
    assert "localhost kaniko" in hosts
    assert hosts.endswith("mine\n")
    assert "mine" not in Path("/etc/hosts").read_text()


def test_the_host_name_is_the_processs(workshop: Workshop) -> None:
    assert workshop.shell("hostname; grep -c box.example /etc/hosts", hostname="box.example") == (
        "box.example\n1\n"
    )


def test_a_privileged_command_has_every_right_of_the_builder(workshop: Workshop) -> None:
    script = (
        "grep CapEff /proc/self/status | cut -f 2; grep -c ' /proc/sys ' /proc/mounts;"
        " grep -o ' /sys sysfs r.' /proc/mounts; mkdir /m && mount -t tmpfs x /m && echo mounted"
    )
    lines = workshop.shell(script, privileged=True).splitlines()

    ours = re.search(r"CapEff:\t(\w+)", Path("/proc/self/status").read_text())
    assert ours is not None
    assert lines == [ours[1], "0", " /sys sysfs rw", "mounted"]


def test_secret_variables_reach_the_command(workshop: Workshop) -> None:
    seen = workshop.shell("echo $HOME $B", secret_env=("HOME=/hidden", "B=too"))

    assert seen == "/hidden too\n"
