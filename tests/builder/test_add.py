from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kaniko_core.errors import ContentError, DockerfileError
from kaniko_core.oci.entry import Entry, Kind
from tests.builder.copying import Kitchen, content, kinds


def _zstd(data: bytes) -> bytes:
    from backports import zstd

    return zstd.compress(data)


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": _zstd,
}


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    return Kitchen(tmp_path)


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o640
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    info.mode = mode
    info.uid, info.gid, info.mtime = 11, 22, 1_400_000_000
    return info


def archive(*members: tarfile.TarInfo | tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for item in members:
            if isinstance(item, tuple):
                info = member(item[0])
                info.size = len(item[1])
                tar.addfile(info, io.BytesIO(item[1]))
            else:
                tar.addfile(item)
    return buffer.getvalue()


def add(
    kitchen: Kitchen, data: bytes, destination: str = "/d/", **flags: object
) -> dict[str, Entry]:
    (kitchen.context / "archive").write_bytes(data)
    return kitchen.add("archive", destination, **flags)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_archive_is_known_by_its_content(kitchen: Kitchen, compression: str) -> None:
    data = archive(member("sub", tarfile.DIRTYPE, mode=0o750), ("sub/a", b"one"), ("b", b"two!"))
    entries = add(kitchen, COMPRESSIONS[compression](data))
    assert list(entries) == ["d", "d/b", "d/sub", "d/sub/a"]
    assert [content(entries[name]) for name in ("d/sub/a", "d/b")] == [b"one", b"two!"]
    assert (entries["d"].mtime_ns, entries["d"].uid) == (kitchen.state.top_mtime_ns, 0)
    assert (entries["d/sub"].mode, entries["d/sub"].uid, entries["d/sub"].gid) == (0o750, 11, 22)
    assert entries["d/b"].mtime_ns == 1_400_000_000 * 10**9


def test_destination_of_an_archive_is_always_a_directory(kitchen: Kitchen) -> None:
    assert list(add(kitchen, archive(("a", b"")), "/x.tar")) == ["x.tar", "x.tar/a"]


def test_chown_applies_to_members(kitchen: Kitchen) -> None:
    entries = add(kitchen, archive(("s/a", b"")), chown="5:6")
    owners = {name: (entry.uid, entry.gid) for name, entry in entries.items()}
    # What the archive takes for granted is root's, as with BuildKit.
    assert owners == {"d": (5, 6), "d/s": (0, 0), "d/s/a": (5, 6)}


def test_chmod_is_not_for_what_comes_out_of_an_archive(kitchen: Kitchen) -> None:
    entries = add(kitchen, archive(("s/a", b"")), chmod="0700")
    assert {name: entry.mode for name, entry in entries.items()} == {
        "d": 0o755,
        "d/s": 0o755,
        "d/s/a": 0o640,
    }
    (kitchen.context / "archive").write_text("no archive")
    assert kitchen.add("archive", "/d/", chmod="0700")["d/archive"].mode == 0o700


@pytest.mark.parametrize(
    "data",
    [b"", b"text", b"\0" * 2048, gzip.compress(b"no tar", mtime=0), b"\x1f\x8b broken", b"x" * 600],
)
def test_what_only_looks_like_an_archive_is_copied(kitchen: Kitchen, data: bytes) -> None:
    entries = add(kitchen, data)
    assert list(entries) == ["d", "d/archive"]
    assert content(entries["d/archive"]) == data


def test_archive_is_copied_as_it_is_without_unpack(kitchen: Kitchen) -> None:
    assert list(add(kitchen, archive(("a", b"")), unpack=False)) == ["d", "d/archive"]


def test_what_is_no_archive_is_copied_with_unpack_too(kitchen: Kitchen) -> None:
    assert list(add(kitchen, b"text", unpack=True)) == ["d", "d/archive"]
    assert list(add(kitchen, archive(("a", b"")), unpack=True)) == ["d", "d/a"]


def test_copy_never_unpacks(kitchen: Kitchen) -> None:
    (kitchen.context / "archive").write_bytes(archive(("a", b"")))
    assert list(kitchen.copy("archive", "/d/")) == ["d", "d/archive"]


def test_excluded_archive_is_not_unpacked(kitchen: Kitchen) -> None:
    assert add(kitchen, archive(("a", b"")), exclude=("arch*",)) == {}


def test_linked_archive_does_not_look_at_the_image(kitchen: Kitchen) -> None:
    (kitchen.image / "usr/lib").mkdir(parents=True)
    (kitchen.image / "lib").symlink_to("usr/lib")
    entries = add(kitchen, archive(("lib/a", b"")), "/", link=True)
    assert kinds(entries) == {"lib": Kind.DIRECTORY, "lib/a": Kind.FILE}


def test_archive_inside_a_directory_is_copied_as_it_is(kitchen: Kitchen) -> None:
    kitchen.add_file("dir/x")
    (kitchen.context / "dir/x").write_bytes(archive(("a", b"")))
    assert list(kitchen.add("dir", "/d/")) == ["d", "d/x"]


def test_archives_and_files_may_come_together(kitchen: Kitchen) -> None:
    kitchen.add_file("text", "t")
    (kitchen.context / "one.tar").write_bytes(archive(("a", b"1")))
    (kitchen.context / "two.tgz").write_bytes(gzip.compress(archive(("b", b"2"))))
    entries = kitchen.add("text", "*.t*", "/d/")
    assert {name: content(entry) for name, entry in entries.items() if entry.kind is Kind.FILE} == {
        "d/a": b"1",
        "d/b": b"2",
        "d/text": b"t",
    }


def test_archives_of_a_wildcard_need_no_slash(kitchen: Kitchen) -> None:
    """The first of them makes the directory that all go into, and files after it."""
    (kitchen.context / "a.tar").write_bytes(archive(("x", b"1")))
    (kitchen.context / "b.tar").write_bytes(archive(("y", b"2")))
    kitchen.add_file("c.tar", "no archive")
    assert list(kitchen.add("*.tar", "/d")) == ["d", "d/c.tar", "d/x", "d/y"]


def test_a_file_before_the_archives_of_a_wildcard_needs_the_slash(kitchen: Kitchen) -> None:
    kitchen.add_file("a.tar", "no archive")
    (kitchen.context / "b.tar").write_bytes(archive(("y", b"2")))
    with pytest.raises(DockerfileError, match="matches 2 sources"):
        kitchen.add("*.tar", "/d")


def test_later_member_replaces_an_earlier_one(kitchen: Kitchen) -> None:
    entries = add(kitchen, archive(("a", b"old"), ("a", b"new")))
    assert content(entries["d/a"]) == b"new"


def test_root_of_the_archive_does_not_change_the_destination(kitchen: Kitchen) -> None:
    (kitchen.image / "d").mkdir()
    entries = add(kitchen, archive(member("./", tarfile.DIRTYPE, mode=0o700), ("./a", b"")))
    assert list(entries) == ["d/a"]


def test_members_merge_with_the_image_through_its_links(kitchen: Kitchen) -> None:
    """A root file system archive has /lib; on a merged /usr it must not replace the link."""
    (kitchen.image / "usr/lib").mkdir(parents=True)
    (kitchen.image / "lib").symlink_to("usr/lib")
    entries = add(kitchen, archive(member("lib", tarfile.DIRTYPE), ("lib/a", b"")), "/")
    assert list(entries) == ["usr/lib", "usr/lib/a"]


def test_member_replaces_what_is_of_another_kind(kitchen: Kitchen) -> None:
    (kitchen.image / "d/x").mkdir(parents=True)
    (kitchen.image / "d/y").write_text("")
    entries = add(kitchen, archive(("x", b""), member("y", tarfile.DIRTYPE), ("y/z", b"")))
    assert kinds(entries) == {"d/x": Kind.FILE, "d/y": Kind.DIRECTORY, "d/y/z": Kind.FILE}


def test_hard_links_stay_links(kitchen: Kitchen) -> None:
    entries = add(kitchen, archive(("b", b"shared"), member("a", tarfile.LNKTYPE, "b")))
    assert kinds(entries) == {"d": Kind.DIRECTORY, "d/a": Kind.FILE, "d/b": Kind.HARDLINK}
    assert (content(entries["d/a"]), entries["d/b"].link) == (b"shared", b"d/a")


def test_hard_link_may_lead_to_a_file_of_the_image(kitchen: Kitchen) -> None:
    (kitchen.image / "d").mkdir()
    (kitchen.image / "d/base").write_text("")
    entry = add(kitchen, archive(member("a", tarfile.LNKTYPE, "base")))["d/a"]
    assert (entry.kind, entry.link) == (Kind.HARDLINK, b"d/base")


def test_hard_link_to_nothing_is_refused(kitchen: Kitchen) -> None:
    with pytest.raises(
        ContentError, match=r'cannot unpack "archive" of the build context: .*/d/gone'
    ):
        add(kitchen, archive(member("a", tarfile.LNKTYPE, "gone")))


def test_other_kinds_are_kept(kitchen: Kitchen) -> None:
    device = member("tty", tarfile.CHRTYPE)
    device.devmajor, device.devminor = 5, 0
    entries = add(
        kitchen,
        archive(member("link", tarfile.SYMTYPE, "/etc"), member("pipe", tarfile.FIFOTYPE), device),
    )
    assert entries["d/link"].link == b"/etc"
    assert entries["d/pipe"].kind is Kind.FIFO
    assert (entries["d/tty"].kind, entries["d/tty"].device) == (Kind.CHARACTER, (5, 0))


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "x/../../../etc/passwd"])
def test_member_that_would_leave_the_destination_is_refused(kitchen: Kitchen, name: str) -> None:
    with pytest.raises(ContentError):
        add(kitchen, archive((name, b"")))


def test_absolute_member_goes_below_the_destination(kitchen: Kitchen) -> None:
    assert list(add(kitchen, archive(("/etc/a", b"")))) == ["d", "d/etc", "d/etc/a"]


@pytest.mark.parametrize("link", ["/etc", "../../../../etc", "../etc", "b/../../../etc"])
def test_no_link_leads_out_of_the_destination(kitchen: Kitchen, link: str) -> None:
    """Who adds an archive to /d means that nothing else is touched."""
    (kitchen.image / "etc").mkdir()
    (kitchen.image / "etc/base").write_text("")
    (kitchen.image / "d").mkdir()
    (kitchen.image / "d/old").symlink_to(link)
    entries = add(
        kitchen,
        archive(
            member("new", tarfile.SYMTYPE, link),
            ("new/a", b"1"),
            ("old/b", b"2"),
            member("new/c", tarfile.LNKTYPE, "old/b"),
        ),
    )
    assert list(entries) == ["d/etc", "d/etc/a", "d/etc/b", "d/etc/c", "d/new"]
    with pytest.raises(ContentError, match="/d/etc/base, which is no file"):
        add(kitchen, archive(member("new/d", tarfile.LNKTYPE, "old/base")))


def test_whiteouts_are_refused(kitchen: Kitchen) -> None:
    with pytest.raises(ContentError, match="whiteout of /gone"):
        add(kitchen, archive((".wh.gone", b"")))


def test_truncated_archive_is_refused(kitchen: Kitchen) -> None:
    data = gzip.compress(archive(("a", os.urandom(100_000))))
    with pytest.raises(ContentError, match='cannot unpack "archive"'):
        add(kitchen, data[: len(data) // 2])


def test_file_in_the_way_of_an_archive_is_named(kitchen: Kitchen) -> None:
    (kitchen.image / "d").write_text("")
    with pytest.raises(DockerfileError, match="/d is a file in the image"):
        add(kitchen, archive(("a", b"")))


def test_spool_holds_contents_once(kitchen: Kitchen) -> None:
    add(kitchen, COMPRESSIONS["xz"](archive(("a", b"x" * 1000), ("b", b"y" * 500))))
    assert (kitchen.path / "spool-0").stat().st_size == 1500
