from __future__ import annotations

import json

import pytest

from kaniko_core.errors import ContentError, DigestMismatch, NotFound
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.index import ImageIndex
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.spec import Descriptor, Index, MediaType
from kaniko_core.progress import Event, Warned
from kaniko_core.registry.client import Registry
from tests.registry.conftest import MakeRegistry
from tests.registry_server import Answer, Corrupt, RegistryServer, With, Without
from tests.samples import AMD64, attestation, image

ARM64 = Platform("linux", "arm64")
OTHER = "sha256:" + "0" * 64


def index_of(*entries: tuple[Platform | None, Digest]) -> bytes:
    descriptors = tuple(
        Descriptor(MediaType.OCI_MANIFEST, digest, 100, platform=platform)
        for platform, digest in entries
    )
    return Index(MediaType.OCI_INDEX, descriptors).to_bytes()


def test_head_tells_the_digest_without_a_pull(server: RegistryServer, registry: Registry) -> None:
    reference = server.add_image("app", "1", image())

    assert registry.head(reference) == image().descriptor
    assert server.lines() == ["HEAD /v2/app/manifests/1"]


def test_every_family_is_accepted(server: RegistryServer, registry: Registry) -> None:
    registry.head(server.add_image("app", "1", image()))

    accepted = server.requests[0].headers["accept"].split(", ")
    assert set(accepted) == MediaType.INDEXES | MediaType.MANIFESTS


@pytest.mark.parametrize(
    "fault",
    [
        Answer(405),
        Without("Docker-Content-Digest"),
        Without("Content-Type"),
        With("Content-Type", "application/json; charset=utf-8"),
    ],
)
def test_get_takes_the_place_of_a_head_that_says_too_little(
    server: RegistryServer, registry: Registry, fault: Answer | With | Without
) -> None:
    reference = server.add_image("app", "1", image())
    server.misbehave(fault, method="HEAD", times=None)

    assert registry.head(reference) == image().descriptor


def test_what_is_not_there_is_none(server: RegistryServer, registry: Registry) -> None:
    reference = server.reference("no/such:1")

    assert registry.head(reference) is None
    assert registry.manifest(reference) is None
    assert registry.get(reference, AMD64) is None


@pytest.mark.parametrize("docker", [True, False])
def test_image_comes_as_it_was_put(
    server: RegistryServer, registry: Registry, docker: bool
) -> None:
    original = image(docker=docker)
    got = registry.get(server.add_image("app", "1", original), AMD64)

    assert got is not None
    assert (got.raw_manifest, got.raw_config) == (original.raw_manifest, original.raw_config)
    assert [layer.descriptor for layer in got.layers] == list(original.manifest.layers)
    assert [layer.diff_id for layer in got.layers] == list(original.config.diff_ids)


def test_layers_are_not_fetched_before_they_are_read(
    server: RegistryServer, registry: Registry
) -> None:
    original = image()
    registry.get(server.add_image("app", "1", original), AMD64)

    blobs = [line for line in server.lines() if "/blobs/" in line]
    assert blobs == [f"GET /v2/app/blobs/{original.manifest.config.digest}"]


def test_index_is_resolved_to_the_platform(server: RegistryServer, registry: Registry) -> None:
    server.add_image("app", "amd64", image())
    arm = image(platform=ARM64)
    server.add_image("app", "arm64", arm)
    index = index_of((AMD64, image().digest), (ARM64, arm.digest))
    server.add_manifest("app", "1", MediaType.OCI_INDEX, index)

    got = registry.get(server.reference("app:1"), ARM64)

    assert got is not None
    assert got.digest == arm.digest


def test_missing_platform_lists_those_there_are(server: RegistryServer, registry: Registry) -> None:
    index = index_of((AMD64, image().digest), (Platform("unknown", "unknown"), image().digest))
    server.add_manifest("app", "1", MediaType.OCI_INDEX, index)

    with pytest.raises(NotFound, match="no image for linux/s390x, only for linux/amd64") as caught:
        registry.get(server.reference("app:1"), Platform("linux", "s390x"))

    assert "--custom-platform" in (caught.value.hint or "")


def test_image_of_another_platform_is_warned_about(
    server: RegistryServer, make_registry: MakeRegistry
) -> None:
    events: list[Event] = []
    registry = make_registry(progress=events.append)

    registry.get(server.add_image("app", "1", image()), ARM64)

    assert any(isinstance(event, Warned) and "linux/amd64" in event.message for event in events)


@pytest.mark.parametrize("media_type", ["", "application/json", "text/plain; charset=utf-8"])
def test_media_type_may_be_the_documents_own(
    server: RegistryServer, registry: Registry, media_type: str
) -> None:
    original = image()
    server.add_manifest("app", "1", media_type, original.raw_manifest)

    found = registry.manifest(server.reference("app:1"))

    assert found == (original.descriptor, original.raw_manifest)


def test_documents_without_any_type_are_told_apart_by_their_shape(
    server: RegistryServer, registry: Registry
) -> None:
    for name, raw, expected in (
        ("app", image().raw_manifest, MediaType.OCI_MANIFEST),
        ("all", index_of((AMD64, image().digest)), MediaType.OCI_INDEX),
    ):
        document = json.loads(raw)
        del document["mediaType"]
        server.add_manifest(name, "1", "application/json", json.dumps(document).encode())
        found = registry.manifest(server.reference(f"{name}:1"))
        assert found is not None
        assert found[0].media_type == expected


def test_schema_1_is_refused(server: RegistryServer, registry: Registry) -> None:
    body = json.dumps({"schemaVersion": 1, "fsLayers": [], "history": []}).encode()
    signed = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    server.add_manifest("old", "1", signed, body)
    server.add_manifest("old", "2", "application/json", body)

    for tag in "12":
        with pytest.raises(ContentError, match="schema 1"):
            registry.get(server.reference(f"old:{tag}"), AMD64)


def test_artifacts_are_no_images(server: RegistryServer, registry: Registry) -> None:
    server.add_manifest("page", "1", "text/html", b"{}")
    server.add_manifest("page", "2", "text/html", b"<html>")
    server.add_manifest("page", "3", "application/json", b'{"schemaVersion": 2}')

    with pytest.raises(ContentError, match="text/html"):
        registry.get(server.reference("page:1"), AMD64)
    with pytest.raises(ContentError, match="not JSON"):
        registry.get(server.reference("page:2"), AMD64)
    with pytest.raises(ContentError, match="no config and no layers"):
        registry.get(server.reference("page:3"), AMD64)


def test_index_is_read_with_the_artifacts_that_it_lists(
    server: RegistryServer, registry: Registry
) -> None:
    """BuildKit's attestations are some: whoever joins or copies an index needs them as well."""
    runs, proof = image(), attestation(image())
    for tag, one in (("runs", runs), ("proof", proof)):
        server.add_image("app", tag, one)
    nowhere = Platform("unknown", "unknown")
    raw = index_of((AMD64, runs.digest), (nowhere, proof.digest))
    server.add_manifest("app", "1", MediaType.OCI_INDEX, raw)

    found = registry.read(server.reference("app:1"))

    assert isinstance(found, ImageIndex)
    assert [one.raw_manifest for one in found.images] == [runs.raw_manifest, proof.raw_manifest]
    assert found.images[1].raw_config == b"{}"
    with found.images[1].layers[0].open() as stream:
        assert b"in-toto" in stream.read()
    with pytest.raises(ContentError, match="no image but an artifact"):
        registry.read(server.reference(f"app@{proof.digest}"))


def test_chart_is_told_from_an_image_by_its_config(
    server: RegistryServer, registry: Registry
) -> None:
    def manifest(content: bytes, kind: str) -> None:
        config = server.add_blob("chart", content)
        described = {"mediaType": kind, "digest": str(config), "size": len(content)}
        text = json.dumps({"schemaVersion": 2, "config": described, "layers": []})
        server.add_manifest("chart", "1", MediaType.OCI_MANIFEST, text.encode())

    manifest(b'{"name": "chart"}', "application/vnd.cncf.helm.config.v1+json")
    with pytest.raises(
        ContentError, match=r"chart:1: it is no image but an artifact, whose config is .*helm"
    ):
        registry.get(server.reference("chart:1"), AMD64)
    manifest(b'{"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []}}', "text/plain")
    assert registry.get(server.reference("chart:1"), AMD64) is not None


# --- lies ---------------------------------------------------------------------------------


def test_manifest_must_hash_to_the_digest_asked_for(
    server: RegistryServer, registry: Registry
) -> None:
    original = image()
    reference = server.add_image("app", "1", original).at(original.digest)
    server.misbehave(Corrupt(), path="/manifests/")

    with pytest.raises(DigestMismatch, match="the manifest of"):
        registry.get(reference, AMD64)


def test_manifest_must_hash_to_the_digest_announced(
    server: RegistryServer, registry: Registry
) -> None:
    reference = server.add_image("app", "1", image())
    server.misbehave(With("Docker-Content-Digest", OTHER), path="/manifests/")

    with pytest.raises(DigestMismatch):
        registry.manifest(reference)


def test_head_cannot_offer_another_digest(server: RegistryServer, registry: Registry) -> None:
    original = image()
    reference = server.add_image("app", "1", original).at(original.digest)
    server.misbehave(With("Docker-Content-Digest", OTHER), path="/manifests/")

    with pytest.raises(DigestMismatch, match=OTHER):
        registry.head(reference)


def test_announced_digest_must_be_one(server: RegistryServer, registry: Registry) -> None:
    reference = server.add_image("app", "1", image())
    server.misbehave(With("Docker-Content-Digest", "sha256:nonsense"), times=None)

    with pytest.raises(ContentError, match="nonsense"):
        registry.head(reference)


def test_config_must_be_the_manifests(server: RegistryServer, registry: Registry) -> None:
    reference = server.add_image("app", "1", image())
    server.misbehave(Corrupt(), path="/blobs/")

    with pytest.raises(DigestMismatch, match="the config of"):
        registry.get(reference, AMD64)


def test_endless_manifest_is_not_read(server: RegistryServer, registry: Registry) -> None:
    padding = json.dumps({"schemaVersion": 2, "x": "x" * (5 << 20)}).encode()
    server.add_manifest("huge", "1", MediaType.OCI_MANIFEST, padding)

    with pytest.raises(ContentError, match="larger than"):
        registry.get(server.reference("huge:1"), AMD64)


def test_index_cannot_list_an_index(server: RegistryServer, registry: Registry) -> None:
    inner = index_of((AMD64, image().digest))
    digest = server.add_manifest("app", "inner", MediaType.OCI_INDEX, inner)
    server.add_manifest("app", "1", MediaType.OCI_INDEX, index_of((AMD64, digest)))

    with pytest.raises(ContentError, match="lists an index"):
        registry.get(server.reference("app:1"), AMD64)


def test_index_cannot_lead_nowhere(server: RegistryServer, registry: Registry) -> None:
    server.add_manifest("app", "1", MediaType.OCI_INDEX, index_of((AMD64, image().digest)))

    with pytest.raises(NotFound, match="but does not have it"):
        registry.get(server.reference("app:1"), AMD64)


def test_broken_connection_while_reading_a_manifest_is_survived(
    server: RegistryServer, registry: Registry
) -> None:
    from tests.registry_server import BreakOff

    reference = server.add_image("app", "1", image())
    server.misbehave(BreakOff(10), path="/manifests/", times=2)

    assert registry.manifest(reference) is not None
