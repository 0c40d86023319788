"""The sandbox on a real kernel: what a command sees, leaves behind, and cannot reach."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kaniko_core.errors import CommandFailed, DiskError, SandboxError
from kaniko_core.sandbox.client import Mounted, Sandbox, open_sandbox, probe
from kaniko_core.sandbox.runner import BindMount, FileMount, Mount, Process, TmpfsMount

_PROJECT = Path(__file__).parents[1]
_BUSYBOX = shutil.which("busybox")


@dataclass
class Heard:
    """An output that remembers."""

    stdout: bytes = b""
    stderr: bytes = b""
    pieces: list[tuple[bytes, bool]] = field(default_factory=list)

    def __call__(self, data: bytes, is_stderr: bool, /) -> None:
        self.pieces.append((data, is_stderr))
        if is_stderr:
            self.stderr += data
        else:
            self.stdout += data


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with nothing but busybox in /bin."""
    assert _BUSYBOX is not None
    root = tmp_path_factory.mktemp("image")
    root.chmod(0o755)
    (root / "bin").mkdir()
    shutil.copy(_BUSYBOX, root / "bin/busybox")
    for name in subprocess.run(
        [_BUSYBOX, "--list"], check=True, capture_output=True
    ).stdout.split():
        link = root / "bin" / name.decode()
        if not link.exists():
            link.symlink_to("busybox")
    return root


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with open_sandbox(tmp_path_factory.mktemp("sandbox")) as opened:
        yield opened


@dataclass
class Workshop:
    """Runs commands, each in a mount of its own with a fresh upper directory."""

    sandbox: Sandbox
    directory: Path
    lowers: list[Path]
    upper: Path = Path()

    def mount(self, *mounts: Mount, lowers: list[Path] | None = None) -> Mounted:
        place = self.directory / str(len(list(self.directory.iterdir())))
        self.upper = place / "upper"
        for part in ("upper", "work"):
            (place / part).mkdir(parents=True)
        below = self.lowers if lowers is None else lowers
        return self.sandbox.mounted(below, upper=self.upper, work=place / "work", mounts=mounts)

    def run(
        self,
        *argv: str,
        mounts: tuple[Mount, ...] = (),
        lowers: list[Path] | None = None,
        **how: object,
    ) -> Heard:
        heard = Heard()
        with self.mount(*mounts, lowers=lowers) as root:
            self.sandbox.run(_process(*argv, **how), root, heard)
        return heard

    def shell(self, script: str, **how: object) -> str:
        return self.run("/bin/sh", "-c", script, **how).stdout.decode()

    def changed(self) -> list[str]:
        return sorted(str(p.relative_to(self.upper)) for p in self.upper.rglob("*"))


def _process(*argv: str, **how: object) -> Process:
    return Process(argv, env=("PATH=/bin", "HOME=/root"), **how)  # type: ignore[arg-type]


@pytest.fixture
def workshop(sandbox: Sandbox, image: Path, tmp_path: Path) -> Workshop:
    return Workshop(sandbox, tmp_path, [image])


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


def test_nothing_of_the_surroundings_is_a_change(workshop: Workshop) -> None:
    workshop.shell("echo nameserver ::1 > /etc/resolv.conf; echo x > /dev/shm/x; ls /proc /sys")

    assert workshop.changed() == []


def test_what_it_writes_is_a_change_and_only_that(workshop: Workshop) -> None:
    workshop.shell("mkdir -p /opt/app && echo made > /opt/app/file")

    assert workshop.changed() == ["opt", "opt/app", "opt/app/file"]
    assert (workshop.upper / "opt/app/file").read_text() == "made\n"


def test_parents_of_mount_points_keep_their_metadata(workshop: Workshop, tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    (lower / "etc").mkdir(parents=True)
    (lower / "etc").chmod(0o750)
    os.chown(lower / "etc", 12, 34)
    os.utime(lower / "etc", (1000, 1000))

    found = workshop.shell("stat -c '%a %u %g %Y' /etc", lowers=[*workshop.lowers, lower])

    assert found == "750 12 34 1000\n"


def test_a_resolv_conf_that_is_a_dangling_link_is_followed_inside_the_root(
    workshop: Workshop, tmp_path: Path
) -> None:
    lower = tmp_path / "lower"
    (lower / "etc").mkdir(parents=True)
    (lower / "etc/resolv.conf").symlink_to("/run/systemd/resolve/stub.conf")
    (lower / "etc/hosts").symlink_to("../../../../../../run/hosts")
    heard = Heard()

    with workshop.mount(lowers=[*workshop.lowers, lower]) as root:
        workshop.sandbox.run(
            _process("cat", "/run/systemd/resolve/stub.conf", "/run/hosts"),
            root,
            heard,
            hosts=b"::7 seven\n",
            resolv_conf=b"nameserver ::8\n",
        )

    assert heard.stdout == b"nameserver ::8\n::7 seven\n"
    assert workshop.changed() == []


def test_an_image_with_a_file_where_a_mount_point_belongs_is_refused(
    workshop: Workshop, tmp_path: Path
) -> None:
    lower = tmp_path / "lower"
    lower.mkdir()
    (lower / "proc").touch()

    with pytest.raises(SandboxError, match="/proc: Not a directory"):
        workshop.shell("true", lowers=[*workshop.lowers, lower])


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
    heard = workshop.run(
        "/bin/sh", "-c", "cat /proc/1/environ; ls -l /proc/1/fd /proc/1/root; true"
    )

    assert heard.stdout == b""
    assert heard.stderr.count(b"ermi") == 3


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


def test_a_daemon_that_holds_the_output_open_dies_with_the_command(workshop: Workshop) -> None:
    marker = f"{os.getpid()}00.{time.monotonic_ns() % 1000}"
    started = time.monotonic()

    workshop.shell(f"(setsid sleep {marker} &) ; echo up")

    assert time.monotonic() - started < 5
    assert not _processes_with(marker)


def test_orphans_are_reaped_while_the_command_runs(workshop: Workshop) -> None:
    script = "for i in 1 2 3 4 5; do (sleep 0 &) ; done; sleep 0.2; ps | grep -c '[Zz]ombie'; true"

    assert workshop.shell(script) == "0\n"


def test_output_comes_in_order_as_it_is_written(workshop: Workshop) -> None:
    times: list[float] = []
    with workshop.mount() as root:
        workshop.sandbox.run(
            _process("/bin/sh", "-c", "echo one; sleep 0.3; echo two >&2; sleep 0.3; echo three"),
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


def test_an_output_that_raises_ends_the_command(workshop: Workshop) -> None:
    def refuse(data: bytes, is_stderr: bool) -> None:
        raise ValueError("enough")

    marker = f"77{os.getpid()}"
    with workshop.mount() as root, pytest.raises(ValueError, match="enough"):
        workshop.sandbox.run(_process("/bin/sh", "-c", f"echo x; sleep {marker}"), root, refuse)

    assert not _processes_with(marker)


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


def test_commands_follow_each_other_in_one_mount(workshop: Workshop) -> None:
    heard = Heard()
    with workshop.mount() as root:
        workshop.sandbox.run(_process("/bin/sh", "-c", "echo kept > /file"), root, heard)
        workshop.sandbox.run(_process("cat", "/file"), root, heard)
        seen = os.open("file", os.O_RDONLY, dir_fd=root.fd)
        assert os.read(seen, 100) == b"kept\n"
        os.close(seen)
        assert "file" not in os.listdir(root.below)

    assert heard.stdout == b"kept\n"


def test_an_upper_directory_can_be_mounted_again(
    sandbox: Sandbox, image: Path, tmp_path: Path
) -> None:
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    for _ in range(2):
        with sandbox.mounted([image], upper=tmp_path / "upper", work=tmp_path / "work") as root:
            sandbox.run(_process("/bin/sh", "-c", "echo x >> /log"), root, Heard())

    assert (tmp_path / "upper/log").read_text() == "x\nx\n"


def test_a_read_only_root_shows_the_merged_layers(
    sandbox: Sandbox, image: Path, tmp_path: Path
) -> None:
    top = tmp_path / "top"
    (top / "bin").mkdir(parents=True)
    (top / "bin/extra").touch()

    with sandbox.mounted([image, top]) as root:
        assert {"extra", "sh"} <= set(os.listdir(f"/proc/self/fd/{root.fd}/bin"))
        with pytest.raises(OSError, match="Read-only"):
            os.mkdir("new", dir_fd=root.fd)


def test_without_layers_the_root_is_empty(sandbox: Sandbox) -> None:
    with sandbox.mounted([]) as root:
        assert os.listdir(root.fd) == []


@pytest.mark.parametrize("count", [200, 450])
def test_many_layers_can_be_stacked(
    workshop: Workshop, sandbox: Sandbox, tmp_path: Path, count: int
) -> None:
    layers = []
    for number in range(count):
        layer = tmp_path / "a name that is not short" / f"layer-{number}"
        (layer / "all").mkdir(parents=True)
        (layer / "all" / str(number)).touch()
        layers.append(layer)
    workshop.directory = tmp_path / "steps"
    workshop.directory.mkdir()

    assert workshop.shell("ls /all | wc -l", lowers=[*workshop.lowers, *layers]) == f"{count}\n"


def test_more_layers_than_the_kernel_stacks_are_refused_with_their_number(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    layers = [tmp_path / str(number) for number in range(600)]
    for layer in layers:
        layer.mkdir()

    with pytest.raises(SandboxError, match="600 layers"):
        sandbox.mounted(layers)


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


def test_secrets_are_files_that_leave_no_trace(workshop: Workshop) -> None:
    secret = FileMount("/run/secrets/token", b"hidden\n", mode=0o440, uid=7, gid=8)

    seen = workshop.shell(
        "stat -c '%a %u %g' /run/secrets/token; cat /run/secrets/*", mounts=(secret,)
    )

    assert seen == "440 7 8\nhidden\n"
    assert workshop.changed() == []
    assert "hidden" not in repr(secret)


def test_binds_show_directories_and_files_of_the_host_read_only(
    workshop: Workshop, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    (context / "src").mkdir(parents=True)
    (context / "src/main.c").write_text("int x;\n")
    (context / "link").symlink_to("/src")
    mounts = (
        BindMount("/src", context, "link"),
        BindMount("/one/two/main.c", context, "/src/main.c"),
    )

    heard = Heard()
    with workshop.mount(*mounts) as root, pytest.raises(CommandFailed):
        workshop.sandbox.run(
            _process("/bin/sh", "-c", "cat /src/main.c /one/two/main.c; touch /src/new"),
            root,
            heard,
        )

    assert heard.stdout == b"int x;\nint x;\n"
    assert b"Read-only" in heard.stderr
    assert workshop.changed() == []


def test_a_writable_bind_keeps_what_was_written(workshop: Workshop, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()

    workshop.shell("echo x > /var/cache/x", mounts=(BindMount("/var/cache", cache, writable=True),))

    assert (cache / "x").read_text() == "x\n"
    assert workshop.changed() == []


def test_a_bind_can_come_from_another_mounted_root(workshop: Workshop, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "opt").mkdir(parents=True)
    (other / "opt/tool").write_text("tool\n")

    with workshop.sandbox.mounted([other]) as stage:
        seen = workshop.shell("cat /t/tool", mounts=(BindMount("/t", stage.number, "/opt"),))

    assert seen == "tool\n"


def test_mounts_may_lie_inside_each_other_in_any_order(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/x").touch()
    mounts = (
        BindMount("/a/b/c", tmp_path / "inner"),
        TmpfsMount("/a", size=4096, mode=0o700),
        FileMount("/dev/shm/s", b"s"),
    )

    seen = workshop.shell("find /a /dev/shm; stat -c %a /a", mounts=mounts)

    assert seen.split() == ["/a", "/a/b", "/a/b/c", "/a/b/c/x", "/dev/shm", "/dev/shm/s", "700"]
    assert workshop.changed() == []


def test_a_bind_of_something_that_is_not_there_is_named(workshop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="missing: No such file"):
        workshop.mount(BindMount("/a", tmp_path, "missing"))


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
                    _process("/bin/sh", "-c", f"echo up; sleep {marker}"),
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
    assert not _processes_with(marker)
    with pytest.raises(SandboxError, match="closed"):
        opened.mounted([image])


def test_a_closed_sandbox_leaves_nothing_in_its_directory(image: Path, tmp_path: Path) -> None:
    before = Path("/proc/self/mounts").read_text()
    with open_sandbox(tmp_path) as opened, opened.mounted([image]):
        assert Path("/proc/self/mounts").read_text() == before

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
    before = Path("/proc/self/mounts").read_text()
    marker = f"99{os.getpid()}"
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    program = _VICTIM.format(
        project=str(_PROJECT),
        place=str(tmp_path),
        image=str(image),
        script=f"(setsid sleep {marker} &) ; trap '' INT TERM; echo up; sleep {marker}",
    )
    victim = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert victim.stdout is not None
    assert victim.stdout.readline() == b"up\n"
    servers = _processes_with(str(tmp_path))

    victim.send_signal(end)
    victim.communicate(timeout=20)

    assert len(servers) >= 3
    _eventually(lambda: not _processes_with(marker) and not _processes_with(str(tmp_path)))
    assert Path("/proc/self/mounts").read_text() == before


def _processes_with(text: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in command:
                found.append(int(entry.name))
    return found


def _eventually(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_directory_that_cannot_hold_lower_layers_is_found_out(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.check_lower(tmp_path)

    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DiskError, match="layers cannot be unpacked in /proc"):
        sandbox.check_lower(Path("/proc"))


_SCRIPT = """
import os, sys
from pathlib import Path
sys.path.insert(0, {project!r})
from kaniko_core.errors import KanikoError
from kaniko_core.sandbox.client import open_sandbox
from kaniko_core.sandbox.runner import Process
place = Path({place!r})
try:
    with open_sandbox(place) as sandbox:
        print(sandbox.whiteouts)
        for name in ("upper", "work"):
            (place / name).mkdir()
        with sandbox.mounted([Path({image!r})], upper=place / "upper", work=place / "work") as root:
            sandbox.run(
                Process(("/bin/sh", "-c", {script!r}), ("PATH=/bin",)), root,
                lambda data, is_stderr: print(data.decode(), end=""),
            )
        sandbox.check_lower(place)
except KanikoError as error:
    print(type(error).__name__, error, "HINT", error.hint)
"""

_CHANGES = (
    "rm /bin/wc; mkdir /d; chown 1000:4000000 /d; echo x > /dev/null; mkdir -p /e/f;"
    " chmod 600 /dev/null; cat /sys/kernel/uevent_seqnum > /dev/null && ls /proc/1/ns | wc -w;"
    " ps | busybox wc -l; id -u"
)


def _elsewhere(
    wrapper: list[str], image: Path, place: Path, script: str = _CHANGES
) -> subprocess.CompletedProcess[str]:
    program = _SCRIPT.format(
        project=str(_PROJECT), place=str(place), image=str(image), script=script
    )
    return subprocess.run(
        [*wrapper, sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


_DOCKERS = "setpriv --inh-caps=-all --bounding-set=-all" + "".join(
    f",+{name}"
    for name in (
        "chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw"
        " sys_chroot mknod audit_write setfcap"
    ).split()
)


def test_dockers_default_capabilities_are_enough(image: Path, tmp_path: Path) -> None:
    """Without CAP_SYS_ADMIN a user namespace with every id takes over."""
    node = Path("/dev/null").stat().st_mode

    done = _elsewhere(_DOCKERS.split(), image, tmp_path)

    assert done.stdout.split()[0] == "user", done.stdout + done.stderr
    assert done.stdout.split()[-1] == "0"
    assert Path("/dev/null").stat().st_mode == node
    assert (tmp_path / "upper/bin/wc").lstat().st_rdev == 0
    status = (tmp_path / "upper/d").stat()
    assert (status.st_uid, status.st_gid) == (1000, 4000000)


def test_a_container_whose_proc_is_masked_is_no_obstacle(image: Path, tmp_path: Path) -> None:
    """Docker covers parts of /proc, and the kernel then refuses a fresh one."""
    mask = "mount -t tmpfs x /proc/acpi && exec " + _DOCKERS + ' "$@"'
    if not Path("/proc/acpi").is_dir():
        pytest.skip("there is no /proc/acpi to mask")

    done = _elsewhere(
        ["unshare", "--mount", "sh", "-c", mask, "sh"], image, tmp_path, "ls -d /proc/self; id -u"
    )

    assert done.stdout.split() == ["user", "/proc/self", "0"], done.stdout + done.stderr


def test_root_of_a_user_namespace_with_every_id_needs_no_other(image: Path, tmp_path: Path) -> None:
    with user_namespace("0 0 4294967295\n") as wrapper:
        done = _elsewhere(wrapper, image, tmp_path)

    assert done.stdout.split()[0] == "user", done.stdout + done.stderr
    assert done.stdout.split()[-1] == "0"


def test_a_rootless_user_namespace_of_65536_ids_is_enough(image: Path) -> None:
    """As `podman unshare` makes it: its root is an ordinary user outside."""
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as name,
        user_namespace("0 300000 65536\n") as wrapper,
    ):
        place = Path(name)
        shutil.copytree(image, place / "image", symlinks=True)
        os.chown(place, 300000, 300000)

        script = "mkdir /d; chown 1000:65534 /d; rm /bin/wc; id -u"
        done = _elsewhere(wrapper, place / "image", place, script)

        assert done.stdout.split() == ["user", "0"], done.stdout + done.stderr
        status = (place / "upper/d").stat()
        assert (status.st_uid, status.st_gid) == (301000, 365534)


def test_one_mapped_id_is_refused_because_owners_would_be_wrong(
    image: Path, tmp_path: Path
) -> None:
    done = _elsewhere(["unshare", "--user", "--map-root-user"], image, tmp_path)

    assert done.stdout.startswith("SandboxError"), done.stdout + done.stderr
    assert "full range of user and group ids" in done.stdout
    assert "podman unshare" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_missing_setuid_is_refused_with_the_range_of_ids(image: Path, tmp_path: Path) -> None:
    wrapper = "setpriv --inh-caps=-all --bounding-set=-sys_admin,-setuid".split()

    done = _elsewhere(wrapper, image, tmp_path)

    assert "SandboxError" in done.stdout, done.stdout + done.stderr
    assert "full range of ids" in done.stdout


def test_a_kernel_without_more_namespaces_is_refused_with_the_knob(
    image: Path, tmp_path: Path
) -> None:
    with user_namespace("0 0 4294967295\n") as wrapper:
        limit = 'echo 0 > /proc/sys/user/max_mnt_namespaces && exec "$@"'
        done = _elsewhere([*wrapper, "sh", "-c", limit, "sh"], image, tmp_path)

    assert "no more namespaces are allowed" in done.stdout, done.stdout + done.stderr
    assert "user.max_mnt_namespaces" in done.stdout


def test_a_work_directory_on_an_overlay_names_the_option(image: Path, tmp_path: Path) -> None:
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower/place").mkdir()
    options = ",".join(f"{n}dir={tmp_path / n}" for n in ("lower", "upper", "work"))
    mount = f'mount -t overlay -o {options} x {tmp_path / "merged"} && exec "$@"'

    done = _elsewhere(
        ["unshare", "--mount", "sh", "-c", mount, "sh"], image, tmp_path / "merged/place"
    )

    assert done.stdout.startswith("SandboxError"), done.stdout + done.stderr
    assert "which is on overlay" in done.stdout
    assert "--kaniko-dir" in done.stdout


class user_namespace:  # noqa: N801
    """Commands for a new user namespace whose ids this process, as root, maps."""

    def __init__(self, table: str) -> None:
        self._table = table

    def __enter__(self) -> list[str]:
        self._holder = subprocess.Popen(
            ["unshare", "--user", "--mount", "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        self._holder.stdout.readline()
        for kind in ("uid", "gid"):
            Path(f"/proc/{self._holder.pid}/{kind}_map").write_text(self._table)
        return [
            "nsenter", f"--target={self._holder.pid}", "--user", "--mount", "--setuid=0",
            "--setgid=0", "--",
        ]  # fmt: skip

    def __exit__(self, *_: object) -> None:
        self._holder.communicate()
