"""The layer cache where a stage is one layer: --single-snapshot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from integration import readers
from integration.rebuilds import InDirectory, Rebuild, history, key_for, layer_digests

MakeRebuild = Callable[..., Rebuild]


def test_a_stage_that_changed_nothing_has_no_layer_when_it_is_found(
    make_rebuild: MakeRebuild, mode: str, busybox: str, tmp_path: Path
) -> None:
    rebuild = make_rebuild(InDirectory(tmp_path / "layers"), mode)
    rebuild(f"FROM {busybox}\nRUN true\nRUN :\n", "--single-snapshot")
    made = readers.digest(rebuild.image)
    log = rebuild("", "--single-snapshot")

    assert log.ran == []
    assert all(empty for _, empty in history(rebuild.image)[1:])
    assert readers.digest(rebuild.image) == made


def test_a_stage_stays_as_it_was_where_the_one_below_was_made_again_and_is_the_same(
    make_rebuild: MakeRebuild, mode: str, busybox: str, tmp_path: Path
) -> None:
    place = InDirectory(tmp_path / "layers")
    rebuild = make_rebuild(place, mode)
    rebuild(
        f"FROM {busybox} AS below\nRUN echo 1 > /one\nFROM below\nRUN echo 2 > /two\n",
        "--single-snapshot",
    )
    made = layer_digests(rebuild.image)
    place.remove(key_for(place, "echo 1"))
    log = rebuild("", "--single-snapshot")

    assert (log.ran, log.taken) == (["RUN echo 1 > /one"], ["RUN echo 2 > /two"])
    assert layer_digests(rebuild.image)[2:] == made[2:]
    with readers.unpacked(rebuild.image) as root:
        assert ((root / "one").read_text(), (root / "two").read_text()) == ("1\n", "2\n")
