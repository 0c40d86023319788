"""What of a step's changes becomes part of a layer."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kaniko_core.builder.changes import ignored_changes, squashed, without
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.options import BuildOptions
from kaniko_core.rootfs.ignore import IgnoreRules
from kaniko_core.rootfs.tree import Rootfs

Told = list[tuple[str, Kind]]


def file(name: str) -> Entry:
    return Entry(name.encode(), Kind.FILE, 0o644, 1, 2, size=1, content=b"/x", mtime_ns=3)


def link(name: str, target: str) -> Entry:
    return Entry(name.encode(), Kind.HARDLINK, 0o644, 1, 2, link=target.encode(), mtime_ns=3)


def gone(name: str) -> Entry:
    return Entry(name.encode(), Kind.WHITEOUT)


def told(entries: list[Entry]) -> Told:
    return [(entry.name.decode(), entry.kind) for entry in entries]


def left(*entries: Entry, ignored: str) -> list[Entry]:
    return list(without(entries, IgnoreRules(frozenset({ignored.encode()}))))


# --- what is ignored -------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["/a/b", "a/b", "//a/./b/", "/a/c/../b"])
def test_ignored_paths_are_from_the_root_however_they_are_written(text: str) -> None:
    assert ignored_changes(BuildOptions(ignore_path=(text,))).covered == {b"a/b"}


def test_var_run_is_ignored_only_if_asked() -> None:
    assert ignored_changes(BuildOptions()).covered == frozenset()
    assert ignored_changes(BuildOptions(ignore_var_run=True)).covered == {b"var/run"}


def test_what_is_ignored_is_left_out_with_all_below_it() -> None:
    entries = left(
        file("a"), file("logs"), file("logs/x/y"), gone("logs/z"), file("logs2"), ignored="logs"
    )
    assert told(entries) == [("a", Kind.FILE), ("logs2", Kind.FILE)]


def test_file_goes_by_the_first_name_that_is_not_ignored() -> None:
    entries = left(file("a/1"), link("a/2", "a/1"), link("b", "a/1"), link("c", "a/1"), ignored="a")
    assert told(entries) == [("b", Kind.FILE), ("c", Kind.HARDLINK)]
    assert entries[0].content == b"/x"
    assert entries[1].link == b"b"


def test_link_to_a_file_that_stays_stays() -> None:
    entries = left(file("b"), link("c", "b"), link("z/d", "b"), ignored="z")
    assert told(entries) == [("b", Kind.FILE), ("c", Kind.HARDLINK)]
    assert entries[1].link == b"b"


# --- one layer of several steps --------------------------------------------------------------


class Trees:
    """A tree before and after some steps."""

    def __init__(self, directory: Path) -> None:
        self.below, self.above = directory / "below", directory / "above"
        self.below.mkdir()
        self.above.mkdir()

    def put(self, name: str, text: str | None = None, *, below: bool = False) -> Path:
        top = self.below if below else self.above
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.mkdir(exist_ok=True)
        else:
            path.write_text(text)
        return path

    def squashed(self, *steps: list[Entry]) -> list[Entry]:
        with Rootfs(self.below) as below, Rootfs(self.above) as above:
            return list(squashed(steps, below, above))


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    return Trees(tmp_path)


def directory(name: str) -> Entry:
    return Entry(name.encode(), Kind.DIRECTORY, 0o755)


def test_last_state_counts(trees: Trees) -> None:
    trees.put("etc", below=True)
    trees.put("etc/conf", "last")
    (entry,) = [
        e for e in trees.squashed([file("etc/conf")], [file("etc/conf")]) if e.kind is Kind.FILE
    ]
    assert entry.content == bytes(trees.above / "etc/conf")
    assert entry.size == 4


def test_what_came_and_went_is_not_told(trees: Trees) -> None:
    assert trees.squashed([file("tmp.x")], [gone("tmp.x")]) == []


def test_what_went_for_good_is_a_whiteout(trees: Trees) -> None:
    trees.put("etc/old", "x", below=True)
    trees.put("etc")
    assert told(trees.squashed([file("etc/old")], [gone("etc/old")])) == [
        ("etc", Kind.DIRECTORY),
        ("etc/old", Kind.WHITEOUT),
    ]


def test_only_the_topmost_of_what_went_is_told(trees: Trees) -> None:
    trees.put("opt/app/x", "x", below=True)
    entries = trees.squashed([gone("opt/app/x")], [gone("opt")])
    assert told(entries) == [("opt", Kind.WHITEOUT)]


def test_directory_that_was_replaced_loses_what_was_in_it(trees: Trees) -> None:
    trees.put("d/old", "x", below=True)
    trees.put("d/kept", "x", below=True)
    trees.put("d/kept", "y")
    entries = trees.squashed([Entry(b"d", Kind.OPAQUE), directory("d"), file("d/kept")])
    assert told(entries) == [
        ("d", Kind.DIRECTORY),
        ("d/kept", Kind.FILE),
        ("d/old", Kind.WHITEOUT),
    ]


def test_directory_that_only_was_looked_into_is_not_told(trees: Trees) -> None:
    trees.put("etc", below=True)
    trees.put("etc")
    assert trees.squashed([directory("etc"), file("etc/x")], [gone("etc/x")]) == []


def test_directory_with_another_mode_is_told(trees: Trees) -> None:
    trees.put("etc", below=True).chmod(0o755)
    trees.put("etc").chmod(0o700)
    (entry,) = trees.squashed([directory("etc")])
    assert (entry.name, entry.mode) == (b"etc", 0o700)


def test_names_of_one_file_are_links_of_the_first(trees: Trees) -> None:
    first = trees.put("a", "x")
    (trees.above / "b").hardlink_to(first)
    entries = trees.squashed([file("a")], [link("b", "a")])
    assert told(entries) == [("a", Kind.FILE), ("b", Kind.HARDLINK)]
    assert entries[1].link == b"a"


def test_file_in_the_place_of_a_directory_is_all_that_is_told(trees: Trees) -> None:
    trees.put("d/x", "x", below=True)
    trees.put("d", "now a file")
    assert told(trees.squashed([gone("d/x"), gone("d")], [file("d")])) == [("d", Kind.FILE)]


def test_directory_that_went_and_came_again_loses_what_was_in_it(trees: Trees) -> None:
    """Each step alone hides nothing: first a whiteout, then a file, then a directory."""
    trees.put("d/sub/old", "x", below=True)
    trees.put("d/new", "x")
    entries = trees.squashed([gone("d")], [file("d")], [directory("d"), file("d/new")])
    assert told(entries) == [
        ("d", Kind.DIRECTORY),
        ("d/new", Kind.FILE),
        ("d/sub", Kind.WHITEOUT),
    ]


def test_directory_in_the_place_of_a_link_is_not_taken_for_where_the_link_led(
    trees: Trees,
) -> None:
    trees.put("real/sub", below=True)
    (trees.below / "d").symlink_to("real")
    trees.put("real/sub")
    trees.put("d/sub")
    entries = trees.squashed([gone("d")], [directory("d"), directory("d/sub")])
    assert told(entries) == [("d", Kind.DIRECTORY), ("d/sub", Kind.DIRECTORY)]


def test_nothing_is_told_of_what_is_behind_a_link_now(trees: Trees) -> None:
    trees.put("real/x", "x")
    (trees.above / "d").symlink_to("real")
    entries = trees.squashed([directory("d"), file("d/x")], [gone("d")], [file("d")])
    assert told(entries) == [("d", Kind.SYMLINK)]


def test_socket_in_the_place_of_a_file_is_told_as_nothing_there(trees: Trees) -> None:
    trees.put("d/x", "x", below=True)
    os.mknod(trees.put("d") / "x", stat.S_IFSOCK | 0o600)
    assert told(trees.squashed([gone("d/x")])) == [("d", Kind.DIRECTORY), ("d/x", Kind.WHITEOUT)]
