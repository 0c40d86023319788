from __future__ import annotations

import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from kaniko_core.errors import DigestMismatch, NotFound, RegistryError, Unauthorized
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image
from kaniko_core.oci.reference import Repository
from kaniko_core.oci.spec import MediaType
from kaniko_core.progress import BytesMoved, Direction, Event
from kaniko_core.registry.auth import Credentials
from kaniko_core.registry.client import Registry
from tests.registry.conftest import MakeRegistry
from tests.registry.test_session import BASIC, ME, tokens
from tests.registry_server import Answer, HangUp, RegistryServer, With
from tests.samples import AMD64, BytesLayer, image, layer, noise

BIG = layer({"data": noise(3_000_000)}, media_type=MediaType.OCI_LAYER)


@pytest.fixture
def push(make_registry: MakeRegistry) -> Registry:
    return make_registry(push=True)


def held(server: RegistryServer, name: str) -> set[str]:
    return set(server.blobs.get(name, {}))


def blobs_of(pushed: Image) -> set[str]:
    layers = pushed.manifest.layers
    return {str(pushed.manifest.config.digest), *(str(layer.digest) for layer in layers)}


# --- images -------------------------------------------------------------------------------


@pytest.mark.parametrize("docker", [True, False])
def test_pushed_image_is_there_byte_for_byte(
    server: RegistryServer, push: Registry, docker: bool
) -> None:
    original = image(docker=docker)
    push.put(server.reference("app:1"), original)

    media_type, raw = server.manifests["app"]["1"]
    assert (media_type, raw) == (original.manifest.media_type, original.raw_manifest)
    assert held(server, "app") == blobs_of(original)


def test_manifest_comes_last(server: RegistryServer, push: Registry) -> None:
    push.put(server.reference("app:1"), image())

    assert server.lines("P")[-1] == "PUT /v2/app/manifests/1"


def test_without_a_tag_it_is_the_latest(server: RegistryServer, push: Registry) -> None:
    push.put(server.reference("app"), image())

    assert "latest" in server.manifests["app"]


def test_what_is_there_is_not_sent_again(
    server: RegistryServer, make_registry: MakeRegistry
) -> None:
    server.add_image("app", "1", image())
    make_registry(push=True).put(server.reference("app:2"), image())

    assert [line for line in server.lines() if "HEAD" not in line] == ["PUT /v2/app/manifests/2"]


def test_layer_that_occurs_twice_is_sent_once(server: RegistryServer, push: Registry) -> None:
    push.put(server.reference("app:1"), image(BIG, BIG))

    sent = [seen for seen in server.requests if seen.method == "PUT" and "/uploads/" in seen.path]
    assert len(sent) == 2  # the layer and the config


def test_image_whose_layer_is_refused_gets_no_manifest(
    server: RegistryServer, push: Registry
) -> None:
    server.misbehave(Answer(400, code="BLOB_TOO_ODD"), method="PUT", path="/uploads/", times=None)

    with pytest.raises(RegistryError, match="BLOB_TOO_ODD"):
        push.put(server.reference("app:1"), image())
    assert server.manifests.get("app") is None


def test_manifest_may_be_tried_again(server: RegistryServer, push: Registry) -> None:
    """Some registries need a moment until they see the blobs that they have."""
    server.misbehave(Answer(404, code="MANIFEST_BLOB_UNKNOWN"), path="/manifests/", times=2)

    push.put(server.reference("app:1"), image())

    assert "1" in server.manifests["app"]


def test_image_is_copied_between_registries(
    server: RegistryServer, other_server: RegistryServer, registry: Registry, push: Registry
) -> None:
    pulled = registry.get(other_server.add_image("base", "1", image(BIG)), AMD64)
    assert pulled is not None

    push.put(server.reference("app:1"), pulled)

    assert held(server, "app") == blobs_of(pulled)


def test_layers_pulled_from_the_same_registry_are_mounted(
    server: RegistryServer, registry: Registry, push: Registry
) -> None:
    pulled = registry.get(server.add_image("base", "1", image(BIG)), AMD64)
    assert pulled is not None
    server.requests.clear()

    push.put(server.reference("app:1"), pulled)

    assert held(server, "app") == blobs_of(pulled)
    assert not [line for line in server.lines("GET") if "/blobs/" in line]
    assert not [line for line in server.lines("PUT") if "/uploads/" in line]


# --- blobs --------------------------------------------------------------------------------


def upload(server: RegistryServer, push: Registry, blob: BytesLayer = BIG) -> None:
    push.upload(server.reference("app").repository, blob)


def test_concurrent_uploads_of_a_blob_are_one(server: RegistryServer, push: Registry) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: upload(server, push), range(8)))

    assert held(server, "app") == {str(BIG.descriptor.digest)}
    assert len(server.lines()) == 3  # HEAD, POST, PUT


def test_upload_that_failed_can_be_tried_again(server: RegistryServer, push: Registry) -> None:
    server.misbehave(Answer(400, code="UNSUPPORTED"), method="PUT")
    with pytest.raises(RegistryError, match="UNSUPPORTED"):
        upload(server, push)

    upload(server, push)

    assert held(server, "app") == {str(BIG.descriptor.digest)}


def test_empty_blob_is_sent(server: RegistryServer, push: Registry) -> None:
    from kaniko_core.oci.spec import Descriptor

    empty = BytesLayer(Descriptor(MediaType.OCI_LAYER, Digest.of(b""), 0), Digest.of(b""), b"")
    upload(server, push, empty)

    assert held(server, "app") == {str(Digest.of(b""))}


@pytest.mark.parametrize("status", [500, 503])
def test_upload_that_fails_begins_anew(server: RegistryServer, push: Registry, status: int) -> None:
    server.misbehave(Answer(status, {"Retry-After": "0"}), method="PUT", times=2)

    upload(server, push)

    assert held(server, "app") == {str(BIG.descriptor.digest)}
    assert server.lines("POST") == ["POST /v2/app/blobs/uploads/"] * 3


def test_connection_that_breaks_after_the_last_byte_is_no_failure(
    server: RegistryServer, push: Registry
) -> None:
    server.misbehave(HangUp(), method="PUT")

    upload(server, push)

    assert len(server.lines("PUT")) == 1


def test_damage_on_the_way_is_repaired(server: RegistryServer, push: Registry) -> None:
    server.misbehave(Answer(400, code="DIGEST_INVALID"), method="PUT")

    upload(server, push)

    assert held(server, "app") == {str(BIG.descriptor.digest)}


@pytest.mark.parametrize("status", [405, 411, 413, 501])
def test_chunks_are_sent_where_a_whole_blob_is_not_taken(
    server: RegistryServer, push: Registry, status: int
) -> None:
    server.misbehave(Answer(status), method="PUT")
    blob = layer({"data": noise(9 << 20)}, media_type=MediaType.OCI_LAYER)

    upload(server, push, blob)

    assert held(server, "app") == {str(blob.descriptor.digest)}
    chunks = [seen for seen in server.requests if seen.method == "PATCH"]
    size = blob.descriptor.size
    assert [seen.headers["content-range"] for seen in chunks] == [
        f"0-{(8 << 20) - 1}",
        f"{8 << 20}-{size - 1}",
    ]


def test_chunk_that_fails_begins_the_upload_anew(server: RegistryServer, push: Registry) -> None:
    server.misbehave(Answer(405), method="PUT")
    server.misbehave(Answer(503, {"Retry-After": "0"}), method="PATCH")

    upload(server, push)

    assert held(server, "app") == {str(BIG.descriptor.digest)}


def test_damaged_layer_is_not_sent_as_a_good_one(server: RegistryServer, push: Registry) -> None:
    def damaged(data: bytes) -> BinaryIO:
        return io.BytesIO(data[:-1] + b"!")

    blob = layer({"data": noise(3_000_000)}, media_type=MediaType.OCI_LAYER, source=damaged)

    with pytest.raises(DigestMismatch):
        upload(server, push, blob)
    assert held(server, "app") == set()


def test_registry_that_stores_something_else_is_found_out(
    server: RegistryServer, push: Registry
) -> None:
    wrong = With("Docker-Content-Digest", "sha256:" + "0" * 64)
    server.misbehave(wrong, method="PUT", path="/uploads/")
    with pytest.raises(DigestMismatch, match="stored layer"):
        upload(server, push)

    server.misbehave(wrong, method="PUT", path="/manifests/")
    with pytest.raises(DigestMismatch, match="stored the manifest"):
        push.put(server.reference("app:1"), image())


def test_query_of_the_location_is_kept(server: RegistryServer, push: Registry) -> None:
    upload(server, push)

    sent = next(seen for seen in server.requests if seen.method == "PUT")
    digest = str(BIG.descriptor.digest).replace(":", "%3A")
    assert sent.path.endswith(f"?_state=a%3D&digest={digest}")


def test_progress_of_an_upload_is_told(server: RegistryServer, make_registry: MakeRegistry) -> None:
    events: list[Event] = []
    upload(server, make_registry(push=True, progress=events.append))

    size = BIG.descriptor.size
    what = f"{server.address}/app sha256:{BIG.descriptor.digest.short}"
    assert events[-1] == BytesMoved(Direction.PUSH, what, size, size)


def test_cancelling_ends_an_upload(server: RegistryServer, push: Registry) -> None:
    opened = threading.Event()

    class Endless(io.RawIOBase):
        def read(self, size: int | None = -1) -> bytes:
            opened.set()
            push.cancel()
            return b"x" * 1000

    blob = layer({"a": noise(50_000)}, media_type=MediaType.OCI_LAYER, source=lambda _: Endless())  # type: ignore[arg-type,return-value]

    with pytest.raises(RegistryError, match="cancelled"):
        upload(server, push, blob)
    assert opened.is_set()


# --- mounts -------------------------------------------------------------------------------


def test_blob_of_another_repository_is_mounted(server: RegistryServer, push: Registry) -> None:
    server.add_blob("base", BIG.data)
    app = server.reference("app").repository

    push.upload(app, BIG, mount_from=(server.reference("base").repository,))

    assert held(server, "app") == {str(BIG.descriptor.digest)}
    assert server.lines("P") == ["POST /v2/app/blobs/uploads/"]


def test_bytes_are_sent_where_nothing_can_be_mounted(
    server: RegistryServer, push: Registry
) -> None:
    sources = tuple(server.reference(name).repository for name in ("one", "two"))
    server.misbehave(Answer(403), method="POST", path="from=two")

    push.upload(server.reference("app").repository, BIG, mount_from=sources)

    assert held(server, "app") == {str(BIG.descriptor.digest)}
    # The session that the first attempt gave serves the upload.
    assert len(server.lines("POST")) == 2
    assert len(server.lines("PUT")) == 1


def test_few_bytes_are_sent_rather_than_asked_for_again(
    server: RegistryServer, push: Registry
) -> None:
    small = layer({"data": b"few"}, media_type=MediaType.OCI_LAYER)
    sources = tuple(server.reference(name).repository for name in ("one", "two"))

    push.upload(server.reference("app").repository, small, mount_from=sources)

    assert held(server, "app") == {str(small.descriptor.digest)}
    assert len(server.lines("POST")) == 1
    assert not server.lines("DELETE")


def test_session_that_a_mount_makes_needless_is_cancelled(
    server: RegistryServer, push: Registry
) -> None:
    server.add_blob("two", BIG.data)
    sources = tuple(server.reference(name).repository for name in ("one", "two"))

    push.upload(server.reference("app").repository, BIG, mount_from=sources)

    assert server.uploads == {}
    assert held(server, "app") == {str(BIG.descriptor.digest)}


def test_other_registries_are_not_mounted_from(server: RegistryServer, push: Registry) -> None:
    push.upload(
        server.reference("app").repository, BIG, mount_from=(Repository("docker.io", "x/y"),)
    )

    assert "from=" not in "".join(seen.path for seen in server.requests)


def test_mounting_asks_for_the_right_to_read_the_source(
    server: RegistryServer, make_registry: MakeRegistry
) -> None:
    from urllib.parse import parse_qs, urlsplit

    server.challenge = f'Bearer realm="http://{server.address}/token",service="s"'
    server.token_service = tokens(server)
    server.add_blob("base", BIG.data)

    make_registry(push=True).upload(
        server.reference("app").repository,
        BIG,
        mount_from=(server.reference("base").repository,),
    )

    asked = [
        parse_qs(urlsplit(seen.path).query)["scope"]
        for seen in server.requests
        if seen.path.startswith("/token")
    ]
    assert asked == [
        ["repository:app:pull,push"],
        ["repository:app:pull,push", "repository:base:pull"],
    ]


# --- credentials --------------------------------------------------------------------------


def test_location_on_another_host_gets_no_credentials(
    server: RegistryServer, other_server: RegistryServer, make_registry: MakeRegistry
) -> None:
    server.challenge, server.authorized = 'Basic realm="x"', {BASIC}
    server.upload_location = f"http://{other_server.address}"
    other_server.uploads["0"] = b""

    make_registry(ME, push=True).upload(server.reference("app").repository, BIG)

    assert held(other_server, "app") == {str(BIG.descriptor.digest)}
    assert [seen.authorization for seen in other_server.requests] == [None]


def test_token_that_expires_during_a_push_is_renewed(
    server: RegistryServer, make_registry: MakeRegistry
) -> None:
    server.challenge = f'Bearer realm="http://{server.address}/token",service="s"'
    server.token_service = tokens(server)
    push = make_registry(Credentials("me", "secret"), push=True)
    push.check_push(server.reference("app:1"))
    server.authorized.clear()

    push.put(server.reference("app:1"), image())

    assert held(server, "app") == blobs_of(image())


# --- the check before a build -------------------------------------------------------------


def test_check_leaves_nothing_behind(server: RegistryServer, push: Registry) -> None:
    push.check_push(server.reference("app:1"))

    assert server.uploads == {}
    assert [line.partition(" ")[0] for line in server.lines()] == ["POST", "DELETE"]


def test_cancelling_the_check_may_fail(server: RegistryServer, push: Registry) -> None:
    server.misbehave(Answer(405), method="DELETE")

    push.check_push(server.reference("app:1"))


@pytest.mark.parametrize(
    ("status", "kind", "hint"),
    [
        (401, Unauthorized, "push to app"),
        (403, Unauthorized, "second.json"),
        (404, NotFound, "create the repository app"),
        (405, RegistryError, "read-only"),
    ],
)
def test_check_says_why_a_push_would_fail(
    server: RegistryServer, push: Registry, status: int, kind: type[RegistryError], hint: str
) -> None:
    server.misbehave(Answer(status, code="DENIED", message="no"), times=None)

    with pytest.raises(
        kind, match=rf"cannot push to {server.address}/app: .*{status} \(DENIED: no\)"
    ) as caught:
        push.check_push(server.reference("app:1"))

    assert hint in (caught.value.hint or "")


def test_location_is_needed(server: RegistryServer, push: Registry) -> None:
    server.misbehave(Answer(202), method="POST")

    with pytest.raises(RegistryError, match="did not say where to"):
        push.check_push(server.reference("app:1"))


# --- oras ---------------------------------------------------------------------------------


def test_oras_speaks_through_our_session(
    server: RegistryServer, make_registry: MakeRegistry
) -> None:
    server.challenge, server.authorized = 'Basic realm="x"', {BASIC}
    reference = server.add_image("team/app", "1", image())
    server.add_image("team/app", "2", image(BIG))
    talk = make_registry(ME).conversation(reference.repository)

    assert talk.get_tags(reference) == ["1", "2"]
    assert talk.get_manifest(str(reference)) == json.loads(image().raw_manifest)
    there, absent = BIG.descriptor.digest, Digest.of(b"something else")
    own = talk.get_container(str(reference))
    found = [talk.blob_exists({"digest": str(digest)}, own) for digest in (there, absent)]
    assert found == [True, False]


def test_oras_deletes_tags(server: RegistryServer, make_registry: MakeRegistry) -> None:
    reference = server.add_image("app", "1", image())

    assert (
        make_registry(push=True)
        .conversation(reference.repository, push=True)
        .delete_tag(reference, "1")
    )
    assert str(image().digest) not in server.manifests["app"]


def test_orass_failures_are_our_sentences(
    server: RegistryServer, make_registry: MakeRegistry, capfd: pytest.CaptureFixture[str]
) -> None:
    reference = server.reference("app:1")
    talk = make_registry().conversation(reference.repository)

    with pytest.raises(NotFound, match="MANIFEST_UNKNOWN"):
        talk.get_manifest(reference)
    assert capfd.readouterr() == ("", "")


def test_names_reach_oras_as_docker_means_them(tmp_path: Path) -> None:
    from kaniko_core.oci.reference import Reference
    from kaniko_core.registry.conversation import container_of

    urls = {
        name: container_of(Reference.parse(name)).manifest_url()
        for name in ("ubuntu", "localhost/a", "a.b.c/d.e/f:1")
    }
    assert urls == {
        "ubuntu": "registry-1.docker.io/v2/library/ubuntu/manifests/latest",
        "localhost/a": "localhost/v2/a/manifests/latest",
        "a.b.c/d.e/f:1": "a.b.c/v2/d.e/f/manifests/1",
    }


def test_nothing_new_begins_after_the_end(server: RegistryServer, push: Registry) -> None:
    """A registry that says nothing would be waited for."""
    push.cancel()
    before = len(server.requests)
    with pytest.raises(RegistryError, match="cancelled"):
        push.upload(Repository(server.address, "app"), layer({"a": b"b"}))
    assert not [seen for seen in server.requests[before:] if "/blobs/" in seen.path]
