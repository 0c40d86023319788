"""Files appear whole or not at all; only what dead writers left is swept."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kaniko_core.oci import atomic
from kaniko_core.oci.atomic import (
    appearing,
    discard_directory,
    make_directory,
    replacing,
    sweep,
)

_WRITER = """
import sys, time
from pathlib import Path
from kaniko_core.oci import atomic
from kaniko_core.oci.atomic import replacing
with replacing(Path(sys.argv[1])) as stream:
    stream.write(b"half")
    stream.flush()
    print("writing", flush=True)
    time.sleep(60)
"""


def temporaries(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.name.startswith(".tmp-")]


def test_nothing_shows_before_the_end(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with replacing(target) as stream:
        stream.write(b"new")
        stream.flush()
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert temporaries(tmp_path) == []


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(KeyError), replacing(target) as stream:
        stream.write(b"half")
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert target.read_bytes() == b"old"


def test_readers_of_the_old_file_keep_it(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with target.open("rb") as reader:
        with replacing(target) as stream:
            stream.write(b"new")
        assert reader.read() == b"old"


def test_everyone_may_read_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        make_directory(tmp_path / "a" / "b")
        with replacing(tmp_path / "a" / "b" / "file"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "a" / "b" / "file").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o755


def test_sweep_leaves_a_living_writers_file_and_takes_a_killed_ones(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, tmp_path / "file"], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        assert sweep(tmp_path) == 0
        assert len(temporaries(tmp_path)) == 1

        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert sweep(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_sweep_waits_an_hour_for_a_file_of_another_machine(tmp_path: Path) -> None:
    foreign = tmp_path / ".tmp-0badf00d-1234"
    foreign.write_bytes(b"half")
    assert sweep(tmp_path) == 0
    assert sweep(tmp_path, now=lambda: time.time() + 3700) == 1
    assert not foreign.exists()


def test_sweep_takes_discarded_directories(tmp_path: Path) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    (tmp_path / f".tmp-{boot}-1234" / "blobs").mkdir(parents=True)
    assert sweep(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_sweep_follows_no_links(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    (tmp_path / f".tmp-{boot}-1").symlink_to(victim)
    assert sweep(tmp_path) == 0
    assert victim.read_bytes() == b"mine"


def test_a_writer_whose_new_file_was_swept_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between creation and lock a sweep may take the file for a dead writer's."""
    lock = fcntl.flock
    swept: list[Path] = []

    def flock(stream: object, operation: int) -> None:
        if not swept:
            swept.extend(temporaries(tmp_path))
            swept[0].unlink()
        lock(stream, operation)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", flock)
    with replacing(tmp_path / "file") as stream:
        stream.write(b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_a_writer_that_is_interrupted_at_once_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(stream: object, operation: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fcntl, "flock", interrupted)
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "file"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_without_proc_files_are_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "_BOOT_ID", tmp_path / "missing")
    with replacing(tmp_path / "file") as stream:
        stream.write(b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_sweep_of_a_missing_directory_is_nothing(tmp_path: Path) -> None:
    assert sweep(tmp_path / "missing") == 0


def test_discarded_directory_is_gone(tmp_path: Path) -> None:
    (tmp_path / "entry" / "blobs").mkdir(parents=True)
    discard_directory(tmp_path / "entry")
    assert list(tmp_path.iterdir()) == []


def test_directory_appears_at_the_end(tmp_path: Path) -> None:
    with appearing(tmp_path / "entry") as directory:
        (directory / "file").write_text("x")
        assert not (tmp_path / "entry").exists()
    assert (tmp_path / "entry" / "file").read_text() == "x"
    assert (tmp_path / "entry").stat().st_mode & 0o777 == 0o755
    assert not temporaries(tmp_path)


def test_directory_of_a_failed_block_does_not_appear(tmp_path: Path) -> None:
    with pytest.raises(KeyError), appearing(tmp_path / "entry") as directory:
        (directory / "file").write_text("x")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_first_directory_of_a_name_stays(tmp_path: Path) -> None:
    with appearing(tmp_path / "entry") as late:
        (late / "late").touch()
        with appearing(tmp_path / "entry") as early:
            (early / "early").touch()
    assert [path.name for path in (tmp_path / "entry").iterdir()] == ["early"]
    assert not temporaries(tmp_path)


def test_sweep_leaves_a_living_writers_directory(tmp_path: Path) -> None:
    with appearing(tmp_path / "entry") as directory:
        (directory / "file").touch()
        assert sweep(tmp_path) == 0
    assert (tmp_path / "entry" / "file").exists()


def test_sweep_takes_a_killed_writers_directory(tmp_path: Path) -> None:
    with appearing(tmp_path / "entry") as directory:
        left = tmp_path / f"{directory.parent.name}-again"
        left.mkdir()
        (left / "new").mkdir()
    assert sweep(tmp_path) == 1
    assert not left.exists()
