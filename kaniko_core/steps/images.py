"""A step as an image of one layer: so that a registry keeps it, and any tool can look at it.

    manifest    one layer; annotations with what a look-up has to know
    config      platform, time, diff ID, and the instruction as its history

Annotations are in the manifest, and so a look-up needs no config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from kaniko_core.errors import UsageError
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image, Layer, compose
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.spec import Descriptor, History, ImageConfig, Manifest
from kaniko_core.steps.step import CachedStep

_CREATED = "org.opencontainers.image.created"
_OWN = "io.github.kaniko-py.cache."
_FORMAT, _DIFF_ID = f"{_OWN}format", f"{_OWN}diff-id"
_CONTENTS, _MADE_ON = f"{_OWN}contents", f"{_OWN}made-on"
# Another number for whatever a reader of this one would get wrong.
_THIS_FORMAT = "1"
_BETWEEN = ","
_COMMENT = "kaniko-py.layer-cache"


def step_image(step: CachedStep, *, text: str, platform: Platform) -> Image:
    """Return what is kept of *step*.

    Args:
        step: what was made.
        text: the instruction, as the history shows it.
        platform: what the layer was made for.
    """
    created = step.created.astimezone(UTC).isoformat(timespec="microseconds")
    created = created.replace("+00:00", "Z")
    history = History(created_by=text, created=created, comment=_COMMENT)
    config = ImageConfig(platform, history=(history,), created=created)
    image = compose(config, (step.layer,), docker=False)
    annotations = {
        _CREATED: created,
        _FORMAT: _THIS_FORMAT,
        _DIFF_ID: str(step.layer.diff_id),
        _CONTENTS: step.contents,
    }
    if step.made_on:
        # Of nothing there is none: an empty text is one that is empty.
        annotations[_MADE_ON] = _BETWEEN.join(step.made_on)
    manifest = replace(image.manifest, annotations=annotations)
    return Image.of(manifest.to_bytes(), image.raw_config, image.layers)


def step_in(
    key: str, manifest: Manifest, layer: Callable[[Descriptor, Digest], Layer]
) -> CachedStep | None:
    """Return the step that *manifest* keeps; None where it is none of ours, or of a later format.

    Args:
        key: the step's.
        manifest: what is kept under it.
        layer: makes the layer of its descriptor and diff ID; nothing is read by that.
    """
    notes = manifest.annotations
    if notes.get(_FORMAT) != _THIS_FORMAT or len(manifest.layers) != 1:
        return None
    try:
        created = datetime.fromisoformat(notes[_CREATED])
        diff_id = Digest.parse(notes[_DIFF_ID])
        contents = str(Digest.parse(notes[_CONTENTS]))
        made_on = tuple(notes[_MADE_ON].split(_BETWEEN)) if _MADE_ON in notes else ()
    except (KeyError, ValueError, UsageError):
        return None
    if created.tzinfo is None:
        return None
    return CachedStep(key, layer(manifest.layers[0], diff_id), created, contents, made_on)
