from __future__ import annotations

import os
from pathlib import Path

import pytest

from kaniko_core.builder.workdir import workdir_entries
from kaniko_core.errors import KanikoError
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.rootfs.tree import Rootfs
from tests.builder.copying import NOW, state


def made(image: Path, workdir: str, user: str = "") -> list[Entry]:
    with Rootfs(image) as below:
        return workdir_entries(state(workdir=workdir, user=user), below)


def test_missing_directories_are_made(tmp_path: Path) -> None:
    (tmp_path / "srv").mkdir()
    os.utime(tmp_path / "srv", ns=(NOW, NOW))
    assert made(tmp_path, "/srv/app/data") == [
        Entry(b"srv/app", Kind.DIRECTORY, 0o755, mtime_ns=NOW),
        Entry(b"srv/app/data", Kind.DIRECTORY, 0o755, mtime_ns=NOW),
    ]


@pytest.mark.parametrize("workdir", ["/", "/srv", "/srv/", "//srv/./x/.."])
def test_existing_directories_are_left_alone(tmp_path: Path, workdir: str) -> None:
    (tmp_path / "srv/x").mkdir(parents=True)
    assert made(tmp_path, workdir) == []


def test_directories_belong_to_the_user(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("app:x:5:6::/:\n")
    assert [(e.uid, e.gid) for e in made(tmp_path, "/a/b", "app")] == [(5, 6), (5, 6)]
    assert [(e.uid, e.gid) for e in made(tmp_path, "/a", "7:8")] == [(7, 8)]


def test_directory_of_an_unknown_user_is_roots(tmp_path: Path) -> None:
    """A scratch image knows nobody; its WORKDIR is made all the same."""
    assert [(e.uid, e.gid) for e in made(tmp_path, "/a", "nonroot")] == [(0, 0)]


def test_links_are_followed_inside_the_image(tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to("/../real")
    assert [entry.name for entry in made(tmp_path, "/way/x")] == [b"real", b"real/x"]


def test_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(KanikoError, match="/f is a file in the image"):
        made(tmp_path, "/f/x")
