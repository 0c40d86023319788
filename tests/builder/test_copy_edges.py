"""What COPY does where something odd is in the way, or comes along."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kaniko_core.errors import ContentError, DockerfileError
from kaniko_core.oci.archive import tar_stream
from kaniko_core.oci.entry import Entry, Kind
from tests.builder.copying import NOW, Kitchen, content, kinds

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may")
# No capability at all, in version 2 of the attribute: capabilities(7).
_CAPABILITY = bytes.fromhex("01000002" + "00" * 16)


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    """An image with one of each kind at /there."""
    kitchen = Kitchen(tmp_path)
    kitchen.add_file("file", "new")
    kitchen.add_file("dir/inner")
    return kitchen


def _file(image: Path) -> None:
    (image / "there").write_text("old")


def _directory(image: Path) -> None:
    (image / "there").mkdir()


def _link_to_directory(image: Path) -> None:
    (image / "real").mkdir()
    (image / "there").symlink_to("real")


def _link_to_file(image: Path) -> None:
    (image / "real").write_text("old")
    (image / "there").symlink_to("/real")


def _link_to_nothing(image: Path) -> None:
    (image / "there").symlink_to("opt/made/later")


def _link_up(image: Path) -> None:
    (image / "there").symlink_to("../../../../opt")


def _fifo(image: Path) -> None:
    os.mkfifo(image / "there")


Prepare = Callable[[Path], None]


@pytest.mark.parametrize(
    ("prepare", "found"),
    [
        (_file, ["there"]),
        (_directory, ["there/file"]),
        (_link_to_directory, ["real/file"]),
        (_link_to_file, ["real"]),
        (_link_to_nothing, ["opt", "opt/made", "opt/made/later"]),
        (_link_up, ["opt"]),
        (_fifo, ["there"]),
    ],
)
def test_file_onto(kitchen: Kitchen, prepare: Prepare, found: list[str]) -> None:
    prepare(kitchen.image)
    entries = kitchen.copy("file", "/there")
    assert list(entries) == found
    assert content(entries[found[-1]]) == b"new"


@pytest.mark.parametrize(
    ("prepare", "found"),
    [
        (_directory, ["there/file"]),
        (_link_to_directory, ["real/file"]),
        (_link_to_nothing, ["opt", "opt/made", "opt/made/later", "opt/made/later/file"]),
        (_link_up, ["opt", "opt/file"]),
    ],
)
def test_file_into(kitchen: Kitchen, prepare: Prepare, found: list[str]) -> None:
    prepare(kitchen.image)
    assert list(kitchen.copy("file", "/there/")) == found


@pytest.mark.parametrize(
    ("prepare", "found"),
    [
        (_directory, ["there/inner"]),
        (_link_to_directory, ["real/inner"]),
        (_link_to_nothing, ["opt", "opt/made", "opt/made/later", "opt/made/later/inner"]),
        (_link_up, ["opt", "opt/inner"]),
    ],
)
@pytest.mark.parametrize("slash", ["", "/"])
def test_directory_onto(kitchen: Kitchen, prepare: Prepare, found: list[str], slash: str) -> None:
    prepare(kitchen.image)
    assert list(kitchen.copy("dir", f"/there{slash}")) == found


@pytest.mark.parametrize("prepare", [_file, _link_to_file, _fifo])
@pytest.mark.parametrize("words", [("dir", "/there"), ("file", "/there/"), ("file", "/there/x")])
def test_what_is_no_directory_does_not_become_one(
    kitchen: Kitchen, prepare: Prepare, words: tuple[str, str]
) -> None:
    prepare(kitchen.image)
    with pytest.raises(DockerfileError, match="in the image, not a directory"):
        kitchen.copy(*words)


@pytest.mark.parametrize(
    ("prepare", "kind"),
    [
        (_file, Kind.FILE),
        (_link_to_directory, Kind.FILE),
        (_link_to_nothing, Kind.FILE),
        (_fifo, Kind.FILE),
    ],
)
def test_file_inside_a_copied_directory_replaces(
    kitchen: Kitchen, prepare: Prepare, kind: Kind
) -> None:
    """Only the destination itself is followed; a name below it is what it is."""
    prepare(kitchen.image)
    kitchen.add_file("tree/there")
    assert kinds(kitchen.copy("tree", "/")) == {"there": kind}


def test_link_inside_a_copied_directory_replaces_anything(kitchen: Kitchen) -> None:
    (kitchen.context / "tree").mkdir()
    (kitchen.context / "tree/there").symlink_to("x")
    for prepare in (_file, _fifo):
        prepare(kitchen.image)
        assert kinds(kitchen.copy("tree", "/")) == {"there": Kind.SYMLINK}
        (kitchen.image / "there").unlink()


def test_copied_links_do_not_lead_later_sources_astray(kitchen: Kitchen) -> None:
    """What one source put as a link is one when the next looks at the destination."""
    (kitchen.context / "one").mkdir()
    (kitchen.context / "one/x").symlink_to("/elsewhere")
    kitchen.add_file("two/x/file")
    assert kinds(kitchen.copy("one", "two", "/d/")) == {
        "d": Kind.DIRECTORY,
        "d/x": Kind.DIRECTORY,
        "d/x/file": Kind.FILE,
    }


ODD = [
    "with space",
    " lead and trail ",
    "br[ack]et",
    "st*r",
    "wh?t",
    "back\\slash",
    "new\nline",
    "tab\there",
    "-dash",
    "dollar$HOME",
    "quo'te\"s",
    "ünï",
    "#hash",
    "a" * 255,
]


def test_odd_names_come_along(kitchen: Kitchen) -> None:
    for name in ODD:
        kitchen.add_file(f"odd/{name}", name)
    (kitchen.context / "odd" / os.fsdecode(b"bytes-\xff\xfe")).write_text("")
    entries = kitchen.copy("odd", "/o")
    assert set(entries) == {"o", *(f"o/{n}" for n in ODD), os.fsdecode(b"o/bytes-\xff\xfe")}
    for _ in tar_stream(entries.values()):
        pass


@pytest.mark.parametrize("name", [name for name in ODD if not set(name) & set("*?[\\")])
def test_odd_name_can_be_said(kitchen: Kitchen, name: str) -> None:
    kitchen.add_file(name)
    word = name.replace("\\", "\\\\").replace("$", "\\$").replace('"', '\\"').replace("'", "\\'")
    assert len(kitchen.copy(word, "/x")) == 1


def test_bracket_in_a_name_is_said_as_a_class(kitchen: Kitchen) -> None:
    """The reference's example."""
    kitchen.add_file("arr[0].txt")
    assert list(kitchen.copy("arr[[]0].txt", "/d/")) == ["d", "d/arr[0].txt"]


def test_name_that_is_no_utf8_can_be_matched(kitchen: Kitchen) -> None:
    name = os.fsdecode(b"a\xff.txt")
    kitchen.add_file(name)
    assert list(kitchen.copy("a?.txt", "/d/")) == ["d", f"d/{name}"]


def test_wildcards_look_behind_links_only_where_these_are_named(kitchen: Kitchen) -> None:
    kitchen.add_file("real/a.txt")
    (kitchen.context / "way").symlink_to("real")
    assert list(kitchen.copy("way/*.txt", "/d/")) == ["d", "d/a.txt"]
    (kitchen.context / "real").rename(kitchen.context / ".hidden")
    (kitchen.context / "way").unlink()
    (kitchen.context / "way").symlink_to(".hidden")
    assert kitchen.copy("w*/*.txt", "/d/") == {}


def test_wildcard_that_matches_a_dangling_link_says_so(kitchen: Kitchen) -> None:
    (kitchen.context / "x.lnk").symlink_to("gone")
    with pytest.raises(DockerfileError, match=r'"x.lnk" .* symbolic link to "gone"'):
        kitchen.copy("*.lnk", "/d/")


def test_link_that_leads_in_a_circle_is_an_error(kitchen: Kitchen) -> None:
    (kitchen.context / "loop").symlink_to("loop")
    with pytest.raises((ContentError, DockerfileError), match="loop"):
        kitchen.copy("loop", "/d/")


class TestMetadata:
    def test_special_bits_are_kept(self, kitchen: Kitchen) -> None:
        kitchen.add_file("d/tool", mode=0o6755)
        (kitchen.context / "d/tmp").mkdir()
        (kitchen.context / "d/tmp").chmod(0o1777)
        entries = kitchen.copy("d", "/d", chown="5:6")
        assert (entries["d/tool"].mode, entries["d/tmp"].mode) == (0o6755, 0o1777)

    def test_special_bits_can_be_given(self, kitchen: Kitchen) -> None:
        assert kitchen.copy("file", "/x", chmod="4755")["x"].mode == 0o4755
        assert kitchen.copy("file", "/x", chmod="u+s,+t")["x"].mode == 0o5644

    def test_mode_of_a_link_is_not_changed(self, kitchen: Kitchen) -> None:
        (kitchen.context / "dir/link").symlink_to("inner")
        assert kitchen.copy("dir", "/d", chmod="700")["d/link"].mode == 0o777

    @needs_root
    def test_capabilities_survive_a_new_owner(self, kitchen: Kitchen) -> None:
        path = kitchen.context / "file"
        try:
            os.setxattr(path, "security.capability", _CAPABILITY)
        except OSError:
            pytest.skip("this file system has no capabilities")
        entry = kitchen.copy("file", "/x", chown="5:6", chmod="755")["x"]
        assert entry.xattrs == {b"security.capability": _CAPABILITY}

    def test_access_lists_of_the_context_stay_here(self, kitchen: Kitchen) -> None:
        path = kitchen.context / "file"
        # user::rw-, group::r--, other::r--: as acl(5) has them on disk.
        acl = bytes.fromhex("02000000 01000600ffffffff 04000400ffffffff 20000400ffffffff")
        try:
            os.setxattr(path, "system.posix_acl_access", acl)
            os.setxattr(path, "user.note", b"keep")
        except OSError:
            pytest.skip("this file system has no access control lists")
        assert kitchen.copy("file", "/x")["x"].xattrs == {b"user.note": b"keep"}

    def test_time_is_the_sources(self, kitchen: Kitchen) -> None:
        os.utime(kitchen.context / "file", ns=(NOW + 5, NOW + 5))
        assert kitchen.copy("file", "/x")["x"].mtime_ns == NOW + 5


def test_hard_links_of_one_copy_stay_one_file_under_another_owner(kitchen: Kitchen) -> None:
    os.link(kitchen.context / "dir/inner", kitchen.context / "dir/other")
    entries = kitchen.copy("dir", "/d", chown="5:6")
    assert kinds(entries)["d/other"] is Kind.HARDLINK
    assert {(entry.uid, entry.gid) for entry in entries.values()} == {(5, 6)}


def test_hard_link_whose_other_name_is_excluded_is_a_file(kitchen: Kitchen) -> None:
    os.link(kitchen.context / "dir/inner", kitchen.context / "dir/other")
    assert kinds(kitchen.copy("dir", "/d", exclude=("inner",)))["d/other"] is Kind.FILE


def test_sparse_file_is_copied_without_being_read(kitchen: Kitchen) -> None:
    """A terabyte of holes is no more work than any other file until it is packed."""
    path = kitchen.context / "dir/sparse"
    with path.open("wb") as file:
        try:
            file.truncate(1 << 40)
        except OSError:
            pytest.skip("this file system has no files of that size")
    entry = kitchen.copy("dir", "/d")["d/sparse"]
    assert (entry.size, entry.content) == (1 << 40, os.fsencode(path))


def test_archive_is_recognised_without_being_read(kitchen: Kitchen) -> None:
    path = kitchen.context / "zeros"
    with path.open("wb") as file:
        try:
            file.truncate(1 << 40)
        except OSError:
            pytest.skip("this file system has no files of that size")
    assert kitchen.add("zeros", "/x")["x"].size == 1 << 40


def test_same_source_twice_is_there_once(kitchen: Kitchen) -> None:
    assert list(kitchen.copy("file", "file", "/d/")) == ["d", "d/file"]


def test_directory_replaced_by_a_file_and_back_in_one_copy(kitchen: Kitchen) -> None:
    kitchen.add_file("one/x/old")
    kitchen.add_file("two/x", "file")
    kitchen.add_file("three/x/new")

    def copied(*words: str) -> dict[str, Entry]:
        return kitchen.copy(*words, "/d/")

    assert kinds(copied("one", "two")) == {"d": Kind.DIRECTORY, "d/x": Kind.FILE}
    with pytest.raises(DockerfileError, match="/d/x is a directory in the build context and a f"):
        copied("one", "two", "three")
