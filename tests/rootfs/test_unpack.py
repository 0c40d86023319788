"""Unpacking a layer: alone as an overlay's lower directory, or onto the layers beneath it."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kaniko_core.errors import ContentError, DiskError
from kaniko_core.oci.archive import Entry, Kind, tar_stream
from kaniko_core.rootfs import directories
from kaniko_core.rootfs.beneath import Beneath, is_whiteout
from kaniko_core.rootfs.unpack import Unpacked, Whiteouts, unpack

OWNER = (os.geteuid(), os.getegid())
SECOND = 10**9
EPOCH = 1_600_000_000 * SECOND
OVERLAY = Whiteouts.OVERLAY_USER  # its marks take no root
OPAQUE = "user.overlay.opaque"


def file(name: bytes, data: bytes = b"", mode: int = 0o644) -> Entry:
    content = (lambda: io.BytesIO(data)) if data else None
    return Entry(name, Kind.FILE, mode, *OWNER, size=len(data), mtime_ns=EPOCH + 5, content=content)


def directory(name: bytes, mode: int = 0o755) -> Entry:
    return Entry(name, Kind.DIRECTORY, mode, *OWNER, mtime_ns=EPOCH + 7)


def symlink(name: bytes, target: bytes) -> Entry:
    return Entry(name, Kind.SYMLINK, 0o777, *OWNER, mtime_ns=EPOCH + 9, link=target)


def hardlink(name: bytes, target: bytes) -> Entry:
    return Entry(name, Kind.HARDLINK, 0o644, *OWNER, mtime_ns=EPOCH, link=target)


def whiteout(name: bytes) -> Entry:
    return Entry(name, Kind.WHITEOUT, 0, *OWNER)


def opaque(name: bytes) -> Entry:
    return Entry(name, Kind.OPAQUE, 0, *OWNER)


def put(
    into: Path, *entries: Entry, whiteouts: Whiteouts = OVERLAY, below: Sequence[Path] = ()
) -> Unpacked:
    """Unpack a layer of *entries*; *below* is topmost first."""
    into.mkdir(exist_ok=True)
    data = b"".join(tar_stream(entries))
    return unpack(io.BytesIO(data), into, whiteouts=whiteouts, below=lambda: below)


def raw(data: bytes, into: Path, **fields: object) -> Unpacked:
    into.mkdir(exist_ok=True)
    return unpack(io.BytesIO(data), into, whiteouts=OVERLAY)


def names(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in top.rglob("*"))


def marks(top: Path) -> dict[str, str]:
    """Return the overlay marks of an unpacked layer."""
    found = {}
    for path in [top, *top.rglob("*")]:
        name = str(path.relative_to(top))
        if is_whiteout(path.lstat()):
            found[name] = "whiteout"
        elif path.is_dir() and not path.is_symlink() and OPAQUE in os.listxattr(path):
            found[name] = "opaque"
    return found


@pytest.fixture(autouse=True)
def _no_descriptor_is_left() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) <= before


# Contents and metadata


def test_everything_is_as_the_layer_says(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = put(
        out,
        directory(b"bin", 0o1777),
        file(b"bin/tool", b"\x7fELF", 0o4755),
        file(b"bin/empty"),
        hardlink(b"bin/same", b"bin/tool"),
        symlink(b"bin/link", b"tool"),
        Entry(b"pipe", Kind.FIFO, 0o620, *OWNER, mtime_ns=EPOCH + 3),
    )
    assert result == Unpacked(6, (), ())
    tool = (out / "bin/tool").lstat()
    assert (out / "bin/tool").read_bytes() == b"\x7fELF"
    assert stat.S_IMODE(tool.st_mode) == 0o4755
    assert (tool.st_mtime_ns, tool.st_nlink) == (EPOCH + 5, 2)
    assert (out / "bin/same").samefile(out / "bin/tool")
    assert (out / "bin/empty").read_bytes() == b""
    assert (out / "bin/link").readlink() == Path("tool")
    assert (out / "bin/link").lstat().st_mtime_ns == EPOCH + 9
    assert stat.S_IMODE((out / "pipe").lstat().st_mode) == 0o620
    bin_ = (out / "bin").lstat()
    assert (stat.S_IMODE(bin_.st_mode), bin_.st_mtime_ns) == (0o1777, EPOCH + 7)


def test_the_umask_changes_nothing(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        put(tmp_path / "out", directory(b"d", 0o777), file(b"d/f", b"x", 0o666), file(b"a/b"))
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "out/d").stat().st_mode) == 0o777
    assert stat.S_IMODE((tmp_path / "out/d/f").stat().st_mode) == 0o666
    assert stat.S_IMODE((tmp_path / "out/a").stat().st_mode) == 0o755


def test_a_default_acl_changes_no_mode(tmp_path: Path) -> None:
    """What a directory hands down takes bits away, and no umask tells of it."""
    out = tmp_path / "out"
    out.mkdir()
    # Version 2; user, group, mask and others may read. Source: linux/posix_acl_xattr.h.
    entries = ((0x01, 4), (0x04, 4), (0x10, 4), (0x20, 4))
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, bits, 0xFFFFFFFF) for tag, bits in entries
    )
    try:
        os.setxattr(out, "system.posix_acl_default", acl)
    except OSError:
        pytest.skip("the file system has no ACLs")
    put(out, file(b"f", b"x", 0o754), directory(b"d"), file(b"d/g", b"x", 0o640))
    assert stat.S_IMODE((out / "f").stat().st_mode) == 0o754
    assert stat.S_IMODE((out / "d/g").stat().st_mode) == 0o640


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"", b"d/", b"d/e/"]),
            st.integers(0, 0o7777),
            st.sampled_from([0, 1, 511, 512, 513, 70_000]),
            st.integers(0, 1 << 33).map(lambda seconds: seconds * SECOND),
        ),
        max_size=6,
    ),
    st.sampled_from([0, 0o22, 0o27, 0o77]),
)
@settings(max_examples=20, deadline=None)
def test_files_are_those_of_gnu_tar(files: list[tuple[bytes, int, int, int]], umask: int) -> None:
    entries = [directory(b"d", 0o750), directory(b"d/e", 0o2711)]
    for number, (where, mode, size, time) in enumerate(files):
        made = file(where + b"%d" % number, os.urandom(size), mode)
        entries.append(replace(made, mtime_ns=time))
    with tempfile.TemporaryDirectory() as top:
        ours, theirs = Path(top, "ours"), Path(top, "theirs")
        theirs.mkdir()
        old = os.umask(umask)
        try:
            put(ours, *entries)
        finally:
            os.umask(old)
        data = b"".join(tar_stream(entries))
        subprocess.run(
            ["tar", "-xpf", "-", "--warning=no-timestamp", "-C", str(theirs)],
            input=data,
            check=True,
        )
        assert shown_files(ours) == shown_files(theirs)


def shown_files(top: Path) -> dict[str, tuple[int, int, int, bytes]]:
    found = {}
    for path in top.rglob("*"):
        status = path.stat()
        # GNU tar gives directories their times too early where entries are in no good order.
        time, content = (status.st_mtime_ns, path.read_bytes()) if path.is_file() else (0, b"")
        found[str(path.relative_to(top))] = (status.st_mode, time, status.st_uid, content)
    return found


def test_directory_times_survive_what_is_put_into_them(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, directory(b""), directory(b"a"), directory(b"a/b"), file(b"a/b/c"), file(b"a/d"))
    for name in ("", "a", "a/b"):
        assert (out / name).stat().st_mtime_ns == EPOCH + 7


def test_closed_directories_can_be_filled(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, directory(b"a", 0o000), directory(b"a/b", 0o555), file(b"a/b/c", b"x", 0o000))
    assert stat.S_IMODE((out / "a").stat().st_mode) == 0
    (out / "a").chmod(0o755)
    assert stat.S_IMODE((out / "a/b").stat().st_mode) == 0o555


def test_a_large_file_is_whole(tmp_path: Path) -> None:
    data = os.urandom((5 << 20) + 1)
    put(tmp_path / "out", file(b"before", b"1"), file(b"large", data), file(b"after", b"2"))
    assert (tmp_path / "out/large").read_bytes() == data
    assert (tmp_path / "out/after").read_bytes() == b"2"


def test_a_file_is_whole_where_the_disk_takes_a_little_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:100]))
    data = os.urandom(1050)
    put(tmp_path / "out", file(b"f", data))
    assert (tmp_path / "out/f").read_bytes() == data


def test_more_directories_than_may_be_open(tmp_path: Path) -> None:
    count = directories._MOST_OPEN * 3
    entries = [directory(b"d%d" % number) for number in range(count)]
    entries += [file(b"d%d/deep/er/f" % (number * 7 % count)) for number in range(count)]
    entries += [hardlink(b"d%d/l" % number, b"d%d/deep/er/f" % number) for number in range(count)]
    put(tmp_path / "out", *entries)
    assert len(list((tmp_path / "out").glob("*/deep/er/f"))) == count
    assert {path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == {EPOCH + 7}


def test_very_deep_names_are_no_recursion(tmp_path: Path) -> None:
    name = b"/".join([b"a"] * 300)
    put(tmp_path / "out", file(name))
    assert (tmp_path / "out" / os.fsdecode(name)).is_file()


def test_xattrs_are_set_on_files_and_directories(tmp_path: Path) -> None:
    one, two = file(b"d/f", b"x"), directory(b"d")
    one.xattrs = {b"user.kept": b"\0\xff"}
    two.xattrs = {b"user.kept": b"", b"user.overlay.opaque": b"y"}
    out = tmp_path / "out"
    assert put(out, two, one).lost_xattrs == ()
    assert os.getxattr(out / "d/f", "user.kept") == b"\0\xff"
    # An attribute of overlayfs in a layer would be taken for our own mark.
    assert os.listxattr(out / "d") == ["user.kept"]


def test_xattrs_that_cannot_be_set_are_told_and_cost_nothing_else(tmp_path: Path) -> None:
    entries = [file(b"a", b"x"), symlink(b"b", b"a"), file(b"c", b"y")]
    entries[0].xattrs = {b"nonsense.name": b"1", b"user.large": bytes(70_000)}
    entries[1].xattrs = {b"user.on-a-link": b"1"}  # the kernel allows none there
    result = put(tmp_path / "out", *entries)
    assert result.lost_xattrs == ("nonsense.name", "user.large", "user.on-a-link")
    assert (tmp_path / "out/c").read_bytes() == b"y"
    assert (tmp_path / "out/a").lstat().st_mtime_ns == EPOCH + 5


def test_holes_stay_holes(tmp_path: Path) -> None:
    tar = shutil.which("tar")
    if tar is None:
        pytest.skip("GNU tar is not installed")
    with (tmp_path / "sparse").open("wb") as stream:
        stream.seek(50 << 20)
        stream.write(b"end")
        stream.truncate(60 << 20)
    command = [tar, "-S", "--format=gnu", "-C", tmp_path, "-c", "sparse"]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    raw(data, tmp_path / "out")
    out = tmp_path / "out/sparse"
    assert out.stat().st_size == 60 << 20
    assert out.stat().st_blocks * 512 < 1 << 20
    with out.open("rb") as stream:
        stream.seek((50 << 20) - 1)
        assert stream.read(5) == b"\0end\0"


def test_the_last_of_two_entries_wins(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(
        out,
        *(file(b"f", b"one"), hardlink(b"kept", b"f"), file(b"f", b"two")),
        *(file(b"to-link"), symlink(b"to-link", b"f")),
        *(symlink(b"to-file", b"f"), file(b"to-file", b"three")),
        *(directory(b"gone"), file(b"gone/x"), file(b"gone", b"four")),
        *(file(b"to-dir"), directory(b"to-dir"), file(b"to-dir/x")),
        *(directory(b"merged", 0o700), file(b"merged/x"), directory(b"merged", 0o711)),
        *(file(b"in-the-way"), file(b"in-the-way/x", b"five")),
    )
    assert (out / "f").read_bytes() == b"two"
    assert (out / "kept").read_bytes() == b"one"
    assert (out / "to-link").is_symlink()
    assert (out / "to-file").read_bytes() == b"three"
    assert (out / "gone").read_bytes() == b"four"
    assert (out / "to-dir/x").is_file()
    assert (out / "merged/x").is_file()
    assert stat.S_IMODE((out / "merged").stat().st_mode) == 0o711
    assert (out / "in-the-way/x").read_bytes() == b"five"


def test_a_directory_made_anew_does_not_keep_old_metadata(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, directory(b"d", 0o700), directory(b"d/e", 0o700), file(b"d"), file(b"d/e/f"))
    assert stat.S_IMODE((out / "d").stat().st_mode) == 0o755
    assert stat.S_IMODE((out / "d/e").stat().st_mode) == 0o755


def test_the_same_layer_gives_the_same_tree(tmp_path: Path) -> None:
    for name in ("one", "two"):
        put(tmp_path / name, file(b"implied/parent/f", b"x"))
    one, two = ((tmp_path / name / "implied").stat() for name in ("one", "two"))
    assert one.st_mtime_ns == two.st_mtime_ns
    assert (tmp_path / "one").stat().st_mtime_ns == (tmp_path / "two").stat().st_mtime_ns


def test_truncated_archives_are_noticed(tmp_path: Path) -> None:
    data = b"".join(tar_stream([file(b"a", bytes(3000)), file(b"b", b"b")]))[:-1024]
    for length in (100, 513, 3000, len(data) - 1):
        with pytest.raises(ContentError):
            raw(data[:length], tmp_path / str(length))


def test_a_missing_directory_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="cannot unpack a layer into"):
        unpack(io.BytesIO(b""), tmp_path / "none", whiteouts=OVERLAY)


def test_the_stream_is_read_to_its_end(tmp_path: Path) -> None:
    stream = io.BytesIO(b"".join(tar_stream([file(b"f")])) + bytes(5 << 20))
    unpack(stream, tmp_path, whiteouts=OVERLAY)
    assert stream.read() == b""


def test_an_error_names_the_entry(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=r"cannot unpack /d/n+ into .*: File name too long"):
        put(tmp_path / "out", file(b"d/" + b"n" * 300))


# Nothing leads out of the root


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory beside the root that nothing may be written to."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "victim").write_text("untouched")
    path.chmod(0o711)

    def status() -> list[tuple[int, ...]]:
        found = [path.lstat(), (path / "victim").lstat()]
        return [(s.st_mode, s.st_uid, s.st_gid, s.st_size, s.st_mtime_ns) for s in found]

    before = status()
    yield path
    assert [p.name for p in path.iterdir()] == ["victim"]
    assert (path / "victim").read_text() == "untouched"
    assert status() == before


@pytest.mark.parametrize("whiteouts", [OVERLAY, Whiteouts.APPLY])
@pytest.mark.parametrize("target", ["absolute", "../outside", "../../../../../..{}", "{}/../{}"])
def test_symbolic_links_of_the_archive_lead_nowhere_else(
    whiteouts: Whiteouts, target: str, outside: Path, tmp_path: Path
) -> None:
    link = os.fsencode(target.format(outside, outside) if "{" in target else target)
    if target == "absolute":
        link = os.fsencode(outside)
    out = tmp_path / "out"
    put(
        out,
        symlink(b"trap", link),
        file(b"trap/new", b"x"),
        file(b"trap/victim", b"overwritten"),
        directory(b"trap/dir", 0o777),
        symlink(b"trap/link", b"x"),
        whiteout(b"trap/other"),
        opaque(b"trap"),
        whiteouts=whiteouts,
    )
    put(
        out,
        symlink(b"again", link + b"/victim"),
        file(b"again/below"),
        file(b"last", b"x"),
        hardlink(b"linked", b"last"),
        whiteouts=Whiteouts.APPLY,
    )


def test_a_hard_link_cannot_reach_a_file_outside(outside: Path, tmp_path: Path) -> None:
    victim = os.fsencode(outside / "victim")
    for number, entries in enumerate(
        [
            [hardlink(b"stolen", victim)],
            [symlink(b"trap", os.fsencode(outside)), hardlink(b"stolen", b"trap/victim")],
            [symlink(b"trap", b"../outside"), hardlink(b"stolen", b"trap/victim")],
        ]
    ):
        with pytest.raises(ContentError, match="hard link"):
            put(tmp_path / f"out{number}", *entries)


def test_a_hard_link_to_a_link_is_not_followed(outside: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(
        out,
        symlink(b"trap", os.fsencode(outside / "victim")),
        hardlink(b"same", b"trap"),
        file(b"same", b"replaces the link"),
    )
    assert (out / "trap").is_symlink()
    assert (out / "same").read_bytes() == b"replaces the link"


def test_files_are_replaced_and_not_written_through(outside: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "link").symlink_to(outside / "victim")
    os.link(outside / "victim", out / "hard")
    put(out, file(b"link", b"new"), file(b"hard", b"new"), whiteouts=Whiteouts.APPLY)
    assert (out / "link").read_bytes() == (out / "hard").read_bytes() == b"new"


def test_whiteouts_do_not_follow_links_out(outside: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "trap").symlink_to(outside)
    put(out, whiteout(b"trap/victim"), opaque(b"trap"), whiteouts=Whiteouts.APPLY)
    put(out, whiteout(b"trap"), whiteouts=Whiteouts.APPLY)
    assert names(out) == []


def test_links_in_a_circle_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="too many symbolic links"):
        put(tmp_path / "out", symlink(b"a", b"b"), symlink(b"b", b"a"), file(b"a/file"))


@pytest.mark.parametrize(
    "entries",
    [
        [hardlink(b"a", b"none")],
        [hardlink(b"a", b"no/such/file")],
        [directory(b"d"), hardlink(b"a", b"d")],
        [whiteout(b"x"), hardlink(b"a", b"x")],
    ],
)
def test_a_hard_link_to_nothing_is_a_sentence(entries: list[Entry], tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="/a is a hard link to"):
        put(tmp_path / "out", *entries)


def test_a_hard_link_to_itself_is_kept(tmp_path: Path) -> None:
    put(tmp_path / "out", file(b"d/a", b"x"), symlink(b"e", b"d"), hardlink(b"e/a", b"d/a"))
    assert (tmp_path / "out/d/a").read_bytes() == b"x"


# Whiteouts in a directory of the layer's own


def test_whiteouts_become_those_of_overlayfs(tmp_path: Path) -> None:
    lower, out = tmp_path / "lower", tmp_path / "out"
    put(lower, file(b"a/gone"), file(b"a/kept"), file(b"b/x"))
    put(out, directory(b"a"), whiteout(b"a/gone"), directory(b"b"), opaque(b"b"), below=[lower])
    assert marks(out) == {"a/gone": "whiteout", "b": "opaque"}


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_whiteout_spares_what_its_own_layer_adds(first: bool, tmp_path: Path) -> None:
    out = tmp_path / "out"
    marked = [whiteout(b"file"), whiteout(b"dir"), whiteout(b"implied"), whiteout(b"link")]
    added = [
        *(file(b"file", b"new"), directory(b"dir"), file(b"dir/x", b"new")),
        *(file(b"implied/x", b"new"), symlink(b"link", b"file")),
    ]
    put(out, *(marked + added if first else added + marked))
    assert (out / "file").read_bytes() == b"new"
    assert (out / "link").is_symlink()
    assert (out / "dir/x").read_bytes() == b"new"
    assert (out / "implied/x").read_bytes() == b"new"
    # What the layers beneath had in them is gone all the same.
    assert marks(out) == {"dir": "opaque", "implied": "opaque"}


def test_an_opaque_root_hides_every_name_beneath(tmp_path: Path) -> None:
    """overlayfs ignores the attribute on the root of a layer."""
    lower, out = tmp_path / "lower", tmp_path / "out"
    put(lower, file(b"a"), directory(b"d"), file(b"d/x"), directory(b"e"), file(b"e/x"))
    put(out, directory(b"e"), opaque(b""), directory(b"d"), file(b"d/y"), below=[lower])
    assert marks(out) == {"a": "whiteout", "d": "opaque", "e": "opaque"}


def test_a_whiteout_that_hides_nothing_is_left_out(tmp_path: Path) -> None:
    """overlayfs shows its name where it has no other directory to merge with."""
    lower, out = tmp_path / "lower", tmp_path / "out"
    put(lower, file(b"merged/gone"), file(b"opaque/gone"))
    put(
        out,
        *(directory(b"own"), whiteout(b"own/x"), whiteout(b"x"), whiteout(b"merged/x")),
        *(whiteout(b"merged/gone"), opaque(b"opaque"), whiteout(b"opaque/gone")),
        below=[lower],
    )
    assert marks(out) == {"merged/gone": "whiteout", "opaque": "opaque"}


def test_a_whiteout_where_no_directory_is_makes_none(tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    put(lower, file(b"x"))
    put(tmp_path / "out", whiteout(b"no/such/file"), opaque(b"none"), below=[lower])
    assert names(tmp_path / "out") == []


def test_a_whiteout_in_an_implied_directory_finds_it_beneath(tmp_path: Path) -> None:
    lower, out = tmp_path / "lower", tmp_path / "out"
    put(lower, directory(b"a", 0o750), file(b"a/gone"), symlink(b"l", b"a"))
    put(out, whiteout(b"l/gone"), below=[lower])
    assert marks(out) == {"a/gone": "whiteout"}
    assert stat.S_IMODE((out / "a").stat().st_mode) == 0o750


# What a layer takes for granted


def test_implied_directories_are_like_those_beneath(tmp_path: Path) -> None:
    bottom, top, out = tmp_path / "bottom", tmp_path / "top", tmp_path / "out"
    one, two = directory(b"a", 0o700), directory(b"a/b", 0o2770)
    two.xattrs = {b"user.kept": b"1"}
    put(bottom, one, two)
    put(top, directory(b"a", 0o711), file(b"a/x"))
    put(out, file(b"a/b/c/f"), below=[top, bottom])
    assert stat.S_IMODE((out / "a").stat().st_mode) == 0o711
    assert stat.S_IMODE((out / "a/b").stat().st_mode) == 0o2770
    assert os.getxattr(out / "a/b", "user.kept") == b"1"
    assert (out / "a/b").stat().st_mtime_ns == EPOCH + 7
    assert stat.S_IMODE((out / "a/b/c").stat().st_mode) == 0o755


def test_an_opaque_directory_beneath_stays_its_own_affair(tmp_path: Path) -> None:
    lower, out = tmp_path / "lower", tmp_path / "out"
    put(lower, directory(b"a"), opaque(b"a"))
    put(out, file(b"a/f"), below=[lower])
    assert marks(lower) == {"a": "opaque"}
    assert marks(out) == {}


@pytest.mark.parametrize("target", [b"usr/lib", b"/usr/lib", b"../../usr/lib", b"./usr//lib/."])
def test_links_beneath_are_followed(target: bytes, tmp_path: Path) -> None:
    bottom, top, out = tmp_path / "bottom", tmp_path / "top", tmp_path / "out"
    put(bottom, directory(b"usr", 0o711), directory(b"usr/lib", 0o750))
    put(top, symlink(b"lib", target))
    put(out, file(b"lib/new", b"x"), file(b"lib/sub/new", b"x"), below=[top, bottom])
    assert names(out) == ["usr", "usr/lib", "usr/lib/new", "usr/lib/sub", "usr/lib/sub/new"]
    assert stat.S_IMODE((out / "usr").stat().st_mode) == 0o711
    assert stat.S_IMODE((out / "usr/lib").stat().st_mode) == 0o750


def test_a_dangling_link_beneath_is_followed_to_a_new_directory(tmp_path: Path) -> None:
    lower, out = tmp_path / "lower", tmp_path / "out"
    put(lower, symlink(b"lib", b"not/there"))
    put(out, file(b"lib/x"), below=[lower])
    assert names(out) == ["not", "not/there", "not/there/x"]


def test_what_hides_a_link_beneath_is_respected(tmp_path: Path) -> None:
    bottom = tmp_path / "bottom"
    put(bottom, directory(b"a"), symlink(b"a/l", b"/elsewhere"), symlink(b"l", b"elsewhere"))
    tops: dict[str, list[Entry]] = {
        "whiteout": [whiteout(b"a/l")],
        "opaque": [directory(b"a"), opaque(b"a")],
        "file": [file(b"a")],
        "made anew": [whiteout(b"a"), directory(b"a")],
        "directory": [directory(b"a"), directory(b"a/l")],
    }
    for name, entries in tops.items():
        top, out = tmp_path / name, tmp_path / f"{name} out"
        put(top, *entries, below=[bottom])
        put(out, file(b"a/l/x"), below=[top, bottom])
        assert names(out) == ["a", "a/l", "a/l/x"], name


def test_what_the_layer_itself_hides_is_respected(tmp_path: Path) -> None:
    bottom = tmp_path / "bottom"
    put(bottom, directory(b"a", 0o700), symlink(b"a/l", b"/elsewhere"))
    for number, hidden in enumerate(
        [
            [directory(b"a"), opaque(b"a")],
            [whiteout(b"a")],
            [whiteout(b"a/l")],
            [opaque(b"")],
        ]
    ):
        out = tmp_path / str(number)
        put(out, *hidden, file(b"a/l/x"), below=[bottom])
        assert (out / "a/l/x").is_file()
        assert not (out / "elsewhere").exists()


def test_a_link_of_the_layer_itself_comes_first(tmp_path: Path) -> None:
    lower, out = tmp_path / "lower", tmp_path / "out"
    put(lower, directory(b"d"), directory(b"l"))
    put(out, symlink(b"l", b"d"), file(b"l/x"), below=[lower])
    assert names(out) == ["d", "d/x", "l"]


def test_an_entry_ends_the_following_of_a_link_beneath(tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    put(lower, directory(b"real"), directory(b"other"), symlink(b"l", b"real"))
    replacing: dict[str, tuple[Entry, list[str]]] = {
        "directory": (directory(b"l"), ["l", "l/two", "real", "real/one"]),
        "link": (symlink(b"l", b"other"), ["l", "other", "other/two", "real", "real/one"]),
    }
    for name, (entry, expected) in replacing.items():
        put(tmp_path / name, file(b"l/one"), entry, file(b"l/two"), below=[lower])
        assert names(tmp_path / name) == expected


def test_a_file_beneath_gives_way_to_a_directory(tmp_path: Path) -> None:
    lower, out = tmp_path / "lower", tmp_path / "out"
    put(lower, file(b"a"))
    put(out, file(b"a/x"), below=[lower])
    assert names(out) == ["a", "a/x"]


def test_a_hard_link_to_a_file_beneath_copies_it(tmp_path: Path) -> None:
    bottom, top, out = tmp_path / "bottom", tmp_path / "top", tmp_path / "out"
    data = os.urandom(100_000)
    tool = file(b"usr/bin/tool", data, 0o4711)
    tool.xattrs = {b"user.kept": b"1"}
    put(bottom, directory(b"usr", 0o711), tool, symlink(b"usr/bin/alias", b"tool"))
    put(top, symlink(b"bin", b"usr/bin"))
    put(
        out,
        *(hardlink(b"new/one", b"bin/tool"), hardlink(b"new/two", b"usr/bin/tool")),
        hardlink(b"new/alias", b"usr/bin/alias"),
        below=[top, bottom],
    )
    copied = out / "usr/bin/tool"
    assert copied.read_bytes() == data
    assert stat.S_IMODE(copied.stat().st_mode) == 0o4711
    assert (copied.stat().st_mtime_ns, copied.stat().st_nlink) == (EPOCH + 5, 3)
    assert os.getxattr(copied, "user.kept") == b"1"
    assert copied.samefile(out / "new/one")
    assert copied.samefile(out / "new/two")
    assert (out / "new/alias").readlink() == Path("tool")
    assert stat.S_IMODE((out / "usr").stat().st_mode) == 0o711
    assert (bottom / "usr/bin/tool").stat().st_nlink == 1


def test_a_hard_link_to_what_is_hidden_beneath_is_an_error(tmp_path: Path) -> None:
    bottom, top = tmp_path / "bottom", tmp_path / "top"
    put(bottom, file(b"a/f"))
    put(top, whiteout(b"a/f"), below=[bottom])
    with pytest.raises(ContentError, match="which is not there"):
        put(tmp_path / "one", hardlink(b"x", b"a/f"), below=[top, bottom])
    with pytest.raises(ContentError, match="which is not there"):
        put(tmp_path / "two", directory(b"a"), opaque(b"a"), hardlink(b"x", b"a/f"), below=[bottom])


def test_the_layers_beneath_are_asked_for_only_when_needed(tmp_path: Path) -> None:
    """They may still be unpacking: asking waits for them."""

    def never() -> Sequence[Path]:
        raise AssertionError

    entries = [
        *(directory(b"a"), file(b"a/f"), symlink(b"l", b"a"), file(b"l/g")),
        *(opaque(b"a"), hardlink(b"a/h", b"a/f"), file(b"top")),
    ]
    data = b"".join(tar_stream(entries))
    unpack(io.BytesIO(data), tmp_path, whiteouts=OVERLAY, below=never)


# Onto the layers beneath


def test_whiteouts_delete_when_applied(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(
        out, file(b"a/gone"), file(b"a/kept"), file(b"dir/sub/x"), file(b"o/x"), symlink(b"l", b"o")
    )
    put(
        out,
        *(whiteout(b"a/gone"), whiteout(b"dir"), whiteout(b"l"), whiteout(b"never/was")),
        *(opaque(b"o"), file(b"o/new")),
        whiteouts=Whiteouts.APPLY,
    )
    assert names(out) == ["a", "a/kept", "o", "o/new"]


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_applied_whiteouts_spare_what_their_own_layer_adds(first: bool, tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, file(b"file", b"old"), file(b"dir/old"), file(b"dir/sub/old"), file(b"o/sub/old"))
    marked = [whiteout(b"file"), whiteout(b"dir"), opaque(b"o")]
    added = [file(b"file", b"new"), file(b"dir/sub/new"), file(b"o/sub/new")]
    put(out, *(marked + added if first else added + marked), whiteouts=Whiteouts.APPLY)
    assert names(out) == ["dir", "dir/sub", "dir/sub/new", "file", "o", "o/sub", "o/sub/new"]
    assert (out / "file").read_bytes() == b"new"


def test_applied_entries_replace_what_is_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(
        out,
        *(file(b"f/x"), file(b"d", b"old"), symlink(b"l", b"f"), directory(b"m", 0o700)),
        *(file(b"m/kept"), file(b"h", b"old"), hardlink(b"h2", b"h"), directory(b"ld")),
    )
    put(
        out,
        *(file(b"f", b"new"), directory(b"d"), file(b"d/x"), directory(b"l"), file(b"l/x")),
        *(directory(b"m", 0o711), file(b"h", b"new"), symlink(b"ld", b"m"), file(b"ld/through")),
        whiteouts=Whiteouts.APPLY,
    )
    assert names(out) == [
        *("d", "d/x", "f", "h", "h2", "l", "l/x", "ld", "m", "m/kept", "m/through"),
    ]
    assert (out / "h2").read_bytes() == b"old"
    assert stat.S_IMODE((out / "m").stat().st_mode) == 0o711


def test_applied_files_do_not_inherit_a_group(tmp_path: Path) -> None:
    out = tmp_path / "out"
    groups = [group for group in os.getgroups() if group != os.getegid()]
    if os.geteuid() != 0 and not groups:
        pytest.skip("needs root or a second group")
    out.mkdir()
    os.chown(out, -1, groups[0] if groups else 12345)
    out.chmod(0o2777)
    put(out, file(b"f"), symlink(b"l", b"f"), directory(b"d"), whiteouts=Whiteouts.APPLY)
    put(out / "own", file(b"f"))
    for name in ("f", "l", "d", "own/f"):
        assert (out / name).lstat().st_gid == os.getegid()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_the_owner_is_set_where_the_directory_has_another(tmp_path: Path) -> None:
    """Some mounts give every new file an owner of their own."""
    out = tmp_path / "out"
    out.mkdir()
    os.chown(out, 12345, os.getegid())
    put(out, file(b"f"), directory(b"d"))
    for path in (out, out / "f", out / "d"):
        assert path.stat().st_uid == os.geteuid()


# Both ways agree

_names = st.sampled_from([b"a", b"b", b"a/a", b"a/b", b"b/a", b"a/a/a", b"a/b/a", b"b/a/b"])
_entry = st.one_of(
    st.builds(file, _names, st.sampled_from([b"", b"one", b"two"])),
    st.builds(directory, _names, st.sampled_from([0o700, 0o755])),
    st.builds(symlink, _names, st.sampled_from([b"a", b"/b", b"../b", b"a/b"])),
    st.builds(whiteout, _names),
    st.builds(opaque, st.sampled_from([b"", b"a", b"a/a", b"b"])),
)
Tree = dict[bytes, tuple[str, object]]


def applied_tree(top: Path) -> Tree:
    found: Tree = {}
    for path in top.rglob("*"):
        found[os.fsencode(path.relative_to(top))] = _shown(path)
    return found


def merged_tree(layers: Sequence[Path]) -> Tree:
    """Return what overlayfs would show; *layers* are topmost first."""
    beneath = Beneath(lambda: layers, OVERLAY)
    found: Tree = {}
    waiting = [b""]
    while waiting:
        where = waiting.pop()
        at = [layer / os.fsdecode(where) for layer in layers]
        seen = {os.fsencode(name) for path in at if path.is_dir() for name in os.listdir(path)}
        for name in seen:
            real = where + b"/" + name if where else name
            there = beneath.find(real)
            if there is None:
                continue
            path = Path(os.fsdecode(there.host_path))
            found[real] = _shown(path)
            if stat.S_ISDIR(there.status.st_mode):
                waiting.append(real)
    return found


def _shown(path: Path) -> tuple[str, object]:
    if path.is_symlink():
        return ("link", path.readlink())
    if path.is_dir():
        return ("directory", stat.S_IMODE(path.stat().st_mode))
    return ("file", path.read_bytes())


def _only_one_each(entries: list[Entry]) -> list[Entry]:
    """Leave out what no writer makes: two entries for one name that contradict each other."""
    kept: dict[bytes, Entry] = {}
    for entry in entries:
        if entry.kind is not Kind.OPAQUE and entry.kind is not Kind.WHITEOUT:
            parents = entry.name.split(b"/")
            above = [b"/".join(parents[:n]) for n in range(1, len(parents))]
            if any(name in kept and kept[name].kind is Kind.FILE for name in above):
                continue
            kept.setdefault(entry.name, entry)
        elif entry.kind is Kind.OPAQUE:
            kept.setdefault(entry.name + b"/opaque", entry)
        else:
            kept.setdefault(entry.name + b"/whiteout", entry)
    return [entry for entry in entries if any(entry is each for each in kept.values())]


_layers = st.lists(st.lists(_entry, max_size=7).map(_only_one_each), min_size=1, max_size=4)


@given(_layers)
@example([[file(b"a/a")], [whiteout(b"a/a"), whiteout(b"a")]])
@example([[file(b"b/a/b")], [whiteout(b"b/a/b"), opaque(b"b")]])
@example([[file(b"b/a/b")], [whiteout(b"b/a/b"), file(b"b/b"), file(b"b/c/d"), whiteout(b"b")]])
@example([[file(b"a/b"), symlink(b"b", b"a")], [file(b"a"), file(b"b/a/b")]])
@example(
    [[symlink(b"a/a", b"/b")], [opaque(b"a/a"), directory(b"a"), whiteout(b"a"), file(b"a/a/a")]]
)
@example([[symlink(b"a", b"b")], [file(b"a/one"), whiteout(b"a"), file(b"a/two")]])
@example([[file(b"a/a"), whiteout(b"a/b"), symlink(b"a", b"a")]])
@example([[file(b"x")], [symlink(b"a", b"b"), file(b"a/x"), file(b"a"), file(b"a/x")]])
@settings(max_examples=150, deadline=None)
def test_applying_and_stacking_give_the_same_tree(
    tmp_path_factory: pytest.TempPathFactory, layers: list[list[Entry]]
) -> None:
    top = tmp_path_factory.mktemp("layers")
    stacked: list[Path] = []
    for number, entries in enumerate(layers):
        results = []
        for into, mode in ((top / "applied", Whiteouts.APPLY), (top / str(number), OVERLAY)):
            try:
                put(into, *entries, whiteouts=mode, below=stacked)
                results.append("")
            except ContentError as error:
                results.append(str(error))
        assert results[0] == results[1]
        if results[0]:
            return
        stacked.insert(0, top / str(number))
        assert merged_tree(stacked) == applied_tree(top / "applied")
    shutil.rmtree(top)
