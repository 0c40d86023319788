"""Removing things while builds run, and deleting what is hard to delete."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from kaniko_core.cache.contents import Found, Kind, contents, disk_usage
from kaniko_core.cache.removal import delete, make_room, remove
from kaniko_core.cache.uses import Uses
from kaniko_core.errors import DiskError
from kaniko_core.progress import Event, Noted, silent
from tests.cache.cache_directory import DAY, CacheDirectory, aged


@pytest.fixture
def cache(tmp_path: Path) -> CacheDirectory:
    return CacheDirectory(tmp_path / "cache")


def only(cache: CacheDirectory) -> Found:
    (item,) = contents(cache.path)
    return item


@pytest.mark.parametrize("kind", ["image", "layout", "unpacked", "built", "run_cache"])
def test_removed_is_gone_with_all_its_parts(cache: CacheDirectory, kind: str) -> None:
    getattr(cache, kind)()
    assert remove(cache.path, only(cache))
    assert cache.names() == set()


def test_a_dry_run_removes_nothing(cache: CacheDirectory) -> None:
    name = cache.built()
    assert remove(cache.path, only(cache), dry_run=True)
    assert cache.names() == {name}


@pytest.mark.parametrize("dry_run", [False, True])
def test_what_a_build_holds_stays(cache: CacheDirectory, *, dry_run: bool) -> None:
    name = cache.unpacked()
    with Uses(cache.path) as uses:
        uses.hold(name)
        assert not remove(cache.path, only(cache), dry_run=dry_run)
    assert cache.names() == {name}


def test_what_a_build_holds_without_being_able_to_write_stays(cache: CacheDirectory) -> None:
    name = cache.image()
    with (cache.path / name).open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        assert not remove(cache.path, only(cache))
    assert remove(cache.path, only(cache))


def test_an_image_that_is_being_fetched_stays(cache: CacheDirectory) -> None:
    """Else what is fetched would lose its manifest."""
    name = cache.image()
    (cache.path / ".locks").mkdir()
    with FileLock(cache.path / ".locks" / f"{name}.lock"):
        assert not remove(cache.path, only(cache))
    assert remove(cache.path, only(cache))


def test_what_was_used_since_it_was_found_stays(cache: CacheDirectory) -> None:
    name = cache.built(unused=DAY)
    found = only(cache)
    aged(cache.path / name, 0)
    assert not remove(cache.path, found)


def test_what_is_gone_already_was_not_removed(cache: CacheDirectory) -> None:
    cache.built()
    found = only(cache)
    assert remove(cache.path, found)
    assert not remove(cache.path, found)


def test_who_cannot_be_asked_loses_nothing(cache: CacheDirectory) -> None:
    name = cache.built()
    (cache.path / ".uses").touch()
    with pytest.raises(DiskError, match=f"cannot remove from the cache .*{name}"):
        remove(cache.path, only(cache))
    assert cache.names() == {name}


def test_room_is_made_of_what_was_not_used_for_longest(cache: CacheDirectory) -> None:
    for number in range(1, 5):
        cache.unpacked(number, size=100_000, unused=number * DAY)
    cache.built(size=100_000, unused=9 * DAY)
    oldest, older, *others = contents(cache.path, (Kind.UNPACKED,))
    events: list[Event] = []
    size = disk_usage(cache.path, oldest) + 1
    assert make_room(cache.path, size, (Kind.UNPACKED,), events.append)
    assert [item.name for item in contents(cache.path, (Kind.UNPACKED,))] == [
        item.name for item in others
    ]
    assert contents(cache.path, (Kind.BUILT,))
    (noted,) = events
    assert isinstance(noted, Noted)
    assert "removed 2 layers of 0.2 MB that no running build uses" in noted.message
    assert older.name not in cache.names()


def test_at_least_one_thing_goes_where_nobody_knows_how_much_is_wanted(
    cache: CacheDirectory,
) -> None:
    cache.unpacked()
    assert make_room(cache.path, 0, (Kind.UNPACKED,), silent)
    assert cache.names() == set()


def test_no_room_is_made_of_what_is_held(cache: CacheDirectory) -> None:
    name = cache.unpacked()
    events: list[Event] = []
    with Uses(cache.path) as uses:
        uses.hold(name)
        assert not make_room(cache.path, 1, (Kind.UNPACKED,), events.append)
    assert cache.names() == {name}
    assert events == []


def test_no_room_is_made_where_nothing_can_be_removed(cache: CacheDirectory) -> None:
    cache.unpacked()
    (cache.path / ".uses").touch()
    assert not make_room(cache.path, 1, (Kind.UNPACKED,), silent)


class TestDeletion:
    def test_a_file_a_tree_and_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "tree/a/b").mkdir(parents=True)
        for name in ("file", "tree", "missing"):
            delete(tmp_path / name)
        assert list(tmp_path.iterdir()) == []

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "tree").mkdir()
        (tmp_path / "link").symlink_to("tree")
        delete(tmp_path / "link")
        assert [path.name for path in tmp_path.iterdir()] == ["tree"]

    @pytest.mark.parametrize("mode", [0o000, 0o400, 0o500])
    def test_directories_that_their_owner_may_not_change(self, tmp_path: Path, mode: int) -> None:
        """Go's module cache has such; for root they are no matter."""
        top = tmp_path / "top"
        (top / "a" / "b").mkdir(parents=True)
        (top / "a" / "b" / "file").touch()
        (top / "a" / "b").chmod(mode)
        (top / "a").chmod(mode)
        # Root may do everything, and must be kept from it.
        rights = "-dac_override,-dac_read_search"
        bound = ["setpriv", f"--bounding-set={rights}"] if os.geteuid() == 0 else []
        script = (
            "import sys; from pathlib import Path; from kaniko_core.cache.removal import delete; "
            "delete(Path(sys.argv[1]))"
        )
        subprocess.run([*bound, sys.executable, "-c", script, str(top)], check=True)
        assert not top.exists()
