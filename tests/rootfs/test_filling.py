"""Entries that become files directly: the same tree, and the same refusals, as through a tar."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from errno import EINVAL
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kaniko_core.errors import ContentError, DiskError, KanikoError, UnsafeEntry
from kaniko_core.oci.archive import Entry, Kind, tar_stream
from kaniko_core.rootfs import filling
from kaniko_core.rootfs.filling import unpack_entries
from kaniko_core.rootfs.ignore import IgnoreRules
from kaniko_core.rootfs.tree import extended_attributes
from kaniko_core.rootfs.unpack import Unpacked, Whiteouts, unpack

OWNER = (os.geteuid(), os.getegid())
EPOCH = 1_600_000_000 * 10**9
OVERLAY = Whiteouts.OVERLAY_USER  # its marks take no root
LARGE = filling._AT_ONCE + 1  # bytes: what the kernel copies by itself

Way = Callable[..., Unpacked]


def _nothing() -> None: ...


def directly(entries: Sequence[Entry], into: Path, **options: object) -> Unpacked:
    return unpack_entries(entries, into, check=_nothing, **options)  # type: ignore[arg-type]


def through_a_tar(entries: Sequence[Entry], into: Path, **options: object) -> Unpacked:
    tar = _Late(tar_stream(entries))
    return unpack(cast(BinaryIO, io.BufferedReader(tar)), into, **options)  # type: ignore[arg-type]


def in_turn(calls: Iterator[Callable[[], object]]) -> Callable[[], None]:
    def check() -> None:
        next(calls)()

    return check


class _Late(io.RawIOBase):
    """A tar that is made when it is read: files are read while others are written."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        self._rest = self._rest or next(self._chunks, b"")
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def copied(path: Path, name: bytes = b"f", mode: int = 0o644) -> Entry:
    """Return the entry of a file of this host."""
    size = path.lstat().st_size
    content = os.fsencode(path) if size else None
    return Entry(name, Kind.FILE, mode, *OWNER, size=size, mtime_ns=EPOCH + 5, content=content)


def streamed(name: bytes, data: bytes) -> Entry:
    content = (lambda: io.BytesIO(data)) if data else None
    return Entry(name, Kind.FILE, 0o640, *OWNER, size=len(data), mtime_ns=EPOCH, content=content)


def shown(top: Path) -> dict[str, tuple[object, ...]]:
    """Return all that is in a tree, but for inodes: links are told by the first of their names."""
    found: dict[str, tuple[object, ...]] = {}
    first: dict[int, str] = {}
    for path in [top, *sorted(top.rglob("*"))]:
        name, status = str(path.relative_to(top)), path.lstat()
        # The time of whiteouts, and of directories that no entry speaks of, is that of the test.
        named = status.st_mtime_ns < EPOCH + 10**9
        found[name] = (
            status.st_mode,
            (status.st_uid, status.st_gid),
            status.st_size if stat.S_ISREG(status.st_mode) else 0,
            status.st_mtime_ns if named else None,
            status.st_rdev,
            first.setdefault(status.st_ino, name),
            sorted((key, os.getxattr(path, key, follow_symlinks=False)) for key in _keys(path)),
            _content(path, status),
        )
    return found


def _keys(path: Path) -> list[str]:
    return os.listxattr(path, follow_symlinks=False)


def _content(path: Path, status: os.stat_result) -> object:
    if stat.S_ISLNK(status.st_mode):
        return path.readlink()
    return path.read_bytes() if stat.S_ISREG(status.st_mode) else None


# The same as through a tar

_names = st.sampled_from([b"a", b"b", b"a/a", b"a/b", b"b/a", b"a/a/a", b"b/a/b", b"c" * 200])
_times = st.sampled_from([0, 1, EPOCH, EPOCH + 123_456_789, -1_500_000_000])
_xattrs = st.sampled_from([{}, {}, {b"user.one": b"1\n=\xff"}, {b"user.odd=%": b""}])
_owned = (st.just(OWNER[0]), st.just(OWNER[1]))
_contents = st.sampled_from([b"", b"x", b"y" * 513, b"z" * LARGE, bytes(LARGE) + b"end"])
_files = st.builds(
    lambda entry, data, time, xattrs, mode, on_disk: (
        replace(
            entry,
            size=len(data),
            mtime_ns=time,
            xattrs=xattrs,
            mode=mode,
            content=(lambda: io.BytesIO(data)) if data else None,
        ),
        data if on_disk else None,
    ),
    st.builds(Entry, _names, st.just(Kind.FILE), st.just(0), *_owned),
    _contents,
    _times,
    _xattrs,
    st.sampled_from([0o644, 0o600, 0o4755, 0o444]),
    st.booleans(),
)
_others = st.one_of(
    st.builds(
        Entry, _names, st.just(Kind.DIRECTORY), st.sampled_from([0o755, 0o2711]), *_owned,
        mtime_ns=_times, xattrs=_xattrs,
    ),
    st.builds(
        Entry, _names, st.just(Kind.SYMLINK), st.just(0o777), *_owned, mtime_ns=_times,
        link=st.sampled_from([b"a", b"/b", b"../b", b"d" * 200]),
    ),
    st.builds(Entry, _names, st.just(Kind.HARDLINK), st.just(0o644), *_owned, link=_names),
    st.builds(Entry, _names, st.just(Kind.FIFO), st.just(0o620), *_owned, mtime_ns=_times),
    st.builds(Entry, _names, st.just(Kind.WHITEOUT)),
    st.builds(Entry, st.sampled_from([b"", b"a", b"b"]), st.just(Kind.OPAQUE)),
)  # fmt: skip
_trees = st.lists(st.one_of(_files, _others.map(lambda entry: (entry, None))), max_size=9)


@given(_trees, st.sampled_from([OVERLAY, Whiteouts.APPLY]), st.sampled_from([0, 0o22, 0o77]))
@example([(Entry(b".wh.a", Kind.FILE, 0o644, *OWNER), None)], OVERLAY, 0)
@example([(Entry(b"./a//b", Kind.FILE, 0o644, *OWNER), None)], OVERLAY, 0)
@example([(Entry(b"a/../../b", Kind.FILE, 0o644, *OWNER), None)], OVERLAY, 0)
@example([(Entry(b"a/" * 2047 + b"bcd", Kind.FILE, 0o644, *OWNER), None)], OVERLAY, 0)
@settings(max_examples=100, deadline=None)
def test_tree_is_that_of_the_tar(
    items: list[tuple[Entry, bytes | None]], whiteouts: Whiteouts, umask: int
) -> None:
    with tempfile.TemporaryDirectory() as made:
        top = Path(made)
        entries = [_on_disk(entry, data, top) for entry, data in items]
        below = top / "below"
        directly(
            [streamed(b"a/b", b"below"), streamed(b"b", b"below")], _new(below), whiteouts=OVERLAY
        )
        results: list[object] = []
        old = os.umask(umask)
        try:
            for way in (through_a_tar, directly):
                into = top / "out"
                _new(into)
                if whiteouts is Whiteouts.APPLY:
                    way([streamed(b"a/b", b"there")], into, whiteouts=whiteouts)
                try:
                    done = way(entries, into, whiteouts=whiteouts, below=lambda: [below])
                    results.append((done, shown(into)))
                except KanikoError as error:
                    results.append((type(error), str(error), error.hint))
                _clear(into)
        finally:
            os.umask(old)
        assert results[0] == results[1]


def _new(path: Path) -> Path:
    path.mkdir()
    return path


def _on_disk(entry: Entry, data: bytes | None, top: Path) -> Entry:
    if not data:
        return entry
    path = Path(tempfile.mkstemp(dir=top)[1])
    path.write_bytes(data)
    return replace(entry, content=os.fsencode(path))


def _clear(path: Path) -> None:
    for directory, _, _ in os.walk(path):
        Path(directory).chmod(0o700)
    shutil.rmtree(path)


def test_covered_places_are_those_of_the_tar(tmp_path: Path) -> None:
    entries = [streamed(b"run/secret", b"of the image"), streamed(b"file", b"1")]
    trees = []
    for way in (through_a_tar, directly):
        top = tmp_path / way.__name__
        (top / "root/run").mkdir(parents=True)
        (top / "root/run/theirs").write_text("theirs")
        rules = IgnoreRules(frozenset({b"run"}))
        options = {"covered": rules, "shadow": top / "shadow", "whiteouts": Whiteouts.APPLY}
        way(entries, top / "root", **options)
        trees.append({name: file[-1] for name, file in shown(top).items()})
    assert trees[0] == trees[1]
    assert trees[1]["shadow/run/secret"] == b"of the image"
    assert trees[1]["root/run/theirs"] == b"theirs"


# Files that are not what they were


@pytest.mark.parametrize("way", [through_a_tar, directly])
@pytest.mark.parametrize("size", [1, 511, LARGE - 1, LARGE, LARGE + 1, 3 * LARGE])
@pytest.mark.parametrize("by", [-1, 1])
def test_file_of_another_size_has_changed(way: Way, size: int, by: int, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * size)
    entry = copied(source)
    os.truncate(source, size + by)
    with pytest.raises(ContentError, match=r"^f changed while it was read$"):
        way([entry], _new(tmp_path / "out"), whiteouts=OVERLAY)


@pytest.mark.parametrize("size", [2, LARGE - 1, LARGE, LARGE + 1])
@pytest.mark.parametrize("by", [-1, 1])
def test_stream_of_another_size_has_changed(size: int, by: int, tmp_path: Path) -> None:
    entry = streamed(b"f", b"x" * size)
    entry.size += by
    with pytest.raises(ContentError, match="changed while it was read"):
        directly([entry], _new(tmp_path / "out"), whiteouts=OVERLAY)


def test_file_that_shrinks_while_it_is_copied_has_changed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * (20 << 20))
    calls = iter([_nothing] * 2 + [lambda: os.truncate(source, 1 << 20)] + [_nothing] * 9)
    with pytest.raises(ContentError, match="changed while it was read"):
        unpack_entries(
            [copied(source)],
            _new(tmp_path / "out"),
            whiteouts=OVERLAY,
            check=in_turn(calls),
        )


@pytest.mark.parametrize("size", [5, LARGE])
@pytest.mark.parametrize("what", ["gone", "link", "fifo", "directory"])
def test_what_is_no_file_any_more_is_refused_as_in_a_tar(
    what: str, size: int, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * size)
    entry = copied(source)
    source.rename(tmp_path / "old")
    match what:
        case "link":
            source.symlink_to("old")
        case "fifo":
            os.mkfifo(source)
        case "directory":
            source.mkdir()
    said = []
    for way in (through_a_tar, directly):
        with pytest.raises((DiskError, ContentError)) as caught:
            way([entry], _new(tmp_path / way.__name__), whiteouts=OVERLAY)
        said.append(str(caught.value))
    if what != "directory":  # large ones are told by their size, and not by reading them
        assert said[0] == said[1]


def test_names_that_lead_out_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeEntry):
        directly([streamed(b"../f", b"x")], _new(tmp_path / "out"), whiteouts=OVERLAY)
    assert not (tmp_path / "f").exists()


# How files are copied


def test_copies_are_files_of_their_own(tmp_path: Path) -> None:
    """A command may write to them; the build context must not notice."""
    for number, size in enumerate((3, LARGE)):
        source = tmp_path / f"source{number}"
        source.write_bytes(b"x" * size)
        out = _new(tmp_path / f"out{number}")
        directly([copied(source)], out, whiteouts=OVERLAY)
        (out / "f").write_bytes(b"changed")
        assert source.read_bytes() == b"x" * size


def test_holes_stay_holes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(64 << 20)
        file.seek(32 << 20)
        file.write(b"x" * 4096)
    if source.stat().st_blocks * 512 > 1 << 20:
        pytest.skip("the file system has no holes")
    directly([copied(source)], _new(tmp_path / "out"), whiteouts=OVERLAY)
    assert (tmp_path / "out/f").stat().st_blocks * 512 < 1 << 20
    assert (tmp_path / "out/f").read_bytes() == source.read_bytes()


def test_file_is_whole_on_file_systems_that_know_no_holes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seek = os.lseek

    def refuse(fd: int, position: int, how: int) -> int:
        if how in {os.SEEK_DATA, os.SEEK_HOLE}:
            raise OSError(EINVAL, os.strerror(EINVAL))
        return seek(fd, position, how)

    monkeypatch.setattr(os, "lseek", refuse)
    source = tmp_path / "source"
    source.write_bytes(os.urandom(LARGE * 3))
    directly([copied(source)], _new(tmp_path / "out"), whiteouts=OVERLAY)
    assert (tmp_path / "out/f").read_bytes() == source.read_bytes()


class _Drops(io.RawIOBase):
    """A stream that gives a little at a time."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    def read(self, size: int | None = -1) -> bytes:
        drop, self._data = self._data[:100], self._data[100:]
        return drop


def test_streams_may_give_a_little_at_a_time_and_are_closed(tmp_path: Path) -> None:
    data = os.urandom(12_345)
    stream = _Drops(data)
    entry = replace(streamed(b"f", data), content=lambda: cast(BinaryIO, stream))
    directly([entry], _new(tmp_path / "out"), whiteouts=OVERLAY)
    assert (tmp_path / "out/f").read_bytes() == data
    assert stream.closed


def test_unpacking_ends_in_the_middle_of_a_file(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(40 << 20))
    (tmp_path / "out").mkdir()

    def give_up() -> None:
        raise KanikoError("given up")

    calls = iter([_nothing, _nothing, _nothing, give_up])
    with pytest.raises(KanikoError, match="given up"):
        unpack_entries(
            [copied(source)],
            tmp_path / "out",
            whiteouts=OVERLAY,
            check=in_turn(calls),
        )


def test_entries_stay_as_they_are(tmp_path: Path) -> None:
    """The same ones are being packed at the same time."""
    entries = [streamed(b"./a//b", b"x"), Entry(b"h", Kind.HARDLINK, 0o644, *OWNER, link=b"a/b")]
    before = [replace(entry) for entry in entries]
    directly(entries, _new(tmp_path / "out"), whiteouts=OVERLAY)
    assert entries == before
    assert (tmp_path / "out/h").samefile(tmp_path / "out/a/b")
    assert not extended_attributes(os.fsencode(tmp_path / "out/h"))
