"""COPY and ADD ``--link``: a layer that does not depend on what is below it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kaniko_core.errors import DockerfileError
from kaniko_core.oci.entry import Kind
from tests.builder.copying import NOW, OLD, Kitchen, kinds, state


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    return Kitchen(tmp_path)


def test_links_of_the_image_are_replaced(kitchen: Kitchen) -> None:
    kitchen.add_file("a")
    (kitchen.image / "usr/lib/x").mkdir(parents=True)
    (kitchen.image / "lib").symlink_to("usr/lib")
    entries = kitchen.copy("a", "/lib/x/", link=True)
    assert kinds(entries) == {
        "lib": Kind.DIRECTORY,
        "lib/x": Kind.DIRECTORY,
        "lib/x/a": Kind.FILE,
    }


def test_layer_is_the_same_over_any_image(kitchen: Kitchen) -> None:
    kitchen.add_file("d/sub/a")
    os.utime(kitchen.context / "d", ns=(OLD, OLD))
    kitchen.state = state(workdir="/srv/app")
    over_nothing = kitchen.copy("d", "here/", link=True)
    (kitchen.image / "srv/app/here/sub").mkdir(parents=True)
    (kitchen.image / "srv/app/here").chmod(0o700)
    assert kitchen.copy("d", "here/", link=True) == over_nothing
    assert list(over_nothing) == [
        *("srv", "srv/app", "srv/app/here", "srv/app/here/sub", "srv/app/here/sub/a"),
    ]


def test_made_directories_have_the_time_of_what_they_are_made_for(kitchen: Kitchen) -> None:
    """There is no directory to take it from, and the time of the build would change each day."""
    os.utime(kitchen.add_file("a"), ns=(OLD, OLD))
    assert {e.mtime_ns for e in kitchen.copy("a", "/x/y/", link=True).values()} == {OLD}
    made = kitchen.copy("a", "/x/y/", link=True, epoch=NOW // 10**9)
    assert (made["x"].mtime_ns, made["x/y/a"].mtime_ns) == (NOW, OLD)


def test_file_becomes_the_destination_though_a_directory_is_there(kitchen: Kitchen) -> None:
    """The reference: sources are copied into an empty directory, which becomes the layer."""
    kitchen.add_file("a")
    (kitchen.image / "d").mkdir()
    assert kinds(kitchen.copy("a", "/d", link=True)) == {"d": Kind.FILE}
    assert list(kitchen.copy("a", "/d/", link=True)) == ["d", "d/a"]


def test_file_of_the_image_is_in_nobodys_way(kitchen: Kitchen) -> None:
    kitchen.add_file("d/a")
    (kitchen.image / "f").write_text("")
    assert kinds(kitchen.copy("d", "/f", link=True)) == {"f": Kind.DIRECTORY, "f/a": Kind.FILE}


def test_several_matches_need_a_slash(kitchen: Kitchen) -> None:
    kitchen.add_file("a.txt")
    kitchen.add_file("b.txt")
    (kitchen.image / "d").mkdir()
    with pytest.raises(DockerfileError, match="matches 2 sources"):
        kitchen.copy("*.txt", "/d", link=True)


def test_chown_by_name_asks_the_image(kitchen: Kitchen) -> None:
    kitchen.add_file("a")
    (kitchen.image / "etc").mkdir()
    (kitchen.image / "etc/passwd").write_text("app:x:7:8::/:\n")
    entries = kitchen.copy("a", "/x/", link=True, chown="app")
    assert {(entry.uid, entry.gid) for entry in entries.values()} == {(7, 8)}


def test_chmod_makes_it_an_ordinary_copy(kitchen: Kitchen) -> None:
    """As with BuildKit, which follows links then."""
    kitchen.add_file("a")
    (kitchen.image / "usr/lib").mkdir(parents=True)
    (kitchen.image / "lib").symlink_to("usr/lib")
    assert list(kitchen.copy("a", "/lib/", link=True, chmod="600")) == ["usr/lib/a"]


def test_conflicts_inside_the_layer_are_still_refused(kitchen: Kitchen) -> None:
    kitchen.add_file("one/x/file")
    kitchen.add_file("two/x")
    with pytest.raises(DockerfileError, match="/d/x is a directory"):
        kitchen.copy("one", "two/x", "/d/", link=True)
