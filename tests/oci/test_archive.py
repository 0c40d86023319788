"""The tar dialect of layers, against other tars in both directions."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kaniko_core.errors import ContentError, DiskError, UnsafeEntry
from kaniko_core.oci.archive import CHUNK, Entry, Kind, read_entries, tar_stream
from kaniko_core.oci.tarheader import checksum

GNU_TAR = shutil.which("tar") or ""
needs_tar = pytest.mark.skipif(not GNU_TAR, reason="GNU tar is not installed")
SECOND = 10**9


def tar(*entries: Entry) -> bytes:
    return b"".join(tar_stream(entries))


def read(data: bytes) -> list[tuple[Entry, bytes]]:
    return [(entry, content.read()) for entry, content in read_entries(io.BytesIO(data))]


def only(data: bytes) -> Entry:
    ((entry, _),) = read(data)
    return entry


def file(name: bytes, data: bytes = b"", **fields: object) -> Entry:
    content = (lambda: io.BytesIO(data)) if data else None
    return Entry(name, Kind.FILE, 0o644, size=len(data), content=content, **fields)  # type: ignore[arg-type]


def made(
    members: Iterable[tuple[tarfile.TarInfo, bytes]], format_: int, **options: object
) -> bytes:
    """Return the tar that Python's tarfile makes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format_, **options) as archive:  # type: ignore[call-overload]
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def header(name: bytes = b"file", type_flag: bytes = b"0", **fields: bytes) -> bytes:
    """Return a ustar header by hand, for what no writer makes."""
    values = {
        "mode": b"0000644",
        "uid": b"0000000",
        "gid": b"0000000",
        "size": b"00000000000",
        "mtime": b"00000000000",
        "link": b"",
        "magic": b"ustar\x0000",
        "prefix": b"",
    } | fields
    block = struct.pack(
        "100s8s8s8s12s12s8sc100s8s64x16x155s12x",
        *(name, values["mode"], values["uid"], values["gid"], values["size"], values["mtime"]),
        *(b" " * 8, type_flag, values["link"], values["magic"], values["prefix"]),
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def device(major: bytes, minor: bytes) -> bytes:
    """Return the header of a device with these fields."""
    block = bytearray(header(type_flag=b"3"))
    block[148:156], block[329:345] = b" " * 8, struct.pack("8s8s", major, minor)
    return bytes(block[:148] + b"%06o\0 " % sum(block) + block[156:])


def pax(*records: tuple[bytes, bytes], type_flag: bytes = b"x") -> bytes:
    data = b""
    for key, value in records:
        rest = len(key) + len(value) + 3
        length = next(n for n in range(rest, rest + 9) if n == rest + len(str(n)))
        data += b"%d %b=%b\n" % (length, key, value)
    blocks = data + bytes(-len(data) % 512)
    return header(b"pax", type_flag, size=b"%011o" % len(data)) + blocks


# Round trips

_component = st.binary(min_size=1, max_size=120).filter(
    lambda part: (
        b"/" not in part
        and b"\0" not in part
        and part not in {b".", b".."}
        and not part.startswith(b".wh.")
    )
)
_names = st.lists(_component, min_size=1, max_size=4).map(b"/".join)
_ids = st.one_of(st.integers(0, 70_000), st.integers(0, 2**32 - 2))
_times = st.one_of(
    st.integers(0, 2**31).map(lambda seconds: seconds * SECOND),
    st.integers(-(10**18), 10**19),
)
_xattrs = st.dictionaries(
    st.sampled_from([b"user.a", b"security.capability", b"user.x=y%z", b"trusted.\xff"]),
    st.binary(max_size=300),
    max_size=3,
)


@st.composite
def entries(draw: st.DrawFn) -> tuple[Entry, bytes]:
    kind = draw(st.sampled_from(list(Kind)))
    name = draw(_names)
    entry = Entry(
        name, kind, draw(st.integers(0, 0o7777)), draw(_ids), draw(_ids), mtime_ns=draw(_times)
    )
    entry.xattrs = draw(_xattrs)
    data = b""
    if kind is Kind.FILE:
        data = draw(st.binary(max_size=2000))
        entry.size = len(data)
        entry.content = (lambda: io.BytesIO(data)) if data else None
    elif kind is Kind.HARDLINK:
        entry.link = draw(_names)
    elif kind is Kind.SYMLINK:
        entry.link = draw(st.binary(min_size=1, max_size=300).filter(lambda x: b"\0" not in x))
    elif kind in {Kind.CHARACTER, Kind.BLOCK}:
        entry.device = (draw(st.integers(0, 4095)), draw(st.integers(0, 2**20 - 1)))
    return entry, data


@given(st.lists(entries(), max_size=6))
def test_what_is_written_is_read_again(pairs: list[tuple[Entry, bytes]]) -> None:
    found = read(tar(*(entry for entry, _ in pairs)))
    for entry, _ in pairs:
        entry.content = None
    assert found == pairs


@given(st.lists(entries(), max_size=6))
def test_python_reads_what_is_written(pairs: list[tuple[Entry, bytes]]) -> None:
    kept = [pair for pair in pairs if pair[0].kind not in {Kind.WHITEOUT, Kind.OPAQUE}]
    data = tar(*(entry for entry, _ in kept))
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8") as archive:
        members = archive.getmembers()
        assert len(members) == len(kept)
        for member, (entry, content) in zip(members, kept, strict=True):
            assert member.type == entry.kind.value
            assert os.fsencode(member.name) == entry.name
            assert (member.uid, member.gid, member.mode) == (entry.uid, entry.gid, entry.mode)
            assert float(member.mtime) == pytest.approx(entry.mtime_ns / SECOND)
            if entry.kind in {Kind.SYMLINK, Kind.HARDLINK}:
                assert os.fsencode(member.linkname) == entry.link
            if entry.kind in {Kind.CHARACTER, Kind.BLOCK}:
                assert (member.devmajor, member.devminor) == entry.device
            if entry.kind is Kind.FILE:
                stream = archive.extractfile(member)
                assert stream is not None
                assert stream.read() == content


@needs_tar
def test_gnu_tar_reads_what_is_written(tmp_path: Path) -> None:
    long = b"/".join([b"d" * 90] * 4)
    entries = [
        Entry(b"dir", Kind.DIRECTORY, 0o750, mtime_ns=1_600_000_000 * SECOND),
        file(b"dir/plain", b"plain", mtime_ns=1_600_000_000_123_456_789),
        file(long + b"/file", b"long name"),
        file("größe/ß".encode(), b"not ascii"),
        file(b"latin-\xe9", b"not even utf-8"),
        Entry(b"link", Kind.SYMLINK, 0o777, link=b"t" * 200),
        Entry(b"hard", Kind.HARDLINK, 0o644, link=b"dir/plain"),
        Entry(b"pipe", Kind.FIFO, 0o600),
    ]
    (tmp_path / "a.tar").write_bytes(tar(*entries))
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run([GNU_TAR, "xf", tmp_path / "a.tar", "--no-same-owner"], cwd=root, check=True)
    plain = root / "dir/plain"
    assert plain.read_bytes() == b"plain"
    assert plain.stat().st_mtime_ns == 1_600_000_000_123_456_789
    assert plain.samefile(root / "hard")
    assert (root / os.fsdecode(long) / "file").read_bytes() == b"long name"
    assert (root / "größe/ß").read_bytes() == b"not ascii"
    assert (root / os.fsdecode(b"latin-\xe9")).read_bytes() == b"not even utf-8"
    assert (root / "link").readlink() == Path("t" * 200)
    assert (root / "pipe").is_fifo()


# Writing


def test_no_pax_header_where_ustar_is_enough() -> None:
    prefix = b"p" * 150 + b"/" + b"n" * 99
    for name in (b"n" * 100, prefix):
        assert len(tar(file(name, mtime_ns=SECOND))) == 512 + 1024
    directory = Entry(b"d" * 99, Kind.DIRECTORY, 0o755)
    assert len(tar(directory)) == 512 + 1024


@pytest.mark.parametrize(
    "entry",
    [
        file(b"n" * 101),
        file("ü".encode()),
        file(b"f", mtime_ns=1),
        file(b"f", mtime_ns=-SECOND),
        file(b"f", uid=2_097_152),
        file(b"f", gid=2_097_152),
        file(b"f", xattrs={b"user.a": b""}),
        Entry(b"l", Kind.SYMLINK, link=b"t" * 101),
    ],
)
def test_pax_header_where_one_is_needed(entry: Entry) -> None:
    data = tar(entry)
    assert data[156:157] == b"x"
    assert len(data) == 3 * 512 + 1024


def test_names_in_the_archive() -> None:
    entries = [
        Entry(b"", Kind.DIRECTORY, 0o755),
        Entry(b"a", Kind.DIRECTORY, 0o755),
        Entry(b"a", Kind.OPAQUE),
        Entry(b"", Kind.OPAQUE),
        Entry(b"a/gone", Kind.WHITEOUT),
    ]
    with tarfile.open(fileobj=io.BytesIO(tar(*entries))) as archive:
        found = [(member.name, member.type, member.mode) for member in archive.getmembers()]
    assert found == [
        (".", tarfile.DIRTYPE, 0o755),
        ("a", tarfile.DIRTYPE, 0o755),
        ("a/.wh..wh..opq", tarfile.REGTYPE, 0),
        (".wh..wh..opq", tarfile.REGTYPE, 0),
        ("a/.wh.gone", tarfile.REGTYPE, 0),
    ]


def test_same_entries_give_same_bytes_without_names_of_users() -> None:
    def once() -> bytes:
        return tar(file(b"f", b"data", xattrs={b"user.b": b"2", b"user.a": b"1"}, uid=0))

    assert once() == once()
    with tarfile.open(fileobj=io.BytesIO(once())) as archive:
        (member,) = archive.getmembers()
    assert (member.uname, member.gname) == ("", "")
    assert not {"atime", "ctime"} & set(member.pax_headers)


def test_sizes_beyond_ustar_get_a_record(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 1 << 34)
    chunks = tar_stream([Entry(b"f", Kind.FILE, size=1 << 34, content=os.fsencode(path))])
    stream = io.BytesIO(next(iter(chunks)))
    found = read_entries(stream)
    entry, content = next(found)
    assert entry.size == 1 << 34
    assert content.read(1000) == bytes(1000)


def test_xattrs_are_sorted() -> None:
    one = file(b"f", xattrs={b"user.b": b"2", b"user.a": b"1"})
    two = file(b"f", xattrs={b"user.a": b"1", b"user.b": b"2"})
    assert tar(one) == tar(two)


@pytest.mark.parametrize("size", [CHUNK - 512, CHUNK - 1024, CHUNK - 1536, CHUNK, 3 * CHUNK + 1])
def test_chunks_are_full_but_for_the_last(size: int, tmp_path: Path) -> None:
    data = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(data)
    for content in (os.fsencode(path), lambda: path.open("rb"), lambda: io.BytesIO(data)):
        entry = Entry(b"f", Kind.FILE, 0o644, size=size, content=content)
        chunks = list(tar_stream([entry, file(b"next", b"1")]))
        assert {len(chunk) for chunk in chunks[:-1]} <= {CHUNK}
        assert read(b"".join(chunks))[0][1] == data
        assert read(b"".join(chunks))[1][1] == b"1"


@given(st.lists(st.sampled_from([0, 1, 511, 512, 513, 8000, CHUNK // 3, CHUNK - 512]), max_size=9))
def test_small_files_are_written_as_all_others_are(sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        entries, by_path = [], []
        for number, size in enumerate(sizes):
            data = bytes([number + 1]) * size
            path = Path(directory, str(number))
            path.write_bytes(data)
            entries.append(file(b"%d" % number, data))
            content = os.fsencode(path) if size else None
            by_path.append(replace(entries[-1], content=content))
        assert list(tar_stream(by_path)) == list(tar_stream(entries))


def test_an_archive_may_end_with_a_full_chunk() -> None:
    (chunk,) = tar_stream([file(b"f", bytes(CHUNK - 512 - 1024))])
    assert len(chunk) == CHUNK


@pytest.mark.parametrize("before", [0, CHUNK - 1024])
def test_headers_may_be_larger_than_a_chunk(before: int) -> None:
    large = Entry(b"large", Kind.FILE, 0o644, xattrs={b"user.a": bytes(2 * CHUNK + 5)})
    archive = tar(file(b"first", bytes(before)), large, file(b"last"))
    with tarfile.open(fileobj=io.BytesIO(archive)) as read_again:
        assert read_again.getnames() == ["first", "large", "last"]


@pytest.mark.parametrize("promised", [1, 999, 1001, CHUNK - 512, 2 * CHUNK + 100])
def test_a_file_of_another_size_is_an_error(promised: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1000))
    for content in (os.fsencode(path), lambda: path.open("rb")):
        entry = Entry(b"app/log", Kind.FILE, size=promised, content=content)
        with pytest.raises(ContentError, match="app/log changed while it was read"):
            tar(entry)


def test_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    entry = Entry(b"app/log", Kind.FILE, size=1, content=os.fsencode(tmp_path / "gone"))
    with pytest.raises(DiskError, match="cannot read app/log"):
        tar(entry)


def test_content_is_closed_even_on_an_error() -> None:
    stream = io.BytesIO(b"123")
    with pytest.raises(ContentError):
        tar(Entry(b"f", Kind.FILE, size=2, content=lambda: stream))
    assert stream.closed


@pytest.mark.parametrize("kind", [Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK])
def test_a_name_that_would_mean_a_deletion_is_refused(kind: Kind) -> None:
    with pytest.raises(ContentError, match=r"app/\.wh\.name cannot be stored"):
        tar(Entry(b"app/.wh.name", kind, link=b"x" if kind is Kind.SYMLINK else b""))


# Reading other writers


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_every_format_of_python(format_: int) -> None:
    directory = tarfile.TarInfo("dir/")
    directory.type, directory.mode = tarfile.DIRTYPE, 0o1777
    plain = tarfile.TarInfo("dir/sub/" + "n" * 90)
    plain.uid, plain.gid, plain.mtime, plain.mode = 1000, 2000, 1_700_000_000, 0o4755
    link = tarfile.TarInfo("dir/link")
    link.type, link.linkname = tarfile.SYMTYPE, "../elsewhere"
    hard = tarfile.TarInfo("dir/hard")
    hard.type, hard.linkname = tarfile.LNKTYPE, "./dir/sub/" + "n" * 80
    device = tarfile.TarInfo("dev/null")
    device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 3
    data = made(
        [(directory, b""), (plain, b"data"), (link, b""), (hard, b""), (device, b"")], format_
    )
    found = read(data)
    assert [(e.name, e.kind) for e, _ in found] == [
        (b"dir", Kind.DIRECTORY),
        (b"dir/sub/" + b"n" * 90, Kind.FILE),
        (b"dir/link", Kind.SYMLINK),
        (b"dir/hard", Kind.HARDLINK),
        (b"dev/null", Kind.CHARACTER),
    ]
    entry, content = found[1]
    assert (entry.uid, entry.gid, entry.mode) == (1000, 2000, 0o4755)
    assert (entry.mtime_ns, content) == (1_700_000_000 * SECOND, b"data")
    assert found[2][0].link == b"../elsewhere"
    assert found[3][0].link == b"dir/sub/" + b"n" * 80
    assert found[4][0].device == (1, 3)


@pytest.mark.parametrize("format_", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_what_is_too_large_for_ustar(format_: int) -> None:
    info = tarfile.TarInfo("d/" * 200 + "file")
    info.uid, info.gid, info.mtime = 3_000_000, 4_000_000_000, 10**11
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "t" * 500
    first, second = (entry for entry, _ in read(made([(info, b"x"), (link, b"")], format_)))
    assert first.name == b"d/" * 200 + b"file"
    assert (first.uid, first.gid) == (3_000_000, 4_000_000_000)
    assert first.mtime_ns == 10**11 * SECOND
    assert (second.name, second.link) == (b"link", b"t" * 500)


def test_reads_names_that_are_split_in_two() -> None:
    name = b"p" * 120 + b"/" + b"n" * 90
    (entry,) = (
        e for e, _ in read(made([(tarfile.TarInfo(name.decode()), b"")], tarfile.USTAR_FORMAT))
    )
    assert entry.name == name


def test_reads_negative_base_256_times() -> None:
    field = (-5).to_bytes(12, "big", signed=True)
    assert only(header(mtime=field)).mtime_ns == -5 * SECOND


@pytest.mark.parametrize(
    ("value", "nanoseconds"),
    [
        (b"1700000000.25", 1_700_000_000_250_000_000),
        (b"1.000000001", SECOND + 1),
        (b"1.0000000019", SECOND + 1),
        (b"-1.5", -1_500_000_000),
        (b"7", 7 * SECOND),
        (b"7.", 7 * SECOND),
    ],
)
def test_reads_pax_times(value: bytes, nanoseconds: int) -> None:
    assert only(pax((b"mtime", value)) + header()).mtime_ns == nanoseconds


def test_global_headers_hold_until_they_are_replaced() -> None:
    data = (
        pax((b"uid", b"7"), (b"mtime", b"5"), type_flag=b"g")
        + header(b"one")
        + pax((b"uid", b"8"))
        + header(b"two")
        + header(b"three")
        + pax((b"uid", b""))
        + header(b"four", uid=b"0000011")
    )
    found = [entry for entry, _ in read(data)]
    assert [entry.uid for entry in found] == [7, 8, 7, 9]
    assert {entry.mtime_ns for entry in found} == {5 * SECOND}


def test_global_headers_are_bounded_together() -> None:
    headers = [
        pax((b"key%d" % number, bytes(600_000)), type_flag=b"g") + header() for number in (1, 2)
    ]
    read(headers[0] * 9)
    with pytest.raises(ContentError, match="has global headers of 12000"):
        read(b"".join(headers))


def test_v7_headers_have_no_prefix_and_directories_end_with_a_slash() -> None:
    data = header(b"dir/", b"\0", magic=bytes(8), prefix=b"junk") + header(
        b"dir/file", b"\0", magic=bytes(8), mode=b" 644 \0", size=b"          3 "
    )
    found = read(data + b"abc".ljust(512, b"\0"))
    assert [(e.name, e.kind, e.mode, data) for e, data in found] == [
        (b"dir", Kind.DIRECTORY, 0o644, b""),
        (b"dir/file", Kind.FILE, 0o644, b"abc"),
    ]


def test_reads_both_kinds_of_xattrs() -> None:
    data = pax(
        (b"SCHILY.xattr.user.bin", b"\0=\n\xff"),
        (b"SCHILY.xattr.user.empty", b""),
        (b"LIBARCHIVE.xattr.user.b%3Dc", b"aGVsbG8"),
        (b"LIBARCHIVE.xattr.user.bin", b"aGVsbG8"),
    )
    assert only(data + header()).xattrs == {
        b"user.bin": b"\0=\n\xff",
        b"user.empty": b"",
        b"user.b=c": b"hello",
    }


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"5", b"6"])
def test_only_files_have_data(kind: bytes) -> None:
    data = header(b"first", kind, size=b"00000001000", link=b"to") + header(b"second")
    assert [entry.name for entry, _ in read(data)] == [b"first", b"second"]


def test_volume_labels_are_skipped() -> None:
    data = header(b"label", b"V") + header(b"file")
    assert only(data).name == b"file"


@needs_tar
@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--format=posix", "--sparse-version=0.0"],
        ["--format=posix", "--sparse-version=0.1"],
        ["--format=posix", "--sparse-version=1.0"],
    ],
    ids=["gnu", "0.0", "0.1", "1.0"],
)
def test_reads_sparse_files_of_gnu_tar(options: list[str], tmp_path: Path) -> None:
    holes = tmp_path / "sparse"
    with holes.open("wb") as stream:
        for number in range(40):  # more segments than a header has room for
            stream.seek(number * 100_000)
            stream.write(b"segment %d" % number)
        stream.truncate(5_000_000)
    (tmp_path / "empty").touch()
    os.truncate(tmp_path / "empty", 300_000)
    (tmp_path / "after").write_bytes(b"after")
    command = [GNU_TAR, "-S", *options, "-cf", "a.tar", "sparse", "empty", "after"]
    subprocess.run(command, cwd=tmp_path, check=True)
    packed = (tmp_path / "a.tar").read_bytes()
    assert len(packed) < 1_000_000, "GNU tar saw no holes"
    found = read(packed)
    assert [(entry.name, entry.size) for entry, _ in found] == [
        (b"sparse", 5_000_000),
        (b"empty", 300_000),
        (b"after", 5),
    ]
    for entry, content in found:
        assert content == (tmp_path / os.fsdecode(entry.name)).read_bytes()


@needs_tar
@pytest.mark.parametrize("format_", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_reads_every_format_of_gnu_tar(format_: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/file").write_bytes(b"data")
    os.utime(tree / "sub/file", ns=(0, 1_600_000_000_123_456_789))
    (tree / "sub/link").symlink_to("file")
    os.link(tree / "sub/file", tree / "sub/hard")
    command = [GNU_TAR, f"--format={format_}", "--sort=name", "-C", tree, "-cf", "-", "."]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    found = {entry.name: (entry, content) for entry, content in read(data)}
    assert set(found) == {b"", b"sub", b"sub/file", b"sub/hard", b"sub/link"}
    assert {found[b"sub/file"][0].kind, found[b"sub/hard"][0].kind} == {Kind.FILE, Kind.HARDLINK}
    assert found[b"sub/link"][0].link == b"file"
    assert b"data" in {found[b"sub/file"][1], found[b"sub/hard"][1]}
    if format_ == "posix":
        times = {found[name][0].mtime_ns for name in (b"sub/file", b"sub/hard")}
        assert 1_600_000_000_123_456_789 in times


# Streams


def test_content_may_be_left_unread() -> None:
    data = tar(file(b"a", bytes(5000)), file(b"b", b"b"))
    names = []
    for entry, content in read_entries(io.BytesIO(data)):
        content.read(10)
        names.append(entry.name)
    assert names == [b"a", b"b"]


def test_content_is_closed_with_the_next_entry() -> None:
    streams = [
        content for _, content in read_entries(io.BytesIO(tar(file(b"a", b"1"), file(b"b"))))
    ]
    with pytest.raises(ValueError, match="closed"):
        streams[0].read()


class _Trickle(io.RawIOBase):
    """A stream whose reads are short."""

    def __init__(self, data: bytes, most: int) -> None:
        super().__init__()
        self._source = io.BytesIO(data)
        self._most = most
        self.ended = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(min(size, self._most))
        self.ended = self.ended or not data
        return data


@pytest.mark.parametrize("most", [1, 7, 511, 513, 4096])
def test_short_reads_are_fine_and_the_end_is_reached(most: int) -> None:
    data = tar(file(b"a" * 200, b"x" * 1500), file(b"b", b"y"))
    stream = _Trickle(data + bytes(9000), most)
    contents = [content.read() for _, content in read_entries(stream)]  # type: ignore[arg-type]
    assert contents == [b"x" * 1500, b"y"]
    assert stream.ended


def test_an_empty_stream_is_an_empty_archive() -> None:
    assert read(b"") == []


@pytest.mark.parametrize("zeros", [0, 1, 511, 512, 513, 1024])
def test_the_end_marker_may_be_missing(zeros: int) -> None:
    data = tar(file(b"a", b"data"))[:-1024]
    assert len(read(data + bytes(zeros))) == 1


# Damage


def test_every_truncation_is_noticed() -> None:
    data = tar(file(b"n" * 150, b"x" * 700), Entry(b"l", Kind.SYMLINK, link=b"t" * 150))[:-1024]
    starts = {0}  # where an entry begins: there, nothing is missing
    starts.add(512 + 512 + 512 + 1024)
    for length in range(0, len(data), 37):
        if length not in starts:
            with pytest.raises(ContentError):
                read(data[:length])


def test_a_wrong_checksum_is_noticed() -> None:
    for position in (0, 100, 124, 156, 300, 511):
        data = bytearray(tar(file(b"name", b"data")))
        data[position] ^= 0x04
        with pytest.raises(ContentError, match="damaged"):
            read(bytes(data))


@given(st.binary(min_size=512, max_size=512))
@example(b"\xff" * 512)  # more than Adler-32 can count at once
@example(b"\x7f" * 512)
@example(b"\x7f" * 511 + b"\x80")
def test_checksums_are_sums(block: bytes) -> None:
    assert checksum(block) == sum(block[:148]) + 8 * 0x20 + sum(block[156:])


def test_more_owners_than_are_remembered() -> None:
    count = 3000
    data = tar(*(replace(file(b"%d" % n), uid=n, mode=n & 0o777) for n in range(count)))
    owners = [(entry.uid, entry.mode) for entry, _ in read(data)]
    assert owners == [(n, n & 0o777) for n in range(count)]


def test_signed_checksums_of_old_tars_are_accepted() -> None:
    block = bytearray(header("ö".encode()))
    block[148:156] = b" " * 8
    signed = sum(byte - 256 if byte > 127 else byte for byte in block)
    block[148:156] = b"%06o\0 " % signed
    assert only(bytes(block)).name == "ö".encode()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"not a tar at all, but long enough" * 20, id="text"),
        pytest.param(header(size=b"garbage"), id="size"),
        pytest.param(header(size=(-1).to_bytes(12, "big", signed=True)), id="negative size"),
        pytest.param(header(uid=(-1).to_bytes(8, "big", signed=True)), id="uid -1"),
        pytest.param(header(mtime=b"\x80" + b"\xff" * 11), id="time"),
        pytest.param(header(type_flag=b"Q"), id="type"),
        pytest.param(header(b".", b"0"), id="no name"),
        pytest.param(header(b""), id="empty name"),
        pytest.param(header(type_flag=b"2"), id="symlink to nothing"),
        pytest.param(header(type_flag=b"1"), id="hard link to nothing"),
        pytest.param(header(b"x", b"x", size=b"00000000005") + b"hello".ljust(512), id="record"),
        pytest.param(pax((b"path", b"a\0b")) + header(), id="NUL"),
        pytest.param(pax((b"path", b"a/" * 3000)) + header(), id="too long"),
        pytest.param(pax((b"size", b"12x")) + header(), id="pax size"),
        pytest.param(pax((b"mtime", b"soon")) + header(), id="pax time"),
        pytest.param(pax((b"mtime", b"9" * 18)) + header(), id="pax far time"),
        pytest.param(pax((b"uid", b"4294967295")) + header(), id="pax uid -1"),
        pytest.param(pax((b"path", b"lost")), id="nothing after the pax header"),
        pytest.param(header(type_flag=b"x", size=b"77777777777"), id="huge pax header"),
        pytest.param(header(type_flag=b"L", size=b"77777777777"), id="huge long name"),
        pytest.param(pax((b"LIBARCHIVE.xattr.user.a", b"=a")) + header(), id="base64"),
        pytest.param(pax((b"SCHILY.xattr.user.a\0b", b"1")) + header(), id="xattr"),
        pytest.param(pax((b"LIBARCHIVE.xattr.user.a%00b", b"")) + header(), id="quoted xattr"),
        pytest.param(device(b"\x80\0\1" + bytes(5), b"0000003"), id="major"),
        pytest.param(device(b"0000001", b"\xff" * 8), id="minor -1"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(data: bytes) -> None:
    with pytest.raises(ContentError):
        read(data)


@pytest.mark.parametrize(
    "sparse",
    [
        ((b"GNU.sparse.size", b"100"), (b"GNU.sparse.map", b"0,200")),
        ((b"GNU.sparse.size", b"900"), (b"GNU.sparse.map", b"0,512,100,1")),
        ((b"GNU.sparse.size", b"900"), (b"GNU.sparse.map", b"0,512,600")),
        ((b"GNU.sparse.size", b"900"), (b"GNU.sparse.map", b"0,-512")),
        ((b"GNU.sparse.map", b"0,512"),),
        ((b"GNU.sparse.major", b"2"), (b"GNU.sparse.minor", b"0")),
        ((b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"5")),
        ((b"GNU.sparse.size", b"5"), (b"GNU.sparse.map", b"1")),
        ((b"GNU.sparse.size", b"99999999999999999999"), (b"GNU.sparse.map", b"0,512")),
    ],
)
def test_impossible_maps_of_sparse_files_are_refused(
    sparse: tuple[tuple[bytes, bytes], ...],
) -> None:
    data = pax(*sparse) + header(size=b"00000001000") + b"x" * 512
    with pytest.raises(ContentError):
        read(data)


def test_maps_of_sparse_files_are_bounded() -> None:
    """A hostile map must not fill the memory."""
    records = pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"5"))
    endless = b"9999999999\n".ljust(512, b"1") + b"\n" * (2 << 20)
    with pytest.raises(ContentError, match="too large a map"):
        read(records + header(size=b"%011o" % len(endless)) + endless)


def old_sparse(more: bool) -> bytes:
    """Return the header of GNU's first sparse format, with a full map."""
    block = bytearray(header(type_flag=b"S", magic=b"ustar  \0"))
    block[386:482] = b"".join(b"%011o\0%011o\0" % (n, 0) for n in range(4))
    block[482], block[483:495] = more, b"%011o\0" % 1000
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_blocks_of_old_sparse_maps_are_bounded() -> None:
    block = b"".join(b"%011o\0%011o\0" % (n, 0) for n in range(21)) + b"\1" + bytes(7)
    assert only(old_sparse(more=False)).size == 1000
    with pytest.raises(ContentError, match="middle of an entry"):
        read(old_sparse(more=True) + block[:100])
    with pytest.raises(ContentError, match="too large a map"):
        read(old_sparse(more=True) + block * 5000)


@given(st.binary(max_size=1600))
def test_no_bytes_make_the_reader_fail_otherwise(junk: bytes) -> None:
    """Whatever comes, it is entries or a ContentError."""
    good = tar(file(b"a" * 120, b"data", xattrs={b"user.a": b"1"}))
    for data in (junk, good[:512] + junk, good[:1024] + header(size=b"00000000777") + junk):
        try:
            read(data)
        except ContentError:
            continue


@given(st.integers(0, 2000), st.integers(0, 255))
def test_no_changed_byte_makes_the_reader_fail_otherwise(position: int, value: int) -> None:
    data = bytearray(tar(file(b"a" * 120, b"data", mtime_ns=5, uid=3_000_000)))
    data[position] = value
    try:
        read(bytes(data))
    except ContentError:
        return


# Hostile names


@pytest.mark.parametrize(
    "name", [b"..", b"../x", b"/../x", b"a/../../x", b"a/..", b"./../x", b"a/../b", b"x/./../.."]
)
def test_names_that_climb_are_refused(name: bytes) -> None:
    for data in (
        header(name),
        header(name, b"5"),
        header(b"safe", b"1", link=name),
        pax((b"path", name)) + header(),
    ):
        with pytest.raises(UnsafeEntry):
            read(data)


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        (b"/etc/passwd", b"etc/passwd"),
        (b"//etc//passwd", b"etc/passwd"),
        (b"./etc/./passwd", b"etc/passwd"),
        (b"././@x", b"@x"),
        (b"...", b"..."),
        (b"a/..b/c..", b"a/..b/c.."),
        (b".hidden", b".hidden"),
    ],
)
def test_names_are_taken_relative_to_the_root(stored: bytes, name: bytes) -> None:
    assert only(header(stored)).name == name
    assert only(header(b"x", b"1", link=stored)).link == name


@pytest.mark.parametrize("stored", [b"./", b"/", b"."])
def test_the_root_itself_has_no_name(stored: bytes) -> None:
    entry = only(header(stored, b"5"))
    assert (entry.name, entry.kind) == (b"", Kind.DIRECTORY)


@pytest.mark.parametrize(
    ("stored", "name", "kind"),
    [
        (b".wh.file", b"file", Kind.WHITEOUT),
        (b"a/b/.wh.file", b"a/b/file", Kind.WHITEOUT),
        (b"a/.wh..wh..opq", b"a", Kind.OPAQUE),
        (b".wh..wh..opq", b"", Kind.OPAQUE),
        (b"a/.wh..wh.b", b"a/.wh.b", Kind.WHITEOUT),
    ],
)
def test_whiteouts_are_recognised(stored: bytes, name: bytes, kind: Kind) -> None:
    entry = only(header(stored))
    assert (entry.name, entry.kind, entry.size) == (name, kind, 0)


@pytest.mark.parametrize("name", [b"x.wh.y", b"a/.wh.b/c", b".who"])
def test_other_names_are_no_whiteouts(name: bytes) -> None:
    entry = only(header(name))
    assert (entry.name, entry.kind) == (name, Kind.FILE)


@pytest.mark.parametrize("stored", [b".wh.", b"a/.wh.", b"a/.wh..", b"a/.wh...", b".wh..."])
def test_whiteouts_of_nothing_or_of_parents_are_refused(stored: bytes) -> None:
    with pytest.raises(UnsafeEntry):
        read(header(stored))


def test_files_of_aufs_are_left_out() -> None:
    data = header(b".wh..wh.plnk/", b"5") + header(b".wh..wh.plnk/1.2") + header(b".wh..wh.aufs")
    assert read(data + header(b"file"))[0][0].name == b"file"
