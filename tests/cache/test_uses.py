"""What running builds hold, as a pruner sees it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kaniko_core.cache.uses import Uses, alone, held_names

# Another process that holds a name until it is ended; with b"x" it says that it does.
_HOLDER = """
import sys
from pathlib import Path
from kaniko_core.cache.uses import Uses
with Uses(Path(sys.argv[1])) as uses:
    uses.hold(sys.argv[2])
    print("held", flush=True)
    sys.stdin.read()
"""


def held(cache_dir: Path) -> frozenset[str]:
    with held_names(cache_dir) as names:
        return names


def lists(cache_dir: Path) -> list[str]:
    return [path.name for path in (cache_dir / ".uses").iterdir() if path.name != "lock"]


def holder(cache_dir: Path, name: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(cache_dir), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    with process:
        process.send_signal(signal.SIGKILL)


def test_what_a_build_holds_is_seen_until_it_ends(tmp_path: Path) -> None:
    with Uses(tmp_path) as uses:
        uses.hold("sha256:abc")
        uses.hold(".layers/trusted/1.boot")
        assert held(tmp_path) == {"sha256:abc", ".layers/trusted/1.boot"}
    assert held(tmp_path) == frozenset()
    assert lists(tmp_path) == []


def test_all_builds_are_seen(tmp_path: Path) -> None:
    with Uses(tmp_path) as one, Uses(tmp_path) as other:
        one.hold("a")
        other.hold("b")
        assert held(tmp_path) == {"a", "b"}


def test_what_a_killed_build_held_is_free_and_its_list_removed(tmp_path: Path) -> None:
    process = holder(tmp_path, "a")
    assert held(tmp_path) == {"a"}
    end(process)
    assert held(tmp_path) == frozenset()
    assert lists(tmp_path) == []


def test_nothing_new_is_held_while_things_are_removed(tmp_path: Path) -> None:
    """Otherwise a build could look an entry up between the question and the removal."""
    with Uses(tmp_path) as uses:
        with held_names(tmp_path):
            thread = threading.Thread(target=uses.hold, args=("a",))
            thread.start()
            thread.join(0.1)
            assert thread.is_alive()
        thread.join()
        assert held(tmp_path) == {"a"}


def test_a_name_is_written_once(tmp_path: Path) -> None:
    with Uses(tmp_path) as uses:
        uses.hold("a")
        uses.hold("a")
        (name,) = lists(tmp_path)
        assert (tmp_path / ".uses" / name).read_text().split() == ["a"]


def test_without_a_directory_nothing_is_held_and_nothing_made(tmp_path: Path) -> None:
    with Uses(None) as none, Uses(tmp_path / "cache") as missing:
        none.hold("a")
        missing.hold("a")
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_held_as_soon_as_the_directory_is_there(tmp_path: Path) -> None:
    cache_dir = tmp_path / "cache"
    with Uses(cache_dir) as uses:
        uses.hold("a")
        cache_dir.mkdir()
        uses.hold("a")
        assert held(cache_dir) == {"a"}


@pytest.fixture
def unwritable(tmp_path: Path) -> Path:
    """A cache directory in which no list can be made: its place is taken by a file."""
    (tmp_path / ".uses").touch()
    return tmp_path


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_build_that_cannot_write_locks_the_entry_itself(unwritable: Path, kind: str) -> None:
    entry = unwritable / "sha256:abc"
    entry.mkdir() if kind == "directory" else entry.touch(0o444)
    with Uses(unwritable) as uses:
        uses.hold("sha256:abc")
        with alone(entry) as free:
            assert not free
    with alone(entry) as free:
        assert free


def test_an_entry_that_is_not_there_is_nobodys(tmp_path: Path) -> None:
    with alone(tmp_path / "missing") as free:
        assert free


def test_of_an_entry_that_cannot_be_opened_nobody_can_say(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("elsewhere")
    with alone(tmp_path / "link") as free:
        assert not free


def test_lists_can_be_read_by_everyone(tmp_path: Path) -> None:
    """A pruner that cannot read what a build of another user holds could not prune."""
    before = os.umask(0o077)
    try:
        with Uses(tmp_path) as uses:
            uses.hold("a")
            modes = {p.stat().st_mode & 0o777 for p in (tmp_path / ".uses").iterdir()}
        assert modes == {0o644}
    finally:
        os.umask(before)


def test_a_list_that_cannot_be_read_stops_the_pruner(tmp_path: Path) -> None:
    (tmp_path / ".uses").mkdir()
    (tmp_path / ".uses" / "list").symlink_to("elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        held(tmp_path)


def test_a_pruner_that_is_stuck_does_not_stop_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kaniko_core.cache.uses._PATIENCE", 0.02)
    (tmp_path / "a").mkdir()
    with Uses(tmp_path) as uses, held_names(tmp_path):
        uses.hold("a")
        with alone(tmp_path / "a") as free:
            assert not free


def test_an_entry_that_stays_locked_does_not_stop_a_build(
    unwritable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kaniko_core.cache.uses._PATIENCE", 0.02)
    (unwritable / "a").mkdir()
    with Uses(unwritable) as uses, alone(unwritable / "a") as free:
        assert free
        uses.hold("a")


def test_who_locks_an_entry_waits_for_who_removes_it(unwritable: Path) -> None:
    """So that it looks only when the entry is either gone, or its own."""
    entry = unwritable / "a"
    entry.mkdir()
    with Uses(unwritable) as uses:
        thread = threading.Thread(target=uses.hold, args=("a",))
        with alone(entry) as free:
            assert free
            thread.start()
            thread.join(0.1)
            assert thread.is_alive()
            entry.rename(unwritable / "aside")
        thread.join()
        assert not entry.exists()


def test_a_disk_that_is_full_leaves_no_half_name(tmp_path: Path) -> None:
    """A list on /dev/full stands for it; the entry itself is locked then."""
    (tmp_path / "a").mkdir()
    with Uses(tmp_path) as uses:
        uses.hold("b")
        (name,) = lists(tmp_path)
        full = os.open("/dev/full", os.O_RDWR)
        for fd in Path("/proc/self/fd").iterdir():
            if fd.is_symlink() and fd.readlink().name == name:
                os.dup2(full, int(fd.name))
                break
        os.close(full)
        uses.hold("a")
        with alone(tmp_path / "a") as free:
            assert not free


def test_closing_twice_changes_nothing(tmp_path: Path) -> None:
    uses = Uses(tmp_path)
    uses.hold("a")
    uses.close()
    uses.close()
    assert held(tmp_path) == frozenset()
