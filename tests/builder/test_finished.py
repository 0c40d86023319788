"""The history of a finished image: times that do not change, and no layers that are empty."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from kaniko_core.builder.configure import scratch, start_stage
from kaniko_core.builder.finished import squashed_history, timed, without_empty
from kaniko_core.dockerfile.scope import Scope
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.oci.layer import FileLayer, write_layer
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.spec import History


def entry(created: str | None, *, empty: bool = False) -> History:
    return History(created_by="RUN", created=created, empty_layer=empty)


def times(*created: str | None) -> list[str | None]:
    return [item.created for item in timed(entry(time) for time in created)]


def test_config_instructions_get_the_time_of_the_layer_before_them() -> None:
    assert times("base", None, "a", None, "b", None)[3:] == ["a", "b", "b"]


def test_config_instructions_before_the_first_layer_get_its_time() -> None:
    assert times("base", None, None, "a", None) == ["base", "a", "a", "a", "a"]
    assert times("base", "a", None, "b") == ["base", "a", "b", "b"]


def test_an_image_without_new_layers_is_as_old_as_its_base() -> None:
    assert times("base", None, None) == ["base", "base", "base"]


def test_where_no_time_is_known_none_is_invented() -> None:
    assert times(None, None) == [None, None]
    assert times() == []


def layer(path: Path, *names: bytes) -> FileLayer:
    entries = [
        Entry(name, Kind.FILE, 0o644, size=1, content=lambda: io.BytesIO(b"x")) for name in names
    ]
    return write_layer(entries, path, docker=False)


def test_empty_layers_leave_the_image_and_their_history_says_so(tmp_path: Path) -> None:
    base, full, empty = (
        layer(tmp_path / "1", b"a"),
        layer(tmp_path / "2", b"b"),
        layer(tmp_path / "3"),
    )
    history = [entry("0"), entry("1"), entry(None, empty=True), entry("2"), entry("3")]

    entries, layers = without_empty(history, [base, empty, full, empty], own=3)

    assert layers == (base, full)
    assert [item.empty_layer for item in entries] == [False, True, True, False, True]
    assert [item.created for item in entries] == ["0", "1", None, "2", "3"]


def test_empty_layers_of_the_base_stay(tmp_path: Path) -> None:
    base, full = layer(tmp_path / "1"), layer(tmp_path / "2", b"b")

    entries, layers = without_empty([entry("1")], [base, full], own=1)

    # The base's own history says nothing of its layers.
    assert layers == (base, full)
    assert [item.empty_layer for item in entries] == [False]


@pytest.mark.parametrize(("empty", "expected"), [(False, [True, True, False]), (True, [True] * 3)])
def test_instructions_with_one_layer_have_its_time_and_at_most_one_shows_it(
    empty: bool, expected: list[bool]
) -> None:
    """Whether the layer was made or found, and whether it changes anything: nothing else may."""
    entries = (entry("base"), entry("1"), entry(None, empty=True), entry("2"))
    state = start_stage(scratch(Platform("linux", "amd64")), Scope())
    state = replace(state, config=replace(state.config, history=entries))

    history = squashed_history(state, 1, "made", empty=empty).config.history

    assert [item.created for item in history] == ["base", "made", None, "made"]
    assert [item.empty_layer for item in history] == [False, *expected]
