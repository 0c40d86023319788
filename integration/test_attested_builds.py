"""Builds with --provenance and --sbom: what they attach, as other programs read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from integration import readers
from integration.programs import Build, said
from integration.readers import Podman
from integration.rebuilds import Rebuild
from integration.world import Registry

_SLSA, _SPDX = "https://slsa.dev/provenance/v1", "https://spdx.dev/Document"


def _statements(registry: Registry, image: str) -> dict[str, dict[str, Any]]:
    """Return what is attested about the one image that an index lists, by predicate."""
    index = readers.manifest(image)
    (listed,) = (m for m in index["manifests"] if m["platform"]["os"] != "unknown")
    (about,) = (m for m in index["manifests"] if m["platform"]["os"] == "unknown")
    assert about["annotations"] == {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": listed["digest"],
    }
    name = image.rpartition(":")[0]
    manifest = readers.manifest(f"{name}@{about['digest']}")
    blobs = registry.storage / "docker/registry/v2/blobs/sha256"
    found = {}
    for layer in manifest["layers"]:
        hexadecimal = layer["digest"].removeprefix("sha256:")
        raw = (blobs / hexadecimal[:2] / hexadecimal / "data").read_text()
        found[layer["annotations"]["in-toto.io/predicate-type"]] = json.loads(raw)
    for statement in found.values():
        (subject,) = statement["subject"]
        assert f"sha256:{subject['digest']['sha256']}" == listed["digest"]
    return found


def test_what_an_image_was_made_of_is_attached(
    build: Build, registry: Registry, podman: Podman, busybox: str
) -> None:
    secret = build.context.parent / "token.txt"
    secret.write_text("hunter2")
    build(
        f"FROM {busybox}\nARG WORD\nRUN --mount=type=secret,id=token echo $WORD > /word\n",
        *("--provenance=mode=max", "--sbom", "--build-arg=WORD=said"),
        f"--secret=id=token,src={secret}",
    )

    found = _statements(registry, build.image)
    assert found.keys() == {_SLSA, _SPDX}
    text = json.dumps(found[_SLSA])
    assert "hunter2" not in text
    assert "said" in text
    base = readers.digest(busybox).removeprefix("sha256:")
    definition = found[_SLSA]["predicate"]["buildDefinition"]
    (dependency,) = definition["resolvedDependencies"]
    assert dependency["digest"] == {"sha256": base}
    assert podman.run(build.image, "cat", "/word") == "said\n"


def test_packages_of_the_final_image_are_listed(
    build: Build, registry: Registry, debian: str
) -> None:
    build(f"FROM {debian}\nRUN dpkg --purge --force-all ca-certificates\n", "--sbom=true")

    names = {
        item["name"] for item in _statements(registry, build.image)[_SPDX]["predicate"]["packages"]
    }
    assert {"dpkg", "bash"} <= names
    assert "ca-certificates" not in names


def test_reproducible_builds_attest_the_same(build: Build, busybox: str) -> None:
    flags = ("--reproducible", "--provenance=true", "--sbom")
    build(f"FROM {busybox}\nRUN echo word > /word\n", *flags)
    made = readers.digest(build.image)
    build(f"FROM {busybox}\nRUN echo word > /word\n", *flags)

    assert readers.digest(build.image) == made


def test_nothing_is_attested_where_nobody_asks(build: Build, busybox: str) -> None:
    build(f"FROM {busybox}\nRUN true\n", "--provenance=false", "--sbom=false")

    assert "manifests" not in readers.manifest(build.image)


def test_attestations_need_an_index(build: Build, busybox: str) -> None:
    said(build(f"FROM {busybox}\n", "--sbom", "--tar-path=x.tar", check=False), "--tar-path")
    said(
        build(f"FROM {busybox}\n", "--provenance=true", "--image-format=docker", check=False),
        "--provenance",
        "--image-format=oci",
    )
    said(build(f"FROM {busybox}\n", "--provenance=most", check=False), "--provenance", "mode=min")


def test_our_image_attests_in_place(
    make_rebuild: Callable[..., Rebuild], registry: Registry, debian: str
) -> None:
    """It has all libraries, and their data, that this takes."""
    rebuild = make_rebuild(None, "in-place")
    rebuild(f"FROM {debian}\nRUN true > /made\n", "--sbom", "--provenance=true")

    found = _statements(registry, rebuild.image)
    packages = found[_SPDX]["predicate"]["packages"]
    assert "dpkg" in {package["name"] for package in packages}
    assert found[_SLSA]["predicate"]["runDetails"]


def test_annotations_of_entries_stay(build: Build, busybox: str) -> None:
    build(
        f"FROM {busybox}\nRUN true > /x\n",
        *("--provenance=true", "--annotation=manifest-descriptor:a=b", "--annotation=index:c=d"),
    )

    index = readers.manifest(build.image)
    assert index["annotations"] == {"c": "d"}
    assert index["manifests"][0]["annotations"] == {"a": "b"}
