"""Unpacking around what is covered, and the view that puts tree and shadow together again."""

from __future__ import annotations

import io
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kaniko_core.errors import ContentError, DiskError
from kaniko_core.oci.archive import Entry, Kind, tar_stream
from kaniko_core.rootfs.covered import CoveredRootfs
from kaniko_core.rootfs.ignore import IgnoreRules
from kaniko_core.rootfs.moving import clear, move_contents
from kaniko_core.rootfs.tree import Rootfs
from kaniko_core.rootfs.unpack import Unpacked, Whiteouts, unpack
from tests.rootfs.test_unpack import directory, file, hardlink, opaque, symlink, whiteout


class Place:
    """A tree with things in it that are covered, and its shadow."""

    def __init__(self, top: Path, *covered: str, absent: tuple[str, ...] = ()) -> None:
        self.root = top / "root"
        self.shadow = top / "shadow"
        self.root.mkdir(parents=True)
        self.rules = IgnoreRules(frozenset(map(os.fsencode, (*covered, *absent))))
        for name in covered:
            (self.root / name).mkdir(parents=True, exist_ok=True)
            (self.root / name / "theirs").write_text(name)

    def put(self, *entries: Entry) -> Unpacked:
        return unpack(
            io.BytesIO(b"".join(tar_stream(entries))),
            self.root,
            whiteouts=Whiteouts.APPLY,
            covered=self.rules,
            shadow=self.shadow,
        )

    def view(self) -> CoveredRootfs:
        return CoveredRootfs(self.root, self.rules, self.shadow)

    def theirs(self) -> dict[str, tuple[object, ...]]:
        """Return everything that is covered, with all that could be done to it."""
        found = {}
        for path in self.root.rglob("*"):
            name = str(path.relative_to(self.root))
            if self.rules.covers(os.fsencode(name)):
                was = path.lstat()
                kept = (was.st_ino, was.st_mode, was.st_uid, was.st_mtime_ns, was.st_ctime_ns)
                found[name] = (*kept, path.read_text() if path.is_file() else "")
        return found

    def ours(self) -> list[str]:
        """Return the names of what is in the tree and not covered."""
        names = (path.relative_to(self.root) for path in self.root.rglob("*"))
        return sorted(str(name) for name in names if not self.rules.covers(os.fsencode(name)))


@pytest.fixture(autouse=True)
def _no_descriptor_is_left() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) <= before


def read(root: Rootfs, path: str) -> bytes:
    with root.open(path) as content:
        return content.read()


def shown(root: Rootfs) -> dict[bytes, tuple[object, ...]]:
    """Return everything that *root* shows by walking it, and by asking for each name."""
    found: dict[bytes, tuple[object, ...]] = {}
    for name, status in root.walk():
        again = root.lstat(name)
        assert again is not None
        assert (again.st_dev, again.st_ino) == (status.st_dev, status.st_ino)
        assert name.rpartition(b"/")[2] in root.listdir(name.rpartition(b"/")[0])
        if stat.S_ISLNK(status.st_mode):
            found[name] = ("link", root.readlink(name), resolved(root, name))
        elif stat.S_ISDIR(status.st_mode):
            found[name] = ("directory", stat.S_IMODE(status.st_mode))
        else:
            found[name] = ("file", read(root, os.fsdecode(name)))
    return found


def resolved(root: Rootfs, path: bytes) -> bytes | None:
    try:
        return root.resolve(path)
    except ContentError:
        return None


# Unpacking


def test_covered_files_go_into_the_shadow(tmp_path: Path) -> None:
    place = Place(tmp_path, "etc/hosts", "proc")
    before = place.theirs()
    place.put(
        directory(b"etc", 0o750), file(b"etc/hosts", b"image's"), file(b"etc/passwd"),
        directory(b"proc", 0o555), file(b"proc/x/y", b"deep"),
    )  # fmt: skip
    assert place.theirs() == before
    assert place.ours() == ["etc", "etc/passwd"]
    assert stat.S_IMODE((place.root / "etc").stat().st_mode) == 0o750
    assert (place.shadow / "etc/hosts").read_bytes() == b"image's"
    assert (place.shadow / "proc/x/y").read_bytes() == b"deep"
    assert stat.S_IMODE((place.shadow / "proc").stat().st_mode) == 0o555


def test_links_into_covered_places_lead_into_the_shadow(tmp_path: Path) -> None:
    place = Place(tmp_path, "proc", "work/volume")
    before = place.theirs()
    place.put(symlink(b"a", b"/proc/sys"), symlink(b"b", b"work/../work/volume"))
    place.put(file(b"a/x", b"1"), file(b"b/y", b"2"), symlink(b"c", b"../../proc/.."), file(b"c/z"))
    assert place.theirs() == before
    assert (place.shadow / "proc/sys/x").read_bytes() == b"1"
    assert (place.shadow / "work/volume/y").read_bytes() == b"2"
    assert place.ours() == ["a", "b", "c", "work", "z"]


@pytest.mark.parametrize("mark", [whiteout(b"work"), opaque(b"work"), opaque(b"")])
def test_whiteouts_leave_what_is_covered(tmp_path: Path, mark: Entry) -> None:
    place = Place(tmp_path, "work/in/volume")
    place.put(file(b"work/a"), file(b"work/in/b"), file(b"work/in/volume/theirs", b"image's"))
    before = place.theirs()
    place.put(mark)
    assert place.theirs() == before
    assert place.ours() == ["work", "work/in"]
    assert place.view().listdir("work/in") == []


def test_a_whiteout_of_something_covered_is_about_the_image(tmp_path: Path) -> None:
    place = Place(tmp_path, "volume")
    before = place.theirs()
    place.put(file(b"volume/a"), file(b"volume/b"))
    place.put(whiteout(b"volume/a"), whiteout(b"volume/theirs"))
    assert place.view().listdir("volume") == [b"b"]
    place.put(whiteout(b"volume"))
    assert place.view().lstat("volume") is None
    assert place.theirs() == before


def test_whiteouts_do_not_remove_what_their_own_layer_adds(tmp_path: Path) -> None:
    place = Place(tmp_path, "work/volume")
    place.put(file(b"work/old"), file(b"work/volume/old"))
    place.put(file(b"work/new"), file(b"work/volume/new"), whiteout(b"work"))
    assert place.view().listdir("work") == [b"new", b"volume"]
    assert place.view().listdir("work/volume") == [b"new"]


def test_a_link_in_the_place_of_a_directory_that_must_stay(tmp_path: Path) -> None:
    """Debian's /var/run -> /run, while Kubernetes mounts below /var/run/secrets."""
    place = Place(tmp_path, "var/run/secrets/account")
    (place.root / "var/run/left").write_text("by an earlier build")
    before = place.theirs()
    place.put(symlink(b"var/run", b"/run"), directory(b"run"))
    place.put(file(b"var/run/pid", b"7"), file(b"var/run/secrets/account/token", b"image's"))
    assert place.theirs() == before
    assert place.ours() == [
        "run", "run/pid", "run/secrets", "run/secrets/account", "run/secrets/account/token",
        "var", "var/run", "var/run/secrets",
    ]  # fmt: skip
    view = place.view()
    assert view.readlink("var/run") == b"/run"
    assert view.resolve("var/run/pid") == b"run/pid"
    assert read(view, "var/run/secrets/account/token") == b"image's"


def test_a_displaced_link_ends_with_a_directory_or_a_whiteout(tmp_path: Path) -> None:
    place = Place(tmp_path, "var/run/account")
    place.put(symlink(b"var/run", b"/run"), file(b"var/run/x"))
    (place.root / "var/run/stray").write_text("not the image's")
    place.put(directory(b"var/run", 0o711))
    assert place.view().listdir("var/run") == []
    assert stat.S_IMODE((place.root / "var/run").stat().st_mode) == 0o711
    place.put(symlink(b"var/run", b"/run"))
    place.put(whiteout(b"var/run"))
    place.put(file(b"var/run/y", b"in it"))
    assert (place.root / "var/run/y").read_bytes() == b"in it"


def test_a_displaced_file_gives_way_to_an_implied_directory(tmp_path: Path) -> None:
    place = Place(tmp_path, "a/volume")
    place.put(file(b"a", b"a file"))
    assert read(place.view(), "a") == b"a file"
    assert place.view().lstat("a/volume") is None
    place.put(file(b"a/b", b"in a directory"))
    assert read(place.view(), "a/b") == b"in a directory"


def test_a_link_is_displaced_also_where_nothing_covered_is_yet(tmp_path: Path) -> None:
    """A tree beside the container's root must fit into it later, with the mounts that are there."""
    place = Place(tmp_path, absent=("var/run/account",))
    place.put(file(b"var/run/x"))
    place.put(symlink(b"var/run", b"/run"))
    assert place.ours() == ["var", "var/run"]
    assert (place.shadow / "var/run").readlink() == Path("/run")
    there = Place(tmp_path / "there", "var/run/account")
    before = there.theirs()
    move_contents(place.root, there.root, there.rules)
    assert there.theirs() == before


def test_hard_links_between_tree_and_shadow_are_copies(tmp_path: Path) -> None:
    place = Place(tmp_path, "volume")
    before = place.theirs()
    place.put(
        file(b"one", b"1", 0o640), hardlink(b"volume/one", b"one"), hardlink(b"same", b"one"),
        file(b"volume/two", b"2"), hardlink(b"two", b"volume/two"),
        hardlink(b"volume/zwei", b"volume/two"), symlink(b"link", b"x"),
        hardlink(b"volume/link", b"link"),
    )  # fmt: skip
    assert place.theirs() == before
    assert (place.shadow / "volume/one").read_bytes() == b"1"
    assert stat.S_IMODE((place.shadow / "volume/one").stat().st_mode) == 0o640
    assert (place.root / "one").stat().st_nlink == 2
    assert (place.root / "two").read_bytes() == b"2"
    assert (place.shadow / "volume/zwei").stat().st_nlink == 2
    assert (place.shadow / "volume/link").readlink() == Path("x")


def test_a_hard_link_to_what_only_others_have_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path, "volume")
    with pytest.raises(ContentError, match="which is not there"):
        place.put(hardlink(b"mine", b"volume/theirs"))


def test_mounts_below_mounts_are_the_shadows(tmp_path: Path) -> None:
    place = Place(tmp_path, "proc", "proc/sys/kernel")
    before = place.theirs()
    place.put(file(b"proc/sys/kernel/a", b"1"), file(b"proc/b", b"2"), whiteout(b"proc/sys"))
    assert place.theirs() == before
    assert read(place.view(), "proc/sys/kernel/a") == b"1"
    assert not (place.root / "proc/b").exists()


def test_the_whole_tree_can_be_covered(tmp_path: Path) -> None:
    place = Place(tmp_path, "theirs")
    place.rules = IgnoreRules(frozenset({b""}))
    place.put(file(b"a"), whiteout(b"theirs"), Entry(b"", Kind.DIRECTORY, 0o700))
    assert sorted(os.listdir(place.root)) == ["theirs"]
    assert os.listdir(place.shadow) == ["a"]


def test_directories_of_any_depth_are_replaced(tmp_path: Path) -> None:
    place = Place(tmp_path, "volume")
    where = os.open(place.root, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("deep", dir_fd=where)
        deeper = os.open("deep", os.O_RDONLY, dir_fd=where)
        os.close(where)
        where = deeper
    os.close(where)
    place.put(file(b"deep", b"a file now"))
    assert (place.root / "deep").read_bytes() == b"a file now"


# The view


def test_nothing_of_a_covered_place_can_be_reached(tmp_path: Path) -> None:
    place = Place(tmp_path, "proc", "etc/hosts")
    (place.root / "to").symlink_to("/proc/theirs")
    (place.root / "around").symlink_to("etc/../etc/hosts/../../proc")
    place.put(file(b"etc/passwd"))
    view = place.view()
    for path in ("proc", "proc/theirs", "/etc/hosts", "to", "around", "around/theirs"):
        assert view.stat(path) is None, path
        with pytest.raises(DiskError):
            view.open(path)
    assert view.listdir("/") == [b"around", b"etc", b"to"]
    assert [name for name, _ in view.walk("etc")] == [b"etc/passwd"]
    with pytest.raises(DiskError):
        view.listdir("proc")


def test_entries_attributes_and_host_paths_are_the_truths(tmp_path: Path) -> None:
    place = Place(tmp_path, "volume", "var/run/account")
    place.put(file(b"volume/a", b"12"), symlink(b"var/run", b"/run"), file(b"b", b"3"))
    os.setxattr(place.shadow / "volume/a", "user.kept", b"x")
    view = place.view()
    status = view.lstat("volume/a")
    assert status is not None
    entry = view.entry(b"volume/a", status, name=b"c")
    assert entry is not None
    assert (entry.name, entry.size, entry.xattrs) == (b"c", 2, {b"user.kept": b"x"})
    assert entry.content == os.fsencode(place.shadow / "volume/a")
    assert view.xattrs("volume/a") == {b"user.kept": b"x"}
    assert view.host_path(b"b") == os.fsencode(place.root / "b")
    assert view.host_path(b"var/run") == os.fsencode(place.shadow / "var/run")
    assert view.host_path(b"") == os.fsencode(place.root) + b"/"


def test_a_view_needs_no_shadow(tmp_path: Path) -> None:
    place = Place(tmp_path, "volume", "a/b/c")
    view = place.view()
    assert view.listdir("") == [b"a"]
    assert view.listdir("a/b") == []
    assert view.lstat("volume") is None


def test_links_in_a_circle_through_the_shadow_are_told(tmp_path: Path) -> None:
    place = Place(tmp_path, "a/volume")
    place.put(symlink(b"b", b"a"), symlink(b"a", b"b"))
    with pytest.raises(ContentError, match="too many symbolic links"):
        place.view().stat("a/x")


# Everything together: with and without covered places, the image is the same.

_names = st.sampled_from([b"a", b"b", b"a/a", b"a/b", b"b/a", b"a/a/a", b"a/b/a", b"b/a/b"])
_entry = st.one_of(
    st.builds(file, _names, st.sampled_from([b"", b"one", b"two"])),
    st.builds(directory, _names, st.sampled_from([0o700, 0o755])),
    st.builds(symlink, _names, st.sampled_from([b"a", b"/b", b"../b", b"a/b", b"/a/b/a"])),
    st.builds(hardlink, _names, _names),
    st.builds(whiteout, _names),
    st.builds(opaque, st.sampled_from([b"", b"a", b"a/a", b"b"])),
)
_layers = st.lists(st.lists(_entry, max_size=7), min_size=1, max_size=4)
_covers = st.lists(st.tuples(_names, st.booleans()), min_size=1, max_size=3)


@given(_layers, _covers)
@example([[symlink(b"a", b"b"), file(b"a/a")]], [(b"a/b", True)])
@example([[file(b"a/b"), hardlink(b"a/b", b"a/b")]], [(b"a/b/a", True)])
@example([[file(b"a"), hardlink(b"a/b", b"a")]], [(b"a/a", True)])
@settings(max_examples=150, deadline=None)
def test_covered_or_not_the_image_is_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    layers: list[list[Entry]],
    covers: list[tuple[bytes, bool]],
) -> None:
    top = tmp_path_factory.mktemp("place")
    place = Place(
        top,
        *(os.fsdecode(name) for name, there in covers if there),
        absent=tuple(os.fsdecode(name) for name, there in covers if not there),
    )
    plain = top / "plain"
    plain.mkdir()
    before = place.theirs()
    for entries in layers:
        data = b"".join(tar_stream(entries))
        outcomes = set()
        for unpacking in (
            lambda: unpack(io.BytesIO(data), plain, whiteouts=Whiteouts.APPLY),  # noqa: B023
            lambda: place.put(*entries),  # noqa: B023
        ):
            try:
                unpacking()
                outcomes.add("done")
            except (ContentError, DiskError):
                outcomes.add("refused")
        assert place.theirs() == before
        assert len(outcomes) == 1
        if outcomes == {"refused"}:
            return
        assert_same(Rootfs(plain), place.view(), place.rules)
    assert_survives_moving(place, top / "stash", plain)
    shutil.rmtree(top)


def assert_same(plain: Rootfs, view: CoveredRootfs, rules: IgnoreRules) -> None:
    """Assert that both show the same image, but for directories that had to stay."""
    wanted, found = shown(plain), shown(view)
    for name in found.keys() | wanted.keys():
        if rules.shelters(name) and found.get(name, ("",))[0] == "directory":
            assert wanted.get(name, ("directory",))[0] == "directory"
        else:
            assert found.get(name) == wanted.get(name), name


def assert_survives_moving(place: Place, stash: Path, plain: Path) -> None:
    before = place.theirs()
    stash.mkdir()
    move_contents(place.root, stash, place.rules)
    assert all(place.rules.shelters(os.fsencode(name)) for name in place.ours())
    assert_same(Rootfs(plain), CoveredRootfs(stash, place.rules, place.shadow), place.rules)
    move_contents(stash, place.root, place.rules)
    assert_same(Rootfs(plain), place.view(), place.rules)
    clear(place.root, place.rules)
    assert all(place.rules.shelters(os.fsencode(name)) for name in place.ours())
    assert place.theirs() == before
