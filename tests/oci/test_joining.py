from __future__ import annotations

import pytest

from kaniko_core.errors import UsageError
from kaniko_core.oci.index import Listed, list_images
from kaniko_core.oci.joining import Part, join
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.spec import MediaType
from tests.samples import image, layer

AMD, ARM = image(), image(platform=Platform("linux", "arm64"))
ATTESTED = Platform("unknown", "unknown")
PROOF = image(layer({"proof": b"of something"}), platform=ATTESTED)


def windows(version: str) -> Platform:
    return Platform("windows", "amd64", "", version)


def test_images_are_listed_in_their_order() -> None:
    joined = join([Part("b", ARM), Part("a", AMD)], {})
    assert [item.digest for item in joined.index.manifests] == [ARM.digest, AMD.digest]
    assert [str(item.platform) for item in joined.index.manifests] == ["linux/arm64", "linux/amd64"]


def test_images_of_an_index_keep_what_it_says_of_them() -> None:
    """Attestations belong to an image by an annotation, and to no platform: many may be listed."""
    about = {"vnd.docker.reference.digest": str(AMD.digest)}
    parts = [Listed(AMD), Listed(PROOF, ATTESTED, about)]
    index = list_images(parts, docker=False)
    other = list_images([Listed(ARM), Listed(PROOF, ATTESTED, {"x": "y"})], docker=False)

    joined = join([Part("one", index), Part("two", other)], {})

    assert [item.platform for item in joined.index.manifests] == [
        AMD.config.platform,
        ATTESTED,
        ARM.config.platform,
        ATTESTED,
    ]
    assert joined.index.manifests[1].annotations == about


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Platform("linux", "amd64"), Platform("linux", "amd64", "v1")),
        (Platform("linux", "arm64"), Platform("linux", "arm64", "v8")),
        (Platform("linux", "arm"), Platform("linux", "arm", "v7")),
        (windows("10.0.1"), windows("10.0.1")),
    ],
)
def test_two_images_for_one_platform_are_refused(first: Platform, second: Platform) -> None:
    parts = [Part("a", image(platform=first)), Part("b", image(platform=second))]
    with pytest.raises(UsageError, match=f"both a and b are for {second}"):
        join(parts, {})


def test_index_with_two_images_for_one_platform_is_named() -> None:
    twice = list_images([Listed(AMD), Listed(image(created="2025-01-01T00:00:00Z"))], docker=False)
    with pytest.raises(UsageError, match="a has two images for linux/amd64"):
        join([Part("a", twice)], {})


def test_variants_and_versions_of_systems_are_platforms_of_their_own() -> None:
    platforms = [
        *(Platform("linux", "arm", "v6"), Platform("linux", "arm", "v7")),
        *(windows("10.0.1"), windows("10.0.2")),
    ]
    parts = [Part(str(n), image(platform=p)) for n, p in enumerate(platforms)]
    assert [item.platform for item in join(parts, {}).index.manifests] == platforms


@pytest.mark.parametrize(
    ("docker", "annotations", "media_type"),
    [
        ((True, True), {}, MediaType.DOCKER_INDEX),
        ((True, False), {}, MediaType.OCI_INDEX),
        ((False, False), {}, MediaType.OCI_INDEX),
        ((True, True), {"a": "b"}, MediaType.OCI_INDEX),
    ],
)
def test_it_is_dockers_where_all_is_dockers_and_nothing_annotated(
    docker: tuple[bool, bool], annotations: dict[str, str], media_type: str
) -> None:
    parts = [
        Part("a", image(docker=docker[0])),
        Part("b", image(docker=docker[1], platform=Platform("linux", "arm64"))),
    ]
    joined = join(parts, annotations)
    assert (joined.index.media_type, joined.index.annotations) == (media_type, annotations)
