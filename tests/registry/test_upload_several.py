"""What goes to several repositories at once, and indexes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import BinaryIO

import pytest

from kaniko_core.errors import ContentError, NotFound, RegistryError, TagImmutable
from kaniko_core.oci.image import Image
from kaniko_core.oci.index import ImageIndex, Listed, list_images
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.spec import MediaType
from kaniko_core.registry.client import Registry
from tests.registry.conftest import MakeRegistry
from tests.registry_server import Answer, RegistryServer
from tests.samples import BytesLayer, image, layer, noise

BIG = layer({"data": noise(300_000)}, media_type=MediaType.OCI_LAYER)
NAMES = ("one", "two", "three", "four")


@pytest.fixture
def push(make_registry: MakeRegistry) -> Registry:
    return make_registry(push=True, retries=0)


def index() -> ImageIndex:
    other = image(layer({"arm": b"64"}), platform=Platform("linux", "arm64"))
    return list_images([Listed(image(BIG)), Listed(other), Listed(image(BIG))], docker=False)


def sent(server: RegistryServer) -> list[str]:
    lines = server.lines("PUT")
    return [line.split("/")[2] for line in lines if "/uploads/" in line]


def to_all(push: Registry, server: RegistryServer, blob: BytesLayer) -> list[RegistryError | None]:
    """Send *blob* to all repositories at once, and return what came of it."""
    together = threading.Barrier(len(NAMES))

    def send(name: str) -> RegistryError | None:
        together.wait()
        try:
            push.upload(server.reference(name).repository, blob)
        except RegistryError as error:
            return error
        return None

    with ThreadPoolExecutor(len(NAMES)) as pool:
        return list(pool.map(send, NAMES))


# --- blobs --------------------------------------------------------------------------------


def test_bytes_go_to_one_repository_and_the_others_mount_them(
    server: RegistryServer, push: Registry
) -> None:
    assert to_all(push, server, BIG) == [None] * len(NAMES)

    assert len(sent(server)) == 1
    assert all(str(BIG.descriptor.digest) in server.blobs[name] for name in NAMES)


def test_bytes_go_to_each_where_nothing_can_be_mounted(
    server: RegistryServer, push: Registry
) -> None:
    server.mounts = False
    assert to_all(push, server, BIG) == [None] * len(NAMES)

    assert sorted(sent(server)) == sorted(NAMES)


@pytest.mark.parametrize("refused", NAMES)
def test_repository_that_refuses_does_not_fail_the_others(
    server: RegistryServer, push: Registry, refused: str
) -> None:
    """Whoever waited for it takes its place."""
    fault = Answer(403, code="DENIED")
    server.misbehave(fault, method="POST", path=f"/v2/{refused}/", times=None)

    results = to_all(push, server, BIG)

    assert [name for name, error in zip(NAMES, results, strict=True) if error] == [refused]
    assert len(sent(server)) == 1


def test_blob_that_is_there_is_not_waited_for(server: RegistryServer, push: Registry) -> None:
    """Of a repository that has it, nobody asks whether another one is being sent it."""
    server.add_blob("two", BIG.data)
    begun, go_on = threading.Event(), threading.Event()

    def slow(data: bytes) -> BinaryIO:
        begun.set()
        go_on.wait(10)
        return BytesIO(data)

    waiting = BytesLayer(BIG.descriptor, BIG.diff_id, BIG.data, slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(push.upload, server.reference("one").repository, waiting)
        begun.wait(10)
        push.upload(server.reference("two").repository, BIG)
        assert not first.done()
        go_on.set()
        first.result()


# --- indexes ------------------------------------------------------------------------------


def test_index_comes_after_its_images_which_have_no_tags(
    server: RegistryServer, push: Registry
) -> None:
    made = index()
    push.put_index(server.reference("app:1"), made)

    manifests = [line for line in server.lines("PUT") if "/manifests/" in line]
    first, other = made.images[0].digest, made.images[1].digest
    assert manifests == [
        f"PUT /v2/app/manifests/{first}",
        f"PUT /v2/app/manifests/{other}",
        "PUT /v2/app/manifests/1",
    ]
    assert server.manifests["app"]["1"] == (MediaType.OCI_INDEX, made.raw)
    assert len(sent(server)) == 4  # two layers and two configs


def test_index_is_read_as_it_was_pushed(
    server: RegistryServer, push: Registry, registry: Registry
) -> None:
    made = index()
    push.put_index(server.reference("app:1"), made)

    found = registry.read(server.reference("app:1"))

    assert isinstance(found, ImageIndex)
    assert found.raw == made.raw
    with found.images[0].layers[0].open() as stream:
        assert stream.read() == BIG.data


def test_image_is_read_as_what_it_is(server: RegistryServer, registry: Registry) -> None:
    built = image()
    found = registry.read(server.add_image("app", "1", built))

    assert isinstance(found, Image)
    assert found.raw_manifest == built.raw_manifest
    assert registry.read(server.reference("app:2")) is None


def test_index_that_lists_what_is_not_there(server: RegistryServer, registry: Registry) -> None:
    made = index()
    server.add_manifest("app", "1", MediaType.OCI_INDEX, made.raw)

    with pytest.raises(NotFound, match=f"there is no image .*@{made.images[0].digest}"):
        registry.read(server.reference("app:1"))


def test_index_of_indexes_is_none_of_ours(server: RegistryServer, registry: Registry) -> None:
    made = index()
    server.add_manifest("app", "inner", MediaType.OCI_INDEX, made.raw)
    item = made.descriptor.to_json() | {"platform": {"os": "linux", "architecture": "amd64"}}
    outer = made.index.to_bytes().replace(b'"manifests":[', b'"manifests":[%s,' % _json(item))
    server.add_manifest("app", "1", MediaType.OCI_INDEX, outer)

    with pytest.raises(ContentError, match="lists an index"):
        registry.read(server.reference("app:1"))


def _json(data: object) -> bytes:
    import json

    return json.dumps(data).encode()


def test_index_is_copied_to_another_registry(
    server: RegistryServer, other_server: RegistryServer, push: Registry, registry: Registry
) -> None:
    push.put_index(other_server.reference("base:1"), index())
    found = registry.read(other_server.reference("base:1"))
    assert isinstance(found, ImageIndex)

    push.put_index(server.reference("app:1"), found)

    assert server.manifests["app"]["1"][1] == found.raw
    assert server.blobs["app"].keys() == other_server.blobs["base"].keys()


# --- tags that may not change -------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 403, 409, 412])
def test_tag_that_may_not_change(server: RegistryServer, push: Registry, status: int) -> None:
    fault = Answer(status, code="X", message="this tag is Immutable")
    server.misbehave(fault, method="PUT", path="/manifests/")

    with pytest.raises(TagImmutable) as caught:
        push.put(server.reference("app:1"), image())
    assert (caught.value.status, caught.value.code) == (status, "X")


def test_what_a_registry_says_of_a_digest_is_not_about_a_tag(
    server: RegistryServer, push: Registry
) -> None:
    built = image()
    fault = Answer(400, code="X", message="immutable")
    server.misbehave(fault, method="PUT", path="/manifests/")

    with pytest.raises(RegistryError) as caught:
        push.put(server.reference("app").at(built.digest), built)
    assert not isinstance(caught.value, TagImmutable)


# --- texts --------------------------------------------------------------------------------


def test_text_is_put_again_where_that_helps(
    server: RegistryServer, make_registry: MakeRegistry
) -> None:
    server.misbehave(Answer(503), method="PUT", path="/file", times=2)
    server.misbehave(Answer(200), method="PUT", path="/file", times=1)

    make_registry(push=True).put_text(f"http://{server.address}/file?secret", "text")

    assert server.lines("PUT") == ["PUT /file"] * 3
    assert server.requests[-1].body == b"text"


def test_text_that_is_refused_names_the_host_alone(server: RegistryServer, push: Registry) -> None:
    server.misbehave(Answer(403, message="you sent ?secret", code="X"), method="PUT", path="/file")

    with pytest.raises(RegistryError) as caught:
        push.put_text(f"http://{server.address}/file?secret", "text")
    assert str(caught.value) == "cannot write to 127.0.0.1: it answered 403"
