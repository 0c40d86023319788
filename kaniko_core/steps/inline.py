"""An image that carries its own cache: the keys of its layers, in its config.

    {"architecture": "amd64", "config": {…}, …,
     "io.github.kaniko-py.cache.v1": {"steps": [
       {"key": "9f86…", "layer": "sha256:<diff ID>", "created": "2024-05-01T12:00:00.000000Z",
        "contents": "sha256:…", "made_on": ["sha256:…"]}]}}

A layer that changes nothing is noted too, though no image has it: it need not be fetched.

Whoever runs the image passes over the field, as over any that is unknown. BuildKit does too: what
it looks for is ``moby.buildkit.cache.v0``, whose records are digests of its own build graph, which
only its solver can compute; and so we cannot read its images' caches either.

The image holds the layers of its last stage, and of the stages that one starts from. What other
stages made is not in it: a step that copies from them is found if its key is, since a key needs
no files of a stage.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, BinaryIO, Protocol

from kaniko_core.errors import ContentError, KanikoError, NotFound, RegistryError, UsageError
from kaniko_core.lean import dataclass
from kaniko_core.oci.archive import EMPTY_DIFF_ID
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image, Layer
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference, Repository
from kaniko_core.oci.spec import Descriptor, ImageConfig, Json, MediaType
from kaniko_core.oci.tarheader import END_OF_ARCHIVE
from kaniko_core.steps.step import CachedStep

# Another number for whatever a reader of this one would get wrong.
INLINE_FIELD = "io.github.kaniko-py.cache.v1"


class ImageSource(Protocol):
    """The part of a registry that an inline cache needs."""

    def get(self, reference: Reference, platform: Platform) -> Image | None:
        """Return the image, or None; its layers are fetched when they are opened."""

    def has_blob(self, repository: Repository, digest: Digest) -> bool:
        """Whether the repository has a blob."""


def with_inline(config: ImageConfig, steps: Iterable[CachedStep]) -> ImageConfig:
    """Return *config* with the keys of its layers, and with none that its base had."""
    bare = without_inline(config)
    return replace(bare, extra={**bare.extra, INLINE_FIELD: inline_field(steps)})


def without_inline(config: ImageConfig) -> ImageConfig:
    """Return *config* without what its base brought: others' keys say nothing of this image."""
    extra = {name: value for name, value in config.extra.items() if name != INLINE_FIELD}
    return replace(config, extra=extra)


def inline_field(steps: Iterable[CachedStep]) -> Json:
    """Return what the config of an image says of *steps*, whose layers are the image's."""
    return {"steps": [_step_json(step) for step in steps]}


def inline_steps(image: Image) -> list[CachedStep]:
    """Return the steps that *image* has the layers of, as its config says; none where it is silent.

    What cannot be read is passed over: it was written by another version, or by nobody who should.
    """
    layers: dict[Digest, Layer] = {EMPTY_DIFF_ID: _EmptyLayer()}
    layers.update((layer.diff_id, layer) for layer in reversed(image.layers))
    noted = image.config.extra.get(INLINE_FIELD)
    listed = noted.get("steps") if isinstance(noted, Mapping) else None
    if not isinstance(listed, list):
        return []
    found = (_step_of(item, layers) for item in listed)
    return [step for step in found if step is not None]


def _step_json(step: CachedStep) -> dict[str, Any]:
    created = step.created.astimezone(UTC).isoformat(timespec="microseconds")
    return {
        "key": step.key,
        # Not its place among the layers, which changes with those below it.
        "layer": str(step.layer.diff_id),
        "created": created.replace("+00:00", "Z"),
        "contents": step.contents,
        "made_on": list(step.made_on),
    }


def _step_of(data: Any, layers: Mapping[Digest, Layer]) -> CachedStep | None:
    try:
        created = datetime.fromisoformat(data["created"])
        layer = layers[Digest.parse(data["layer"])]
        contents = str(Digest.parse(data["contents"]))
        key, made_on = data["key"], data["made_on"]
    except (KeyError, TypeError, ValueError, UsageError):
        return None
    texts = isinstance(made_on, list) and all(isinstance(text, str) for text in made_on)
    if created.tzinfo is None or not texts or not isinstance(key, str):
        return None
    return CachedStep(key, layer, created, contents, tuple(made_on))


@dataclass(frozen=True, slots=True)
class _EmptyLayer:
    """The layer of a step that changed nothing: the end of an archive."""

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(MediaType.OCI_LAYER, EMPTY_DIFF_ID, len(END_OF_ARCHIVE))

    @property
    def diff_id(self) -> Digest:
        return EMPTY_DIFF_ID

    def open(self) -> BinaryIO:
        return io.BytesIO(END_OF_ARCHIVE)


class InlineStore:
    """The steps in one image of a registry, to be looked up; safe to use from several threads.

    The image is asked for once, with the first look-up, and may be gone.
    """

    def __init__(self, registry: ImageSource, reference: Reference, platform: Platform) -> None:
        self._registry = registry
        self._reference = reference.with_default_tag
        self._platform = platform
        self._lock = threading.Lock()
        self._steps: Mapping[str, CachedStep] | None = None
        self._failure: KanikoError | None = None

    @property
    def name(self) -> str:
        """The image, as people write it."""
        return self._reference.familiar

    def get(self, key: str) -> CachedStep | None:
        """Return the step, its layer yet to be fetched; None where the image does not know it.

        Raises:
            ContentError: the image lists a layer that its registry has lost.
            RegistryError: the registry refuses, or cannot be reached, or what it has is no image;
                the same for every key.
        """
        step = self._known().get(key)
        if step is None or isinstance(step.layer, _EmptyLayer):
            return step
        blob = step.layer.descriptor.digest
        if not self._registry.has_blob(self._reference.repository, blob):
            raise ContentError(f"{self.name} lists the layer {blob}, but its registry has lost it")
        return step

    def _known(self) -> Mapping[str, CachedStep]:
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._steps is None:
                try:
                    self._steps = self._read()
                except KanikoError as error:
                    self._failure = error
                    raise
            return self._steps

    def _read(self) -> Mapping[str, CachedStep]:
        try:
            image = self._registry.get(self._reference, self._platform)
        except NotFound:
            # There are images under the name, but none for the platform.
            image = None
        except ContentError as error:
            # Of no use for any key: a ContentError would be taken for one key's.
            raise RegistryError(str(error), hint=error.hint) from error
        return {} if image is None else {step.key: step for step in inline_steps(image)}
