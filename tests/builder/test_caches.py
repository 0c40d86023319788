from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from kaniko_core.builder.caches import Caches, Wanted
from kaniko_core.dockerfile.mounts import Sharing
from kaniko_core.errors import DiskError, KanikoError
from kaniko_core.progress import Event, Noted

OWNER = (os.geteuid(), os.getegid())
ROOT = os.geteuid() == 0


def wanted(name: str = "c", sharing: Sharing = Sharing.SHARED, **how: object) -> Wanted:
    return replace(Wanted(name, sharing=sharing, owner=OWNER), **how)  # type: ignore[arg-type]


class Kept:
    """The caches of one build in a directory that several share."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.events: list[Event] = []
        self.cancelled = False
        self.caches = Caches(
            directory / "shared",
            lambda: directory / f"own-{id(self)}",
            self.events.append,
            lambda: self.cancelled,
        )

    @contextmanager
    def one(self, item: Wanted) -> Iterator[Path]:
        with self.caches.lent([item]) as lent:
            yield lent[item.directory_name]

    @property
    def said(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, Noted)]


@pytest.fixture
def kept(tmp_path: Path) -> Callable[[], Kept]:
    (tmp_path / "shared").mkdir()
    return lambda: Kept(tmp_path)


def test_content_stays_for_later_builds(kept: Callable[[], Kept]) -> None:
    with kept().one(wanted()) as path:
        (path / "file").write_text("x")
    later = kept()
    with later.one(wanted()) as path:
        assert (path / "file").read_text() == "x"
    assert later.said == []


def test_caches_are_below_the_cache_directory_for_us_alone(kept: Callable[[], Kept]) -> None:
    build = kept()
    with build.one(wanted()) as path:
        top = build.directory / "shared/.mounts"
        assert path.parents[1] == top
        assert stat.S_IMODE(top.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "other",
    [
        wanted("d"),
        wanted(mode=0o700),
        wanted(owner=(OWNER[0], OWNER[1] + 1)),
        wanted(key=("namespace",)),
        wanted(key=("", "fingerprint")),
    ],
)
def test_another_name_owner_mode_or_key_is_another_cache(other: Wanted) -> None:
    assert other.directory_name != wanted().directory_name


def test_parts_of_the_key_cannot_pass_for_each_other() -> None:
    assert wanted(key=("a", "b")).directory_name != wanted(key=("ab", "")).directory_name


def test_sharing_makes_no_other_cache() -> None:
    assert wanted(sharing=Sharing.LOCKED).directory_name == wanted().directory_name


def test_new_cache_has_mode_and_owner(kept: Callable[[], Kept]) -> None:
    owner = (12, 34) if ROOT else OWNER
    with kept().one(wanted(mode=0o1770, owner=owner)) as path:
        status = path.stat()
        assert stat.S_IMODE(status.st_mode) == 0o1770
        assert (status.st_uid, status.st_gid) == owner


def test_mode_that_a_command_gave_is_kept(kept: Callable[[], Kept]) -> None:
    with kept().one(wanted()) as path:
        path.chmod(0o711)
    with kept().one(wanted()) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o711


def test_first_content_is_put_in_once(kept: Callable[[], Kept]) -> None:
    filled: list[Path] = []

    def fill(path: Path) -> None:
        filled.append(path)
        (path / "first").touch()

    for _ in range(2):
        with kept().one(wanted(fill=fill)) as path:
            assert [item.name for item in path.iterdir()] == ["first"]
    assert len(filled) == 1


def test_first_content_that_fails_leaves_no_cache(kept: Callable[[], Kept]) -> None:
    def fail(path: Path) -> None:
        (path / "half").touch()
        raise KanikoError("no")

    with pytest.raises(KanikoError, match="no"), kept().one(wanted(fill=fail)):
        pass
    with kept().one(wanted()) as path:
        assert list(path.iterdir()) == []


def test_shared_cache_is_one_for_all_at_once(kept: Callable[[], Kept]) -> None:
    with kept().one(wanted()) as one, kept().one(wanted()) as two:
        assert one == two


def test_private_cache_is_another_while_it_is_in_use(kept: Callable[[], Kept]) -> None:
    private = wanted(sharing=Sharing.PRIVATE)
    with kept().one(private) as one, kept().one(private) as two:
        assert one != two
        (two / "second").touch()
        with kept().one(wanted()) as shared:
            assert shared not in (one, two)
    with kept().one(private) as again, kept().one(private) as other:
        assert (again, other) == (one, two)
        assert (other / "second").exists()


def test_locked_cache_is_waited_for(kept: Callable[[], Kept]) -> None:
    locked = wanted(sharing=Sharing.LOCKED)
    waiting = kept()
    order: list[str] = []

    def use() -> None:
        with waiting.one(locked):
            order.append("second")

    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        first = stack.enter_context(kept().one(locked))
        future = pool.submit(use)
        while not waiting.said:
            assert not future.done()
        order.append("first")
        stack.close()
        future.result(10)
        assert first.is_dir()
    assert order == ["first", "second"]
    assert waiting.said == ["the cache c is used by another command; waiting for it"]


def test_locked_cache_of_another_process_is_waited_for(kept: Callable[[], Kept]) -> None:
    locked = wanted(sharing=Sharing.LOCKED)
    waiting = kept()
    with waiting.one(locked) as path:
        lock = path.with_suffix(".lock")
    script = (
        "import fcntl, sys; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_EX);"
        "print(flush=True); sys.stdin.read()"
    )
    with (
        subprocess.Popen(
            [sys.executable, "-c", script, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        assert other.stdout is not None
        other.stdout.readline()
        future = pool.submit(lambda: waiting.one(locked).__enter__())
        while not waiting.said:
            assert not future.done()
        other.kill()  # a crash gives the cache free
        assert future.result(10) == path


def test_wait_ends_when_the_build_is_given_up(kept: Callable[[], Kept]) -> None:
    locked = wanted(sharing=Sharing.LOCKED)
    waiting = kept()
    with kept().one(locked):
        waiting.cancelled = True
        with pytest.raises(KanikoError, match="given up while it waited for the cache c"):
            waiting.one(locked).__enter__()


def test_one_command_gets_one_cache_however_often_it_asks(kept: Callable[[], Kept]) -> None:
    locked = wanted(sharing=Sharing.LOCKED)
    with kept().caches.lent([locked, wanted(), wanted("d", Sharing.PRIVATE)]) as lent:
        assert len(set(lent.values())) == 2


def test_commands_that_want_two_locked_caches_do_not_wait_for_each_other(
    kept: Callable[[], Kept],
) -> None:
    names = [wanted("a", Sharing.LOCKED), wanted("b", Sharing.LOCKED)]
    barrier = threading.Barrier(2)

    def use(items: list[Wanted]) -> None:
        build = kept()
        barrier.wait(10)
        for _ in range(5):
            with build.caches.lent(items):
                pass

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(use, names), pool.submit(use, names[::-1])]:
            future.result(30)


def test_directory_that_somebody_removed_is_made_anew(kept: Callable[[], Kept]) -> None:
    with kept().one(wanted()) as path:
        path.rmdir()
        path.symlink_to("/nowhere")
        with kept().one(wanted()) as again:
            assert again.is_dir()
            assert not again.is_symlink()


def test_what_a_killed_build_left_half_made_is_swept(kept: Callable[[], Kept]) -> None:
    with kept().one(wanted()) as path:
        pass
    path.rmdir()
    (path.parent / "0.tmp/half").mkdir(parents=True)
    with kept().one(wanted()) as path:
        assert list(path.iterdir()) == []
    assert not (path.parent / "0.tmp").exists()


def test_without_a_cache_directory_caches_last_as_long_as_the_build(tmp_path: Path) -> None:
    events: list[Event] = []
    caches = Caches(None, lambda: tmp_path / "own", events.append, lambda: False)
    for _ in range(2):
        with caches.lent([wanted()]) as lent:
            (path,) = lent.values()
            assert path.is_relative_to(tmp_path / "own")
    assert len(events) == 1
    assert "kept for this build only, as there is no cache directory" in str(events[0])


def test_cache_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "shared").touch()
    build = Kept(tmp_path)
    with build.one(wanted()) as path:
        assert path.is_dir()
    (message,) = build.said
    assert "shared/.mounts cannot be used: Not a directory" in message


def test_disk_that_refuses_is_one_sentence(kept: Callable[[], Kept]) -> None:
    build = kept()
    with build.one(wanted()) as path:
        place = path.parent
    for item in place.iterdir():
        item.rmdir() if item.is_dir() else item.unlink()
    place.rmdir()
    place.touch()
    with pytest.raises(DiskError, match="cannot keep caches of RUN in"):
        kept().one(wanted()).__enter__()


def test_locks_are_the_kernels(kept: Callable[[], Kept]) -> None:
    with (
        kept().one(wanted(sharing=Sharing.LOCKED)) as path,
        path.with_suffix(".lock").open("r+") as lock,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_link_in_the_place_of_a_cache_leads_nowhere(
    kept: Callable[[], Kept], tmp_path: Path
) -> None:
    """Whoever could put it there must not make a command write elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "0").mkdir(parents=True)
    with kept().one(wanted()) as path:
        place = path.parent
    shutil.rmtree(place)
    place.symlink_to(elsewhere)

    with kept().one(wanted()) as path:
        (path / "file").write_text("x")

    assert [item.name for item in elsewhere.rglob("*")] == ["0"]
    assert not place.is_symlink()


def test_a_shared_cache_is_held_and_its_use_noted(tmp_path: Path) -> None:
    held: list[str] = []
    caches = Caches(
        tmp_path, lambda: tmp_path / "own", lambda _: None, lambda: False, hold=held.append
    )
    wanted = Wanted("go")
    place = tmp_path / ".mounts" / wanted.directory_name
    with caches.lent([wanted]):
        os.utime(place / "lock", (0, 0))
    with caches.lent([wanted]):
        pass
    assert set(held) == {f".mounts/{wanted.directory_name}"}
    assert (place / "lock").stat().st_mtime > 0


def test_a_cache_that_is_removed_before_it_is_held_is_made_again(tmp_path: Path) -> None:
    def hold(name: str) -> None:
        with suppress(OSError):
            (tmp_path / name).rmdir()

    caches = Caches(tmp_path, lambda: tmp_path / "own", lambda _: None, lambda: False, hold=hold)
    with caches.lent([Wanted("go")]) as lent:
        assert all(path.is_dir() for path in lent.values())


def test_a_cache_of_one_build_only_is_nobody_elses_to_remove(tmp_path: Path) -> None:
    held: list[str] = []
    caches = Caches(None, lambda: tmp_path, lambda _: None, lambda: False, hold=held.append)
    with caches.lent([Wanted("go")]):
        assert held == []
