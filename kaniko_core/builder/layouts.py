"""Base images in OCI layouts: which of a directory's images a named context means."""

from __future__ import annotations

from collections.abc import Sequence

from kaniko_core.builder.plan import LayoutBase
from kaniko_core.errors import ContentError, ContextError, UsageError
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image
from kaniko_core.oci.layout import LayoutStore, tags_of
from kaniko_core.oci.reference import DEFAULT_TAG
from kaniko_core.oci.spec import Descriptor


def layout_image(wanted: LayoutBase) -> Image:
    """Return the image that *wanted* selects: by digest, by tag, or because it is the only one.

    Without a selector it is the image tagged ``latest`` if there is one, as for registries. A
    tag that is asked for must be there: unlike docker buildx, which takes the only image
    whatever its tag is.

    Raises:
        ContextError: there is no such layout, no such image in it, or none for the platform.
        ContentError: the directory is no layout, or it is damaged.
    """
    if not wanted.path.exists():
        raise ContextError(
            f"the OCI layout {wanted.path} does not exist",
            hint=f"it is what --build-context {wanted.name}= names",
        )
    store = LayoutStore(wanted.path)
    digest = _digest(wanted.selector) or _selected(wanted, store.listed())
    image = store.load(digest, wanted.platform)
    if image is None:
        raise ContextError(
            f"the OCI layout {wanted.path} has no {wanted.name} for {wanted.platform}",
            hint="name another platform with --custom-platform, or in FROM --platform",
        )
    return image


def _digest(selector: str) -> Digest | None:
    try:
        return Digest.parse(selector)
    except UsageError:
        return None


def _selected(wanted: LayoutBase, listed: Sequence[Descriptor]) -> Digest:
    tag = wanted.selector or DEFAULT_TAG
    for item in listed:
        if tag in tags_of(item):
            return item.digest
    tags = sorted({tag for item in listed for tag in tags_of(item)})
    hint = f"its tags are {', '.join(tags)}" if tags else "its images have no tags"
    if wanted.selector:
        raise ContextError(f"the OCI layout {wanted.path} has no image {tag}", hint=hint)
    digests = {item.digest for item in listed}
    if not digests:
        raise ContentError(f"the OCI layout {wanted.path} has no images")
    if len(digests) > 1:
        raise ContextError(
            f"the OCI layout {wanted.path} has {len(digests)} images, none tagged {DEFAULT_TAG}",
            hint=f"{hint}; write oci-layout://DIRECTORY:TAG, or @ and a digest",
        )
    return digests.pop()
