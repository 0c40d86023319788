"""An index and the images that it lists belong together."""

from __future__ import annotations

import pytest

from kaniko_core.errors import ContentError
from kaniko_core.oci.index import ImageIndex, Listed, list_images
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.spec import Index, MediaType
from tests.samples import image

OTHER = image(created="2025-01-01T00:00:00Z")


def test_an_index_lists_images_with_their_platforms() -> None:
    first, second = image(), OTHER
    unknown = Platform("unknown", "unknown")
    listed = [Listed(first), Listed(second, unknown, {"of": "first"})]
    made = list_images(listed, docker=False, annotations={"a": "b"})

    index = Index.parse(made.raw)
    assert index.media_type == MediaType.OCI_INDEX == made.descriptor.media_type
    assert index.annotations == {"a": "b"}
    assert [item.digest for item in index.manifests] == [first.digest, second.digest]
    assert index.manifests[0].platform == first.config.platform
    assert index.manifests[1].platform == unknown
    assert index.manifests[1].annotations == {"of": "first"}
    assert made.descriptor.size == len(made.raw)
    assert ImageIndex.of(made.raw, [first, second]) == made


def test_docker_s_list_on_request() -> None:
    assert list_images([Listed(image())], docker=True).index.media_type == MediaType.DOCKER_INDEX


def test_images_that_are_not_those_of_the_index() -> None:
    made = list_images([Listed(image())], docker=False)
    for images in ([], [OTHER], [image(), image()]):
        with pytest.raises(ContentError):
            ImageIndex.of(made.raw, images)
