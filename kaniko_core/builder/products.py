"""From the images of all platforms to what is delivered: one image, or an index of them."""

from __future__ import annotations

from collections.abc import Sequence

from kaniko_core.builder.output import Product
from kaniko_core.errors import UsageError
from kaniko_core.oci.image import Image
from kaniko_core.oci.index import ImageIndex, Listed, list_images
from kaniko_core.options import AnnotationPlace, BuildOptions, ImageOptions, OutputOptions

# What only an index has room for.
_OF_AN_INDEX = frozenset({AnnotationPlace.INDEX, AnnotationPlace.MANIFEST_DESCRIPTOR})


def makes_index(build: BuildOptions) -> bool:
    """Whether an index is made, and not a single image."""
    return len(build.platforms) > 1


def check_products(build: BuildOptions, image: ImageOptions, output: OutputOptions) -> None:
    """Find out what could not be made, before anything is.

    Raises:
        UsageError: options that do not go together.
    """
    several = makes_index(build)
    if several and output.tar_path is not None:
        raise UsageError(
            "--tar-path writes a docker-save tarball, which holds one image, and an index of "
            "several is built",
            hint="use --oci-layout-path, or push it to a --destination",
        )
    if output.tar_path is not None and not image.is_docker(base=True):
        raise UsageError(
            f"--tar-path does not go with {_oci_because(image)}: a docker-save tarball has "
            "Docker's format",
            hint="use --oci-layout-path, or push the image to a --destination",
        )
    of_index = next((item for item in image.annotation if item.place in _OF_AN_INDEX), None)
    if of_index is not None and not several:
        raise UsageError(
            f"--annotation {of_index.place.value}:{of_index.key} is one of an index, and a single "
            "image is built",
            hint="leave the kind out to annotate the image's manifest",
        )
    if several and build.materialize:
        raise UsageError(
            "--materialize leaves the files of one image in /, and several platforms are built",
            hint="name one platform",
        )


def _oci_because(image: ImageOptions) -> str:
    if image.image_format is not None:
        return f"--image-format={image.image_format.value}"
    return "--annotation" if image.annotation else "--compression=zstd"


def products(
    build: BuildOptions, options: ImageOptions, made: Sequence[Sequence[Image]]
) -> tuple[Product, ...]:
    """Return what the targets became.

    Args:
        build: says what was to be built.
        options: what is said about it.
        made: for each platform, the images of all targets.
    """
    return tuple(
        Product(stage, _content(build, options, images))
        for stage, images in zip(build.targets, zip(*made, strict=True), strict=True)
    )


def _content(
    build: BuildOptions, options: ImageOptions, images: Sequence[Image]
) -> Image | ImageIndex:
    if not makes_index(build):
        return images[0]
    listed = [
        Listed(
            image,
            annotations=options.annotations_of(
                AnnotationPlace.MANIFEST_DESCRIPTOR, image.config.platform
            ),
        )
        for image in images
    ]
    annotations = {a.key: a.value for a in options.annotation if a.place is AnnotationPlace.INDEX}
    docker = all(image.is_docker for image in images)
    return list_images(listed, docker=docker, annotations=annotations)
