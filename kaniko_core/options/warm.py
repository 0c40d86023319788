"""Which images to put into the cache."""

from __future__ import annotations

from typing import Annotated

from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference
from kaniko_core.options.flag import Flag
from kaniko_core.values import build_arg


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmOptions:
    """Which images to put into the cache."""

    image: Annotated[
        tuple[Reference, ...],
        Flag("Image to cache; repeatable.", parse=Reference.parse, metavar="IMAGE"),
    ] = ()
    dockerfile: Annotated[
        str | None,
        Flag(
            "Cache every image that this Dockerfile, a file or a URL, names in FROM and COPY.",
            metavar="FILE|URL",
        ),
    ] = None
    build_arg: Annotated[
        tuple[tuple[str, str | None], ...],
        Flag(
            "Value for an ARG of the Dockerfile; without value it comes from the environment; "
            "repeatable.",
            parse=build_arg,
            metavar="NAME[=VALUE]",
        ),
    ] = ()
    custom_platform: Annotated[
        Platform | None,
        Flag(
            "Platform to cache images for, instead of this machine's.",
            parse=Platform.parse,
            aliases=("--customPlatform",),
            metavar="OS/ARCH[/VARIANT]",
        ),
    ] = None
    force: Annotated[bool, Flag("Fetch and replace images that are cached already.")] = False
    unpack: Annotated[
        bool,
        Flag(
            "Unpack the images too, for builds in a sandbox: then not even the first one has to. "
            "Needs root, and the disk space."
        ),
    ] = False

    def __post_init__(self) -> None:
        if not self.image and self.dockerfile is None:
            raise UsageError(
                "no image to warm",
                hint="name one with --image, or a Dockerfile with --dockerfile",
            )
