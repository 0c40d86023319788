"""What RUN ``--mount`` means where nothing can be mounted."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import tempfile
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from kaniko_core.builder.swap import swapped_in
from kaniko_core.errors import DiskError, KanikoError, SandboxError
from kaniko_core.rootfs.ignore import IgnoreRules
from kaniko_core.sandbox.runner import BindMount, FileMount, Mount, TmpfsMount

_FREE = IgnoreRules()


class Ground:
    """A root with something in it, a source, and a directory for what is in the way."""

    def __init__(self, directory: Path, aside: Path) -> None:
        self.root = directory / "root"
        self.source = directory / "source"
        self.aside = aside
        for name in ("etc", "root/.cache/pip", "src/old"):
            (self.root / name).mkdir(parents=True)
        (self.root / "etc/conf").write_text("original")
        (self.root / "root/.cache/pip/kept").write_text("kept")
        (self.root / "link").symlink_to("/root/.cache")
        self.source.mkdir()
        (self.source / "a").write_text("a")
        for path in (self.root, *self.root.rglob("*"), self.source):
            os.utime(path, ns=(10**18, 10**18), follow_symlinks=False)

    def swapped(
        self, *mounts: Mount, rules: IgnoreRules = _FREE
    ) -> AbstractContextManager[Collection[bytes]]:
        return swapped_in(self.root, mounts, self.aside, rules)

    def state(self) -> dict[str, tuple[object, ...]]:
        """Return all that there is in the root, but for access times."""
        found: dict[str, tuple[object, ...]] = {}
        for path in (self.root, *self.root.rglob("*")):
            status = path.lstat()
            content = path.read_bytes() if path.is_file() else b""
            found[str(path.relative_to(self.root))] = (
                (status.st_mode, status.st_uid, status.st_gid, status.st_ino, status.st_nlink),
                status.st_mtime_ns,
                content,
            )
        return found


@pytest.fixture(params=["same file system", "another file system"])
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    if request.param == "same file system":
        (tmp_path / "aside").mkdir()
        yield Ground(tmp_path, tmp_path / "aside")
        return
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    with tempfile.TemporaryDirectory(dir=memory) as aside:
        yield Ground(tmp_path, Path(aside))


def test_everything_is_there_for_the_command_and_as_before_afterwards(ground: Ground) -> None:
    before = ground.state()
    cache = ground.source.parent / "cache"
    cache.mkdir()
    mounts = (
        BindMount("/src", ground.source),
        BindMount("/link/pip", cache, writable=True, lasting=True),
        FileMount("/etc/conf", b"secret", 0o440, os.getuid(), os.getgid()),
        FileMount("/run/secrets/deep/token", b"t"),
        TmpfsMount("/tmp", mode=0o1777),
    )
    with ground.swapped(*mounts):
        root = ground.root
        assert [p.name for p in (root / "src").iterdir()] == ["a"]
        assert not any((root / "root/.cache/pip").iterdir())
        assert (root / "etc/conf").read_text() == "secret"
        assert stat.S_IMODE((root / "etc/conf").stat().st_mode) == 0o440
        assert (root / "run/secrets/deep/token").read_bytes() == b"t"
        assert stat.S_IMODE((root / "run/secrets").stat().st_mode) == 0o755
        assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
        (root / "root/.cache/pip/new").write_text("stays")
        (root / "src/b").write_text("goes")
        (root / "src/a").unlink()

    assert ground.state() == before
    assert (cache / "new").read_text() == "stays"
    assert [p.name for p in ground.source.iterdir()] == ["a"]
    assert not any(ground.aside.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_whatever_ends_the_block_the_root_is_as_before(
    ground: Ground, error: type[BaseException]
) -> None:
    before = ground.state()

    with (
        pytest.raises(error),
        ground.swapped(BindMount("/src", ground.source), TmpfsMount("/a/b")),
    ):
        raise error

    assert ground.state() == before


def test_a_mount_that_cannot_be_made_leaves_the_root_as_before(ground: Ground) -> None:
    before = ground.state()

    with (
        pytest.raises(DiskError, match="cannot put a mount at /new/place: No such file"),
        ground.swapped(TmpfsMount("/src"), BindMount("/new/place", ground.source, "none")),
    ):
        pass

    assert ground.state() == before


@pytest.mark.parametrize(
    "mount", [FileMount("/src", b"x"), TmpfsMount("/etc/conf")], ids=["file", "directory"]
)
def test_a_file_and_a_directory_cannot_take_each_others_place(ground: Ground, mount: Mount) -> None:
    before = ground.state()

    with pytest.raises(SandboxError, match=r"cannot be mounted at .*: the image has a"):
        ground.swapped(mount).__enter__()

    assert ground.state() == before


@pytest.mark.parametrize(
    ("target", "covered", "named"),
    [
        ("/src", b"src", "/src"),
        ("/src/old", b"src", "/src"),
        ("/src", b"src/old", "/src/old"),
        ("/link/pip", b"root/.cache", "/root/.cache"),
    ],
)
def test_what_must_stay_is_named(ground: Ground, target: str, covered: bytes, named: str) -> None:
    before = ground.state()
    rules = IgnoreRules(frozenset({covered}))

    with pytest.raises(KanikoError, match=f"at {target} in place: {named} is a mount"):
        ground.swapped(TmpfsMount(target), rules=rules).__enter__()

    assert ground.state() == before


def test_what_is_not_there_can_be_put_beside_what_must_stay(ground: Ground) -> None:
    before = ground.state()
    rules = IgnoreRules(frozenset({b"src"}))

    with ground.swapped(TmpfsMount("/src/x/y"), rules=rules):
        assert (ground.root / "src/x/y").is_dir()

    assert ground.state() == before


def test_a_program_is_where_programs_can_be_executed(ground: Ground) -> None:
    """The one of a here-document belongs into /dev, which is mounted so that none can."""
    before = ground.state()
    rules = IgnoreRules(frozenset({b"src"}))

    with ground.swapped(FileMount("/src/program", b"#!", 0o755), rules=rules):
        program = ground.root / "src/program"
        assert program.resolve().parent == ground.aside
        assert program.read_bytes() == b"#!"

    assert ground.state() == before


def test_nothing_takes_the_place_of_the_root(ground: Ground) -> None:
    (ground.root / "up").symlink_to("..")

    with pytest.raises(KanikoError, match="root directory"):
        ground.swapped(TmpfsMount("/up")).__enter__()


def test_links_of_the_image_do_not_lead_out_of_the_root(ground: Ground) -> None:
    (ground.root / "out").symlink_to("../../../../../../../../tmp/not-outside")

    with ground.swapped(TmpfsMount("/out/x")):
        assert (ground.root / "tmp/not-outside/x").is_dir()
        assert not Path("/tmp/not-outside").exists()

    assert not (ground.root / "tmp").exists()


def test_a_mount_in_another_one_is_seen(ground: Ground) -> None:
    before = ground.state()
    mounts = (
        FileMount("/src/sub/inner", b"inner"),
        BindMount("/src", ground.source),
        FileMount("/src/a", b"instead"),
    )
    with ground.swapped(*mounts):
        assert (ground.root / "src/sub/inner").read_bytes() == b"inner"
        assert (ground.root / "src/a").read_bytes() == b"instead"

    assert ground.state() == before
    assert (ground.source / "a").read_text() == "a"
    assert not (ground.source / "sub").exists()


def test_a_mount_in_a_cache_that_must_stay_where_it_is(tmp_path: Path) -> None:
    """The cache is at a place that nothing is moved from, so its link may be gone through."""
    root = Path("/")
    cache = tmp_path / "cache"
    cache.mkdir()
    rules = IgnoreRules(frozenset({os.fsencode(cache.relative_to(root))}))
    target = tmp_path / "target"
    mounts = (
        BindMount(str(target), cache, writable=True, lasting=True),
        FileMount(f"{target}/token", b"t"),
    )
    (tmp_path / "aside").mkdir()
    with swapped_in(root, mounts, tmp_path / "aside", rules):
        assert target.is_symlink()
        assert (cache / "token").read_bytes() == b"t"

    assert not any(cache.iterdir())
    assert not target.is_symlink()


def test_a_copy_is_like_its_source(ground: Ground, tmp_path: Path) -> None:
    source = ground.source
    (source / "b").hardlink_to(source / "a")
    (source / "l").symlink_to("nowhere")
    (source / "d").mkdir(mode=0o750)
    (source / "d/set").write_bytes(os.urandom(100_000))
    (source / "d/set").chmod(0o4711)
    os.mkfifo(source / "d/fifo")
    os.setxattr(source / "d/set", "user.note", b"n")
    strange = os.fsencode(source) + b"/\xff\n"
    Path(os.fsdecode(strange)).touch()
    for path in (*source.rglob("*"), source):
        os.utime(path, ns=(10**18 + 1, 10**18 + 7), follow_symlinks=False)

    with ground.swapped(BindMount("/src", tmp_path, "/source")):
        copy = ground.root / "src"
        for path in (source, *source.rglob("*")):
            old, new = path.lstat(), (copy / path.relative_to(source)).lstat()
            names = ("st_mode", "st_uid", "st_gid", "st_nlink", "st_mtime_ns", "st_ino")
            like = [getattr(old, name) == getattr(new, name) for name in names]
            assert like == [True] * 5 + [False], path
        assert (copy / "a").samefile(copy / "b")
        assert (copy / "l").readlink() == Path("nowhere")
        assert (copy / "d/set").read_bytes() == (source / "d/set").read_bytes()
        assert os.getxattr(copy / "d/set", "user.note") == b"n"


def test_a_file_is_copied_too(ground: Ground) -> None:
    with ground.swapped(BindMount("/etc/conf", ground.source, "a")):
        assert (ground.root / "etc/conf").read_text() == "a"
        (ground.root / "etc/conf").write_text("changed")

    assert (ground.source / "a").read_text() == "a"


def test_a_source_may_hold_its_own_target(ground: Ground) -> None:
    with ground.swapped(BindMount("/src/old/all", ground.root, "/src")):
        assert [p.name for p in (ground.root / "src/old/all").rglob("*")] == ["old"]

    assert not any((ground.root / "src/old").iterdir())


def test_a_socket_is_the_very_same(ground: Ground) -> None:
    closed = ground.source / "closed"
    closed.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        previous = Path.cwd()
        os.chdir(closed)
        try:
            listener.bind("agent")
        finally:
            os.chdir(previous)
        listener.listen()
        with ground.swapped(BindMount("/run/agent", closed, "agent", writable=True, lasting=True)):
            os.chdir(ground.root / "run")
            try:
                client.connect("agent")
            finally:
                os.chdir(previous)
            assert not (ground.root / "run/agent").is_symlink()
    assert (closed / "agent").is_socket()


def test_names_that_get_another_ctime_are_told(ground: Ground) -> None:
    with ground.swapped(TmpfsMount("/link/pip"), FileMount("/etc/new", b"")) as touched:
        assert set(touched) == {b"root/.cache", b"root/.cache/pip", b"etc"}


def test_times_of_a_directory_that_the_command_changed_are_its_own(ground: Ground) -> None:
    with ground.swapped(TmpfsMount("/etc/x"), TmpfsMount("/src/x")):
        (ground.root / "etc/made").touch()
        changed = (ground.root / "etc").stat().st_mtime_ns

    assert (ground.root / "etc").stat().st_mtime_ns == changed
    assert (ground.root / "src").stat().st_mtime_ns == 10**18


def test_parents_stay_if_the_command_uses_them(ground: Ground) -> None:
    with ground.swapped(TmpfsMount("/a/b/mount"), TmpfsMount("/c/mount"), TmpfsMount("/d/mount")):
        (ground.root / "a/file").touch()
        (ground.root / "c").chmod(0o700)

    assert [str(p.relative_to(ground.root)) for p in (ground.root / "a").rglob("*")] == ["a/file"]
    assert (ground.root / "c").is_dir()
    assert not (ground.root / "d").exists()


def test_what_the_command_makes_in_the_place_of_a_mount_is_gone(ground: Ground) -> None:
    before = ground.state()
    with ground.swapped(BindMount("/src", ground.source), FileMount("/etc/conf", b"")):
        subprocess.run(["rm", "-rf", ground.root / "src"], check=True)
        (ground.root / "src").write_text("a file now")
        (ground.root / "etc/conf").unlink()

    # But for the times of the directories that it removed something from.
    after = ground.state()
    assert {name for name in before if before[name] != after[name]} == {".", "etc"}
    assert before.keys() == after.keys()


def test_what_was_there_follows_its_directory(ground: Ground) -> None:
    root = ground.root
    with ground.swapped(TmpfsMount("/root/.cache/pip")):
        (root / "root").rename(root / "moved")

    assert (root / "moved/.cache/pip/kept").read_text() == "kept"
    assert not (root / "root").exists()


def test_what_was_there_goes_with_its_directory(ground: Ground) -> None:
    root = ground.root
    with ground.swapped(TmpfsMount("/root/.cache/pip"), TmpfsMount("/new/mount")):
        subprocess.run(["rm", "-rf", root / "root", root / "new"], check=True)

    assert not (root / "root").exists()
    assert not (root / "new").exists()
