"""COPY and ADD ``--exclude``: patterns of .dockerignore's kind, below each source."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaniko_core.errors import DockerfileError
from kaniko_core.oci.entry import Entry, Kind
from tests.builder.copying import Kitchen, state


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    """The context of BuildKit's own tests of the flag: three directories of files."""
    kitchen = Kitchen(tmp_path)
    for name in (
        *("dir1/file-101.png", "dir1/file-102.txt", "dir1/file-103.jpeg"),
        *("dir2/file-201.pdf", "dir2/file-202.jpeg", "dir2/file-203.png"),
        *("dir3/file-301.mp3", "dir3/file-302.mpeg"),
        *("home.txt", "home.md", "homer"),
    ):
        kitchen.add_file(name)
    return kitchen


def files(entries: dict[str, Entry]) -> list[str]:
    return [name for name, entry in entries.items() if entry.kind is not Kind.DIRECTORY]


def test_patterns_are_relative_to_the_copied_directory(kitchen: Kitchen) -> None:
    found = kitchen.copy(".", "/1", exclude=("*/*.png", "*/*.jpeg", "home*"))
    assert files(found) == [
        *("1/dir1/file-102.txt", "1/dir2/file-201.pdf"),
        *("1/dir3/file-301.mp3", "1/dir3/file-302.mpeg"),
    ]
    assert files(kitchen.add("dir3/", "/3/", exclude=("*.mp3",))) == ["3/file-302.mpeg"]
    # The source's own name is no part of it.
    assert len(files(kitchen.copy("dir3", "/3", exclude=("dir3", "dir3/*")))) == 2


def test_patterns_are_for_each_directory_that_a_wildcard_matches(kitchen: Kitchen) -> None:
    exclude = ("*.mp*", "*.jpeg", "*.png", "*.pdf")
    assert files(kitchen.add("dir*", "/5", exclude=exclude)) == ["5/file-102.txt"]


def test_patterns_are_for_each_of_several_sources(kitchen: Kitchen) -> None:
    found = kitchen.copy("dir1", "dir2", "home.txt", "/d/", exclude=("*.png", "*.txt"))
    assert files(found) == ["d/file-103.jpeg", "d/file-201.pdf", "d/file-202.jpeg"]


def test_files_that_a_wildcard_matches_are_excluded_by_name(kitchen: Kitchen) -> None:
    """The reference's example; BuildKit 0.32 copies them all the same."""
    assert files(kitchen.copy("hom*", "/d/", exclude=("*.txt",))) == ["d/home.md", "d/homer"]
    found = kitchen.copy("dir1/*", "/d/", exclude=("*.png", "!file-101*"))
    assert files(found) == ["d/file-101.png", "d/file-102.txt", "d/file-103.jpeg"]


def test_everything_excluded_leaves_an_empty_directory(kitchen: Kitchen) -> None:
    assert list(kitchen.add("dir*", "/6", exclude=("*",))) == ["6"]


def test_a_star_alone_does_not_look_into_directories(kitchen: Kitchen) -> None:
    kitchen.add_file("d/a.1")
    kitchen.add_file("d/sub/b.1")
    assert files(kitchen.copy("d", "/x", exclude=("*.1",))) == ["x/sub/b.1"]
    assert files(kitchen.copy("d", "/x", exclude=("**/*.1",))) == []


def test_exceptions_bring_their_directories_along(kitchen: Kitchen) -> None:
    kitchen.add_file("d/keep/deep/a.txt")
    kitchen.add_file("d/drop/b.txt")
    kitchen.add_file("d/keep/c.md")
    found = kitchen.copy("d", "/x", exclude=("*", "!keep/deep"))
    assert list(found) == ["x", "x/keep", "x/keep/deep", "x/keep/deep/a.txt"]


def test_directory_that_is_only_passed_through_keeps_its_owner(kitchen: Kitchen) -> None:
    kitchen.add_file("d/keep/a.txt")
    (kitchen.context / "d/keep").chmod(0o700)
    (kitchen.image / "x/keep").mkdir(parents=True)
    (kitchen.image / "x/keep").chmod(0o755)
    found = kitchen.copy("d", "/x", exclude=("keep", "!keep/a.txt"), chown="5:6")
    there = (kitchen.image / "x/keep").stat()
    entry = found["x/keep"]
    assert (entry.uid, entry.gid, entry.mode) == (there.st_uid, there.st_gid, 0o700)
    assert found["x/keep/a.txt"].uid == 5


def test_exclude_and_dockerignore_add_up(kitchen: Kitchen) -> None:
    kitchen.ignore = ("*", "!dir1")
    assert files(kitchen.copy(".", "/x", exclude=("**/*.png",))) == [
        "x/dir1/file-102.txt",
        "x/dir1/file-103.jpeg",
    ]
    # An exception of the one does not bring back what the other leaves out.
    assert files(kitchen.copy(".", "/x", exclude=("!dir2",)))[-1] == "x/dir1/file-103.jpeg"


def test_variables_are_expanded(kitchen: Kitchen) -> None:
    kitchen.state = state(env={"KIND": "png"})
    found = kitchen.copy("dir1", "/x", exclude=("*.$KIND",))
    assert files(found) == ["x/file-102.txt", "x/file-103.jpeg"]


def test_wrong_pattern_is_an_error_with_its_place(kitchen: Kitchen) -> None:
    with pytest.raises(DockerfileError, match=r"Dockerfile:3: .* is no pattern"):
        kitchen.copy("dir1", "/x", exclude=("[",))
