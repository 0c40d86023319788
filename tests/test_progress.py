"""Events are values, and nobody has to listen."""

from __future__ import annotations

import typing
from dataclasses import FrozenInstanceError, fields

import pytest

from kaniko_core.progress import BytesMoved, Direction, Event, Noted, Progress, silent

EVENTS = typing.get_args(Event)


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_events_cannot_be_changed_on_their_way(kind: type) -> None:
    event = kind(*(None for _ in fields(kind)))
    with pytest.raises((FrozenInstanceError, TypeError)):
        setattr(event, fields(kind)[0].name, "other")
    assert not hasattr(event, "__dict__")


def test_equal_events_are_equal() -> None:
    assert BytesMoved(Direction.PULL, "x", 1, 2) == BytesMoved(Direction.PULL, "x", 1, 2)
    assert Noted("a") != Noted("b")


def test_silence_is_a_progress() -> None:
    progress: Progress = silent
    progress(Noted("nobody hears it"))
