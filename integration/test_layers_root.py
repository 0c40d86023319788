"""Layers with owners, devices and capabilities, and under a real overlay: all of it takes root."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings

from kaniko_core.errors import ContentError
from kaniko_core.oci.archive import Entry, Kind, tar_stream
from kaniko_core.oci.compression import Compression
from kaniko_core.oci.layer import open_tar, write_layer
from kaniko_core.rootfs.tree import Rootfs
from kaniko_core.rootfs.unpack import Whiteouts, unpack
from tests.rootfs.test_unpack import _layers, applied_tree, put

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# Effective cap_net_raw, version 2: linux/capability.h.
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
TIME = 1_500_000_000_123_456_789
CAP_MKNOD = 27


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    (top / "bin").mkdir(parents=True)
    (top / "shared").mkdir()
    (top / "bin/tool").write_bytes(os.urandom(5000))
    (top / "bin/link").symlink_to("tool")
    os.chown(top / "bin/tool", 1000, 2000)
    os.chown(top / "bin/link", 3000, 4000, follow_symlinks=False)
    os.chown(top / "shared", 0, 3_000_000_000)
    (top / "bin/tool").chmod(0o6755)
    (top / "shared").chmod(0o3775)
    os.setxattr(top / "bin/tool", "security.capability", CAPABILITY)
    os.setxattr(top / "bin/tool", "trusted.kept", b"\0\1")
    os.setxattr(top / "bin/link", "trusted.kept", b"on a link", follow_symlinks=False)
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(top / "disk", stat.S_IFBLK | 0o640, os.makedev(259, 70_000))
    (top / "null").chmod(0o666)
    os.mkfifo(top / "pipe", 0o600)
    for path in [*top.rglob("*"), top]:
        os.utime(path, ns=(0, TIME), follow_symlinks=False)
    return top


def everything(top: Path) -> dict[str, object]:
    """Return all that a layer can say about each file."""
    found: dict[str, object] = {}
    for path in top.rglob("*"):
        status = path.lstat()
        xattrs = {
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)
            if not name.startswith("security.selinux")
        }
        content: object = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
        content = path.readlink() if path.is_symlink() else content
        found[str(path.relative_to(top))] = (
            *(status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_rdev),
            *(xattrs, content),
        )
    return found


def packed(tree: Path, path: Path, compression: Compression = Compression.GZIP) -> Path:
    with Rootfs(tree) as root:
        entries = [root.entry(name, status) for name, status in root.walk()]
        layer = write_layer(
            [entry for entry in entries if entry is not None],
            path,
            compression=compression,
            docker=False,
        )
    out = path.with_name("unpacked")
    out.mkdir()
    with open_tar(layer) as tar:
        assert unpack(tar, out, whiteouts=Whiteouts.OVERLAY_TRUSTED).lost_xattrs == ()
    return out


@pytest.mark.parametrize("compression", list(Compression))
def test_everything_survives_a_layer(compression: Compression, tree: Path, tmp_path: Path) -> None:
    assert everything(packed(tree, tmp_path / "layer", compression)) == everything(tree)


def test_gnu_tar_unpacks_the_same(tree: Path, tmp_path: Path) -> None:
    packed(tree, tmp_path / "layer", Compression.NONE)
    out = tmp_path / "gnu"
    out.mkdir()
    command = ["tar", "--xattrs", "--xattrs-include=*", "-xpf", tmp_path / "layer", "-C", out]
    subprocess.run(command, check=True)
    found, expected = everything(out), everything(tree)
    # GNU tar stores no attributes for symbolic links.
    found.pop("bin/link")
    expected.pop("bin/link")
    assert found == expected


def test_what_gnu_tar_packs_unpacks_the_same(tree: Path, tmp_path: Path) -> None:
    command = ["tar", "--xattrs", "--xattrs-include=*", "--format=posix", "-C", tree, "-c", "."]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    out = tmp_path / "out"
    out.mkdir()
    unpack(io.BytesIO(data), out, whiteouts=Whiteouts.OVERLAY_TRUSTED)
    found, expected = everything(out), everything(tree)
    found.pop("bin/link")
    expected.pop("bin/link")
    assert found == expected


def test_a_set_group_id_directory_keeps_its_group_to_itself(tmp_path: Path) -> None:
    entries = [
        Entry(b"d", Kind.DIRECTORY, 0o2775, 0, 50),
        Entry(b"d/f", Kind.FILE, 0o644, 0, 0),
        Entry(b"d/e", Kind.DIRECTORY, 0o755, 0, 0),
    ]
    put(tmp_path / "out", *entries, whiteouts=Whiteouts.OVERLAY_TRUSTED)
    assert (tmp_path / "out/d").stat().st_gid == 50
    assert (tmp_path / "out/d/f").stat().st_gid == 0
    assert stat.S_IMODE((tmp_path / "out/d/e").stat().st_mode) == 0o755


_WITHOUT_MKNOD = """
import io, sys
from pathlib import Path
from kaniko_core import linux
from kaniko_core.errors import DiskError
from kaniko_core.rootfs.unpack import Whiteouts, unpack
linux.limit_capabilities(set(range(41)) - {int(sys.argv[1])})
data = sys.stdin.buffer.read()
try:
    directory, lower = Path(sys.argv[2]), Path(sys.argv[3])
    whiteouts = Whiteouts(sys.argv[4])
    print(unpack(io.BytesIO(data), directory, whiteouts=whiteouts, below=lambda: [lower]))
except DiskError as error:
    print(error, error.hint)
"""


def without_mknod(directory: Path, whiteouts: Whiteouts) -> str:
    directory.mkdir()
    lower = directory.with_name("lower")
    lower.mkdir()
    (lower / "gone").touch()
    entries = [
        Entry(b"dev/null", Kind.CHARACTER, 0o666, device=(1, 3)),
        Entry(b"dev/pipe", Kind.FIFO, 0o600),
        Entry(b"gone", Kind.WHITEOUT),
    ]
    result = subprocess.run(
        [sys.executable, "-c", _WITHOUT_MKNOD, str(CAP_MKNOD), directory, lower, whiteouts.value],
        input=b"".join(tar_stream(entries)),
        capture_output=True,
        check=False,
    )
    assert result.stderr == b""
    return result.stdout.decode()


def test_a_device_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    message = without_mknod(tmp_path / "out", Whiteouts.OVERLAY_TRUSTED)
    assert "cannot make the device node /dev/null" in message
    assert "CAP_MKNOD" in message


def test_a_device_in_a_user_namespace_is_left_out_and_told(tmp_path: Path) -> None:
    message = without_mknod(tmp_path / "out", Whiteouts.OVERLAY_USER)
    assert "lost_devices=('dev/null',)" in message
    assert (tmp_path / "out/dev/pipe").is_fifo()
    assert (tmp_path / "out/gone").is_char_device()


def test_another_owner_without_the_right_is_a_sentence() -> None:
    script = """
import io, os, sys
from pathlib import Path
from kaniko_core.errors import DiskError
from kaniko_core.rootfs.unpack import Whiteouts, unpack
data = sys.stdin.buffer.read()
os.setgid(65534); os.setuid(65534)
try:
    unpack(io.BytesIO(data), Path(sys.argv[1]), whiteouts=Whiteouts.APPLY)
except DiskError as error:
    print(error, error.hint)
"""
    # Not below pytest's own directory, which is closed to others.
    with tempfile.TemporaryDirectory() as out:
        Path(out).chmod(0o777)
        result = subprocess.run(
            [sys.executable, "-c", script, out],
            input=b"".join(tar_stream([Entry(b"f", Kind.FILE, 0o644, 1, 1)])),
            capture_output=True,
            check=False,
        )
    assert result.stderr == b""
    assert b"cannot unpack /f into" in result.stdout
    assert b"take root" in result.stdout


# Under a real overlay

_MOUNTED = """
import pickle, sys
from pathlib import Path
from kaniko_core import linux
from tests.rootfs.test_unpack import applied_tree
top, *lowers = sys.argv[1:]
linux.unshare(linux.CLONE_NEWNS)
linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
try:
    linux.mount("overlay", top, "overlay", linux.MS_RDONLY, "lowerdir=" + ":".join(lowers))
except OSError as error:
    print(error, file=sys.stderr)
    sys.exit(77)
sys.stdout.buffer.write(pickle.dumps(applied_tree(Path(top))))
"""


def mounted_tree(top: Path, layers: Sequence[Path]) -> object:
    """Return what the kernel shows of *layers*, topmost first."""
    empty, mount = top / "empty", top / "mount"
    empty.mkdir(exist_ok=True)
    mount.mkdir(exist_ok=True)
    command = [sys.executable, "-c", _MOUNTED, mount, empty, *layers]
    result = subprocess.run(command, capture_output=True, check=False)
    if result.returncode == 77:
        pytest.skip(f"no overlay can be mounted here: {result.stderr.decode()}")
    assert result.returncode == 0, result.stderr.decode()
    return pickle.loads(result.stdout)


@given(_layers)
@settings(max_examples=20, deadline=None)
def test_the_kernel_shows_what_applying_gives(
    tmp_path_factory: pytest.TempPathFactory, layers: list[list[Entry]]
) -> None:
    top = tmp_path_factory.mktemp("layers")
    applied = top / "applied"
    applied.mkdir()
    stacked: list[Path] = []
    for number, entries in enumerate(layers):
        try:
            put(applied, *entries, whiteouts=Whiteouts.APPLY)
            into = top / str(number)
            put(into, *entries, whiteouts=Whiteouts.OVERLAY_TRUSTED, below=stacked)
        except ContentError:  # links in a circle
            return
        stacked.insert(0, into)
    assert mounted_tree(top, stacked) == applied_tree(applied)
    shutil.rmtree(top)
