"""What the image is like, whatever is in it: its format, and what is said about it."""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated

from kaniko_core.attestations.wanted import Provenance, provenance
from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.oci.compression import Compression
from kaniko_core.oci.platform import Platform
from kaniko_core.options.flag import Flag
from kaniko_core.values import key_value

# The levels that each of them has.
_LEVELS = {Compression.GZIP: range(10), Compression.ZSTD: range(1, 20)}
# buildx: one or several kinds, each perhaps with a platform, before a colon.
_PLACE = re.compile(r"([a-z-]+)(?:\[([^\]]*)\])?")
_PLACES = re.compile(rf"{_PLACE.pattern}(?:,{_PLACE.pattern})*")


class ImageFormat(Enum):
    """Whose media types an image has."""

    DOCKER = "docker"
    OCI = "oci"


class AnnotationPlace(Enum):
    """What an annotation is written into."""

    MANIFEST = "manifest"
    INDEX = "index"
    MANIFEST_DESCRIPTOR = "manifest-descriptor"


@dataclass(frozen=True, slots=True)
class Annotation:
    """A key and a value for a manifest, an index, or a descriptor.

    Attributes:
        platform: which platform's manifest; all of them where it is None.
    """

    key: str
    value: str
    place: AnnotationPlace = AnnotationPlace.MANIFEST
    platform: Platform | None = None


def annotation(text: str) -> tuple[Annotation, ...]:
    """Read ``[KIND[PLATFORM][,…]:]KEY=VALUE``; raise :class:`UsageError` where it is none.

    Source: docker buildx build, ``--annotation``.
    """
    name, value = key_value(text)
    before, colon, key = name.partition(":")
    if not colon:
        return (Annotation(name, value),)
    if not key or _PLACES.fullmatch(before) is None:
        raise UsageError(f"{text!r} is not an annotation", hint=_annotation_hint())
    return tuple(
        Annotation(key, value, _place(kind), Platform.parse(platform) if platform else None)
        for kind, platform in _PLACE.findall(before)
    )


def _place(text: str) -> AnnotationPlace:
    try:
        return AnnotationPlace(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is nothing that can be annotated", hint=_annotation_hint()
        ) from None


def _annotation_hint() -> str:
    kinds = ", ".join(place.value for place in AnnotationPlace)
    return f"write KEY=VALUE, or KIND:KEY=VALUE where KIND is one of {kinds}"


def compression(text: str) -> Compression:
    """Read how layers are compressed; raise :class:`UsageError` for what layers cannot be."""
    for known in (Compression.GZIP, Compression.ZSTD):
        if text.lower() == known.value:
            return known
    raise UsageError(f"{text!r} is not a compression of layers", hint="write gzip or zstd")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageOptions:
    """What the image is like, and what is said about it."""

    label: Annotated[
        tuple[tuple[str, str], ...],
        Flag("Label of the image; repeatable.", parse=key_value, metavar="KEY=VALUE"),
    ] = ()
    annotation: Annotated[
        tuple[Annotation, ...],
        Flag(
            "Annotation of the manifest, or of what KIND says: index, manifest-descriptor; "
            "repeatable.",
            parse=annotation,
            several=True,
            metavar="[KIND:]KEY=VALUE",
        ),
    ] = ()
    image_format: Annotated[
        ImageFormat | None,
        Flag(
            "Whose media types the image has, docker or oci; its base image's by default.",
            parse=ImageFormat,
            metavar="FORMAT",
        ),
    ] = None
    compression: Annotated[
        Compression | None,
        Flag(
            "How the layers that the build makes are compressed: gzip (the default) or zstd.",
            parse=compression,
            metavar="KIND",
        ),
    ] = None
    compression_level: Annotated[
        int | None,
        Flag("0 to 9 for gzip, 1 to 19 for zstd; -1 for the default.", metavar="N"),
    ] = None
    reproducible: Annotated[
        bool,
        Flag(
            "Make the same image of the same inputs at any time: no time in it is later than "
            "SOURCE_DATE_EPOCH, which is 1970 unless it is given."
        ),
    ] = False
    provenance: Annotated[
        Provenance | None,
        Flag(
            "Attach how the image was made, in SLSA's terms: true, or mode=min|max, "
            "builder-id=URL, version=v1|v0.2, with commas between them.",
            parse=provenance,
            metavar="WHAT",
        ),
    ] = None
    sbom: Annotated[
        bool, Flag("Attach a list of the packages that are in the image, in SPDX's terms.")
    ] = False

    def __post_init__(self) -> None:
        level = self.compression_level
        chosen = self.compression or Compression.GZIP
        levels = _LEVELS[chosen]
        if level is not None and level >= 0 and level not in levels:
            raise UsageError(
                f"--compression-level {level} is none of {chosen.value}",
                hint=f"its levels are {levels.start} to {levels.stop - 1}",
            )
        if self.image_format is ImageFormat.DOCKER:
            self._require_oci()

    def _require_oci(self) -> None:
        """Refuse what Docker's format has not."""
        what = None
        if self.compression is Compression.ZSTD:
            what = "--compression=zstd"
        elif self.annotation:
            what = "--annotation"
        elif self.attests:
            what = "--sbom" if self.sbom else "--provenance"
        if what is not None:
            raise UsageError(
                f"{what} does not go with --image-format=docker, which has no such thing",
                hint="use --image-format=oci",
            )

    def is_docker(self, base: bool) -> bool:
        """Whether the image has Docker's media types; *base* is whether its base image has."""
        if self.image_format is not None:
            return self.image_format is ImageFormat.DOCKER
        plain = self.compression is not Compression.ZSTD and not self.annotation
        return base and plain and not self.attests

    @property
    def attests(self) -> bool:
        """Whether something is said about the image in an index beside it."""
        return self.sbom or self.provenance is not None

    def annotations_of(self, place: AnnotationPlace, platform: Platform) -> dict[str, str]:
        """Return what is to be written into *place*, of the image for *platform*."""
        return {
            item.key: item.value
            for item in self.annotation
            if item.place is place and (item.platform is None or item.platform.serves(platform))
        }
