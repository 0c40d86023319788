"""Upper directories made by hand, as the kernel makes them; integration/ has the kernel's own."""

import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaniko_core.errors import DiskError
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.rootfs.overlay import upper_entries
from kaniko_core.rootfs.tree import Rootfs


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    (tmp_path / "upper").mkdir()
    return tmp_path / "upper"


@pytest.fixture
def below(tmp_path: Path) -> Path:
    (tmp_path / "below").mkdir()
    return tmp_path / "below"


def _entries(upper: Path, below: Path) -> list[Entry]:
    with Rootfs(below) as rootfs:
        return list(upper_entries(upper, rootfs))


def _told(upper: Path, below: Path) -> list[tuple[bytes, Kind]]:
    return [(entry.name, entry.kind) for entry in _entries(upper, below)]


def _whiteout(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR, 0)


def _opaque(path: Path) -> None:
    os.setxattr(path, "user.overlay.opaque", b"y")


def _copy(source: Path, target: Path, content: bytes | None = None) -> None:
    """Copy a file up, as the kernel does: everything but the inode number stays."""
    target.write_bytes(source.read_bytes() if content is None else content)
    status = source.stat()
    target.chmod(stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_nothing_changed_is_nothing(upper: Path, below: Path) -> None:
    (below / "file").touch()
    upper.chmod(0o700)

    assert _entries(upper, below) == []


def test_names_are_sorted_and_parents_come_first(upper: Path, below: Path) -> None:
    for name in ("b/z", "b/a/x", "a", "b.txt", "c"):
        (upper / name).mkdir(parents=True)

    assert [name for name, _ in _told(upper, below)] == [
        b"a", b"b", b"b/a", b"b/a/x", b"b/z", b"b.txt", b"c",
    ]  # fmt: skip


def test_a_new_file_keeps_everything_about_it(upper: Path, below: Path) -> None:
    path = upper / "file"
    path.write_bytes(b"content")
    path.chmod(0o4711)
    os.utime(path, ns=(1, 123_456_789))
    os.setxattr(path, "user.note", b"kept")
    os.setxattr(path, "user.overlay.origin", b"private")

    (entry,) = _entries(upper, below)

    assert (entry.kind, entry.mode, entry.size) == (Kind.FILE, 0o4711, 7)
    assert (entry.mtime_ns, entry.xattrs) == (123_456_789, {b"user.note": b"kept"})
    assert (entry.uid, entry.gid) == (os.getuid(), path.stat().st_gid)
    assert entry.content == os.fsencode(path)


def test_links_pipes_and_names_that_are_no_text(upper: Path, below: Path) -> None:
    (upper / "link").symlink_to("/target")
    os.mkfifo(upper / "pipe")
    Path(os.fsdecode(os.fsencode(upper) + b"/\xff")).touch()

    entries = _entries(upper, below)

    assert [(e.name, e.kind, e.link) for e in entries] == [
        (b"link", Kind.SYMLINK, b"/target"),
        (b"pipe", Kind.FIFO, b""),
        (b"\xff", Kind.FILE, b""),
    ]


def test_a_whiteout_is_told_where_something_is_removed(upper: Path, below: Path) -> None:
    (below / "dir").mkdir()
    (below / "dir/gone").touch()
    (upper / "dir").mkdir()
    _whiteout(upper / "dir/gone")
    _whiteout(upper / "dir/never")

    assert _told(upper, below) == [(b"dir", Kind.DIRECTORY), (b"dir/gone", Kind.WHITEOUT)]


def test_a_whiteout_of_nothing_leaves_no_trace_of_its_directory(upper: Path, below: Path) -> None:
    """A stub of ours was there while the command ran, and the command removed it."""
    (below / "etc").mkdir()
    (upper / "etc").mkdir()
    _whiteout(upper / "etc/resolv.conf")

    assert _entries(upper, below) == []


def test_an_opaque_directory_hides_what_is_below(upper: Path, below: Path) -> None:
    (below / "dir/old").mkdir(parents=True)
    (below / "dir/same").touch()
    (upper / "dir").mkdir()
    _opaque(upper / "dir")
    _copy(below / "dir/same", upper / "dir/same")
    _whiteout(upper / "dir/old")

    entries = _entries(upper, below)

    # Hidden too, the same file is news, and a whiteout has nothing to remove.
    assert [(entry.name, entry.kind) for entry in entries] == [
        (b"dir", Kind.DIRECTORY),
        (b"dir", Kind.OPAQUE),
        (b"dir/same", Kind.FILE),
    ]
    assert entries[0].xattrs == {}


@pytest.mark.parametrize("lower", ["nothing", "empty directory", "file", "link"])
def test_an_opaque_directory_over_nothing_is_an_ordinary_one(
    upper: Path, below: Path, lower: str
) -> None:
    (below / "full").mkdir()
    (below / "full/file").touch()
    if lower == "empty directory":
        (below / "dir").mkdir()
    elif lower == "file":
        (below / "dir").touch()
    elif lower == "link":
        (below / "dir").symlink_to("full")
    (upper / "dir/new").mkdir(parents=True)
    _opaque(upper / "dir")

    assert _told(upper, below) == [(b"dir", Kind.DIRECTORY), (b"dir/new", Kind.DIRECTORY)]


def test_hard_links_go_to_their_first_name(upper: Path, below: Path) -> None:
    (upper / "b").mkdir()
    (upper / "b/one").write_bytes(b"x")
    (upper / "a").hardlink_to(upper / "b/one")
    (upper / "b/two").hardlink_to(upper / "a")

    entries = _entries(upper, below)

    assert [(e.name, e.kind, e.link, e.size) for e in entries] == [
        (b"a", Kind.FILE, b"", 1),
        (b"b", Kind.DIRECTORY, b"", 0),
        (b"b/one", Kind.HARDLINK, b"a", 0),
        (b"b/two", Kind.HARDLINK, b"a", 0),
    ]


def test_a_hard_link_to_an_unchanged_copy_finds_it_in_the_layer(upper: Path, below: Path) -> None:
    (below / "a").write_bytes(b"x")
    _copy(below / "a", upper / "a")
    (upper / "b").hardlink_to(upper / "a")

    assert _told(upper, below) == [(b"a", Kind.FILE), (b"b", Kind.HARDLINK)]


def test_an_exact_copy_is_no_change(upper: Path, below: Path) -> None:
    for root in (below, upper):
        (root / "dir").mkdir()
    (below / "dir/file").write_bytes(b"same")
    _copy(below / "dir/file", upper / "dir/file")
    (below / "empty").touch()
    _copy(below / "empty", upper / "empty")

    assert _entries(upper, below) == []


def test_other_bytes_are_a_change_whatever_the_times_say(upper: Path, below: Path) -> None:
    (below / "file").write_bytes(b"same")
    _copy(below / "file", upper / "file", content=b"else")

    assert _told(upper, below) == [(b"file", Kind.FILE)]


@pytest.mark.parametrize("what", ["mode", "time", "attribute", "kind"])
def test_other_metadata_is_a_change(upper: Path, below: Path, what: str) -> None:
    (below / "file").write_bytes(b"same")
    _copy(below / "file", upper / "file")
    if what == "mode":
        (upper / "file").chmod(0o600)
    elif what == "time":
        os.utime(upper / "file", ns=(0, 1))
    elif what == "attribute":
        os.setxattr(upper / "file", "user.note", b"new")
    else:
        (below / "file").unlink()
        (below / "file").symlink_to("x")

    assert _told(upper, below) == [(b"file", Kind.FILE)]


def test_a_directory_is_told_with_what_is_in_it_or_for_its_own_sake(
    upper: Path, below: Path
) -> None:
    for name in ("mode", "way/through", "touched"):
        for root in (below, upper):
            (root / name).mkdir(parents=True)
    (upper / "mode").chmod(0o700)
    (upper / "way/through/new").touch()
    os.utime(upper / "touched", ns=(0, 1))

    assert [name for name, _ in _told(upper, below)] == [
        b"mode", b"way", b"way/through", b"way/through/new",
    ]  # fmt: skip


def test_a_socket_is_left_out(upper: Path, below: Path) -> None:
    (below / "log").touch()
    for name in ("log", "new"):
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(upper / name))

    # What it took the place of is gone all the same.
    assert _told(upper, below) == [(b"log", Kind.WHITEOUT)]


def test_a_link_to_a_directory_below_is_not_looked_through(upper: Path, below: Path) -> None:
    (below / "real").mkdir()
    (below / "real/file").touch()
    (below / "link").symlink_to("real")
    (upper / "link").mkdir()
    _whiteout(upper / "link/file")

    assert _told(upper, below) == [(b"link", Kind.DIRECTORY)]


def test_a_very_deep_tree_is_walked(upper: Path, below: Path) -> None:
    fd = os.open(upper, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)

    assert len(_entries(upper, below)) == 1200
    # pytest clears its directories recursively, and would not come to the end of this one.
    subprocess.run(["rm", "-rf", str(upper)], check=True)


def test_an_unreadable_upper_directory_is_a_disk_error(tmp_path: Path, below: Path) -> None:
    with pytest.raises(DiskError, match="missing"):
        _entries(tmp_path / "missing", below)


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)
