"""Archives that become contexts: what arrives, what is left out, and what is refused."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import itertools
import lzma
import os
import random
import shutil
import stat
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from errno import ENOSPC
from pathlib import Path
from typing import Any, BinaryIO, Literal

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as some

from kaniko_core.addresses.archives import TarFile
from kaniko_core.context.ignore import IgnorePatterns
from kaniko_core.context.leaving import IgnoreFiles
from kaniko_core.errors import (
    ContentError,
    ContextError,
    DigestMismatch,
    DiskError,
    KanikoError,
    UnsafeEntry,
)
from kaniko_core.oci.compression import Compression, compressed
from kaniko_core.progress import Event, Warned
from kaniko_core.remote.archives.contexts import (
    NotAnArchive,
    UnpackedContext,
    open_tar_file,
    unpack_context,
)
from kaniko_core.remote.incoming import Incoming

NAME = "tar:///x.tar"
TIME = 1_400_000_000
Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, content: bytes = b"x", **attributes: object) -> Member:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(content), TIME, 0o644
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, content


def folder(name: str, **attributes: object) -> Member:
    return member(name, b"", type=tarfile.DIRTYPE, **({"mode": 0o755} | attributes))


def symlink(name: str, target: str) -> Member:
    return member(name, b"", type=tarfile.SYMTYPE, linkname=target)


def hardlink(name: str, target: str) -> Member:
    return member(name, b"", type=tarfile.LNKTYPE, linkname=target)


def device(name: str, kind: bytes = tarfile.CHRTYPE) -> Member:
    return member(name, b"", type=kind, devmajor=1, devminor=5)


def packed(*members: Member, format: Literal[1, 2] = tarfile.GNU_FORMAT) -> bytes:
    """Return a tar whose names are stored as they are given."""
    blocks = []
    for info, content in members:
        blocks.append(info.tobuf(format, "utf-8", "surrogateescape"))
        blocks.append(content + bytes(-len(content) % 512))
    return b"".join(blocks) + bytes(1024)


@dataclass
class Source:
    """An archive that can be fetched several times; knows what became of its transfers."""

    data: bytes
    size: int | None = None
    at_once: int = 1 << 20
    transfers: list[io.BytesIO] = field(default_factory=list)

    def __call__(self) -> Incoming:
        stream = _Short(self.data, self.at_once)
        self.transfers.append(stream)
        return Incoming(stream, NAME, self.size)


class _Short(io.BytesIO):
    """A stream whose reads are short."""

    def __init__(self, data: bytes, at_once: int) -> None:
        super().__init__(data)
        self._at_once = at_once

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self._at_once if size is None else min(size, self._at_once))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A place that does not exist yet."""
    return tmp_path / "out"


def unpacked(data: bytes, out: Path, **how: object) -> UnpackedContext:
    source = Source(data)
    try:
        return unpack_context(source, out, **how)  # type: ignore[arg-type]
    finally:
        assert source.transfers
        assert all(stream.closed for stream in source.transfers)


def refused(data: bytes, out: Path, kind: type[KanikoError], **how: object) -> KanikoError:
    """Unpack what cannot be; make sure that nothing is left of it, and return the error."""
    with pytest.raises(kind) as caught:
        unpacked(data, out, **how)
    assert not out.exists()
    assert NAME in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


def names(top: Path) -> set[str]:
    return {str(path.relative_to(top)) for path in top.rglob("*")}


def described(top: Path) -> dict[str, object]:
    """Return everything about a tree that an archive tells."""
    first: dict[int, str] = {}
    found: dict[str, object] = {}
    for path in [top, *sorted(top.rglob("*"))]:
        name, status = str(path.relative_to(top)), path.lstat()
        content: object = None
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            same = first.setdefault(status.st_ino, name)
            content = (path.read_bytes(), same)
        time = None if path.is_symlink() else status.st_mtime_ns
        found[name] = (stat.filemode(status.st_mode), time, content)
    return found


# --- what arrives ----------------------------------------------------------------------------

_PART = some.text(
    some.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8
).filter(lambda name: name not in {".", ".."} and not name.startswith(".wh."))
_PATH = some.lists(_PART, min_size=1, max_size=4).map("/".join)
_TREES = some.dictionaries(
    _PATH,
    some.one_of(
        some.tuples(some.just("file"), some.binary(max_size=1500)),
        some.tuples(some.just("symlink"), _PATH | some.just("/etc") | some.just("../..")),
        some.tuples(some.just("hardlink"), some.just(b"")),
        some.tuples(some.just("directory"), some.just(b"")),
    ),
    max_size=12,
)
_MODES = some.integers(0, 0o7777)
_TIMES = some.integers(0, (1 << 33) * 10**9)


def _plant(top: Path, tree: dict[str, tuple[str, object]], modes: list[int], when: int) -> None:
    """Make *tree*, as far as its names do not contradict each other."""
    top.mkdir()
    files: list[Path] = []
    for name, (kind, content) in tree.items():
        path = top / name
        try:
            if len(os.fsencode(path.name)) > 255:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.parent.resolve() != path.parent.absolute() or os.path.lexists(path):
                continue
        except OSError:
            continue
        if kind == "file":
            assert isinstance(content, bytes)
            path.write_bytes(content)
            files.append(path)
        elif kind == "symlink":
            path.symlink_to(str(content))
        elif kind == "hardlink" and files:
            path.hardlink_to(files[-1])
        else:
            path.mkdir()
    paths = [path for path in sorted(top.rglob("*"), reverse=True) if not path.is_symlink()]
    for number, path in enumerate(paths):
        # Who is not root must be able to pack it.
        path.chmod(modes[number % len(modes)] | (0o700 if path.is_dir() else 0o400))
        os.utime(path, ns=(when + number * 10**9, when + number * 10**9))


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    tree=_TREES,
    modes=some.lists(_MODES, min_size=1, max_size=5),
    when=_TIMES,
    dialect=some.sampled_from(["gnu", "posix", "oldgnu"]),
    at_once=some.integers(1, 20_000),
)
def test_it_makes_what_gnu_tar_makes(
    tmp_path_factory: pytest.TempPathFactory,
    tree: dict[str, tuple[str, object]],
    modes: list[int],
    when: int,
    dialect: str,
    at_once: int,
) -> None:
    work = tmp_path_factory.mktemp("tree")
    _plant(work / "made", tree, modes, when)
    data = subprocess.run(
        ["tar", "c", f"--format={dialect}", "-C", work / "made", "."],
        check=True,
        capture_output=True,
    ).stdout
    (work / "theirs").mkdir()
    subprocess.run(["tar", "xp", "-C", work / "theirs"], input=data, check=True)

    unpack_context(Source(data, at_once=at_once), work / "ours")

    assert described(work / "ours") == described(work / "theirs")


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "two members": lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]),
    "zstd": lambda data: b"".join(compressed([data], Compression.ZSTD)),
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("at_once", [1, 7, 1 << 20])
def test_compression_is_recognised_by_its_content(
    out: Path, compression: str, at_once: int
) -> None:
    content = b"".join(b"%d\n" % number for number in range(5000))
    data = COMPRESSIONS[compression](packed(member("d/f", content)))

    unpack_context(Source(data, at_once=at_once if len(data) < 50_000 else 4096), out)

    assert (out / "d/f").read_bytes() == content


def test_files_are_ours_and_have_their_modes_and_times(out: Path) -> None:
    headers = {"SCHILY.xattr.user.x": "y"}
    result = unpacked(
        packed(
            folder("./", mode=0o750, mtime=TIME + 9),
            member("a", mode=0o4711, uid=77, gid=88),
            member("b", pax_headers=headers, mtime=TIME + 5),
            folder("d", mode=0o2555, mtime=TIME + 7),
            member("d/f", mode=0o400),
            format=tarfile.PAX_FORMAT,
        ),
        out,
    )

    status = (out / "a").stat()
    assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
    assert stat.S_IMODE(status.st_mode) == 0o4711
    assert os.listxattr(out / "b") == []
    assert stat.S_IMODE((out / "d").stat().st_mode) == 0o2555
    assert (out / "d").stat().st_mtime == TIME + 7
    assert out.stat().st_mtime == TIME + 9
    # Of files only.
    assert result.newest == TIME + 5


def test_an_archive_without_files_has_no_time(out: Path) -> None:
    assert unpacked(packed(folder("d")), out).newest is None


@pytest.mark.parametrize("size", [1024, 10240])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_empty_archive_is_an_empty_context(
    out: Path, size: int, pack: Callable[[bytes], bytes]
) -> None:
    unpacked(pack(bytes(size)), out)
    assert names(out) == set()


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("after", [b"", bytes(5 << 20), b"whatever comes" * 1000])
def test_the_digest_is_of_every_byte(out: Path, compression: str, after: bytes) -> None:
    data = COMPRESSIONS[compression](packed(member("a")) + after)
    assert unpacked(data, out).digest.hex == hashlib.sha256(data).hexdigest()


def test_files_are_there_before_the_last_bytes_have_come(out: Path) -> None:
    read, write = os.pipe()
    data = packed(member("first"), member("last"))
    source = Incoming(os.fdopen(read, "rb", buffering=0), NAME)
    thread = threading.Thread(target=unpack_context, args=(lambda: source, out))
    thread.start()
    try:
        os.write(write, data[:1024])
        # A test that fails waits for ever, and is ended by whoever has started it.
        while not (out / "first").exists():
            pass
        assert not (out / "last").exists()
        os.write(write, data[1024:])
    finally:
        os.close(write)
        thread.join()
    assert names(out) == {"first", "last"}


def test_an_existing_empty_directory_is_used_and_stays(tmp_path: Path) -> None:
    unpacked(packed(member("a")), tmp_path)
    assert names(tmp_path) == {"a"}
    (tmp_path / "a").unlink()
    with pytest.raises(ContentError):
        unpacked(packed(member("a"), member("../a")), tmp_path)
    assert names(tmp_path) == set()


# --- hostile archives ------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Files that no archive may touch."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "victim").write_text("safe")
    return path


def test_absolute_names_are_relative(out: Path) -> None:
    unpacked(packed(member("/etc/shadow"), member("//x"), hardlink("/y", "/etc/shadow")), out)
    assert {"etc/shadow", "x", "y"} <= names(out)
    assert (out / "y").samefile(out / "etc/shadow")


@pytest.mark.parametrize("name", ["../out2", "..", "a/../../out2", "/../out2", "a/.."])
@pytest.mark.parametrize("make", [member, folder, lambda name: symlink(name, "x")])
def test_names_that_lead_up_are_refused(
    out: Path, name: str, make: Callable[[str], Member]
) -> None:
    error = refused(packed(member("first"), make(name)), out, UnsafeEntry)
    assert str(error).startswith(f"cannot unpack {NAME}: ")
    assert ".." in str(error)
    assert not out.with_name("out2").exists()


@pytest.mark.parametrize("target", ["../outside/victim", "a/../../outside/victim"])
def test_hard_links_that_lead_up_are_refused(out: Path, outside: Path, target: str) -> None:
    refused(packed(member("first"), hardlink("l", target)), out, UnsafeEntry)
    assert (outside / "victim").stat().st_nlink == 1


def test_a_hard_link_to_a_file_of_the_host_finds_none(out: Path, outside: Path) -> None:
    error = refused(packed(hardlink("l", f"{outside}/victim")), out, ContentError)
    assert "which is not there" in str(error)


@pytest.mark.parametrize("target", ["../outside", "{outside}", "b", "/../../../{outside}"])
def test_a_file_under_a_link_stays_inside(out: Path, outside: Path, target: str) -> None:
    target = target.format(outside=outside)
    unpacked(
        packed(
            symlink("b", "../outside" if target == "b" else "nowhere"),
            symlink("link", target),
            member("link/victim", b"evil"),
            member("link/new", b"evil"),
            folder("link/deeper/"),
            hardlink("stolen", "link/victim"),
        ),
        out,
    )
    assert {path.name for path in outside.iterdir()} == {"victim"}
    assert (outside / "victim").read_text() == "safe"
    assert (outside / "victim").stat().st_nlink == 1
    assert os.readlink(out / "link") == target  # noqa: PTH115 - as it is stored
    assert (out / "stolen").read_bytes() == b"evil"


def test_a_file_is_not_written_through_a_link(out: Path, outside: Path) -> None:
    unpacked(packed(symlink("a", f"{outside}/victim"), member("a", b"evil")), out)
    assert (outside / "victim").read_text() == "safe"
    assert (out / "a").read_bytes() == b"evil"
    assert not (out / "a").is_symlink()


def test_a_hard_link_to_a_link_does_not_lead_out(out: Path, outside: Path) -> None:
    unpacked(packed(symlink("a", f"{outside}/victim"), hardlink("b", "a")), out)
    assert (out / "b").is_symlink()
    assert (outside / "victim").stat().st_nlink == 1


def test_links_in_a_circle_are_a_sentence(out: Path) -> None:
    error = refused(packed(symlink("a", "b"), symlink("b", "a"), member("a/f")), out, ContentError)
    assert "too many symbolic links" in str(error)


def test_devices_and_pipes_are_left_out_with_one_warning(out: Path) -> None:
    events: list[Event] = []
    data = packed(
        device("dev/zero"),
        device("dev/sda", tarfile.BLKTYPE),
        device("dev/pipe", tarfile.FIFOTYPE),
        member("a"),
    )
    unpacked(data, out, progress=events.append)
    assert names(out) == {"a"}
    (event,) = events
    assert isinstance(event, Warned)
    assert NAME in event.message
    assert "3 of them, such as dev/zero" in event.message


def test_whoever_has_no_devices_is_not_warned(out: Path) -> None:
    events: list[Event] = []
    unpacked(packed(member("a")), out, progress=events.append)
    assert events == []


@pytest.mark.parametrize("name", [".wh.a", "d/.wh..wh..opq"])
def test_layers_are_no_contexts(out: Path, name: str) -> None:
    error = refused(packed(member("d/x"), member(name, b"")), out, ContentError)
    assert "whiteout" in str(error)
    assert "docker-image://" in str(error.hint)


def test_the_last_of_several_entries_counts(out: Path) -> None:
    unpacked(
        packed(
            *(member("file", b"1"), member("file", b"22"), symlink("dir", "x"), folder("dir")),
            *(member("dir/f"), folder("was/deep"), member("was/deep/f"), member("was", b"now")),
            *(member("twice", b"old"), hardlink("other", "twice"), member("twice", b"new")),
            *(symlink("link", "a"), symlink("link", "b")),
        ),
        out,
    )
    assert (out / "file").read_bytes() == b"22"
    assert (out / "dir/f").is_file()
    assert (out / "was").read_bytes() == b"now"
    assert ((out / "twice").read_bytes(), (out / "other").read_bytes()) == (b"new", b"old")
    assert str((out / "link").readlink()) == "b"


def test_names_that_look_alike_are_different_files(out: Path) -> None:
    alike = ["readme", "README", "caf\u00e9", "cafe\u0301", "\u212b", "\u00c5", "stra\u00dfe"]
    unpacked(packed(*(member(name, name.encode()) for name in alike)), out)
    assert {path.name: path.read_text() for path in out.iterdir()} == {n: n for n in alike}


def test_names_need_not_be_utf8(out: Path) -> None:
    unpacked(packed(member(os.fsdecode(b"\xff\xfe"))), out, leaving=IgnoreFiles())
    assert os.listdir(os.fsencode(out)) == [b"\xff\xfe"]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_unpacks_to_too_much_is_refused(out: Path, compression: str) -> None:
    data = COMPRESSIONS[compression](packed(member("a", bytes(3 << 20))))
    error = refused(data, out, ContentError, limit=2 << 20)
    assert "it unpacks to more than 2 MiB" in str(error)
    assert "--context-limit" in str(error.hint)


def test_the_limit_itself_is_allowed(out: Path) -> None:
    data = packed(member("a", bytes(3000)))
    unpacked(gzip.compress(data), out, limit=len(data))
    refused(gzip.compress(data), out.with_name("b"), ContentError, limit=len(data) - 1)


def test_endless_bytes_after_the_end_are_refused(out: Path) -> None:
    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def read(self, size: int | None = -1) -> bytes:
            return bytes(1 << 16)

    def opened() -> Incoming:
        return Incoming(_Chained(packed(member("a")), Endless()), NAME)

    with pytest.raises(ContentError, match="it unpacks to more than 8 MiB"):
        unpack_context(opened, out, limit=8 << 20)
    assert not out.exists()


@pytest.mark.parametrize("more", [gzip.compress(b"") * 1000, bytes(20_000)])
def test_endless_bytes_that_hold_nothing_are_refused(out: Path, more: bytes) -> None:
    data = gzip.compress(packed(member("a"))) + more * 200
    unpacked(data, out.with_name("b"))
    error = refused(data, out, ContentError, limit=1 << 20)
    assert "it unpacks to more than 1 MiB" in str(error)


class _Chained(io.BytesIO):
    """Some bytes, and then those of another stream."""

    def __init__(self, first: bytes, then: io.RawIOBase) -> None:
        super().__init__(first)
        self._then = then

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size) or self._then.read(-1 if size is None else size) or b""


def test_holes_count_for_the_limit(out: Path, tmp_path: Path) -> None:
    tar = shutil.which("tar")
    if tar is None:
        pytest.skip("GNU tar is not installed")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    command = [tar, "c", "--sparse", "-C", str(tmp_path), "sparse"]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    assert len(data) < 1 << 20

    refused(data, out, ContentError, limit=(1 << 30) - 1)
    unpacked(data, out, limit=1 << 30)
    assert (out / "sparse").stat().st_size == 1 << 30
    assert (out / "sparse").stat().st_blocks == 0


# --- what is no archive, and what is not all of one ------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"just text", "is no tar archive"),
        (b"\x01" * 100 + bytes(2000), "is no tar archive"),
        (bytes(100), "is no tar archive"),
        (bytes(1 << 20), "is no tar archive"),
        (bytes(32 << 10) + b"\x01CD001\x01" + bytes(5000), "is no tar archive"),
        (b"PK\x03\x04" + bytes(600), "is a zip archive"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(600), "is a 7z archive"),
        (b"Rar!\x1a\x07\x01\x00" + bytes(600), "is a RAR archive"),
        (b"-----BEGIN PGP MESSAGE-----\n\nhQEMA", "is encrypted with OpenPGP"),
        (b"\x85\x01\x0c\x03" + bytes(600), "is encrypted with OpenPGP"),
        (b"\x8c\x0d\x04\x09\x03\x02" + bytes(600), "is encrypted with OpenPGP"),
        (b"\xc3\x0d\x04\x09\x03\x02" + bytes(600), "is encrypted with OpenPGP"),
        (b"age-encryption.org/v1\n-> X25519", "is encrypted with age"),
        (b"-----BEGIN AGE ENCRYPTED FILE-----\n", "is encrypted with age"),
        (b"Salted__" + bytes(600), "is encrypted with openssl enc"),
        (b"\xef\xbb\xbf\n <!DOCTYPE html><title>Sign in</title>", "is a web page"),
        (b"<HTML><body>404</body>", "is a web page"),
        (b"\x85", "is no tar archive"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_what_is_no_archive_is_named(
    out: Path, data: bytes, words: str, pack: Callable[[bytes], bytes]
) -> None:
    error = refused(pack(data), out, NotAnArchive)
    what = NAME if pack is bytes else f"what is compressed in {NAME}"
    assert str(error).startswith(f"{what} {words}")
    assert error.hint


def test_what_is_no_archive_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(NotAnArchive):
        unpacked(b"just text", tmp_path)
    assert names(tmp_path) == {"mine"}


def _cuts() -> Iterator[tuple[str, int]]:
    for compression, compress in COMPRESSIONS.items():
        length = len(compress(_whole()))
        yield from ((compression, cut) for cut in sorted({1, 5, 9, 17, length // 3, length // 2}))
        yield from ((compression, length - cut) for cut in (1, 4, 9))
    # The end of each part of a plain one: headers, contents, padding.
    for end in (512, 1024, 1536, 2048, 2560, 3072):
        yield from (("plain", end + off) for off in (-1, 1, 100))


def _whole() -> bytes:
    content = random.Random(7).randbytes(700)
    members = packed(member("a", b"x" * 300), member("d/" + "n" * 150, content), folder("e"))
    return members[:-1024]  # a tar without its end; each byte of it counts


@pytest.mark.parametrize(("compression", "cut"), list(_cuts()))
def test_an_archive_that_ends_early_is_a_sentence(out: Path, compression: str, cut: int) -> None:
    data = COMPRESSIONS[compression](_whole())
    error = refused(data[:cut], out, KanikoError)
    assert isinstance(error, (NotAnArchive, ContentError))


@pytest.mark.parametrize("compression", [name for name in COMPRESSIONS if name != "plain"])
def test_damaged_compression_is_a_sentence(out: Path, compression: str) -> None:
    data = COMPRESSIONS[compression](packed(member("a", random.Random(7).randbytes(50_000))))
    refused(data[:20_000] + b"\xff" * (len(data) - 20_000), out, ContentError)


def test_a_damaged_header_is_a_sentence(out: Path) -> None:
    data = bytearray(packed(member("a"), member("b")))
    data[1024] ^= 1
    assert "checksum" in str(refused(bytes(data), out, ContentError))


@pytest.mark.parametrize(
    "failure", [ContextError("s3://b/k broke off"), DigestMismatch("s3://b/k is another file")]
)
def test_what_the_source_says_is_said_as_it_is(out: Path, failure: KanikoError) -> None:
    class Failing(io.RawIOBase):
        def read(self, size: int | None = -1) -> bytes:
            raise failure

    data = packed(member("a", bytes(5000)))
    stream = _Chained(data, Failing())
    with pytest.raises(type(failure)) as caught:
        unpack_context(lambda: Incoming(stream, "s3://b/k"), out)
    assert caught.value is failure
    assert not out.exists()
    assert stream.closed


def test_a_source_that_sends_nothing_more_is_not_waited_for(out: Path) -> None:
    read, write = os.pipe()
    stream = os.fdopen(read, "rb", buffering=0)
    try:
        os.write(write, packed(member("a"), member("../b")))
        with pytest.raises(UnsafeEntry):
            unpack_context(lambda: Incoming(stream, NAME), out)
        assert not out.exists()
    finally:
        os.close(write)
    # Now that there is nothing more to wait for, it is closed.
    for thread in threading.enumerate():
        if thread.name == "archive":
            thread.join()
    assert stream.closed


# --- the disk --------------------------------------------------------------------------------


def test_what_cannot_fit_is_refused_ahead(tmp_path: Path) -> None:
    out = tmp_path / "out"
    source = Source(packed(folder("d"), member("a", b"x" * 5000)), size=1 << 60)
    with pytest.raises(DiskError) as caught:
        unpack_context(source, out, leaving=IgnoreFiles())
    assert NAME in str(caught.value)
    assert str(out) in str(caught.value)
    assert "MiB are free there" in str(caught.value)
    assert not out.exists()
    assert source.transfers[0].closed


@pytest.mark.parametrize("inside", [True, False])
def test_what_may_be_left_out_need_not_fit(out: Path, inside: bool) -> None:
    source = Source(packed(member(".dockerignore", b"large\n"), member("large")), size=1 << 60)
    known = None if inside else IgnorePatterns(["large"])
    unpack_context(source, out, leaving=IgnoreFiles(known=known))
    assert names(out) == {".dockerignore"}


def test_a_disk_that_is_full_is_a_sentence(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(ENOSPC, os.strerror(ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DiskError, match=f"cannot unpack /a into {out}: No space left"):
        unpack_context(Source(packed(member("a"))), out)
    assert not out.exists()


# --- what .dockerignore leaves out -----------------------------------------------------------


class Watched:
    """An archive, and which of its files have ever been on disk."""

    def __init__(self, out: Path, *members: Member) -> None:
        self.out = out
        self.source = Source(packed(*members))
        self.opened: set[str] = set()

    def unpack(self, leaving: IgnoreFiles, monkeypatch: pytest.MonkeyPatch) -> set[str]:
        """Return the names of what is there in the end."""
        real = os.open

        def watching(path: Any, flags: int, *args: Any, **more: Any) -> int:
            if flags & os.O_CREAT and isinstance(path, bytes):
                self.opened.add(os.fsdecode(path))
            return real(path, flags, *args, **more)

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", watching)
            unpack_context(self.source, self.out, leaving=leaving)
        assert all(stream.closed for stream in self.source.transfers)
        return names(self.out)


BOTH = IgnoreFiles.of("Dockerfile")
TREE = (folder("build"), member("build/a.o"), folder("src"), member("src/a.c"), member("src/a.o"))
KEPT = {".dockerignore", "src", "src/a.c"}


def ignoring(*patterns: str, name: str = ".dockerignore") -> Member:
    return member(name, "\n".join(patterns).encode())


def test_known_patterns_hold_from_the_first_entry(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaving = IgnoreFiles(known=IgnorePatterns(["build", "**/*.o"]))
    watched = Watched(out, *TREE, ignoring("src"))
    assert watched.unpack(leaving, monkeypatch) == KEPT
    assert watched.opened == {"a.c", ".dockerignore"}
    assert len(watched.source.transfers) == 1


@pytest.mark.parametrize("dot", ["", "./"])
def test_what_is_left_out_never_reaches_the_disk(
    out: Path, dot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = [(info, content) for info, content in (folder(""), ignoring("build", "**/*.o"), *TREE)]
    for info, _ in tree:
        info.name = f"./{info.name}" if dot else info.name or "./"
    watched = Watched(out, *tree)
    assert watched.unpack(BOTH, monkeypatch) == KEPT
    assert watched.opened == {"a.c", ".dockerignore"}
    assert len(watched.source.transfers) == 1


@pytest.mark.parametrize("count", [0, 1200])
def test_what_came_before_the_patterns_is_removed(
    out: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [member(f"build/{number}") for number in range(count)]
    when = folder("src", mtime=TIME + 5)
    watched = Watched(out, *TREE, *many, when, ignoring("build", "**/*.o"), member("src/b.o"))
    assert watched.unpack(BOTH, monkeypatch) == KEPT
    assert "b.o" not in watched.opened
    assert len(watched.source.transfers) == 1
    assert (out / "src").stat().st_mtime == TIME + 5


@pytest.mark.parametrize("early", [True, False])
def test_directory_of_what_is_left_out_is_there_in_every_order(out: Path, early: bool) -> None:
    """An archive without entries for directories must not make another image by its order."""
    patterns, files = ignoring("**/*.o", "gone"), [member("d/e/x.o"), member("gone/y"), member("z")]
    unpacked(packed(*([patterns, *files] if early else [*files, patterns])), out, leaving=BOTH)
    assert names(out) == {".dockerignore", "d", "d/e", "z"}
    for made in (out / "d", out / "d" / "e"):
        assert (made.stat().st_mode & 0o777, made.stat().st_mtime_ns) == (0o755, 0)


def test_directory_of_what_is_left_out_is_not_made_through_a_link(out: Path, outside: Path) -> None:
    data = packed(ignoring("**/*.o"), member("d/e/x.o"), symlink("d", str(outside)))
    before = set(outside.iterdir())
    unpacked(data, out, leaving=BOTH)
    assert set(outside.iterdir()) == before
    assert (out / "d").is_symlink()


def test_file_that_became_the_directory_of_what_is_left_out_is_gone(out: Path) -> None:
    unpacked(packed(ignoring("**/*.o"), member("d"), member("d/x.o")), out, leaving=BOTH)
    assert names(out) == {".dockerignore", "d"}
    assert (out / "d").is_dir()


def test_newest_counts_what_is_left_out(out: Path) -> None:
    data = packed(ignoring("b"), member("b", mtime=TIME + 100))
    assert unpacked(data, out, leaving=BOTH).newest == TIME + 100


def test_exceptions_are_unpacked(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(
        out, ignoring("*", "!src/*.c", "!keep/deep"), *TREE, member("keep/deep/f"), member("keep/g")
    )
    found = watched.unpack(BOTH, monkeypatch)
    assert {"src/a.c", "keep/deep/f", ".dockerignore"} <= found
    assert not {"src/a.o", "build/a.o", "keep/g"} & found
    assert not {"a.o", "g"} & watched.opened


def test_dockerfile_is_needed_whatever_the_patterns_say(out: Path) -> None:
    data = packed(ignoring("*"), member("Dockerfile"), member("a"))
    unpacked(data, out, leaving=BOTH)
    assert names(out) == {".dockerignore", "Dockerfile"}


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_what_a_dockerfile_is_a_link_to_is_needed(out: Path, order: tuple[int, ...]) -> None:
    members = [
        ignoring("docker"),
        symlink("Dockerfile", "docker/../docker/usual"),
        symlink("docker/usual", "/docker/production"),
        member("docker/production"),
    ]
    unpacked(packed(*(members[number] for number in order)), out, leaving=BOTH)
    assert (out / "docker/production").is_file()


def test_only_what_becomes_the_context_is_left_out(out: Path) -> None:
    data = packed(member("sub/.dockerignore", b"*.o"), member("sub/a.o"), member("a.o"))
    unpacked(data, out, leaving=IgnoreFiles.of("Dockerfile", "sub"))
    assert names(out) == {"sub", "sub/.dockerignore", "a.o"}


def test_the_file_of_the_dockerfile_comes_first_whenever_it_comes(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ignoring("src", name="Dockerfile.dockerignore")
    watched = Watched(out, ignoring("build"), *TREE, own)
    assert watched.unpack(BOTH, monkeypatch) == {
        *(".dockerignore", "Dockerfile.dockerignore"),
        *("build", "build/a.o"),
    }
    assert len(watched.source.transfers) == 2

    out = out.with_name("other")
    watched = Watched(out, own, *TREE, ignoring("build"))
    assert "build/a.o" in watched.unpack(BOTH, monkeypatch)
    assert len(watched.source.transfers) == 1


def test_the_last_of_several_files_with_patterns_counts(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(out, ignoring("build"), *TREE, ignoring("src"))
    assert watched.unpack(BOTH, monkeypatch) == {".dockerignore", "build", "build/a.o"}


def test_the_same_file_twice_is_one(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``tar c .dockerignore .`` makes such archives."""
    watched = Watched(out, ignoring("build", "**/*.o"), *TREE, ignoring("build", "**/*.o"))
    assert watched.unpack(BOTH, monkeypatch) == KEPT
    assert len(watched.source.transfers) == 1


def test_a_hard_link_brings_what_it_is_a_link_to(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(out, ignoring("build"), *TREE, hardlink("needed", "build/a.o"))
    assert "build" not in watched.unpack(BOTH, monkeypatch)
    assert (out / "needed").read_bytes() == b"x"


def test_links_among_what_is_left_out_need_nothing(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = hardlink("build/b.o", "build/a.o"), symlink("build/bin", "../src")
    watched = Watched(out, ignoring("build"), *TREE, *links)
    watched.unpack(BOTH, monkeypatch)
    assert len(watched.source.transfers) == 1
    assert not (out / "build").exists()


@pytest.mark.parametrize("pattern", ["link/*", "link"])
def test_what_a_link_leads_to_is_not_left_out(
    out: Path, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name in the archive is ignored, and the place where the file really is is not."""
    watched = Watched(
        out, ignoring(pattern), folder("real"), symlink("link", "real"), member("link/f")
    )
    assert "real/f" in watched.unpack(BOTH, monkeypatch)


@pytest.mark.parametrize("kind", ["symlink", "hardlink", "broken", "directory"])
def test_patterns_that_are_no_plain_file_leave_out_nothing_too_much(
    out: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {
        "symlink": symlink(".dockerignore", "patterns"),
        "hardlink": hardlink(".dockerignore", "patterns"),
        "broken": ignoring("[", "build"),
        "directory": folder(".dockerignore"),
    }
    watched = Watched(out, ignoring("build", name="patterns"), made[kind], *TREE)
    found = watched.unpack(BOTH, monkeypatch)
    assert "src/a.c" in found
    # A hard link is a file like others, in the end.
    assert ("build/a.o" in found) == (kind != "hardlink")


def test_patterns_behind_a_link_of_the_archive_are_not_the_hosts(
    out: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (outside / ".dockerignore").write_text("src\n")
    watched = Watched(out, symlink("sub", str(outside)), *TREE)
    found = watched.unpack(IgnoreFiles(("sub/.dockerignore",)), monkeypatch)
    assert "src/a.c" in found


@pytest.mark.parametrize(
    ("late", "words", "hint"),
    [
        (
            ignoring("src", name="Dockerfile.dockerignore"),
            "Dockerfile.dockerignore comes after files that other patterns have left out",
            "put it first: tar c Dockerfile.dockerignore",
        ),
        (hardlink("l", "build/a.o"), "l is a hard link to build/a.o", "--hard-dereference"),
    ],
)
def test_what_comes_only_once_says_what_to_do(
    out: Path, late: Member, words: str, hint: str
) -> None:
    data = packed(ignoring("build"), *TREE, late)
    error = refused(data, out, ContextError, leaving=BOTH, again=False)
    assert words in str(error)
    assert hint in str(error.hint)


def test_what_comes_only_once_and_in_good_order_is_unpacked(out: Path) -> None:
    data = packed(member("b.o"), ignoring("build", "**/*.o"), *TREE)
    unpacked(data, out, leaving=BOTH, again=False)
    assert names(out) == KEPT


_IGNORED = some.lists(
    some.sampled_from(
        ["build", "src", "**/*.o", "!src/a.o", "*", "!src", "a*", "!**/f", "link", "build/*"]
    ),
    max_size=4,
)
_MEMBERS = some.lists(
    some.sampled_from(
        [
            *(folder("build"), member("build/a.o"), member("build/f"), member("src/a.c")),
            *(member("src/a.o"), member("src/f"), member("a"), hardlink("src/l", "a")),
            *(hardlink("b", "a"), symlink("link", "src"), member("link/g"), symlink("s/t", "..")),
        ]
    ),
    unique_by=lambda item: item[0].name,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    patterns=_IGNORED,
    own=some.none() | _IGNORED,
    members=_MEMBERS,
    data=some.data(),
)
def test_nothing_is_missing_that_the_patterns_do_not_leave_out(
    tmp_path_factory: pytest.TempPathFactory,
    patterns: list[str],
    own: list[str] | None,
    members: list[Member],
    data: some.DataObject,
) -> None:
    work = tmp_path_factory.mktemp("tree")
    files = [ignoring(*patterns)]
    if own is not None:
        files.append(ignoring(*own, name="Dockerfile.dockerignore"))
    archive = packed(*data.draw(some.permutations([*files, *members])))
    try:
        unpack_context(Source(archive), work / "all")
    except ContentError:
        reject()  # a hard link before its target
    unpack_context(Source(archive), work / "some", leaving=BOTH)

    counts = IgnorePatterns(patterns if own is None else own)

    def needed(top: Path) -> dict[str, bytes | None]:
        return {
            name: (top / name).read_bytes() if (top / name).is_file() else None
            for name in names(top)
            if not counts.ignored(name) and ((top / name).is_symlink() or (top / name).is_file())
        }

    assert needed(work / "some") == needed(work / "all")
    left = names(work / "some") - {".dockerignore", "Dockerfile.dockerignore"}
    assert not [n for n in left if counts.ignored(n) and (work / "some" / n).is_file()]


# --- tar:// ----------------------------------------------------------------------------------


def test_a_file_says_its_size_and_time(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "c.tar"
    path.write_bytes(packed(member("a")))
    os.utime(path, (TIME, TIME))
    incoming = open_tar_file(TarFile(path))
    with incoming:
        assert (incoming.name, incoming.size) == (f"tar://{path}", path.stat().st_size)
        assert incoming.mtime_ns == TIME * 10**9
    unpack_context(lambda: open_tar_file(TarFile(path)), out)
    assert names(out) == {"a"}


def test_a_file_that_cannot_be_had_is_a_sentence(tmp_path: Path) -> None:
    for path, words in (
        (tmp_path / "none", "No such file"),
        (tmp_path, "is a directory"),
        (tmp_path / "n" / "\0", "embedded null byte"),
        (tmp_path / ("n" * 300), "File name too long"),
    ):
        with pytest.raises(ContextError, match=words) as caught:
            open_tar_file(TarFile(path))
        assert "tar://" in str(caught.value)


def test_a_pipe_with_a_name_is_read(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    feeder = threading.Thread(target=path.write_bytes, args=(packed(member("a")),))
    feeder.start()
    unpack_context(lambda: open_tar_file(TarFile(path)), out)
    feeder.join()
    assert names(out) == {"a"}


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[BinaryIO | None], None]]:
    def replace(stream: BinaryIO | None) -> None:
        text = None if stream is None else io.TextIOWrapper(stream)
        monkeypatch.setattr("sys.stdin", text)

    yield replace


def test_standard_input_is_read_and_stays_open(
    tmp_path: Path, out: Path, stdin: Callable[[BinaryIO | None], None]
) -> None:
    path = tmp_path / "c.tar"
    path.write_bytes(gzip.compress(packed(member("a"))))
    with path.open("rb") as stream:
        stdin(stream)
        unpack_context(lambda: open_tar_file(TarFile(None)), out, again=False)
        os.fstat(stream.fileno())
    assert names(out) == {"a"}


def test_closed_standard_input_is_a_sentence(
    stdin: Callable[[BinaryIO | None], None],
) -> None:
    stdin(None)
    with pytest.raises(ContextError, match="cannot read tar://stdin: it is closed") as caught:
        open_tar_file(TarFile(None))
    assert "kubectl run -i" in str(caught.value.hint)


def test_a_terminal_is_no_archive(stdin: Callable[[BinaryIO | None], None]) -> None:
    ours, theirs = os.openpty()
    try:
        with os.fdopen(theirs, "rb", buffering=0) as terminal:
            stdin(io.BufferedReader(terminal))
            with pytest.raises(ContextError, match="it is a terminal") as caught:
                open_tar_file(TarFile(None))
    finally:
        os.close(ours)
    assert "tar cz ." in str(caught.value.hint)
