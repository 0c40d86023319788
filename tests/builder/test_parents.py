"""COPY ``--parents``: the path of a source is kept, from the root or from the pivot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kaniko_core.builder.parents import Pivot
from kaniko_core.errors import DockerfileError
from kaniko_core.oci.entry import Entry, Kind
from tests.builder.copying import NOW, OLD, Kitchen, kinds


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    """A context with ``x/a.txt``, ``x/y/b.txt``, ``x/y/c.md``, ``z/y/d.txt``, ``top.txt``."""
    kitchen = Kitchen(tmp_path)
    for name in ("x/a.txt", "x/y/b.txt", "x/y/c.md", "z/y/d.txt", "top.txt"):
        kitchen.add_file(name, name)
    return kitchen


def parents(kitchen: Kitchen, *words: str, **flags: object) -> dict[str, Entry]:
    return kitchen.copy(*words, parents=True, **flags)  # type: ignore[arg-type]


def files(entries: dict[str, Entry]) -> list[str]:
    return [name for name, entry in entries.items() if entry.kind is not Kind.DIRECTORY]


@pytest.mark.parametrize(
    ("word", "top", "pattern"),
    [
        ("a/b", "/", "a/b"),
        ("./a/b", "/", "a/b"),
        ("/a/b/", "/", "a/b"),
        ("a/./b", "a", "b"),
        ("/a/./b/./c", "/a", "b/c"),
        ("./a/./b", "./a", "b"),
        ("/./a", "/", "a"),
        ("a*/./**/b", "a*", "**/b"),
        ("a/.", "/", "a"),
        ("a/./", "a", ""),
        (".", "/", ""),
        ("./", "/", ""),
        ("/", "/", ""),
        ("../../a", "/", "a"),
        ("a/./../b", "a", "b"),
    ],
)
def test_word_is_read_as_pivot_and_pattern(word: str, top: str, pattern: str) -> None:
    assert Pivot.of(word) == Pivot(top, pattern)


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("x/a.txt", ["x/a.txt"]),
        ("./x/a.txt", ["x/a.txt"]),
        ("/x/y", ["x/y/b.txt", "x/y/c.md"]),
        ("x/y/", ["x/y/b.txt", "x/y/c.md"]),
        ("x/*", ["x/a.txt", "x/y/b.txt", "x/y/c.md"]),
        ("*/*.txt", ["x/a.txt"]),
        ("*/y/*.txt", ["x/y/b.txt", "z/y/d.txt"]),
        ("*.txt", ["top.txt"]),
        ("**/*.txt", ["top.txt", "x/a.txt", "x/y/b.txt", "z/y/d.txt"]),
        ("x/**/*.txt", ["x/a.txt", "x/y/b.txt"]),
        ("**/y", ["x/y/b.txt", "x/y/c.md", "z/y/d.txt"]),
        ("x/./y/b.txt", ["y/b.txt"]),
        ("x/./**/*.txt", ["a.txt", "y/b.txt"]),
        ("*/./y", ["y/b.txt", "y/c.md", "y/d.txt"]),
        ("[xz]/./y/*.txt", ["y/b.txt", "y/d.txt"]),
        ("x/./", ["a.txt", "y/b.txt", "y/c.md"]),
        ("./x/./", ["a.txt", "y/b.txt", "y/c.md"]),
        ("./", ["top.txt", "x/a.txt", "x/y/b.txt", "x/y/c.md", "z/y/d.txt"]),
        (".", ["top.txt", "x/a.txt", "x/y/b.txt", "x/y/c.md", "z/y/d.txt"]),
        ("**", ["top.txt", "x/a.txt", "x/y/b.txt", "x/y/c.md", "z/y/d.txt"]),
    ],
)
def test_path_below_the_pivot_is_kept(kitchen: Kitchen, word: str, found: list[str]) -> None:
    assert files(parents(kitchen, word, "/d/")) == [f"d/{name}" for name in found]


def test_only_directories_with_something_in_them_are_made(kitchen: Kitchen) -> None:
    (kitchen.context / "empty/y").mkdir(parents=True)
    (kitchen.context / "other/n").mkdir(parents=True)
    entries = parents(kitchen, "*/y", "/d/")
    assert list(entries) == [
        *("d", "d/empty", "d/empty/y", "d/x", "d/x/y", "d/x/y/b.txt", "d/x/y/c.md"),
        *("d/z", "d/z/y", "d/z/y/d.txt"),
    ]


def test_destination_is_a_directory_without_a_slash_too(kitchen: Kitchen) -> None:
    assert files(parents(kitchen, "x/a.txt", "/d")) == ["d/x/a.txt"]
    assert files(parents(kitchen, "x/a.txt", "top.txt", "/d")) == ["d/top.txt", "d/x/a.txt"]
    (kitchen.image / "f").write_text("")
    with pytest.raises(DockerfileError, match="/f is a file"):
        parents(kitchen, "x/a.txt", "/f")


@pytest.mark.parametrize("word", ["gone*", "x/gone*", "*/gone", "gone*/./x", "x/./*.go"])
def test_wildcard_may_match_nothing(kitchen: Kitchen, word: str) -> None:
    assert files(parents(kitchen, word, "/d/")) == []


@pytest.mark.parametrize("word", ["gone", "x/gone", "x/./gone", "gone/./x", "gone/./*.txt"])
def test_plain_name_must_be_there(kitchen: Kitchen, word: str) -> None:
    with pytest.raises(DockerfileError, match="does not exist in the build context"):
        parents(kitchen, word, "/d/")


def test_missing_name_gets_a_hint(kitchen: Kitchen) -> None:
    with pytest.raises(DockerfileError) as caught:
        parents(kitchen, "x/./y/c.mdd", "/d/")
    assert caught.value.hint == "did you mean x/y/c.md?"


def test_ignored_name_is_explained(kitchen: Kitchen) -> None:
    kitchen.ignore = ("x/y",)
    with pytest.raises(DockerfileError, match=r"excluded from the build context by \.docker"):
        parents(kitchen, "x/y", "/d/")
    assert files(parents(kitchen, "x", "/d/")) == ["d/x/a.txt"]


def test_escaped_wildcard_is_a_plain_name(kitchen: Kitchen) -> None:
    kitchen.add_file("w/[1].txt")
    kitchen.add_file("w/1.txt")
    assert files(parents(kitchen, r"w/\\[1\\].txt", "/d/")) == ["d/w/[1].txt"]
    assert files(parents(kitchen, "w/[1].txt", "/d/")) == ["d/w/1.txt"]


def test_files_before_the_pivot_are_no_directories(kitchen: Kitchen) -> None:
    assert files(parents(kitchen, "*/./a.txt", "/d/")) == ["d/a.txt"]


def test_links_below_the_pivot_stay_links(kitchen: Kitchen) -> None:
    (kitchen.context / "x/link").symlink_to("a.txt")
    (kitchen.context / "x/nowhere").symlink_to("gone")
    entries = parents(kitchen, "x/link", "x/nowhere", "/d/")
    assert entries["d/x/link"].link == b"a.txt"
    assert entries["d/x/nowhere"].link == b"gone"


def test_link_before_the_pivot_is_followed(kitchen: Kitchen) -> None:
    (kitchen.context / "way").symlink_to("x")
    assert files(parents(kitchen, "way/./a.txt", "/d/")) == ["d/a.txt"]


def test_name_behind_a_link_is_an_error_not_nothing(kitchen: Kitchen) -> None:
    (kitchen.context / "way").symlink_to("x")
    with pytest.raises(DockerfileError, match="leads through a symbolic link") as caught:
        parents(kitchen, "way/a.txt", "/d/")
    assert caught.value.hint == "write x/a.txt, or leave --parents out"


class TestDirectoriesOnTheWay:
    def test_have_mode_and_time_of_the_source_and_belong_to_root(self, kitchen: Kitchen) -> None:
        (kitchen.context / "x").chmod(0o750)
        os.utime(kitchen.context / "x", ns=(OLD, OLD))
        made = parents(kitchen, "x/y/b.txt", "/d/")["d/x"]
        assert (made.mode, made.mtime_ns, made.uid, made.gid) == (0o750, OLD, 0, 0)

    def test_obey_the_flags(self, kitchen: Kitchen) -> None:
        (kitchen.context / "x").chmod(0o750)
        entries = parents(kitchen, "x/y/b.txt", "/d/", chown="5:6", chmod="0711")
        assert {(entry.uid, entry.gid, entry.mode) for entry in entries.values()} == {(5, 6, 0o711)}

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may change owners")
    def test_keep_their_owner_from_a_stage(self, kitchen: Kitchen) -> None:
        os.chown(kitchen.context / "x", 12, 34)
        made = parents(kitchen, "x/y/b.txt", "/d/", stage=True)["d/x"]
        assert (made.uid, made.gid) == (12, 34)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may change owners")
    def test_that_exist_keep_owner_and_time(self, kitchen: Kitchen) -> None:
        """As with BuildKit, they get the mode of the source all the same."""
        there = kitchen.image / "d/x"
        there.mkdir(parents=True)
        there.chmod(0o700)
        os.chown(there, 12, 34)
        os.utime(there, ns=(NOW, NOW))
        (kitchen.context / "x").chmod(0o755)
        entries = parents(kitchen, "x/a.txt", "/d/")
        assert list(entries) == ["d/x", "d/x/a.txt"]
        entry = entries["d/x"]
        assert (entry.uid, entry.gid, entry.mode, entry.mtime_ns) == (12, 34, 0o755, NOW)

    def test_that_exist_with_the_same_mode_are_left_out(self, kitchen: Kitchen) -> None:
        (kitchen.image / "d/x").mkdir(parents=True)
        (kitchen.image / "d/x").chmod(0o755)
        (kitchen.context / "x").chmod(0o755)
        assert list(parents(kitchen, "x/a.txt", "/d/")) == ["d/x/a.txt"]

    def test_replace_a_link(self, kitchen: Kitchen) -> None:
        (kitchen.image / "d").mkdir()
        (kitchen.image / "d/x").symlink_to("/elsewhere")
        assert kinds(parents(kitchen, "x/a.txt", "/d/")) == {
            "d/x": Kind.DIRECTORY,
            "d/x/a.txt": Kind.FILE,
        }

    def test_are_shared_by_several_sources(self, kitchen: Kitchen) -> None:
        entries = parents(kitchen, "x/y/b.txt", "x/a.txt", "/d/")
        assert list(entries) == ["d", "d/x", "d/x/a.txt", "d/x/y", "d/x/y/b.txt"]


def test_exclude_speaks_of_names_below_the_pivot(kitchen: Kitchen) -> None:
    """The reference's example: ``COPY --parents --exclude=testapp assets/./**/icons*``."""
    for name in ("app1/icons32", "app1/icons64", "app1/notes", "app2/icons32", "testapp/icons32"):
        kitchen.add_file(f"assets/{name}")
    found = parents(kitchen, "assets/./**/icons*", "/d/", exclude=("testapp",))
    assert files(found) == ["d/app1/icons32", "d/app1/icons64", "d/app2/icons32"]
    found = parents(kitchen, "assets/**/icons*", "/d/", exclude=("assets/app?",))
    assert files(found) == ["d/assets/testapp/icons32"]
    found = parents(kitchen, "assets", "/d/", exclude=("**/icons*", "!**/icons64"))
    assert files(found) == ["d/assets/app1/icons64", "d/assets/app1/notes"]


def test_everything_excluded_leaves_an_empty_directory(kitchen: Kitchen) -> None:
    assert list(parents(kitchen, "x/a.txt", "/d/", exclude=("**",))) == ["d"]


def test_link_flag_makes_every_directory(kitchen: Kitchen) -> None:
    (kitchen.image / "d/x").mkdir(parents=True)
    entries = parents(kitchen, "x/a.txt", "/d/", link=True)
    assert list(entries) == ["d", "d/x", "d/x/a.txt"]
