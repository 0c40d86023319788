"""What was in the root before a build is there afterwards, whatever happens in between."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kaniko_core.builder.premises import Housekeeping, Premises, place_for, was_lent
from kaniko_core.errors import DiskError, KanikoError
from kaniko_core.progress import Event, Noted
from kaniko_core.rootfs.ignore import IgnoreRules


class Container:
    """A root with files of its own, and the builds in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.place = root / "kaniko/in-place"
        self.said: list[Event] = []
        for name in ("kaniko/program", "bin/sh", "etc/conf", "mine/deep/file", "context/x"):
            self.write(name, name)
        self.root.chmod(0o750)
        (self.root / "etc").chmod(0o711)

    def write(self, name: str, text: str = "") -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def premises(
        self, *covered: str, check: Callable[[], None] = lambda: None, **housekeeping: bool
    ) -> Premises:
        rules = IgnoreRules(frozenset({b"kaniko", *map(os.fsencode, covered)}))
        return Premises(
            *(self.root, self.place, rules, Housekeeping(**housekeeping)),
            *(self.said.append, check),
        )

    def files(self, *, interrupted: bool = False) -> dict[str, tuple[int, int, str]]:
        """Return all that is there but for the home; the root's time if nothing was interrupted."""
        tops = sorted(path for path in self.root.iterdir() if path.name != "kaniko")
        found = {}
        for path in (self.root, *(p for top in tops for p in (top, *sorted(top.rglob("*"))))):
            status = path.lstat()
            time = 0 if interrupted and path == self.root else status.st_mtime_ns
            text = path.read_text() if path.is_file() else ""
            found[str(path.relative_to(self.root))] = (status.st_mode, time, text)
        return found

    def build_something(self) -> None:
        """Put there what an image has, the root's own metadata included."""
        for name in ("bin/sh", "usr/lib/x", "mine/built"):
            self.write(name, "of the image")
        self.root.chmod(0o755)


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path / "root")


def forget(premises: Premises) -> None:
    """Let a build end as if it were killed: nothing is put back, and its locks are gone."""
    premises._stack.close()


# --- a build from its beginning to its end ---------------------------------------------------


def test_root_is_empty_but_for_what_is_covered_and_as_before_at_the_end(
    container: Container,
) -> None:
    before = container.files()
    premises = container.premises("context")
    premises.enter()
    within = sorted(path.name for path in container.root.iterdir())
    container.build_something()
    premises.close()

    assert within == ["context", "kaniko"]
    assert container.files() == before


def test_entering_twice_is_entering_once(container: Container) -> None:
    before = container.files()
    premises = container.premises()
    premises.enter()
    container.build_something()
    premises.enter()

    assert (container.root / "usr/lib/x").exists()
    premises.close()
    assert container.files() == before


def test_several_builds_one_after_another_do_not_see_each_other(container: Container) -> None:
    before = container.files()
    for _ in range(3):
        premises = container.premises()
        premises.enter()
        assert not (container.root / "usr").exists()
        container.build_something()
        premises.close()
        premises.close()
    assert container.files() == before


def test_root_that_is_never_entered_is_never_touched(container: Container) -> None:
    before = container.files()
    premises = container.premises()
    tree = premises.fresh()
    (tree / "file").write_text("x")
    assert premises.fresh() != tree
    premises.close()

    assert container.files() == before
    assert not container.place.exists()


def test_tree_that_is_thrown_away_is_gone_at_once(container: Container) -> None:
    premises = container.premises()
    tree = premises.fresh()
    (tree / "deep").mkdir()
    premises.throw_away(tree)
    premises.throw_away(tree)

    assert not tree.exists()
    premises.close()


# --- what becomes of the files ---------------------------------------------------------------


def test_nothing_of_a_tidy_build_is_left(container: Container) -> None:
    before = container.files()
    premises = container.premises(tidy=True)
    premises.enter()
    container.build_something()
    premises.close()

    assert container.files() == before
    assert [path.name for path in (container.root / "kaniko").iterdir()] == ["program"]


def test_files_that_are_to_be_forgotten_do_not_come_back(container: Container) -> None:
    premises = container.premises("context", forget=True)
    premises.enter()
    container.build_something()
    premises.close()

    assert sorted(path.name for path in container.root.iterdir()) == ["context", "kaniko"]


def test_last_tree_is_left_until_the_next_build(container: Container) -> None:
    before = container.files()
    premises = container.premises(leave=True)
    premises.enter()
    container.build_something()
    premises.close()
    left = container.files()
    container.premises().fresh()

    assert left["usr/lib/x"][2] == "of the image"
    assert container.files() == before
    assert [type(event) for event in container.said] == [Noted]


# --- what goes wrong -------------------------------------------------------------------------


@pytest.mark.parametrize("leave", [False, True])
def test_entry_that_fails_half_way_loses_nothing(
    container: Container, monkeypatch: pytest.MonkeyPatch, leave: bool
) -> None:
    """What is in the root then is the container's own, and no tree of a build."""
    before = container.files(interrupted=True)
    rename, renamed = os.rename, []

    def failing(*arguments: object, **where: int) -> None:
        renamed.append(arguments)
        if len(renamed) == 3:
            raise OSError(28, os.strerror(28))
        rename(*arguments, **where)  # type: ignore[arg-type]

    premises = container.premises(leave=leave)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", failing)
        with pytest.raises(DiskError, match="No space left"):
            premises.enter()
    assert container.files(interrupted=True) != before
    premises.close()

    assert container.files(interrupted=True) == before


@pytest.mark.parametrize("covered", [(), ("context",)], ids=["same rules", "other rules"])
def test_next_build_puts_in_order_what_a_killed_one_left(
    container: Container, covered: tuple[str, ...]
) -> None:
    """Also what that one left alone, and this one does not know: its context."""
    before = container.files(interrupted=True)
    killed = container.premises(*covered)
    killed.enter()
    container.build_something()
    forget(killed)
    assert was_lent(container.place)
    container.premises().fresh()

    assert container.files(interrupted=True) == before
    assert not was_lent(container.place)


def test_killed_while_files_were_moved_aside(container: Container) -> None:
    before = container.files(interrupted=True)
    killed = container.premises()
    killed.enter()
    killed._note("emptying")
    # Half of it was still to be moved.
    for name in ("etc", "mine"):
        (container.place / "aside" / name).rename(container.root / name)
    forget(killed)
    container.premises().fresh()

    assert container.files(interrupted=True) == before


def test_killed_while_files_were_put_back(container: Container) -> None:
    before = container.files(interrupted=True)
    killed = container.premises()
    killed.enter()
    killed._note("restoring")
    (container.place / "aside/etc").rename(container.root / "etc")
    forget(killed)
    container.premises().fresh()

    assert container.files(interrupted=True) == before


# --- several builds at once ------------------------------------------------------------------


def test_other_build_waits_and_then_finds_its_place(container: Container) -> None:
    """Also if the first removes what they share at its end."""
    first = container.premises()
    first.fresh()
    waiting = threading.Event()
    second = container.premises(check=waiting.set)
    found: list[Path] = []
    thread = threading.Thread(target=lambda: found.append(second.fresh()))
    thread.start()
    assert waiting.wait(10)
    assert not found
    first.close()
    thread.join(10)

    assert [path.is_dir() for path in found] == [True]
    assert sum(isinstance(event, Noted) for event in container.said) == 1
    second.close()


def test_build_that_waits_can_be_given_up(container: Container) -> None:
    first = container.premises()
    tree = first.fresh()

    def give_up() -> None:
        raise KanikoError("given up")

    second = container.premises(check=give_up)
    with pytest.raises(KanikoError, match="given up"):
        second.fresh()
    second.close()

    assert tree.is_dir()
    first.close()


@pytest.mark.parametrize("tidy", [False, True])
def test_build_that_is_given_up_does_not_wait_for_the_removal_of_leftovers(
    container: Container, tidy: bool
) -> None:
    given_up = False

    def check() -> None:
        if given_up:
            raise KanikoError("given up")

    before = container.files()
    premises = container.premises(check=check, tidy=tidy)
    premises.fresh()
    removed = threading.Event()
    removal = threading.Thread(target=removed.wait, args=(20,))
    removal.start()
    premises._removals.append(removal)
    given_up = True
    with pytest.raises(KanikoError, match="given up"):
        premises.enter()
    premises.close()
    still_removing = removal.is_alive()
    removed.set()
    removal.join()

    assert still_removing
    assert container.files() == before


def test_full_disk_does_not_keep_the_root_from_being_put_back(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a directory can be made then, nor a byte be written."""
    before = container.files()
    premises = container.premises()
    premises.enter()
    container.build_something()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", full)
        patch.setattr(Path, "write_text", full)
        patch.setattr(Path, "write_bytes", full)
        premises.close()

    assert container.files() == before


def test_build_that_finds_no_room_to_recover_removes_nothing(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = container.files(interrupted=True)
    killed = container.premises()
    killed.enter()
    container.build_something()
    forget(killed)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    second = container.premises()
    with monkeypatch.context() as patch:
        patch.setattr(os, "symlink", full)
        with pytest.raises(DiskError, match="No space left"):
            second.fresh()
        second.close()
    container.premises().fresh()

    assert container.files(interrupted=True) == before


def test_root_left_for_the_user_is_emptied_by_the_next_build(container: Container) -> None:
    """Putting back what the last build left is not the same as being in the root."""
    before = container.files()
    first = container.premises(leave=True)
    first.enter()
    container.build_something()
    first.close()
    second = container.premises()
    second.enter()
    within = sorted(path.name for path in container.root.iterdir())
    container.build_something()
    second.close()

    assert within == ["kaniko"]
    assert container.files() == before


# --- where trees are kept --------------------------------------------------------------------


def test_place_is_below_the_base_on_the_same_file_system(tmp_path: Path) -> None:
    assert place_for(tmp_path, tmp_path.parent) == tmp_path / "in-place"


def test_place_is_in_the_root_where_the_base_is_on_another(tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    assert place_for(memory, tmp_path) == tmp_path / ".kaniko-in-place"
