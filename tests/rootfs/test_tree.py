"""No path leads out of a root, however it is made."""

from __future__ import annotations

import io
import os
import socket
import stat
import time
from collections.abc import Iterator
from errno import ENOSYS
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaniko_core import linux
from kaniko_core.errors import ContentError, DiskError
from kaniko_core.oci.archive import Kind, read_entries, tar_stream
from kaniko_core.rootfs.tree import Rootfs


def no_openat2(*_: object, **__: object) -> int:
    raise OSError(ENOSYS, "not on this kernel")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("outside")
    root = tmp_path / "root"
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/file").write_text("inside")
    (root / "secret").write_text("inside too")
    (root / "lib").symlink_to("usr/lib")
    (root / "absolute").symlink_to("/usr/lib")
    (root / "out").symlink_to("../../../..")
    (root / "usr/climb").symlink_to("../../../secret")
    (root / "dangling").symlink_to("/no/where")
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    return root


@pytest.fixture(params=["path", "fd", "path without openat2", "fd without openat2"])
def root(
    request: pytest.FixtureRequest, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rootfs]:
    """The same tree by a path and by a file descriptor, on new and old kernels."""
    if "without" in request.param:
        monkeypatch.setattr(linux, "openat2", no_openat2)
    if request.param.startswith("path"):
        with Rootfs(tree) as made:
            yield made
        return
    fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    with Rootfs(fd) as made:
        yield made
    os.close(fd)


@pytest.mark.parametrize(
    ("path", "resolved"),
    [
        ("", b""),
        ("/", b""),
        ("..", b""),
        ("../../..", b""),
        ("lib/file", b"usr/lib/file"),
        ("/lib//./file", b"usr/lib/file"),
        ("absolute/file", b"usr/lib/file"),
        ("lib/../lib", b"usr/lib"),
        ("out/secret", b"secret"),
        ("usr/climb", b"secret"),
        ("dangling/file", b"no/where/file"),
        ("no/such/../file", b"no/file"),
        (b"lib/\xff", b"usr/lib/\xff"),
    ],
)
def test_resolves_inside_the_root(root: Rootfs, path: str | bytes, resolved: bytes) -> None:
    assert root.resolve(path) == resolved


@pytest.mark.parametrize(
    ("path", "resolved"),
    [
        ("lib", b"lib"),
        ("lib/", b"lib"),
        ("/lib/../lib", b"usr/lib"),
        ("absolute/climb", b"usr/lib/climb"),
        ("out/lib", b"lib"),
        ("one", b"one"),
    ],
)
def test_resolve_parent_keeps_the_last_link(root: Rootfs, path: str, resolved: bytes) -> None:
    assert root.resolve_parent(path) == resolved


def test_links_in_a_circle_are_a_sentence(root: Rootfs) -> None:
    for look in (root.resolve, root.stat, root.open):
        with pytest.raises(ContentError, match="too many symbolic links"):
            look("one")
    status = root.lstat("one")
    assert status is not None
    assert stat.S_ISLNK(status.st_mode)


def test_open_reads_inside_the_root(root: Rootfs) -> None:
    for path in ("secret", "/secret", "../secret", "out/secret", "usr/climb", "/out/out/secret"):
        with root.open(path) as stream:
            assert stream.read() == b"inside too"


def test_status_follows_or_not(root: Rootfs, tree: Path) -> None:
    followed, itself = root.stat("lib"), root.lstat("lib")
    assert followed is not None
    assert itself is not None
    assert followed.st_ino == (tree / "usr/lib").stat().st_ino
    assert stat.S_ISLNK(itself.st_mode)
    assert root.lstat("lib/file") == (tree / "usr/lib/file").lstat()


@pytest.mark.parametrize("path", ["none", "usr/none", "secret/below", "dangling"])
def test_what_is_missing_has_no_status(root: Rootfs, path: str) -> None:
    assert root.stat(path) is None
    if path != "dangling":
        assert root.lstat(path) is None


def test_listdir_and_readlink(root: Rootfs) -> None:
    assert root.listdir("absolute") == [b"file"]
    assert root.listdir("")[:3] == [b"absolute", b"dangling", b"lib"]
    assert root.readlink("lib") == b"usr/lib"
    assert root.readlink("out/absolute") == b"/usr/lib"


@pytest.mark.parametrize("path", ["none", "lib/file", "dangling"])
def test_what_cannot_be_read_is_a_sentence(root: Rootfs, path: str) -> None:
    with pytest.raises(DiskError, match=f"cannot read /{path}"):
        root.listdir(path)
    if path != "lib/file":
        with pytest.raises(DiskError):
            root.open(path)


def test_opening_a_fifo_does_not_wait(root: Rootfs, tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    with pytest.raises(DiskError, match="not a regular file"):
        root.open("pipe")
    with pytest.raises(DiskError, match="not a regular file"):
        root.open("usr")


def test_host_paths_lead_to_the_file(root: Rootfs) -> None:
    with open(root.host_path(root.resolve("lib/file")), "rb") as stream:  # noqa: PTH123 - bytes
        assert stream.read() == b"inside"
    assert os.listdir(root.host_path(b"usr/lib")) == [b"file"]
    assert b"lib" in os.listdir(root.host_path(b""))


def test_walk_is_sorted_and_follows_nothing(root: Rootfs, tree: Path) -> None:
    (tree / "usr.d").mkdir()
    (tree / "usr/a").mkdir()
    found = list(root.walk())
    assert [name for name, _ in found] == [
        *(b"absolute", b"dangling", b"lib", b"one", b"out", b"secret", b"two"),
        *(b"usr", b"usr/a", b"usr/climb", b"usr/lib", b"usr/lib/file", b"usr.d"),
    ]
    for name, status in found:
        assert status == (tree / os.fsdecode(name)).lstat()
    assert [name for name, _ in root.walk("lib")] == [b"usr/lib/file"]


def test_walking_what_is_no_directory_is_a_sentence(root: Rootfs) -> None:
    with pytest.raises(DiskError, match="cannot read /none"):
        list(root.walk("none"))


def test_entries_for_every_kind(root: Rootfs, tree: Path) -> None:
    os.mkfifo(tree / "pipe", 0o600)
    (tree / "usr/lib/file").chmod(0o4755)
    os.utime(tree / "usr/lib/file", ns=(0, 1_600_000_000_000_000_001))
    found = {name: root.entry(name, status) for name, status in root.walk()}
    link = found[b"lib"]
    assert link is not None
    assert (link.kind, link.link, link.size) == (Kind.SYMLINK, b"usr/lib", 0)
    file = found[b"usr/lib/file"]
    assert file is not None
    assert (file.kind, file.mode, file.size) == (Kind.FILE, 0o4755, 6)
    assert file.mtime_ns == 1_600_000_000_000_000_001
    assert (file.uid, file.gid) == (os.geteuid(), os.getegid())
    kinds = {entry.kind for entry in found.values() if entry is not None}
    assert kinds == {Kind.FILE, Kind.SYMLINK, Kind.DIRECTORY, Kind.FIFO}
    data = b"".join(tar_stream(entry for entry in found.values() if entry is not None))
    contents = {e.name: content.read() for e, content in read_entries(io.BytesIO(data))}
    assert contents[b"usr/lib/file"] == b"inside"


def test_an_entry_may_have_another_name(root: Rootfs) -> None:
    status = root.lstat("secret")
    assert status is not None
    entry = root.entry(b"secret", status, name=b"app/config")
    assert entry is not None
    assert entry.name == b"app/config"
    assert entry.content == root.host_path(b"secret")


def test_a_socket_has_no_entry(root: Rootfs, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
        status = root.lstat("socket")
        assert status is not None
        assert root.entry(b"socket", status) is None


def test_xattrs_of_the_user_are_seen_and_those_of_the_host_are_not(
    root: Rootfs, tree: Path
) -> None:
    file = tree / "usr/lib/file"
    try:
        os.setxattr(file, "user.kept", b"\0value")
        os.setxattr(file, "user.overlay.opaque", b"y")
    except OSError as error:
        pytest.skip(f"no user attributes on this file system: {error}")
    assert root.xattrs("lib/file") == {b"user.kept": b"\0value"}
    assert root.xattrs("lib") == {}


def test_a_root_must_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "none"):
        with pytest.raises(DiskError, match="cannot open"):
            Rootfs(path)


def test_a_borrowed_descriptor_stays_open(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    Rootfs(fd).close()
    os.fstat(fd)
    os.close(fd)


_part = st.sampled_from(["a", "b", "..", ".", ""])
_path = st.lists(_part, min_size=1, max_size=6).map("/".join)


@given(
    links=st.lists(st.tuples(_path, st.sampled_from(["a", "b", "a/b", "b/a"])), max_size=4),
    path=_path,
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_the_walk_agrees_with_the_kernel(
    tmp_path_factory: pytest.TempPathFactory, links: list[tuple[str, str]], path: str
) -> None:
    top = tmp_path_factory.mktemp("tree")
    (top / "a").mkdir()
    (top / "b").mkdir()
    for target, where in links:
        made = top / where
        if target and not made.exists() and not made.is_symlink() and made.parent.is_dir():
            made.symlink_to(target)
    with Rootfs(top) as tree:
        try:
            expected = tree.stat(path)
        except ContentError:
            with pytest.raises(ContentError):
                tree.resolve(path)
            return
        if expected is not None:
            # Only what exists can be compared: the kernel says nothing about the rest.
            assert tree.lstat(tree.resolve(path)) == expected


def test_walking_is_fast(tmp_path: Path) -> None:
    """A scan runs before and after every RUN in place; generous, for a loaded machine."""
    for number in range(50):
        directory = tmp_path / str(number)
        directory.mkdir()
        for name in range(60):
            (directory / str(name)).touch()
    with Rootfs(tmp_path) as tree:
        started = time.perf_counter()
        assert sum(1 for _ in tree.walk()) == 3050
        assert time.perf_counter() - started < 1
