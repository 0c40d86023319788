"""Moving what is in a root aside and back, and deleting it; what is covered stays."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaniko_core.errors import DiskError
from kaniko_core.rootfs.ignore import IgnoreRules
from kaniko_core.rootfs.moving import clear, move_contents, remove

REPOSITORY = Path(__file__).parents[2]
SECOND = 10**9
NOTHING = IgnoreRules()
MEMORY = Path("/dev/shm")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices take root")
Facts = tuple[object, ...]


def rules(*covered: str) -> IgnoreRules:
    return IgnoreRules(frozenset(map(os.fsencode, covered)))


@pytest.fixture(autouse=True)
def _no_descriptor_is_left() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.fixture
def source(tmp_path: Path) -> Path:
    made = tmp_path / "source"
    made.mkdir(mode=0o755)
    return made


@pytest.fixture(params=["same file system", "another file system"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "same file system":
        made = tmp_path / "target"
        made.mkdir()
        yield made
        return
    if not MEMORY.is_dir() or MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system at /dev/shm")
    made = Path(tempfile.mkdtemp(dir=MEMORY))
    yield made
    shutil.rmtree(made)


def write(path: Path, text: str = "", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def names(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in top.rglob("*"))


def facts(top: Path) -> dict[str, Facts]:
    """Return everything about a tree that a move must keep; access times change by looking."""
    found: dict[str, Facts] = {}
    first: dict[tuple[int, int], str] = {}
    for path in sorted([top, *top.rglob("*")]):
        name = str(path.relative_to(top))
        status = path.lstat()
        xattrs = {
            key: os.getxattr(path, key, follow_symlinks=False)
            for key in os.listxattr(path, follow_symlinks=False)
        }
        same = first.setdefault((status.st_dev, status.st_ino), name)
        content: object = None
        if path.is_symlink():
            content = path.readlink()
        elif path.is_file():
            content = path.read_bytes()
        found[name] = (
            *(status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_rdev),
            *(xattrs, same, content),
        )
    return found


def furnish(top: Path) -> None:
    """Put a bit of everything into *top*."""
    write(top / "bin/tool", "tool", 0o4755)
    (top / "bin/same").hardlink_to(top / "bin/tool")
    (top / "other").mkdir()
    (top / "other/same").hardlink_to(top / "bin/tool")
    (top / "bin/link").symlink_to("/no/where")
    (top / "empty").mkdir(mode=0o700)
    os.mkfifo(top / "pipe", 0o620)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(top / "socket"))
    with (top / "holes").open("wb") as holes:
        holes.truncate(1 << 20)
        holes.seek(1 << 19)
        holes.write(b"middle")
    (top / os.fsdecode(b"new\nline \xff")).write_text("name")
    os.setxattr(top / "bin/tool", "user.note", b"kept")
    os.setxattr(top / "bin", "user.note", b"kept too")
    (top / "other").chmod(0o1777)
    age(top)


def age(top: Path) -> None:
    for number, path in enumerate(sorted([top, *top.rglob("*")])):
        times = (1_500_000_000 * SECOND + number, 1_600_000_000 * SECOND + number)
        os.utime(path, ns=times, follow_symlinks=False)


# Moving


def test_everything_is_kept(source: Path, target: Path) -> None:
    furnish(source)
    before = facts(source)
    move_contents(source, target, NOTHING)
    assert facts(target) == before
    assert names(source) == []
    assert (target / "holes").stat().st_blocks * 512 < 1 << 20
    assert (target / "bin/tool").stat().st_nlink == 3
    assert (target / "pipe").stat().st_atime_ns // SECOND == 1_500_000_000


@as_root
def test_owners_devices_and_capabilities_are_kept(source: Path, target: Path) -> None:
    tool = write(source / "tool", "x", 0o6755)
    os.chown(tool, 12, 34)
    tool.chmod(0o6755)
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(write(source / "ping", "y"), "security.capability", capability)
    os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (source / "link").symlink_to("x")
    os.chown(source / "link", 5, 6, follow_symlinks=False)
    (source / "home").mkdir()
    os.chown(source / "home", 7, 8)
    age(source)
    before = facts(source)
    move_contents(source, target, NOTHING)
    assert facts(target) == before


def test_what_is_covered_stays(source: Path, target: Path) -> None:
    ours = ("etc/passwd", "etc/ssl/cert", "opt/x", "work/y")
    theirs = ("etc/hosts", "proc/1/stat", "work/in/volume/z")
    for name in (*ours, *theirs):
        write(source / name, name)
    (source / "etc").chmod(0o750)
    age(source)
    before = facts(source)
    move_contents(source, target, rules("etc/hosts", "proc", "work/in/volume"))
    for name in theirs:
        assert (source / name).read_text() == name
    assert [name for name in names(source) if (source / name).is_file()] == sorted(theirs)
    assert names(target) == sorted([*ours, "etc", "etc/ssl", "opt", "work", "work/in"])
    for name, kept in facts(target).items():
        assert kept == before[name]


def test_moving_aside_and_back_restores_everything(source: Path, target: Path) -> None:
    furnish(source)
    write(source / "etc/hosts", "theirs")
    write(source / "etc/passwd", "ours")
    age(source)
    covered = rules("etc/hosts")
    before = facts(source)
    move_contents(source, target, covered)
    write(source / "etc/stray")
    (source / "etc").chmod(0o700)
    clear(source, covered)
    move_contents(target, source, covered)
    assert facts(source) == before


def test_directories_are_merged(source: Path, target: Path) -> None:
    for name in ("both/mine", "both/deep/mine", "was-a-file/in"):
        write(source / name, "source")
    write(source / "was-a-directory", "source")
    (source / "was-a-link").mkdir()
    write(source / "same", "source")
    for name in ("both/theirs", "both/deep/theirs", "was-a-directory/in", "was-a-file", "same"):
        write(target / name, "target")
    (target / "was-a-link").symlink_to("both")
    (source / "both").chmod(0o711)
    os.setxattr(target / "both", "user.old", b"x")
    age(source)
    like = (source / "both").stat()
    move_contents(source, target, NOTHING)
    assert names(source) == []
    assert [name for name in names(target) if (target / name).is_file()] == [
        "both/deep/mine", "both/deep/theirs", "both/mine", "both/theirs", "same",
        "was-a-directory", "was-a-file/in",
    ]  # fmt: skip
    assert (target / "same").read_text() == "source"
    assert not (target / "was-a-link").is_symlink()
    merged = (target / "both").stat()
    assert (merged.st_mode, merged.st_mtime_ns) == (like.st_mode, like.st_mtime_ns)
    assert os.listxattr(target / "both") == []


def test_something_covered_in_the_way_is_told(source: Path, target: Path) -> None:
    (source / "run").symlink_to("elsewhere")
    write(target / "run/secrets/token", "theirs")
    write(target / "run/ours", "goes")
    with pytest.raises(DiskError, match=r"cannot move .*/run to .*: a directory that must stay"):
        move_contents(source, target, rules("run/secrets"))
    assert (target / "run/secrets/token").read_text() == "theirs"
    assert (source / "run").is_symlink()


def test_links_are_moved_and_not_followed(source: Path, target: Path, tmp_path: Path) -> None:
    write(tmp_path / "outside/file", "stays")
    (source / "out").symlink_to(tmp_path / "outside")
    write(source / "in/file", "moved")
    (target / "in").symlink_to(tmp_path / "outside")
    move_contents(source, target, NOTHING)
    assert (target / "in/file").read_text() == "moved"
    assert (tmp_path / "outside/file").read_text() == "stays"


def test_a_sheltering_directory_goes_if_nothing_is_in_it(source: Path, target: Path) -> None:
    write(source / "a/b/file")
    move_contents(source, target, rules("a/b/not-there"))
    assert names(source) == []
    assert names(target) == ["a", "a/b", "a/b/file"]


def test_missing_directories_are_told(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="No such file"):
        move_contents(tmp_path / "no", tmp_path, NOTHING)
    with pytest.raises(DiskError, match="No such file"):
        move_contents(tmp_path, tmp_path / "no", NOTHING)
    with pytest.raises(DiskError, match="No such file"):
        clear(tmp_path / "no", NOTHING)


# Deleting


def deep(top: Path, depth: int) -> None:
    """Make a tree deeper than a path can name, with a file in each directory."""
    where = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=where))
        os.mkdir("directory", dir_fd=where)
        deeper = os.open("directory", os.O_RDONLY, dir_fd=where)
        os.close(where)
        where = deeper
    os.close(where)


def test_only_what_is_covered_is_left(source: Path, tmp_path: Path) -> None:
    outside = write(tmp_path / "outside/file", "stays")
    furnish(source)
    (source / "out").symlink_to(outside.parent)
    (source / "etc").mkdir()
    (source / "etc/also-out").symlink_to(outside)
    for name in ("etc/hosts", "proc/1/stat", "proc/sys/x", "work/volume/z"):
        write(source / name, name)
    write(source / "work/in/gone")
    clear(source, rules("etc/hosts", "proc", "proc/sys", "work/volume", "not/there"))
    assert names(source) == [
        "etc", "etc/hosts", "proc", "proc/1", "proc/1/stat", "proc/sys", "proc/sys/x",
        "work", "work/volume", "work/volume/z",
    ]  # fmt: skip
    assert outside.read_text() == "stays"


def test_a_root_that_is_covered_is_not_touched(source: Path) -> None:
    write(source / "file")
    clear(source, rules(""))
    assert names(source) == ["file"]


def test_trees_of_any_depth_go(source: Path, target: Path) -> None:
    deep(source, 3000)
    move_contents(source, target, NOTHING)
    assert os.listdir(source) == []
    assert sorted(os.listdir(target)) == ["directory", "file"]
    clear(target, NOTHING)
    assert os.listdir(target) == []


def test_remove_takes_files_links_trees_and_nothing(tmp_path: Path) -> None:
    kept = write(tmp_path / "kept/file")
    (tmp_path / "link").symlink_to(kept.parent)
    write(tmp_path / "file")
    furnish(write(tmp_path / "tree/in/file").parent)
    for name in ("link", "file", "tree", "missing", "kept/file/not-a-directory"):
        if name.startswith("kept"):
            with pytest.raises(DiskError):
                remove(tmp_path / name)
        else:
            remove(tmp_path / name)
    assert names(tmp_path) == ["kept", "kept/file"]


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no setpriv")
@pytest.mark.parametrize("how", ["remove(path)", "clear(path, IgnoreRules()); path.rmdir()"])
def test_modes_are_in_nobodys_way(tmp_path: Path, how: str) -> None:
    """As a user whom modes bind; root is one without two of its rights."""
    tree = tmp_path / "tree"
    write(tree / "a/b/c/file")
    write(tree / "a/d/file")
    for name in ("a/b/c", "a/b", "a/d", "a"):
        (tree / name).chmod(0 if name == "a/b" else 0o555)
    rights = "-dac_override,-dac_read_search"
    bound = ["setpriv", f"--bounding-set={rights}"] if os.geteuid() == 0 else []
    script = (
        "import sys; from pathlib import Path; from kaniko_core.rootfs.ignore import IgnoreRules;"
        f"from kaniko_core.rootfs.moving import clear, remove; path = Path(sys.argv[1]); {how}"
    )
    subprocess.run([*bound, sys.executable, "-c", script, tree], check=True, cwd=REPOSITORY)
    assert not tree.exists()


def test_directory_that_is_being_filled_is_like_its_source_already(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should the move end there, everything is moved back from it."""
    target = tmp_path / "target"
    target.mkdir()
    write(source / "etc/conf")
    write(source / "etc/mount/theirs")
    (source / "etc").chmod(0o711)
    monkeypatch.setattr(os, "rename", lambda *_, **__: os.stat("/nowhere"))
    with pytest.raises(DiskError):
        move_contents(source, target, rules("etc/mount"))

    assert stat.S_IMODE((target / "etc").stat().st_mode) == 0o711
