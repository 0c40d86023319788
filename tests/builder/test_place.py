"""One tree on disk: unpacked when somebody looks, moved as a whole, right where it is covered."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kaniko_core.builder.place import Place
from kaniko_core.errors import KanikoError
from kaniko_core.oci.entry import Entry
from kaniko_core.progress import Event
from kaniko_core.rootfs.covered import mark_foreign
from kaniko_core.rootfs.ignore import IgnoreRules
from tests.builder.placing import Layers, directory, file, symlink

ACCOUNT = "var/run/secrets/account"


class Ground:
    """A root with mounts, and a place beside it."""

    def __init__(self, top: Path) -> None:
        self.root = top / "root"
        self.layers = Layers(top / "layers")
        self.settled = 0
        self.given_up = False
        self.said: list[Event] = []
        self.home = top / "place"
        (self.home / "tree").mkdir(parents=True)
        (self.home / "shadow").mkdir()
        self.root.mkdir()

    def place(self, *covered: str) -> Place:
        rules = IgnoreRules(frozenset(map(os.fsencode, covered)))
        for name in covered:
            (self.root / name).mkdir(parents=True)
            (self.root / name / "theirs").write_text("theirs")
        return Place(self.home, self.home / "tree", rules, self._settle, self._check)

    def _settle(self) -> None:
        self.settled += 1

    def _check(self) -> None:
        if self.given_up:
            raise KanikoError("given up")

    def unpack(self, place: Place, *entries: Entry) -> None:
        place.unpack_layer(self.layers.layer(*entries), self.said.append, "base")


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def tree(place: Place) -> dict[str, str]:
    """Return what the view has: the content of files, the targets of links."""
    found = {}
    with place.view() as view:
        for name, _ in view.walk():
            path = Path(os.fsdecode(view.host_path(name)))
            if path.is_symlink():
                found[name.decode()] = f"-> {path.readlink()}"
            else:
                found[name.decode()] = path.read_text() if path.is_file() else ""
    return found


# --- when and how it is unpacked -------------------------------------------------------------


def test_nothing_is_unpacked_before_somebody_looks(ground: Ground) -> None:
    place = ground.place()
    place.waiting.append(lambda: ground.unpack(place, file("a", "1")))
    place.waiting.append(lambda: place.unpack_entries([file("a", "2")]))
    assert list(place.stash.iterdir()) == []

    assert tree(place) == {"a": "2"}
    assert place.waiting == []


def test_what_is_read_of_it_is_waited_for_before_it_changes(ground: Ground) -> None:
    place = ground.place()
    place.ready()
    assert ground.settled == 0
    place.waiting.append(lambda: place.unpack_entries([file("a", "1")]))
    place.ready()
    place.ready()
    assert ground.settled == 1


def test_unpacking_ends_when_the_build_is_given_up(ground: Ground) -> None:
    place = ground.place()
    ground.given_up = True
    with pytest.raises(KanikoError, match="given up"):
        ground.unpack(place, file("a", "1"))


def test_root_has_the_time_of_the_image_and_not_of_unpacking(ground: Ground) -> None:
    place = ground.place()
    ground.unpack(place, file("a", "1"))
    assert place.root.stat().st_mtime_ns == 0
    root = directory("")
    root.mtime_ns = 10**18
    ground.unpack(place, root, file("b", "1"))
    assert place.root.stat().st_mtime_ns == 10**18


# --- covered places --------------------------------------------------------------------------


def test_what_the_image_has_at_a_mount_is_seen_and_the_mount_is_left_alone(
    ground: Ground,
) -> None:
    place = ground.place("work")
    place.move_to(ground.root)
    ground.unpack(place, directory("work"), file("work/x", "image"), file("y", "image"))

    assert tree(place) == {"work": "", "work/x": "image", "y": "image"}
    assert [path.name for path in (ground.root / "work").iterdir()] == ["theirs"]


def test_tree_is_the_same_wherever_it_is(ground: Ground) -> None:
    place = ground.place("work", ACCOUNT)
    place.move_to(ground.root)
    ground.unpack(place, file("work/x", "image"), directory("run"), symlink("var/run", "/run"))
    there = tree(place)
    place.move_to(place.stash)

    assert tree(place) == there
    assert sorted(path.name for path in ground.root.iterdir()) == ["var", "work"]
    place.move_to(ground.root)
    assert tree(place) == there


@pytest.mark.parametrize("covered", [(ACCOUNT,), (ACCOUNT, "run")], ids=["", "a mount there too"])
def test_what_commands_put_beside_a_mount_goes_where_the_link_of_the_image_leads(
    ground: Ground, covered: tuple[str, ...]
) -> None:
    place = ground.place(*covered)
    place.move_to(ground.root)
    ground.unpack(place, directory("run", 0o711), symlink("var/run", "/run"))
    place.scan()
    (ground.root / "var/run/daemon.pid").write_text("1")
    place.has_run()

    assert tree(place) == {"run": "", "run/daemon.pid": "1", "var": "", "var/run": "-> /run"}
    with place.view() as view:
        status = view.lstat("run")
        assert status is not None
        assert stat.S_IMODE(status.st_mode) == 0o711
    assert (ground.root / ACCOUNT / "theirs").read_text() == "theirs"
    if "run" in covered:
        assert [path.name for path in (ground.root / "run").iterdir()] == ["theirs"]


def test_directory_that_a_link_of_the_image_leads_to_still_shows_when_both_hold_mounts(
    ground: Ground,
) -> None:
    """Of the two directories, one is the container's own, and its time says so."""
    place = ground.place("var/run/token", "run/containerenv")
    mark_foreign(ground.root, place.rules)
    place.move_to(ground.root)
    ground.unpack(
        place, directory("run"), file("run/pid", "1"), directory("var"), symlink("var/run", "/run")
    )
    place.scan()
    place.has_run()

    assert tree(place) == {"run": "", "run/pid": "1", "var": "", "var/run": "-> /run"}


def test_directory_of_the_container_shows_when_something_was_moved_there(ground: Ground) -> None:
    place = ground.place("var/run/token", "run/containerenv")
    mark_foreign(ground.root, place.rules)
    place.move_to(ground.root)
    ground.unpack(place, directory("var"), symlink("var/run", "/run"))
    place.scan()
    (ground.root / "var/run/pid").write_text("1")
    place.has_run()

    assert tree(place) == {"run": "", "run/pid": "1", "var": "", "var/run": "-> /run"}


# --- what changed ----------------------------------------------------------------------------


def test_what_was_copied_is_no_change_of_the_next_command(ground: Ground) -> None:
    place = ground.place()
    ground.unpack(place, file("a", "1"))
    place.scan().settle()
    place.unpack_entries([directory("d"), file("d/b", "2")])
    (place.root / "c").write_text("3")

    assert [entry.name for entry in place.scan().changes()] == [b"c"]


def test_moving_is_no_change(ground: Ground) -> None:
    """Though it gives what is moved a new time of change."""
    place = ground.place("etc/mount")
    ground.unpack(place, file("a", "1"), file("etc/conf", "2"))
    place.scan().settle()
    place.move_to(ground.root)

    assert place.scan().changes() == []
    (ground.root / "etc/conf").write_text("3")
    assert [entry.name for entry in place.scan().changes()] == [b"etc", b"etc/conf"]
