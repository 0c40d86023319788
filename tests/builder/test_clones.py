"""A clone is like its source in everything, and shares nothing with it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kaniko_core.builder.clones import clone

BIG = 1 << 30  # bytes


def facts(top: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in (top, *sorted(top.rglob("*"))):
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        text = path.read_bytes() if kind == stat.S_IFREG else b""
        text = os.fsencode(path.readlink()) if kind == stat.S_IFLNK else text
        found[str(path.relative_to(top))] = (
            *(status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns),
            *(status.st_nlink, text),
        )
    return found


def test_everything_is_kept(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "deep/er").mkdir(parents=True)
    (source / "deep/file").write_text("x" * 100_000)
    (source / "deep/empty").touch()
    (source / "deep/program").write_text("#!")
    (source / "deep/program").chmod(0o4711)
    (source / "link").symlink_to("deep/nowhere")
    (source / "name").hardlink_to(source / "deep/file")
    os.mkfifo(source / "fifo", 0o640)
    for number, path in enumerate([*source.rglob("*"), source]):
        os.utime(path, ns=(10**18, 10**18 + number), follow_symlinks=False)
    (source / "deep").chmod(0o2750)
    clone(os.fsencode(source), os.fsencode(target))

    assert facts(target) == facts(source)
    assert (target / "name").samefile(target / "deep/file")
    (target / "deep/file").write_text("other")
    assert (source / "deep/file").stat().st_size == 100_000


def test_holes_stay_holes(tmp_path: Path) -> None:
    """``/var/log/lastlog`` is as large as the highest user's number asks for."""
    source, target = tmp_path / "lastlog", tmp_path / "copy"
    with source.open("wb") as file:
        file.seek(BIG)
        file.write(b"end")
    clone(os.fsencode(source), os.fsencode(target))

    assert target.stat().st_size == BIG + 3
    assert target.stat().st_blocks * 512 < 1 << 20
    with target.open("rb") as copy:
        copy.seek(BIG)
        assert copy.read() == b"end"


def test_copy_into_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    clone(os.fsencode(tmp_path), os.fsencode(tmp_path / "copy"))
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["file"]
