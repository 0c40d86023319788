from __future__ import annotations

import json

from kaniko_core.attestations.statement import Statement, state
from kaniko_core.attestations.storage import attach
from kaniko_core.oci.index import Listed
from kaniko_core.oci.platform import Platform
from tests.samples import image, layer

ARM = Platform("linux", "arm64")
KIND = "https://example.com/kind"


def statement(number: int) -> Statement:
    return state(f"{KIND}/{number}", {"number": number}, image(), ())


def test_attestations_are_listed_after_the_images_they_are_about() -> None:
    one, two = image(), image(layer({"a": b"arm"}), platform=ARM)
    made = attach(
        [(Listed(one, annotations={"x": "y"}), [statement(1)]), (Listed(two), [statement(2)])],
        annotations={"a": "b"},
    )
    listed = made.index.manifests
    assert made.index.media_type == "application/vnd.oci.image.index.v1+json"
    assert made.index.annotations == {"a": "b"}
    assert [str(item.platform) for item in listed] == [
        *("linux/amd64", "linux/arm64", "unknown/unknown", "unknown/unknown")
    ]
    assert [dict(item.annotations) for item in listed] == [
        {"x": "y"},
        {},
        *(
            {
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": str(about.digest),
            }
            for about in (one, two)
        ),
    ]


def test_attestation_is_a_manifest_whose_layers_are_statements() -> None:
    made = attach([(Listed(image()), [statement(1), statement(2)])])
    manifest = json.loads(made.images[1].raw_manifest)
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
    assert {item["mediaType"] for item in manifest["layers"]} == {"application/vnd.in-toto+json"}
    assert [item["annotations"] for item in manifest["layers"]] == [
        {"in-toto.io/predicate-type": f"{KIND}/{number}"} for number in (1, 2)
    ]
    assert json.loads(made.images[1].raw_config) == {
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [item["digest"] for item in manifest["layers"]]},
    }


def test_blobs_are_the_statements() -> None:
    made = attach([(Listed(image()), [statement(1)])])
    [blob] = made.images[1].layers
    for _ in range(2):
        with blob.open() as stream:
            assert stream.read() == statement(1).raw


def test_image_without_statements_is_listed_alone() -> None:
    assert len(attach([(Listed(image()), [])]).images) == 1


def test_same_statements_give_the_same_index() -> None:
    made = [attach([(Listed(image()), [statement(number)])]).digest for number in (1, 1, 2)]
    assert made[0] == made[1] != made[2]
