"""One index of images that were made apart, such as one for each platform, each on its machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.oci.image import Image
from kaniko_core.oci.index import ImageIndex, Listed, list_images
from kaniko_core.oci.platform import Platform

# How BuildKit lists attestations: they are about another image of the index, and no platform's.
_NO_PLATFORM = Platform("unknown", "unknown")


@dataclass(frozen=True, slots=True)
class Part:
    """Something to be joined; *name* is how the user named it."""

    name: str
    content: Image | ImageIndex


def join(parts: Sequence[Part], annotations: Mapping[str, str]) -> ImageIndex:
    """Return an index of all images of *parts*, in their order.

    It is a manifest list of Docker's where all images are Docker's and nothing is annotated, for
    a manifest list has no annotations.

    Args:
        parts: images, and indexes, whose images are listed as they are there.
        annotations: of the new index.

    Raises:
        UsageError: two images are for one platform.
    """
    owners: dict[tuple[Platform, str], str] = {}
    listed: list[Listed] = []
    for part in parts:
        for item in _listed(part.content):
            platform = item.descriptor.platform
            assert platform is not None
            if platform != _NO_PLATFORM:
                _refuse_second(owners, platform, part.name)
            listed.append(item)
    annotated = bool(annotations) or any(item.annotations for item in listed)
    docker = not annotated and all(item.image.is_docker for item in listed)
    return list_images(listed, docker=docker, annotations=annotations)


def _listed(content: Image | ImageIndex) -> Iterator[Listed]:
    if isinstance(content, Image):
        yield Listed(content)
        return
    for item, image in zip(content.index.manifests, content.images, strict=True):
        yield Listed(image, item.platform, item.annotations)


def _refuse_second(owners: dict[tuple[Platform, str], str], platform: Platform, name: str) -> None:
    for (other, version), owner in owners.items():
        if other.serves(platform) and version == platform.os_version:
            both = f"{owner} has two images" if owner == name else f"both {owner} and {name} are"
            raise UsageError(
                f"{both} for {platform}",
                hint="an index has one image for each platform: leave one of them out",
            )
    owners[platform, platform.os_version] = name
