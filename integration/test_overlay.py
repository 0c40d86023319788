"""What the kernel's overlay makes of commands, read as a changeset, and unpacked again.

Every test ends the same way: the layer made from the upper directory, unpacked on top of the
lower ones, must show exactly the tree that the command left.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaniko_core.oci.compression import Compression
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.oci.layer import open_tar, write_layer
from kaniko_core.rootfs.beneath import Whiteouts
from kaniko_core.rootfs.overlay import upper_entries
from kaniko_core.rootfs.store import LayerStore
from kaniko_core.rootfs.tree import Rootfs
from kaniko_core.rootfs.unpack import unpack
from kaniko_core.sandbox.client import Sandbox, open_sandbox
from kaniko_core.sandbox.runner import Process
from tests.contracts.commands import busybox_root

_BASE = r"""
mkdir -p /etc /app/sub /tree/deep/er /opaque/old
echo one > /app/one; echo two > /app/two; echo three > /app/sub/three
ln /app/one /app/one-again; ln -s one /app/link; mkfifo /app/pipe
echo x > /tree/deep/er/x; echo y > /opaque/old/y
touch -d @1000000000 /app/one /app /tree
chmod 750 /app; chown 12:34 /app/two
"""

# Each a script, and the names and kinds that it must give (D directory, F file, H hard link,
# S link, W whiteout, O opaque).
_CASES = {
    "nothing": ("true", ""),
    "new file": ("echo n > /app/new", "D app; F app/new"),
    "append": ("echo more >> /app/sub/three", "D app; D app/sub; F app/sub/three"),
    "remove": ("rm /app/two", "D app; W app/two"),
    "remove tree": ("rm -r /tree", "W tree"),
    "made and removed": ("mkdir /t; echo x > /t/x; rm -r /t; echo > /app/t; rm /app/t", ""),
    "opened for writing": (": >> /app/two", ""),
    "same owner": ("chown 12:34 /app/two; chmod 750 /app", ""),
    "mode only": ("chmod 4755 /app/two", "D app; F app/two"),
    "mode of a directory": ("chmod 700 /app/sub", "D app; D app/sub"),
    "owner of a link": ("chown -h 5:6 /app/link", "D app; S app/link"),
    "time only": ("touch -d @5 /app/two", "D app; F app/two"),
    "removed and made again": (
        "rm -r /opaque; mkdir /opaque; echo n > /opaque/new",
        "D opaque; O opaque; F opaque/new",
    ),
    "emptied directory made again": ("rm -r /opaque/old; mkdir /opaque/old", "D opaque; "
        "D opaque/old; O opaque/old"),
    "file for directory": ("rm -r /tree; echo f > /tree", "F tree"),
    "directory for file": ("rm /app/two; mkdir -p /app/two/in", "D app; D app/two; D app/two/in"),
    "link for directory": ("rm -r /tree; ln -s app /tree", "S tree"),
    "renamed file": ("mv /app/two /app/zwei", "D app; W app/two; F app/zwei"),
    "renamed directory": (
        "mv /tree /baum",
        "D baum; D baum/deep; D baum/deep/er; F baum/deep/er/x; W tree",
    ),
    "renamed new directory": (
        "mkdir /new; echo > /new/a; mv /new /newer; mkdir /new",
        "D new; D newer; F newer/a",
    ),
    "new hard links": (
        "echo l > /app/l1; ln /app/l1 /app/l2; ln /app/l1 /tree/l3",
        "D app; F app/l1; H app/l2; D tree; H tree/l3",
    ),
    "hard link to an old file": ("ln /app/two /tree/zwei", "D app; F app/two; D tree; H tree/zwei"),
    "one of two names changes": ("echo c >> /app/one", "D app; F app/one"),
    "pipe and device": ("mkfifo /p; mknod /app/null c 1 3", "D app; C app/null; P p"),
    "names of whiteouts": ("echo > /app/wh; mkdir '/a b'", "D a b; D app; F app/wh"),
    "everything": (
        "rm -r /app/* /tree /opaque/old; mkdir /app/sub; echo > /opaque/.hidden",
        "D app; W app/link; W app/one; W app/one-again; W app/pipe; D app/sub; O app/sub;"
        " W app/two; D opaque; F opaque/.hidden; W opaque/old; W tree",
    ),
}  # fmt: skip

_LETTERS = {
    Kind.DIRECTORY: "D",
    Kind.FILE: "F",
    Kind.HARDLINK: "H",
    Kind.SYMLINK: "S",
    Kind.WHITEOUT: "W",
    Kind.OPAQUE: "O",
    Kind.CHARACTER: "C",
    Kind.FIFO: "P",
}


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    # Not below pytest's own: pipes and devices would be in its way.
    with tempfile.TemporaryDirectory(prefix="kaniko-overlay-", dir="/var/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def sandbox(place: Path) -> Iterator[Sandbox]:
    with open_sandbox(place) as opened:
        yield opened


class Stage:
    """Steps on top of each other; each upper directory is the next step's lower one."""

    def __init__(self, sandbox: Sandbox, directory: Path) -> None:
        self.sandbox = sandbox
        self.directory = directory
        self.lowers: list[Path] = []

    def run(self, script: str) -> tuple[list[Entry], Path]:
        """Run *script*; return its changeset, and the directory it unpacks to."""
        step = self.directory / str(len(self.lowers))
        for name in ("upper", "work", "unpacked"):
            (step / name).mkdir(parents=True)
        upper = step / "upper"
        process = Process(("/bin/sh", "-euc", script), env=("PATH=/bin",))
        with self.sandbox.mounted(self.lowers, upper=upper, work=step / "work") as root:
            self.sandbox.run(process, root, lambda data, is_stderr: None)
            with Rootfs(root.below) as below:
                entries = list(upper_entries(upper, below))
        layer = write_layer(entries, step / "layer", compression=Compression.NONE, docker=False)
        lower = list(reversed(self.lowers))
        with open_tar(layer) as tar:
            unpack(
                tar,
                step / "unpacked",
                whiteouts=Whiteouts(self.sandbox.whiteouts),
                below=lambda: lower,
            )
        self.lowers.append(upper)
        return entries, step / "unpacked"

    def tree(self, top: Path) -> dict[bytes, tuple[object, ...]]:
        """Return all that a layer keeps of the merged tree whose topmost lower is *top*."""
        with (
            self.sandbox.mounted([*self.lowers[:-1], top]) as root,
            Rootfs(root.fd) as rootfs,
        ):
            return {name: _seen(rootfs, name, status) for name, status in rootfs.walk()}


def _seen(rootfs: Rootfs, name: bytes, status: os.stat_result) -> tuple[object, ...]:
    mode = status.st_mode
    content: bytes = b""
    if stat.S_ISREG(mode):
        with rootfs.open(name) as file:
            content = file.read()
    elif stat.S_ISLNK(mode):
        content = rootfs.readlink(name)
    # The time of a directory that is only the way to a change is not in the layer's hands.
    time_ns = 0 if stat.S_ISDIR(mode) else status.st_mtime_ns
    links = status.st_nlink if stat.S_ISREG(mode) else 0
    return (mode, status.st_uid, status.st_gid, status.st_rdev, time_ns, links, content,
            rootfs.xattrs(name))  # fmt: skip


@pytest.fixture
def stage(sandbox: Sandbox, place: Path) -> Stage:
    directory = Path(tempfile.mkdtemp(dir=place))
    stage = Stage(sandbox, directory)
    image = directory / "image"
    image.mkdir()
    busybox_root(image)
    stage.lowers.append(image)
    return stage


def _told(entries: list[Entry]) -> str:
    return "; ".join(f"{_LETTERS[entry.kind]} {entry.name.decode()}" for entry in entries)


@pytest.mark.parametrize("case", _CASES)
def test_a_changeset_says_what_the_command_did(stage: Stage, case: str) -> None:
    script, expected = _CASES[case]
    stage.run(_BASE)

    entries, unpacked = stage.run(script)

    assert _told(entries) == expected
    assert stage.tree(unpacked) == stage.tree(stage.lowers[-1])


def test_an_upper_directory_is_the_next_steps_lower_one(stage: Stage) -> None:
    stage.run(_BASE)
    stage.run("rm -r /tree /app/one; mkdir /tree; echo a > /tree/a")
    entries, unpacked = stage.run(
        "test ! -e /app/one; test ! -e /tree/deep; rm /tree/a; mkdir -p /tree/deep; echo > /app/one"
    )

    assert _told(entries) == "D app; F app/one; D tree; W tree/a; D tree/deep"
    assert stage.tree(unpacked) == stage.tree(stage.lowers[-1])


def test_nothing_of_the_overlay_itself_reaches_the_layer(stage: Stage) -> None:
    stage.run(_BASE)
    entries, _ = stage.run("rm -r /opaque; mkdir /opaque; mv /app/two /app/zwei; ln /app/one /o")

    names = {key for entry in entries for key in entry.xattrs}
    assert names == set()


def test_capabilities_of_files_are_kept(stage: Stage) -> None:
    # cap_net_raw=ep, as setcap writes it: version 2, effective; permitted; inheritable.
    value = bytes.fromhex("0100000200200000000000000000000000000000")
    stage.run("echo program > /ping; echo other > /other")
    os.setxattr(stage.lowers[-1] / "ping", "security.capability", value)

    entries, unpacked = stage.run("mv /ping /pong; cp -p /other /another")

    assert {entry.name: entry.xattrs for entry in entries if entry.xattrs} == {
        b"pong": {b"security.capability": value}
    }
    assert stage.tree(unpacked) == stage.tree(stage.lowers[-1])


def test_thirty_thousand_new_files_are_walked_in_a_second(stage: Stage) -> None:
    many = stage.directory / "many"
    for directory in range(300):
        (many / str(directory)).mkdir(parents=True)
        for number in range(100):
            (many / str(directory) / str(number)).touch()

    with stage.sandbox.mounted(stage.lowers) as root, Rootfs(root.fd) as below:
        started = time.monotonic()
        count = sum(1 for _ in upper_entries(many, below))
        seconds = time.monotonic() - started

    print(f"30,300 entries in {seconds:.3f} s")
    assert count == 30_300
    assert seconds < 2


def test_stored_layers_give_the_root_that_they_were_made_from(stage: Stage, place: Path) -> None:
    stage.run(_BASE)
    for script, _ in list(_CASES.values())[1:6]:
        stage.run(script)
    layers = []
    for number, upper in enumerate(stage.lowers):
        with stage.sandbox.mounted(stage.lowers[:number]) as root, Rootfs(root.fd) as below:
            path = stage.directory / f"layer-{number}"
            layers.append(write_layer(upper_entries(upper, below), path, docker=False))
    store = LayerStore(stage.directory / "store", Whiteouts(stage.sandbox.whiteouts))
    stage.sandbox.check_lower(store.directory)

    unpacked = list(store.directories(layers))

    expected = stage.tree(stage.lowers[-1])
    stage.lowers = unpacked
    assert stage.tree(unpacked[-1]) == expected


def test_all_this_holds_in_a_user_namespace() -> None:
    """The same tests once more, with the capabilities that Docker gives to a container."""
    kept = (
        "chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw"
        " sys_chroot mknod audit_write setfcap"
    ).split()
    bounds = "--bounding-set=" + ",".join(["-all", *(f"+{name}" for name in kept)])
    # A user namespace can have no device nodes.
    chosen = "not user_namespace and not device"
    done = subprocess.run(
        ["setpriv", "--inh-caps=-all", bounds, sys.executable, "-m", "pytest", "-q", "-k", chosen,
         __file__],
        check=False, capture_output=True, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip

    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
