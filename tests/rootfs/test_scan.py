"""Scanning a root for what changed; the scenarios are shared with the overlay's."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaniko_core.errors import DiskError
from kaniko_core.oci.entry import Entry
from kaniko_core.rootfs.ignore import IgnoreRules
from kaniko_core.rootfs.scan import Scanner
from tests.contracts import snapshots
from tests.contracts.snapshots import SCENARIOS, apply, told

EVERYTHING = IgnoreRules()


def scanner(
    root: Path, rules: IgnoreRules = EVERYTHING, aliases: Mapping[bytes, bytes] | None = None
) -> Scanner:
    """Return a scanner that remembers *root*, and would see any change."""
    made = Scanner(root, rules, aliases or {})
    made.remember()
    made.settle()
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    snapshots.furnish(path)
    return path


@pytest.fixture
def place() -> Iterator[Path]:
    # Not below pytest's own: its clean-up does not like what some scenarios leave.
    with tempfile.TemporaryDirectory(prefix="kaniko-scan-") as name:
        yield Path(name)


# --- what all must find -----------------------------------------------------------------------


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scan_finds_what_happened(name: str, place: Path) -> None:
    scenario = SCENARIOS[name]
    if reason := snapshots.must_be_skipped(scenario):
        pytest.skip(reason)
    root, old = snapshots.old_and_new(scenario, place)
    scan = scanner(root)

    scenario.act(root)
    entries = scan.changes()

    expected = scenario.told if scenario.scanned is None else scenario.scanned
    if expected is not None:
        assert told(entries) == expected
    new = snapshots.seen(root)
    apply(entries, old)
    assert snapshots.seen(old) == new
    assert scan.changes() == []


# --- time -------------------------------------------------------------------------------------


def test_a_change_in_the_same_moment_is_seen_after_settling(root: Path) -> None:
    path = root / "fresh"
    scan = scanner(root)
    for number in range(30):
        path.write_text(f"{number:02}")
        os.utime(path, (1, 1))
        scan.refresh([b"fresh"])
        scan.settle()
        path.write_text(f"{number:02}"[::-1] + "")
        os.utime(path, (1, 1))

        assert told(scan.changes()) == "F fresh"


def test_settling_does_not_wait_where_nothing_changed_lately(root: Path) -> None:
    scan = scanner(root)
    time.sleep(0.02)

    start = time.monotonic()
    scan.settle()

    assert time.monotonic() - start < 0.005


@pytest.mark.parametrize("ahead", [60, 1.0])  # seconds
def test_settling_ends_where_the_clock_was_set_back(
    root: Path, ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = scanner(root)
    clock = time.clock_gettime_ns
    monkeypatch.setattr(time, "clock_gettime_ns", lambda which: clock(which) - int(ahead * 10**9))

    start = time.monotonic()
    scan.settle()

    assert time.monotonic() - start < (0.5 if ahead == 60 else 2.5)


def test_times_in_whole_seconds_are_waited_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as ext3's, or those of ext4 with small inodes."""
    scan = Scanner(root, EVERYTHING)
    scan.remember()
    newest = max(
        os.lstat(Path(top) / name).st_ctime_ns
        for top, directories, files in os.walk(root)
        for name in directories + files
    )
    second = 10**9
    # As if the clock had stood at the last whole second when the files were made.
    offset = newest % second
    clock = time.clock_gettime_ns
    monkeypatch.setattr("kaniko_core.rootfs.scan._now", lambda: clock(5) - offset)
    monkeypatch.setattr(scan, "_newest", newest - offset)

    scan.settle()

    assert clock(5) - offset >= newest - offset + second


def test_reading_is_no_change(root: Path) -> None:
    scan = scanner(root)
    os.utime(root / "app/two", ns=(5, (root / "app/two").stat().st_mtime_ns))
    scan.changes()
    scan.settle()

    (root / "app/two").read_text()
    list((root / "app").iterdir())

    assert scan.changes() == []


# --- one after another ------------------------------------------------------------------------


def test_each_scan_begins_where_the_last_one_ended(root: Path) -> None:
    scan = scanner(root)
    (root / "app/new").write_text("1")
    assert told(scan.changes()) == "D app; F app/new"
    scan.settle()
    (root / "app/new").unlink()
    (root / "etc/a").mkdir()
    assert told(scan.changes()) == "D app; W app/new; D etc; D etc/a"
    scan.settle()
    (root / "etc/a").chmod(0o700)
    assert told(scan.changes()) == "D etc; D etc/a"


def test_nothing_is_remembered_of_a_directory_that_was_replaced(root: Path) -> None:
    scan = scanner(root)
    for _ in range(2):
        shutil.rmtree(root / "old")
        (root / "old").touch()
        assert told(scan.changes()) == "F old"
        scan.settle()
        (root / "old").unlink()
        (root / "old").mkdir()
        assert told(scan.changes()) == "D old"
        scan.settle()


def test_a_socket_that_goes_away_is_no_news(root: Path) -> None:
    scan = scanner(root)
    snapshots.SCENARIOS["new socket"].act(root)
    assert scan.changes() == []
    (root / "app/socket").unlink()
    assert scan.changes() == []


def test_nothing_is_said_of_the_root_itself(root: Path) -> None:
    scan = scanner(root)
    root.chmod(0o700)
    os.utime(root, (1, 1))

    assert scan.changes() == []


def test_an_attribute_that_a_directory_lost_is_news(root: Path) -> None:
    os.setxattr(root / "etc", "user.k", b"1")
    scan = scanner(root)
    os.removexattr(root / "etc", "user.k")

    assert told(scan.changes()) == "D etc"


def test_entries_are_what_a_layer_needs(root: Path) -> None:
    scan = scanner(root)
    (root / "app/two").write_text("12345")
    os.utime(root / "app/two", ns=(1, 2))
    (root / "app/link-two").hardlink_to(root / "app/two")
    (root / "app/two").chmod(0o4711)

    *_, link, two = scan.changes()

    # The first name that is told has the content.
    assert (link.mode, link.mtime_ns, link.size) == (0o4711, 2, 5)
    assert link.content == os.fsencode(root / "app/link-two")
    assert (two.link, two.mode, two.size, two.content) == (b"app/link-two", 0o4711, 0, None)


def test_a_root_that_is_gone_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="cannot read"):
        Scanner(tmp_path / "missing", EVERYTHING).remember()


# --- what is covered --------------------------------------------------------------------------


def covering(*paths: bytes) -> IgnoreRules:
    return IgnoreRules(frozenset(paths))


def test_what_is_covered_is_never_told(root: Path) -> None:
    scan = scanner(root, covering(b"app/sub", b"app/two", b"new", b"tree"))
    (root / "app/sub/three").write_text("3")
    (root / "app/sub").chmod(0o700)
    (root / "app/two").unlink()
    (root / "new").mkdir()
    (root / "new/file").touch()
    shutil.rmtree(root / "tree")

    assert scan.changes() == []


def test_beside_what_is_covered_everything_is_told(root: Path) -> None:
    scan = scanner(root, covering(b"app/sub", b"tree/deep/er"))
    (root / "app/subject").touch()
    (root / "tree/deep/new").touch()
    (root / "tree").chmod(0o700)

    assert told(scan.changes()) == "D app; F app/subject; D tree; D tree/deep; F tree/deep/new"


def test_a_directory_around_something_covered_is_not_whited_out(root: Path) -> None:
    """Where the covered thing is no mount, a command can remove all of it."""
    (root / "tree/deep/other").touch()
    (root / "tree/side").mkdir()
    scan = scanner(root, covering(b"tree/deep/er"))
    shutil.rmtree(root / "tree")

    assert told(scan.changes()) == "W tree/deep/other; W tree/side"
    assert scan.changes() == []


def test_covered_paths_come_and_go_unseen(root: Path) -> None:
    rules = covering(b"app/sub/three")
    scan = scanner(root, rules)
    (root / "app/sub/three").unlink()
    scan.refresh([b"app/sub/three", b"app/sub/three/x"])
    (root / "app/sub/three").mkdir()
    scan.refresh([b"app/sub/three", b"app/sub/three/x"])

    assert scan.changes() == []


# --- what we did ourselves --------------------------------------------------------------------


def test_what_was_refreshed_is_no_news(root: Path) -> None:
    scan = scanner(root)
    (root / "srv/www/sub").mkdir(parents=True)
    (root / "srv/www/sub/index").touch()
    (root / "app/two").write_text("2")
    (root / "app/two").chmod(0o600)
    (root / "app").chmod(0o700)
    shutil.rmtree(root / "tree")
    shutil.rmtree(root / "old")
    (root / "old").touch()
    (root / "app/link").unlink()
    (root / "app/link").mkdir()
    scan.refresh([b"srv/www/sub/index", b"app/two", b"tree", b"old/old", b"app/link"])

    assert scan.changes() == []


def test_what_was_not_refreshed_is_news(root: Path) -> None:
    scan = scanner(root)
    (root / "app/two").write_text("2")
    (root / "app/new").write_text("2")
    (root / "app/sub/three").unlink()
    scan.refresh([b"app/two"])

    assert told(scan.changes()) == "D app; F app/new; D app/sub; W app/sub/three"


def test_a_refreshed_directory_is_taken_with_all_that_is_in_it(root: Path) -> None:
    scan = scanner(root)
    (root / "app/sub/deep").mkdir()
    (root / "app/sub/deep/new").touch()
    (root / "app/sub/three").unlink()
    (root / "app/two").unlink()
    scan.refresh([b"app/sub"])

    assert told(scan.changes()) == "D app; W app/two"


def test_a_directory_on_the_way_to_other_names_is_not_walked_over(root: Path) -> None:
    """The names may be those of a layer: with all directories on the way."""
    scan = scanner(root)
    (root / "app/sub").chmod(0o700)
    (root / "app/sub/new").touch()
    (root / "app/sub/other").touch()
    (root / "app/more/deep").mkdir(parents=True)
    scan.refresh([b"app", b"app/sub", b"app/sub/new", b"app/more"])

    assert told(scan.changes()) == "D app; D app/sub; F app/sub/other"


def test_refreshing_the_root_remembers_all(root: Path) -> None:
    scan = scanner(root)
    (root / "app/two").unlink()
    scan.refresh([b""])

    assert scan.changes() == []


def test_changes_after_a_refresh_are_told_against_it(root: Path) -> None:
    scan = scanner(root)
    (root / "srv").mkdir()
    (root / "srv/a").touch()
    (root / "srv/b").touch()
    scan.refresh([b"srv"])
    scan.settle()
    (root / "srv/a").unlink()
    (root / "srv/b").write_text("b")

    assert told(scan.changes()) == "D srv; W srv/a; F srv/b"


def test_many_names_are_refreshed_in_time(root: Path) -> None:
    """A COPY of many files names each of them."""
    names = []
    for number in range(8_000):
        names.append(b"app/%d" % number)
        (root / f"app/{number}").touch()
    scan = scanner(root)
    start = time.monotonic()
    scan.refresh(names)

    assert time.monotonic() - start < 1


def test_the_time_of_what_was_moved_away_and_back_is_no_news(root: Path) -> None:
    scan = scanner(root)
    for name in ("app/two", "app/one", "app/sub", "tree"):
        (root / name).rename(root / "aside")
        (root / "aside").rename(root / name)

    # The other name of a moved file has another time too.
    assert scan.changes([b"app", b"app/two", b"app/one", b"app/sub", b"tree"]) == []


def test_other_changes_of_touched_names_are_news(root: Path) -> None:
    scan = scanner(root)
    (root / "app/two").chmod(0o600)
    (root / "app/sub").chmod(0o700)
    (root / "app/one").write_text("other")

    entries = scan.changes([b"app", b"app/two", b"app/sub", b"app/one"])
    assert told(entries) == "D app; F app/one; H app/one-again; D app/sub; F app/two"


# --- aliases ----------------------------------------------------------------------------------


@pytest.fixture
def displaced(root: Path) -> Path:
    """A root whose /var/run is a directory, where the image has a link to /run."""
    for name in ("run/lock", "var/run/secrets/token", "var/run/old"):
        (root / name).mkdir(parents=True)
    (root / "var/run/old/pid").touch()
    (root / "run/lock").chmod(0o1777)
    return root


ALIAS = {b"var/run": b"run"}
TOKEN = covering(b"var/run/secrets/token")


def test_what_is_in_an_alias_is_told_under_the_other_name(displaced: Path) -> None:
    scan = scanner(displaced, TOKEN, ALIAS)
    (displaced / "var/run/new").mkdir()
    (displaced / "var/run/new/pid").write_text("7")
    (displaced / "var/run/lock").mkdir()
    (displaced / "var/run/lock/a").touch()
    (displaced / "var/run").chmod(0o700)

    entries = scan.changes()

    assert told(entries) == "D run; D run/lock; F run/lock/a; D run/new; F run/new/pid"
    by_name = {entry.name: entry for entry in entries}
    assert by_name[b"run/new/pid"].content == os.fsencode(displaced / "var/run/new/pid")
    assert by_name[b"run"].mode == stat.S_IMODE((displaced / "run").stat().st_mode)


def test_parents_of_what_is_in_an_alias_are_the_trees_own(displaced: Path) -> None:
    (displaced / "var/run/lock").mkdir(mode=0o700)
    scan = scanner(displaced, TOKEN, ALIAS)
    (displaced / "var/run/lock/a").touch()
    (displaced / "var/run/old/b").touch()

    entries = scan.changes()

    assert told(entries) == "D run; D run/lock; F run/lock/a; D run/old; F run/old/b"
    assert next(entry.mode for entry in entries if entry.name == b"run/lock") == 0o1777


def test_parents_that_the_tree_does_not_have_are_not_told(displaced: Path) -> None:
    scan = scanner(displaced, TOKEN, {b"var/run": b"srv/run"})
    (displaced / "var/run/new").touch()

    assert told(scan.changes()) == "F srv/run/new"


def test_the_alias_itself_is_never_told(displaced: Path) -> None:
    scan = scanner(displaced, TOKEN, ALIAS)
    (displaced / "var/run").chmod(0o700)
    assert scan.changes() == []


def test_what_goes_away_in_an_alias_is_whited_out(displaced: Path) -> None:
    scan = scanner(displaced, TOKEN, ALIAS)
    shutil.rmtree(displaced / "var/run/old")

    assert told(scan.changes()) == "D run; W run/old"


def test_what_the_tree_has_itself_is_preferred(displaced: Path) -> None:
    (displaced / "run/stays").touch()
    (displaced / "var/run/stays").touch()
    scan = scanner(displaced, TOKEN, ALIAS)
    (displaced / "run/both").write_text("tree")
    (displaced / "var/run/both").write_text("alias")
    (displaced / "run/file").touch()
    (displaced / "var/run/file").mkdir()
    (displaced / "var/run/file/in").touch()
    (displaced / "var/run/stays").unlink()

    entries = scan.changes()

    assert told(entries) == "D run; F run/both; F run/file"
    assert entries[1].content == os.fsencode(displaced / "run/both")


def test_hard_links_across_an_alias_stay_links(displaced: Path) -> None:
    scan = scanner(displaced, TOKEN, ALIAS)
    (displaced / "var/run/a").write_text("1")
    (displaced / "zz").hardlink_to(displaced / "var/run/a")

    assert told(scan.changes()) == "D run; F run/a; H zz"


# --- anything ---------------------------------------------------------------------------------

NAMES = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map("/".join)


def _write(root: Path, name: str, other: str) -> None:
    # A pipe would wait for a reader.
    fd = os.open(root / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK)
    try:
        os.write(fd, other.encode())
    finally:
        os.close(fd)


def _backdate(root: Path, name: str, other: str) -> None:
    _write(root, name, other)
    os.utime(root / name, (1, 1))


def _swap(root: Path, name: str, other: str) -> None:
    (root / name).rename(root / "aside")
    try:
        (root / other).rename(root / name)
    finally:
        (root / "aside").rename(root / other)


def _remove(root: Path, name: str, other: str) -> None:
    path = root / name
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _link(root: Path, name: str, other: str) -> None:
    os.link(root / name, root / other, follow_symlinks=False)


def _chmod(root: Path, name: str, other: str) -> None:
    (root / name).chmod(0o700 | len(other))


OPERATIONS: list[Callable[[Path, str, str], None]] = [
    _write,
    _backdate,
    _swap,
    _remove,
    _link,
    _chmod,
    lambda root, name, other: (root / name).mkdir(),
    lambda root, name, other: (root / name).rename(root / other),
    lambda root, name, other: (root / name).symlink_to(other),
    lambda root, name, other: os.mkfifo(root / name),
    lambda root, name, other: os.setxattr(root / name, "user.k", other.encode()),
    lambda root, name, other: os.utime(root / name, (3, 3), follow_symlinks=False),
]
STEPS = st.lists(st.tuples(st.sampled_from(OPERATIONS), NAMES, NAMES), max_size=12)


@settings(deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=4))
def test_whatever_happens_applied_to_the_old_tree_gives_the_new_one(
    rounds: list[list[tuple[Callable[[Path, str, str], None], str, str]]],
) -> None:
    with tempfile.TemporaryDirectory(prefix="kaniko-scan-") as place:
        root, old = Path(place) / "root", Path(place) / "old"
        root.mkdir()
        old.mkdir()
        scan = scanner(root)
        for steps in rounds:
            for operation, name, other in steps:
                with suppress(OSError):
                    operation(root, name, other)
            entries = scan.changes()
            scan.settle()
            apply(entries, old)
            assert snapshots.seen(old) == snapshots.seen(root)
            assert _well_formed(entries)


def _well_formed(entries: list[Entry]) -> bool:
    names = [entry.name for entry in entries]
    parents = {name.rpartition(b"/")[0] for name in names} - {b""}
    return (
        len(set(names)) == len(names)
        and parents <= set(names)
        and names == sorted(names, key=lambda name: name.split(b"/"))
    )
