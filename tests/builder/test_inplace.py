"""Trees without any privilege: where they are, who shares one, and what their layers have.

No command runs here: those need a container (``integration/test_in_place.py``).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

import pytest

from kaniko_core.builder.inplace import InPlaceTrees, PlacedTree
from kaniko_core.builder.premises import Housekeeping, Premises
from kaniko_core.builder.source import CopySource
from kaniko_core.builder.workspace import Workspace, open_workspace
from kaniko_core.errors import KanikoError, SandboxError
from kaniko_core.oci.entry import Entry
from kaniko_core.oci.image import Layer
from kaniko_core.progress import silent
from kaniko_core.rootfs.ignore import IgnoreRules
from kaniko_core.sandbox.runner import Process
from tests.builder.placing import Layers, directory, file, names_in, symlink


class Container:
    """A root with files of its own and a mount in /etc, and trees for it."""

    def __init__(self, root: Path, workspace: Workspace, layers: Layers) -> None:
        self.root = root
        self.layers = layers
        self.place = workspace.directory.parent / "in-place"
        self.asked = 0
        for name in ("mine/file", "etc/hosts", "etc/own"):
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text("of the container")
        rules = IgnoreRules(frozenset({b"kaniko", b"etc/hosts"}))
        premises = Premises(*(root, self.place, rules, Housekeeping(), silent), workspace.check)
        self.trees = InPlaceTrees(workspace, premises, self._allowed)

    def _allowed(self) -> None:
        # What shows that this is a container may be one of the files that are moved aside.
        self.asked += 1
        if not (self.root / "mine/file").exists():
            raise SandboxError("this is no container")

    def names(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir() if path.name != "kaniko")

    def start(self, *entries: Entry, runs: bool = False) -> PlacedTree:
        return self.trees.start("base", self.layers.image(*entries), runs=runs)

    def finished(self, tree: PlacedTree, *, needed: bool = True) -> PlacedTree:
        return self.trees.finish(tree, None, needed=needed)


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    root = tmp_path / "root"
    with open_workspace(root / "kaniko", None, silent) as workspace:
        made = Container(root, workspace, Layers(tmp_path / "layers"))
        yield made
        made.trees.close()


def content(tree: PlacedTree) -> dict[str, str]:
    """Return the files of a tree, without its directories."""
    found = {}
    with tree.view as view:
        for name, _ in view.walk():
            path = Path(os.fsdecode(view.host_path(name)))
            if path.is_symlink() or path.is_file():
                link = path.is_symlink()
                found[name.decode()] = str(path.readlink()) if link else path.read_text()
    return found


# --- where a tree is -------------------------------------------------------------------------


def test_root_is_not_touched_where_nothing_runs(container: Container) -> None:
    before = container.names()
    tree = container.start(file("a", "1")).copied([file("b", "2")], container.layers.pack)

    assert content(tree) == {"a": "1", "b": "2"}
    assert container.names() == before
    assert container.asked == 0


def test_tree_of_a_stage_that_runs_commands_is_in_the_root_and_goes_again(
    container: Container,
) -> None:
    tree = container.start(directory("etc"), file("etc/hosts", "image"), file("a", "1"), runs=True)

    assert content(tree) == {"a": "1", "etc/hosts": "image"}
    assert (container.root / "a").read_text() == "1"
    assert (container.root / "etc/hosts").read_text() == "of the container"
    assert container.names() == ["a", "etc"]
    container.trees.close()
    assert container.names() == ["etc", "mine"]
    assert (container.root / "etc/own").read_text() == "of the container"


def test_stage_that_another_one_needs_is_moved_aside_for_it(container: Container) -> None:
    one = container.finished(container.start(file("a", "1"), file("etc/conf", "1"), runs=True))
    two = container.start(file("b", "2"), runs=True)
    copied = content(one)

    assert copied == {"a": "1", "etc/conf": "1"}
    assert content(two) == {"b": "2"}
    assert container.names() == ["b", "etc"]


def test_permission_is_asked_for_once_before_the_root_is_touched(container: Container) -> None:
    """Afterwards, the root has an image in it that looks like nothing."""
    for name in ("a", "b", "c"):
        container.finished(container.start(file(name, "x"), runs=True))
    assert container.asked == 1


def test_root_stays_as_it_is_where_permission_is_refused(container: Container) -> None:
    (container.root / "mine/file").rename(container.root / "mine/other")
    with pytest.raises(SandboxError, match="no container"):
        container.start(file("a", "1"), runs=True)

    assert container.names() == ["etc", "mine"]
    (container.root / "mine/other").rename(container.root / "mine/file")


# --- who has which ---------------------------------------------------------------------------


def test_nothing_begins_when_the_build_was_given_up(container: Container) -> None:
    container.trees.cancel()
    with pytest.raises(KanikoError, match="given up"):
        container.start(file("base", ""), runs=True)

    assert container.names() == ["etc", "mine"]


def test_stage_goes_on_in_the_place_of_the_one_it_starts_from(container: Container) -> None:
    one = container.finished(container.start(file("a", "1")))
    two = container.trees.follow(one, shared=False, runs=False).copied([file("b", "2")], None)

    assert content(two) == {"a": "1", "b": "2"}
    assert len([path for path in container.place.iterdir() if path.name.isdigit()]) == 1


@pytest.mark.parametrize("runs", [False, True])
def test_stage_that_others_use_too_is_copied(container: Container, runs: bool) -> None:
    one = container.finished(container.start(file("a", "1"), file("etc/conf", "1"), runs=runs))
    two = container.trees.follow(one, shared=True, runs=runs).copied([file("a", "2")], None)
    three = container.trees.follow(one, shared=False, runs=runs)

    assert content(two) == {"a": "2", "etc/conf": "1"}
    assert content(three) == {"a": "1", "etc/conf": "1"}


def test_dropped_tree_is_removed_when_its_last_stage_is(container: Container) -> None:
    one = container.finished(container.start(file("a", "1")))
    two = container.finished(container.trees.follow(one, shared=False, runs=False))
    home = one.place.home
    container.trees.drop(one)
    assert content(two) == {"a": "1"}
    container.trees.drop(two)

    assert not home.exists()


def test_dropped_tree_in_the_root_is_removed_when_another_one_comes(container: Container) -> None:
    one = container.finished(container.start(file("a", "1"), runs=True))
    container.trees.drop(one)
    assert container.names() == ["a", "etc"]
    two = container.start(file("b", "1"), runs=True)

    assert not one.place.home.exists()
    assert content(two) == {"b": "1"}
    assert container.names() == ["b", "etc"]


# --- what others read ------------------------------------------------------------------------


def test_what_is_copied_from_a_tree_is_read_before_that_is_moved(container: Container) -> None:
    """A later stage looks at the copy when the files are somewhere else."""
    one = container.finished(container.start(file("a", "1"), runs=True))
    with one.view as view:
        status = view.lstat("a")
        assert status is not None
        entry = view.entry(b"a", status)
        assert entry is not None
    two = container.finished(container.start(file("b", "2")).copied([entry], None))
    container.start(file("c", "3"), runs=True)

    assert content(two) == {"a": "1", "b": "2"}


class Slow:
    """Packs when it is told to."""

    def __init__(self) -> None:
        self.future: Future[Layer] = Future()

    def pack(self, _: Callable[[], Iterable[Entry]]) -> Future[Layer]:
        return self.future


def test_root_is_put_back_only_when_nothing_is_packed_any_more(container: Container) -> None:
    """What is read then would be the container's own."""
    slow = Slow()
    tree = container.start(file("a", "1"), runs=True)
    assert content(tree) == {"a": "1"}
    tree.copied([file("b", "2")], slow.pack)
    assert slow.future.set_running_or_notify_cancel()
    seen: list[bool] = []
    layer = container.layers.layer(file("b", "2"))

    def finish() -> None:
        seen.append((container.root / "a").exists())
        slow.future.set_result(layer)

    timer = threading.Timer(0.3, finish)
    timer.start()
    container.trees.close()

    assert seen == [True]
    assert container.names() == ["etc", "mine"]


def test_command_that_wants_every_right_is_refused(container: Container) -> None:
    """A trigger of a base image is not seen before."""
    tree = container.start(file("a", "1"), runs=True)

    with pytest.raises(SandboxError, match="--security=insecure needs a sandbox"):
        tree.ran((), lambda _: Process(("/a",), privileged=True), lambda _data, _stderr: None, None)


# --- layers ----------------------------------------------------------------------------------


def test_layers_are_those_of_the_base_and_of_each_step(container: Container) -> None:
    pack = container.layers.pack
    tree = container.start(file("a", "1")).copied([file("b", "2")], pack)
    tree = tree.copied([file("unpacked", "2")], None).copied([file("c", "3")], pack)

    assert [names_in(layer) for layer in tree.layers()] == [["a"], ["b"], ["c"]]


def test_one_layer_has_all_that_was_copied_since_the_mark(container: Container) -> None:
    """Also what is where the container has something of its own."""
    tree = container.start(file("a", "1"), file("etc/hosts", "1"), runs=True).marked()
    tree = tree.copied([file("a", "2")], None)
    tree = tree.copied([directory("etc"), file("etc/hosts", "2"), symlink("link", "a")], None)
    done = container.trees.finish(tree, container.layers.pack, needed=False)

    (_, layer) = done.layers()
    assert names_in(layer) == ["a", "etc", "etc/hosts", "link"]


def test_layer_of_a_stage_has_nothing_of_the_stage_it_starts_from(container: Container) -> None:
    """Though that was moved out of the root and back meanwhile."""
    one = container.start(file("a", "1"), file("etc/conf", "1"), runs=True).marked()
    one = one.copied([file("b", "1")], None)
    one = container.trees.finish(one, container.layers.pack, needed=True)
    container.finished(container.start(file("other", "1"), runs=True))
    two = container.trees.follow(one, shared=False, runs=True).marked()
    two = two.copied([file("c", "1")], None)
    done = container.trees.finish(two, container.layers.pack, needed=False)

    assert [names_in(layer) for layer in done.layers()][1:] == [["b"], ["c"]]


# --- what commands are shown -----------------------------------------------------------------


def test_directory_of_a_tree_is_shown_as_it_is_for_the_image(container: Container) -> None:
    """Part of /etc is in another place than the rest; /opt is not."""
    tree = container.finished(
        container.start(file("etc/hosts", "image"), file("etc/conf", "image"), file("opt/x", "x"))
    )
    with ExitStack() as stack:
        etc = tree.shown("/etc", "/mnt", stack, write=False)
        opt = tree.shown("/opt", "/mnt", stack, write=True)

    assert isinstance(etc.base, Path)
    assert sorted(path.name for path in etc.base.iterdir()) == ["conf", "hosts"]
    assert (etc.base / "hosts").read_text() == "image"
    assert opt.base == tree.place.root / "opt"
    assert (etc.writable, opt.writable) == (False, True)


def test_files_are_found_where_they_are(container: Container) -> None:
    tree = container.start(file("etc/hosts", "image"))
    assert CopySource(tree.view, "stage").named("/etc/hosts").resolved == b"etc/hosts"
