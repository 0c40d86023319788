"""The history of an image that is done: every entry with its time, and no layer that is empty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kaniko_core.builder.configure import StageState
from kaniko_core.oci.archive import EMPTY_DIFF_ID
from kaniko_core.oci.image import Layer
from kaniko_core.oci.spec import History


def stamped(state: StageState, before: StageState, created: str) -> StageState:
    """Give the history entries that *state* has and *before* has not the time *created*."""
    old = len(before.config.history)
    entries = state.config.history
    new = (replace(entry, created=created) for entry in entries[old:])
    return replace(state, config=replace(state.config, history=(*entries[:old], *new)))


def changes_nothing(layer: Layer) -> bool:
    """Whether *layer* is empty; then it becomes no part of an image."""
    return layer.diff_id == EMPTY_DIFF_ID


def unlayered(state: StageState) -> StageState:
    """Return *state*, whose last instruction has changed no files."""
    *entries, last = state.config.history
    entries.append(replace(last, empty_layer=True))
    return replace(state, config=replace(state.config, history=tuple(entries)))


def squashed_history(
    state: StageState, since: int, created: str, *, empty: bool = False
) -> StageState:
    """Return *state* with one layer in its history from entry *since* on: the last one's.

    Args:
        state: after the stage's last instruction.
        since: how many entries were there before the stage.
        created: when the layer was made, which is the time of all that it is made of.
        empty: whether there is not even that one, because nothing was changed.
    """
    entries = list(state.config.history)
    own = [i for i in range(since, len(entries)) if not entries[i].empty_layer]
    for number in own:
        merged = empty or number != own[-1]
        entries[number] = replace(entries[number], created=created, empty_layer=merged)
    return replace(state, config=replace(state.config, history=tuple(entries)))


def without_empty(
    history: Sequence[History], layers: Sequence[Layer], own: int
) -> tuple[tuple[History, ...], tuple[Layer, ...]]:
    """Return both without the layers that change nothing, among the last *own*."""
    entries, kept = list(history), list(layers)
    # From the end: histories of base images need not tell of all their layers.
    position = len(entries)
    for number in range(len(layers) - 1, len(layers) - own - 1, -1):
        position = _layered(entries, position)
        if changes_nothing(layers[number]):
            del kept[number]
            entries[position] = replace(entries[position], empty_layer=True)
    return tuple(entries), tuple(kept)


def _layered(entries: Sequence[History], end: int) -> int:
    """Return the position of the last entry before *end* that has a layer."""
    return next(i for i in range(end - 1, -1, -1) if not entries[i].empty_layer)


def timed(history: Iterable[History]) -> tuple[History, ...]:
    """Give entries without a time, which only changed the config, one that is known.

    It is that of the layer before them; for the first of them, of the layer that comes after, be
    it that before is the base's. So the same layers make the same image, whenever it is built.
    Source: BuildKit, exporter/containerimage/writer.go, ``normalizeLayersAndHistory``.
    """
    entries = tuple(history)
    created, untimed = None, False
    for entry in entries:
        if entry.created is None:
            untimed = True
        else:
            created = entry.created
            if untimed:
                break
    filled, untimed = [], False
    for entry in entries:
        if entry.created is None:
            untimed = True
        elif untimed:
            created = entry.created
        filled.append(replace(entry, created=entry.created or created))
    return tuple(filled)
