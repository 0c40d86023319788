"""Steps for tests: as a build makes them, and the cache entries of them."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image
from kaniko_core.oci.layer import FileLayer
from kaniko_core.progress import Event, Noted, Warned
from kaniko_core.steps.images import step_image
from kaniko_core.steps.step import CachedStep, MadeStep
from tests.samples import AMD64, layer

CREATED = datetime(2024, 5, 1, 12, 30, 15, 123456, UTC)
CONTENTS = Digest("sha256", "c" * 64)
KEY, OTHER_KEY = "a" * 64, "b" * 64


def packed(directory: Path, text: str = "hello") -> FileLayer:
    """Return a layer with one file that holds *text*."""
    sample = layer({"motd": text.encode()})
    path = directory / f"layer-{sample.descriptor.digest.short}"
    path.write_bytes(sample.data)
    return FileLayer(path, sample.descriptor, sample.diff_id, contents=CONTENTS)


def made(
    layer: FileLayer | Future[FileLayer],
    key: str = KEY,
    *,
    created: datetime = CREATED,
    made_on: tuple[str, ...] = ("sha256:below", "sha256:beside"),
) -> MadeStep:
    """Return what a build makes of a step: *layer*, which may be packed already."""
    future: Future[FileLayer] = Future()
    if isinstance(layer, Future):
        future = layer
    else:
        future.set_result(layer)
    return MadeStep(
        key=key,
        text="RUN echo hello > motd",
        platform=AMD64,
        layer=future,
        created=created,
        made_on=lambda: made_on,
        known_in=lambda: (),
    )


def entry(
    layer: FileLayer,
    key: str = KEY,
    *,
    created: datetime = CREATED,
    made_on: tuple[str, ...] = ("sha256:below", "sha256:beside"),
) -> Image:
    """Return the image of a cache entry."""
    step = CachedStep(key, layer, created, str(CONTENTS), made_on)
    return step_image(step, text="RUN echo hello > motd", platform=AMD64)


def without_note(image: Image, name: str, value: str | None = None) -> Image:
    """Return the entry with another annotation, or none, in the place of *name*."""
    notes = {k: v for k, v in image.manifest.annotations.items() if k != name}
    if value is not None:
        notes[name] = value
    raw = replace(image.manifest, annotations=notes).to_bytes()
    return Image.of(raw, image.raw_config, image.layers)


def content(step: CachedStep) -> bytes:
    """Return the bytes of a step's blob."""
    with step.layer.open() as stream:
        return stream.read()


class Heard:
    """A Progress that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event, /) -> None:
        self.events.append(event)

    @property
    def warnings(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, Warned)]

    @property
    def notes(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, Noted)]
