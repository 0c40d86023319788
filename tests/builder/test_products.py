"""What targets and platforms become, and what is refused before anything is built."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from kaniko_core.builder.cached.known import Known
from kaniko_core.builder.output import Product
from kaniko_core.builder.products import Making, check_products
from kaniko_core.errors import UsageError
from kaniko_core.oci.compression import Compression
from kaniko_core.oci.image import Image
from kaniko_core.oci.index import ImageIndex
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.spec import MediaType
from kaniko_core.options import BuildOptions, ImageFormat, ImageOptions, OutputOptions
from kaniko_core.options.image import annotation
from kaniko_core.progress import silent
from tests.samples import image

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BOTH = BuildOptions(custom_platform=(AMD64, ARM64), target=("app", "tests"))


def _made(*, docker: bool = False) -> list[list[Image]]:
    """Return images as they are built: by platform, and of each target."""
    return [
        [image(docker=docker, platform=platform, created=f"202{n}-01-01T00:00:00Z") for n in (4, 5)]
        for platform in (AMD64, ARM64)
    ]


def _products(
    build: BuildOptions, image: ImageOptions, made: list[list[Image]]
) -> tuple[Product, ...]:
    # Of what was built, only the options are asked for.
    known = cast(Known, SimpleNamespace(build=build, image=image))
    making = Making(
        known=[known] * len(made),
        output=OutputOptions(),
        scratch=Path("/nowhere"),
        started=NOW,
        progress=silent,
    )
    return making.products(made)


def test_every_target_has_an_index_of_its_own() -> None:
    made = _made()
    app, tests = _products(BOTH, ImageOptions(), made)

    assert (app.stage, tests.stage) == ("app", "tests")
    for number, product in enumerate((app, tests)):
        assert isinstance(product.content, ImageIndex)
        assert product.content.images == (made[0][number], made[1][number])
        assert product.content.index.media_type == MediaType.OCI_INDEX
        platforms = [item.platform for item in product.content.index.manifests]
        assert platforms == [AMD64, ARM64]


def test_one_platform_makes_images() -> None:
    made = _made()[:1]
    (product,) = _products(BuildOptions(), ImageOptions(), [made[0][:1]])
    assert (product.stage, product.content) == ("", made[0][0])


def test_index_lists_images_by_the_platforms_that_were_asked_for() -> None:
    """A base image may be for another, or not say which variant: an index is to be read by both."""
    made = [[image(platform=AMD64)], [image(platform=AMD64, created="2025-01-01T00:00:00Z")]]
    build = replace(BOTH, target=())
    for options in (ImageOptions(), ImageOptions(annotation=annotation("c=3"))):
        (product,) = _products(build, options, made)
        assert isinstance(product.content, ImageIndex)
        assert [item.platform for item in product.content.index.manifests] == [AMD64, ARM64]


def test_images_of_docker_are_in_a_list_of_docker() -> None:
    for product in _products(BOTH, ImageOptions(), _made(docker=True)):
        assert isinstance(product.content, ImageIndex)
        assert product.content.index.media_type == MediaType.DOCKER_INDEX


def test_annotations_go_to_the_index_and_its_entries() -> None:
    given = [
        *annotation("index:a=1"),
        *annotation("manifest-descriptor[linux/arm64]:b=2"),
        *annotation("c=3"),
    ]
    app, _ = _products(BOTH, ImageOptions(annotation=tuple(given)), _made())

    assert isinstance(app.content, ImageIndex)
    assert app.content.index.annotations == {"a": "1"}
    assert [item.annotations for item in app.content.index.manifests] == [{}, {"b": "2"}]


TAR = OutputOptions(no_push=True, tar_path=Path("x.tar"))


@pytest.mark.parametrize(
    ("build", "given", "output", "words"),
    [
        (replace(BOTH, target=()), ImageOptions(), TAR, "holds one image"),
        (BOTH, ImageOptions(), TAR, "2 targets"),
        (BuildOptions(), ImageOptions(image_format=ImageFormat.OCI), TAR, "--image-format=oci"),
        (BuildOptions(), ImageOptions(compression=Compression.ZSTD), TAR, "--compression=zstd"),
        (
            BuildOptions(),
            ImageOptions(annotation=annotation("index:a=b")),
            OutputOptions(no_push=True),
            "index:a",
        ),
        (
            BuildOptions(custom_platform=(AMD64, ARM64), materialize=True),
            ImageOptions(),
            OutputOptions(no_push=True),
            "--materialize",
        ),
    ],
)
def test_what_cannot_be_made(
    build: BuildOptions, given: ImageOptions, output: OutputOptions, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        check_products(build, given, output)


def test_what_can_be_made() -> None:
    check_products(BuildOptions(), ImageOptions(), TAR)
    check_products(BOTH, ImageOptions(annotation=annotation("index:a=b")), OutputOptions())
