import errno
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import pytest
from filelock import FileLock

from kaniko_core.errors import ContentError, DigestMismatch, DiskError
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.oci.layer import FileLayer, write_layer
from kaniko_core.oci.spec import Descriptor
from kaniko_core.progress import BytesMoved, Direction, Event, Warned
from kaniko_core.rootfs.beneath import Whiteouts
from kaniko_core.rootfs.store import LayerStore, chain_ids


@dataclass
class Counting:
    """A layer that knows how often it was opened, and can be held up."""

    layer: FileLayer
    opened: int = 0
    before: Callable[[], object] = field(default=lambda: None)

    @property
    def descriptor(self) -> Descriptor:
        return self.layer.descriptor

    @property
    def diff_id(self) -> Digest:
        return self.layer.diff_id

    def open(self) -> BinaryIO:
        self.opened += 1
        self.before()
        return self.layer.open()


def _entry(name: str, kind: Kind = Kind.DIRECTORY, **more: object) -> Entry:
    mode = 0o755 if kind is Kind.DIRECTORY else 0o644
    return Entry(name.encode(), kind, mode, os.getuid(), os.getgid(), **more)  # type: ignore[arg-type]


@pytest.fixture
def layers(tmp_path: Path) -> list[Counting]:
    contents = [
        [_entry("a"), _entry("a/one", Kind.FILE), _entry("a/gone", Kind.FILE)],
        [_entry("a"), _entry("a/gone", Kind.WHITEOUT)],
        [_entry("a"), _entry("a/link", Kind.HARDLINK, link=b"a/one")],
        [_entry("b")],
    ]
    return [
        Counting(write_layer(entries, tmp_path / f"blob-{number}", docker=False))
        for number, entries in enumerate(contents)
    ]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "layers"


def _store(directory: Path, *, later: float = 0.0) -> LayerStore:
    return LayerStore(directory, Whiteouts.OVERLAY_USER, now=lambda: time.time() + later)


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != "locks")


def test_layers_are_unpacked_bottom_first(layers: list[Counting], directory: Path) -> None:
    found = _store(directory).directories(layers)

    assert [_names(path) for path in found] == [["a"], ["a"], ["a"], ["b"]]
    assert _names(found[0] / "a") == ["gone", "one"]
    assert (found[1] / "a/gone").lstat().st_rdev == 0


def test_what_is_taken_for_granted_comes_from_the_layers_below(
    layers: list[Counting], directory: Path
) -> None:
    found = _store(directory).directories(layers)

    assert _names(found[2] / "a") == ["link", "one"]


def test_an_unpacked_layer_is_never_opened_again(layers: list[Counting], directory: Path) -> None:
    first = _store(directory).directories(layers)
    second = _store(directory).directories(layers)

    assert first == second
    assert [layer.opened for layer in layers] == [1, 1, 1, 1]


def test_a_layer_on_top_of_others_is_another_entry(layers: list[Counting], directory: Path) -> None:
    """What a layer unpacks to can depend on those below it."""
    store = _store(directory)

    assert store.directories(layers[3:])[0] != store.directories(layers)[3]
    assert layers[3].opened == 2


def test_several_layers_are_fetched_at_once(layers: list[Counting], directory: Path) -> None:
    together = threading.Barrier(3)
    for layer in layers[:3]:
        layer.before = lambda: together.wait(5)

    _store(directory).directories(layers)


def test_two_builds_unpack_a_layer_once(layers: list[Counting], directory: Path) -> None:
    stores = [_store(directory) for _ in range(4)]
    for layer in layers:
        layer.before = lambda: time.sleep(0.02)

    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda store: store.directories(layers), stores))

    assert len(found) == 1
    assert [layer.opened for layer in layers] == [1, 1, 1, 1]


def test_who_holds_the_lock_is_waited_for(layers: list[Counting], directory: Path) -> None:
    store = _store(directory)
    lock = FileLock(store.directory / "locks" / f"{layers[0].diff_id.hex}.lock")
    with ThreadPoolExecutor(1) as pool:
        with lock:
            waiting = pool.submit(store.directories, layers[:1])
            time.sleep(0.2)
            assert not waiting.done()
        assert waiting.result(5)


def test_a_damaged_layer_leaves_nothing_and_can_be_fetched_again(
    layers: list[Counting], directory: Path
) -> None:
    path = layers[1].layer.path
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] + b"x" * 20)
    store = _store(directory)

    with pytest.raises(ContentError):
        store.directories(layers)
    kept = _names(store.directory)
    path.write_bytes(whole)

    assert not [name for name in kept if name.endswith(".tmp")]
    assert not [name for name in kept if name.startswith(chain_ids(_diff_ids(layers))[1].hex)]
    assert len(store.directories(layers)) == 4


@dataclass
class Cached(Counting):
    """One whose cache says after the fact whether it was good."""

    spare: FileLayer | None = None

    def unchecked(self) -> FileLayer:
        return self.layer

    def mended(self) -> FileLayer | None:
        return self.spare


def test_nothing_is_kept_of_a_damaged_layer_that_is_mended(
    layers: list[Counting], directory: Path, tmp_path: Path
) -> None:
    spare = layers[0].layer
    bad = write_layer([_entry("bad"), _entry("a", Kind.FILE)], tmp_path / "bad", docker=False)
    cached = Cached(replace(bad, diff_id=spare.diff_id), spare=spare)
    [unpacked] = _store(directory).directories([cached])
    assert sorted(path.name for path in unpacked.rglob("*")) == ["a", "gone", "one"]
    assert cached.opened == 0


def test_a_good_cached_layer_that_cannot_be_unpacked_is_read_once(
    layers: list[Counting], directory: Path
) -> None:
    cached = Cached(replace(layers[0].layer, diff_id=layers[1].diff_id))
    store = _store(directory)
    with pytest.raises(DigestMismatch):
        store.directories([cached])
    assert not _names(store.directory)


def test_an_error_stops_what_else_is_being_unpacked(
    layers: list[Counting], directory: Path
) -> None:
    def fail() -> None:
        raise ContentError("no such blob")

    released = threading.Event()
    layers[0].before = lambda: released.wait(5)
    layers[2].before = fail
    threading.Timer(0.3, released.set).start()

    with pytest.raises(ContentError, match="no such blob"):
        _store(directory).directories(layers)


def test_an_entry_of_an_earlier_boot_counts_only_with_its_seal(
    layers: list[Counting], directory: Path
) -> None:
    """After a power cut the name may be there, and the bytes not."""
    store = _store(directory)
    (found,) = store.directories(layers[:1])
    entry = found.parent
    other = entry.with_suffix(".0123456789ab")
    entry.rename(other)

    (again,) = store.directories(layers[:1])
    assert (again.parent, layers[0].opened) == (entry, 2)

    entry.rename(store.directory / "away")
    (other / "sealed").touch()
    assert store.directories(layers[:1]) == (other / "fs",)
    assert layers[0].opened == 2


def test_an_entry_is_sealed_by_a_later_build(layers: list[Counting], directory: Path) -> None:
    (found,) = _store(directory).directories(layers[:1])
    seal = found.parent / "sealed"
    assert not seal.exists()

    _store(directory, later=120).directories(layers[:1])

    deadline = time.monotonic() + 20
    while not seal.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_time_of_last_use_is_kept(layers: list[Counting], directory: Path) -> None:
    store = _store(directory)
    (found,) = store.directories(layers[:1])
    os.utime(found.parent, (1000, 1000))

    store.directories(layers[:1])

    assert time.time() - found.parent.stat().st_mtime < 100


def test_leftovers_are_swept_but_not_what_is_being_unpacked(
    layers: list[Counting], directory: Path
) -> None:
    store = _store(directory)
    dead, living = (store.directory / f"{letter * 64}.tmp" for letter in "ab")
    for leftover in (dead, living):
        (leftover / "fs/x").mkdir(parents=True)

    with FileLock(store.directory / "locks" / f"{'b' * 64}.lock"):
        _store(directory)

    assert _names(store.directory) == [living.name]


@pytest.mark.parametrize(("days", "kept"), [(1, True), (8, False)])
def test_what_another_boot_never_sealed_is_forgotten_after_a_week(
    directory: Path, days: int, kept: bool
) -> None:
    lost = _store(directory).directory / f"{'c' * 64}.0123456789ab"
    (lost / "fs").mkdir(parents=True)

    _store(directory, later=days * 86400)

    assert lost.exists() == kept


def test_other_whiteouts_are_kept_apart(directory: Path) -> None:
    trusted = LayerStore(directory, Whiteouts.OVERLAY_TRUSTED)

    assert trusted.directory != _store(directory).directory
    assert trusted.directory.is_dir()


def test_a_directory_that_cannot_be_used_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(DiskError, match="keep unpacked layers in"):
        _store(tmp_path / "file")
    with pytest.raises(DiskError):
        _store(Path("/proc/layers"))


def test_progress_ends_with_all_bytes(layers: list[Counting], directory: Path) -> None:
    events: list[Event] = []

    _store(directory).directories(layers[:1], progress=events.append, name="base")

    last = events[-1]
    assert isinstance(last, BytesMoved)
    assert (last.direction, last.done) == (Direction.UNPACK, last.total)
    assert last.what == f"base sha256:{layers[0].descriptor.digest.short}"


def _diff_ids(layers: list[Counting]) -> list[Digest]:
    return [layer.diff_id for layer in layers]


def test_chain_ids_are_those_of_the_specification() -> None:
    first, second, third = (Digest.of(name) for name in (b"1", b"2", b"3"))
    two = hashlib.sha256(f"{first} {second}".encode()).hexdigest()
    three = hashlib.sha256(f"sha256:{two} {third}".encode()).hexdigest()

    assert [chain.hex for chain in chain_ids([first, second, third])] == [first.hex, two, three]
    assert chain_ids([]) == []


def test_attributes_that_cannot_be_set_are_a_warning(tmp_path: Path, directory: Path) -> None:
    strange = _entry("file", Kind.FILE, xattrs={b"system.no-such-thing": b"x"})
    layer = write_layer([strange], tmp_path / "strange", docker=False)
    seen: list[Event] = []
    _store(directory).directories([layer], progress=seen.append, name="base:1")

    warnings = [event.message for event in seen if isinstance(event, Warned)]
    assert len(warnings) == 1
    assert "system.no-such-thing" in warnings[0]
    assert "base:1" in warnings[0]


class TestBuildsThatRun:
    """Others remove entries; a build says which ones it needs before it counts on them."""

    def test_what_is_unpacked_is_held_before_it_shows(
        self, layers: list[Counting], directory: Path
    ) -> None:
        there: dict[str, bool] = {}

        def hold(name: str) -> None:
            there.setdefault(name, (directory / name).exists())

        found = LayerStore(directory, Whiteouts.OVERLAY_USER, hold=hold).directories(layers)
        names = {path.parent.relative_to(directory).as_posix() for path in found}
        assert there == dict.fromkeys(names, False)

    def test_what_is_there_is_held(self, layers: list[Counting], directory: Path) -> None:
        found = _store(directory).directories(layers)
        held: set[str] = set()
        LayerStore(directory, Whiteouts.OVERLAY_USER, hold=held.add).directories(layers)
        assert held == {path.parent.relative_to(directory).as_posix() for path in found}

    def test_what_is_removed_before_it_is_held_is_unpacked_again(
        self, layers: list[Counting], directory: Path
    ) -> None:
        (lost, *_) = _store(directory).directories(layers[:1])
        held: list[str] = []

        def hold(name: str) -> None:
            if not held:
                shutil.rmtree(lost.parent)
            held.append(name)

        store = LayerStore(directory, Whiteouts.OVERLAY_USER, hold=hold)
        assert store.directories(layers[:1]) == (lost,)
        assert lost.is_dir()
        assert layers[0].opened == 2


class TestFullDisks:
    """A layer that cannot be opened for lack of space stands for the disk."""

    def full(self, layer: Counting, *, times: int) -> None:
        failures = iter([OSError(errno.ENOSPC, "No space left on device")] * times)

        def fail() -> None:
            error = next(failures, None)
            if error is not None:
                raise error

        layer.before = fail

    def store(self, directory: Path, asked: list[int], *, room: bool = True) -> LayerStore:
        def make_room(size: int) -> bool:
            asked.append(size)
            return room

        return LayerStore(directory, Whiteouts.OVERLAY_USER, make_room=make_room)

    def test_with_room_made_it_goes_on(self, layers: list[Counting], directory: Path) -> None:
        asked: list[int] = []
        self.full(layers[1], times=1)
        assert len(self.store(directory, asked).directories(layers)) == 4
        (size,) = asked
        assert size >= 4 * layers[1].descriptor.size

    def test_it_tries_again_once(self, layers: list[Counting], directory: Path) -> None:
        asked: list[int] = []
        self.full(layers[1], times=2)
        with pytest.raises(DiskError, match="No space left"):
            self.store(directory, asked).directories(layers)
        assert len(asked) == 1

    def test_without_room_it_ends(self, layers: list[Counting], directory: Path) -> None:
        asked: list[int] = []
        self.full(layers[1], times=1)
        with pytest.raises(DiskError, match="No space left"):
            self.store(directory, asked, room=False).directories(layers)

    def test_other_troubles_of_the_disk_want_no_room(
        self, layers: list[Counting], directory: Path
    ) -> None:
        def fail() -> None:
            raise OSError(errno.EIO, "Input/output error")

        asked: list[int] = []
        layers[0].before = fail
        with pytest.raises(DiskError, match="Input/output error"):
            self.store(directory, asked).directories(layers)
        assert asked == []
