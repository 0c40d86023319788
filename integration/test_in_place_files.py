"""Unpacking, moving and deleting around real mounts, each in a mount namespace of its own.

A scenario runs in a child process that the machine's own mounts are private to; what it does is
below the test's directory only.
"""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kaniko_core import linux
from kaniko_core.errors import DiskError
from kaniko_core.oci.archive import Entry, tar_stream
from kaniko_core.rootfs.covered import CoveredRootfs
from kaniko_core.rootfs.ignore import IgnoreRules, mount_points
from kaniko_core.rootfs.moving import clear, move_contents, remove
from kaniko_core.rootfs.unpack import Whiteouts, unpack
from tests.rootfs.test_moving import age, facts, furnish, names, write
from tests.rootfs.test_unpack import directory, file, hardlink, opaque, symlink, whiteout

REPOSITORY = Path(__file__).parents[1]
ACCOUNT = "var/run/secrets/kubernetes.io/serviceaccount"


def tmpfs(path: Path, options: str = "mode=755", flags: int = 0) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    linux.mount("tmpfs", path, "tmpfs", flags, options)
    return path


def bound(source: Path, target: Path) -> None:
    """Show the file *source* at *target*, read-only."""
    write(target)
    linux.mount(source, target, None, linux.MS_BIND)
    linux.make_readonly(target)


def container(top: Path) -> Path:
    """Make a root like that of a pod's container: files and directories mounted, some read-only."""
    root = top / "root"
    bound(write(top / "kubelet/hosts", "theirs"), root / "etc/hosts")
    account = tmpfs(root / ACCOUNT)
    write(account / "token", "theirs")
    linux.mount(None, account, None, linux.MS_REMOUNT | linux.MS_RDONLY)
    write(tmpfs(root / "workspace/volume") / "data", "theirs")
    write(tmpfs(root / "proc") / "1/stat", "theirs")
    tmpfs(root / "proc/sys")
    for name in ("bin/sh", "etc/passwd", "var/lib/x", "workspace/y", "var/run/left"):
        write(root / name, "the container's")
    return root


def assert_theirs(root: Path) -> None:
    for name in ("etc/hosts", f"{ACCOUNT}/token", "workspace/volume/data", "proc/1/stat"):
        assert (root / name).read_text() == "theirs", name


def put(root: Path, shadow: Path, rules: IgnoreRules, *entries: Entry) -> None:
    data = io.BytesIO(b"".join(tar_stream(entries)))
    unpack(data, root, whiteouts=Whiteouts.APPLY, covered=rules, shadow=shadow)


# Scenarios


def a_build_in_a_pod(top: Path) -> None:
    root, shadow = container(top), top / "shadow"
    aside, stash = top / "aside", top / "stash"
    aside.mkdir()
    stash.mkdir()
    rules = IgnoreRules(mount_points(root))
    age(top / "root/bin")
    before = facts(root)
    move_contents(root, aside, rules)
    assert_theirs(root)
    assert not (root / "bin").exists()
    put(
        root, shadow, rules,
        directory(b"etc"), file(b"etc/hosts", b"image's"), file(b"etc/passwd", b"image's"),
        directory(b"var"), symlink(b"var/run", b"/run"), directory(b"run"),
        file(b"workspace/volume/data", b"image's"), symlink(b"to", b"/proc/1"), file(b"to/stat"),
    )  # fmt: skip
    put(
        root, shadow, rules,
        file(b"var/run/pid"), whiteout(b"workspace"), opaque(b"etc"), file(b"etc/group"),
        hardlink(b"proc/group", b"etc/group"), opaque(b""), file(b"last"),
    )  # fmt: skip
    assert_theirs(root)
    view = CoveredRootfs(root, rules, shadow)
    # Of what the first layer had, the opaque root left only what had to stay.
    shown = [name for name, _ in view.walk() if not rules.shelters(name)]
    assert shown == [b"etc/group", b"last", b"proc/group", b"run", b"run/pid"], shown
    move_contents(root, stash, rules)
    assert_theirs(root)
    clear(root, rules)
    move_contents(aside, root, rules)
    assert_theirs(root)
    assert facts(root) == before


def a_mount_that_no_rule_knows(top: Path) -> None:
    root = top / "root"
    for name in ("a", "deep/z", "z"):
        write(root / name)
    write(tmpfs(root / "deep/mount") / "data", "theirs")
    write(tmpfs(root / "read-only") / "data", "theirs")
    linux.mount(None, root / "read-only", None, linux.MS_REMOUNT | linux.MS_RDONLY)
    bound(write(top / "file", "theirs"), root / "file")
    for deleting in (lambda: clear(root, IgnoreRules()), lambda: remove(root)):
        try:
            deleting()
        except DiskError as error:
            assert "cannot delete" in str(error)
            assert os.strerror(errno.EBUSY) in str(error)
        else:
            raise AssertionError("it was said to be deleted")
        for name in ("deep/mount/data", "read-only/data", "file"):
            assert (root / name).exists(), name
        assert not (root / "deep/z").exists()
        assert not (root / "z").exists()


def a_layer_onto_a_mount_that_no_rule_knows(top: Path) -> None:
    root = top / "root"
    bound(write(top / "file", "theirs"), root / "etc/hosts")
    try:
        put(root, top / "shadow", IgnoreRules(), file(b"etc/hosts"))
    except DiskError as error:
        assert "cannot unpack /etc/hosts" in str(error)
        assert error.hint is not None
        assert "mounted" in error.hint
    else:
        raise AssertionError("it was said to be unpacked")


def moving_out_of_lower_layers(top: Path) -> None:
    """The container's own image is below its upper directory: its directories do not rename."""
    lower, merged, target = top / "lower", top / "merged", top / "merged/kaniko/aside"
    furnish(lower / "usr")
    (lower / "usr/bin/same").unlink()
    (lower / "usr/other/same").unlink()
    write(lower / "etc/passwd", "x")
    age(lower)
    for name in ("upper", "work", "merged"):
        (top / name).mkdir()
    data = f"lowerdir={lower},upperdir={top / 'upper'},workdir={top / 'work'}"
    linux.mount("overlay", merged, "overlay", 0, data)
    write(merged / "usr/new", "x")
    write(merged / "kaniko/executor", "theirs")
    age(merged / "usr")
    age(merged / "etc")
    before = facts(merged / "usr")
    rules = IgnoreRules(frozenset({b"kaniko"}))
    target.mkdir()
    move_contents(merged, target, rules)
    assert sorted(os.listdir(merged)) == ["kaniko"]
    assert facts(target / "usr") == before
    move_contents(target, merged, rules)
    assert facts(merged / "usr") == before
    clear(merged, rules)
    assert names(merged) == ["kaniko", "kaniko/aside", "kaniko/executor"]
    assert (lower / "etc/passwd").read_text() == "x"


def a_disk_that_is_full(top: Path) -> None:
    source, target = top / "source", tmpfs(top / "target", "size=256k,mode=755")
    write(source / "a/small", "x")
    write(source / "b/large", "x" * (1 << 20))
    try:
        move_contents(source, target, IgnoreRules())
    except DiskError as error:
        assert "b/large" in str(error)
        assert os.strerror(errno.ENOSPC) in str(error)
    else:
        raise AssertionError("it was said to be moved")
    assert (source / "b/large").stat().st_size == 1 << 20
    assert not (target / "b/large").exists()
    linux.mount(None, target, None, linux.MS_REMOUNT, "size=4m")
    move_contents(source, target, IgnoreRules())
    assert sorted(os.listdir(source)) == []
    assert (target / "b/large").stat().st_size == 1 << 20
    assert (target / "a/small").read_text() == "x"


_SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (
        a_build_in_a_pod,
        a_mount_that_no_rule_knows,
        a_layer_onto_a_mount_that_no_rule_knows,
        moving_out_of_lower_layers,
        a_disk_that_is_full,
    )
}


@pytest.mark.parametrize("scenario", _SCENARIOS.values(), ids=_SCENARIOS)
def test_mounts_are_left_alone(scenario: Callable[[Path], None], tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private"),
            *(sys.executable, "-m", __name__, scenario.__name__, tmp_path),
        ],
        cwd=REPOSITORY,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr


if __name__ == "__main__":
    _SCENARIOS[sys.argv[1]](Path(sys.argv[2]))
