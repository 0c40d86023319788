"""What tags meant is noted in one small file each, and a bad note is none."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from kaniko_core.cache.tags import Remembered, TagIndex
from kaniko_core.errors import DiskError
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference

LISTED, IMAGE = Digest.of(b"index"), Digest.of(b"image")
NOON = datetime(2024, 5, 1, 12, 0, 7, tzinfo=UTC)
DEBIAN = Reference.parse("debian:12")
AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


def test_a_name_is_recalled_by_any_spelling(tmp_path: Path) -> None:
    index = TagIndex(tmp_path / ".tags")
    index.remember(Reference.parse("busybox"), AMD64, LISTED, IMAGE, NOON)
    expected = Remembered(LISTED, IMAGE, NOON)
    for spelling in ("busybox", "busybox:latest", "docker.io/library/busybox"):
        assert index.recall(Reference.parse(spelling), AMD64) == expected


def test_platforms_and_names_do_not_mix(tmp_path: Path) -> None:
    index = TagIndex(tmp_path / ".tags")
    index.remember(DEBIAN, AMD64, LISTED, IMAGE, NOON)
    assert index.recall(DEBIAN, ARM64) is None
    assert index.recall(Reference.parse("debian:11"), AMD64) is None


def test_the_last_note_counts(tmp_path: Path) -> None:
    index = TagIndex(tmp_path / ".tags")
    index.remember(DEBIAN, AMD64, LISTED, IMAGE, NOON)
    index.remember(DEBIAN, AMD64, IMAGE, IMAGE, NOON)
    assert index.recall(DEBIAN, AMD64) == Remembered(IMAGE, IMAGE, NOON)
    assert len(list((tmp_path / ".tags").iterdir())) == 1


def test_names_longer_than_file_names_are_kept(tmp_path: Path) -> None:
    long = Reference.parse(f"registry.example.com/{'a' * 120}/{'b' * 100}:{'t' * 128}")
    index = TagIndex(tmp_path / ".tags")
    index.remember(long, AMD64, LISTED, IMAGE, NOON)
    assert index.recall(long, AMD64) is not None


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b'{"listed": 7}'])
def test_a_damaged_note_is_none(tmp_path: Path, damage: bytes) -> None:
    index = TagIndex(tmp_path / ".tags")
    index.remember(DEBIAN, AMD64, LISTED, IMAGE, NOON)
    next((tmp_path / ".tags").iterdir()).write_bytes(damage)
    assert index.recall(DEBIAN, AMD64) is None


def test_a_note_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / ".tags").write_bytes(b"a file where the directory should be")
    with pytest.raises(DiskError, match="cannot note the tag in"):
        TagIndex(tmp_path / ".tags").remember(DEBIAN, AMD64, LISTED, IMAGE, NOON)
