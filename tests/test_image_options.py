"""What is said about an image: annotations, formats, levels, and what does not go together."""

from __future__ import annotations

import pytest

from kaniko_core.errors import UsageError
from kaniko_core.oci.compression import Compression
from kaniko_core.oci.platform import Platform, platforms
from kaniko_core.options import Annotation, AnnotationPlace, ImageFormat, ImageOptions
from kaniko_core.options.image import annotation, compression

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
INDEX, MANIFEST = AnnotationPlace.INDEX, AnnotationPlace.MANIFEST
DESCRIPTOR = AnnotationPlace.MANIFEST_DESCRIPTOR


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=b", [Annotation("a", "b")]),
        ("a=", [Annotation("a", "")]),
        ("org.x/y=https://host:1/=", [Annotation("org.x/y", "https://host:1/=")]),
        ("index:a=b", [Annotation("a", "b", INDEX)]),
        ("index,manifest:a=b", [Annotation("a", "b", INDEX), Annotation("a", "b", MANIFEST)]),
        ("manifest[linux/arm64]:a=b", [Annotation("a", "b", MANIFEST, ARM64)]),
        (
            "manifest-descriptor[linux/amd64],index:a=b",
            [Annotation("a", "b", DESCRIPTOR, AMD64), Annotation("a", "b", INDEX)],
        ),
    ],
)
def test_annotations_are_read_as_buildx_reads_them(text: str, expected: list[Annotation]) -> None:
    assert list(annotation(text)) == expected


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a", "key=value"),
        ("=b", "key=value"),
        ("indx:a=b", "'indx'"),
        ("index:=b", "not an annotation"),
        ("index[]x:a=b", "not an annotation"),
        ("Index:a=b", "not an annotation"),
        ("manifest[nonsense/x/y/z]:a=b", "platform"),
    ],
)
def test_what_is_no_annotation(text: str, word: str) -> None:
    with pytest.raises(UsageError) as caught:
        annotation(text)
    assert word in f"{caught.value} {caught.value.hint}"


def test_annotations_of_a_place_and_a_platform() -> None:
    given = ImageOptions(
        annotation=(
            Annotation("a", "1"),
            Annotation("b", "2", MANIFEST, ARM64),
            Annotation("c", "3", INDEX),
            Annotation("a", "4"),
        )
    )

    assert given.annotations_of(MANIFEST, AMD64) == {"a": "4"}
    assert given.annotations_of(MANIFEST, ARM64) == {"a": "4", "b": "2"}
    assert given.annotations_of(MANIFEST, Platform("linux", "arm64", "v8")) == {"a": "4", "b": "2"}
    assert given.annotations_of(INDEX, AMD64) == {"c": "3"}


@pytest.mark.parametrize(
    ("given", "of_docker_base", "of_oci_base"),
    [
        (ImageOptions(), True, False),
        (ImageOptions(image_format=ImageFormat.DOCKER), True, True),
        (ImageOptions(image_format=ImageFormat.OCI), False, False),
        (ImageOptions(compression=Compression.GZIP), True, False),
        (ImageOptions(compression=Compression.ZSTD), False, False),
        (ImageOptions(annotation=(Annotation("a", "b"),)), False, False),
    ],
)
def test_format_of_an_image(given: ImageOptions, of_docker_base: bool, of_oci_base: bool) -> None:
    assert given.is_docker(True) is of_docker_base
    assert given.is_docker(False) is of_oci_base


@pytest.mark.parametrize(
    ("kind", "level", "fits"),
    [
        (None, -1, True),
        (None, 0, True),
        (None, 9, True),
        (None, 10, False),
        (Compression.ZSTD, 0, False),
        (Compression.ZSTD, 19, True),
        (Compression.ZSTD, 20, False),
    ],
)
def test_levels(kind: Compression | None, level: int, fits: bool) -> None:
    if fits:
        assert ImageOptions(compression=kind, compression_level=level).compression_level == level
        return
    with pytest.raises(UsageError, match=f"--compression-level {level}"):
        ImageOptions(compression=kind, compression_level=level)


def test_compressions_of_layers() -> None:
    assert compression("GZIP") is Compression.GZIP
    for text in ("none", "", "estargz"):
        with pytest.raises(UsageError):
            compression(text)


def test_lists_of_platforms() -> None:
    assert platforms("linux/amd64, arm64,") == (AMD64, ARM64)
    assert platforms("local") == (Platform.host(),)
    assert platforms("") == ()
    with pytest.raises(UsageError):
        platforms("linux/amd64,a/b/c/d")
