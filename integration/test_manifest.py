"""``kaniko-executor manifest``: images that were pushed apart become one index."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from integration import images, readers
from integration.programs import Build, Finished, Programs, finished, said
from integration.readers import Podman
from integration.world import Registry

_OCI_INDEX = "application/vnd.oci.image.index.v1+json"
_DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


def _join(programs: Programs, *arguments: str | Path, check: bool = True) -> Finished:
    process = programs.start("kaniko_executor", "manifest", *arguments, "--insecure")
    return finished(process, check=check)


@pytest.fixture
def make(build: Build, busybox: str) -> Callable[..., str]:
    """Build an image for a platform, as on a machine of its own, and return where it is."""

    def made(name: str, platform: str, base: str = busybox, *more: str) -> str:
        foreign = platform != "linux/amd64"
        dockerfile = "FROM scratch\n" if foreign else f"FROM {base}\n"
        word = platform.rpartition("/")[2]
        build.fill({"Dockerfile": f"{dockerfile}COPY word /word\nCMD cat /word\n", "word": word})
        flags = ("--destination", name, "--custom-platform", platform, *more)
        build.programs.executor("--context", build.context, *flags)
        return name

    return made


def _platforms(index: dict[str, object]) -> list[str]:
    listed = index["manifests"]
    assert isinstance(listed, list)
    return ["/".join(item["platform"][k] for k in ("os", "architecture")) for item in listed]


def test_images_of_two_machines_become_one_name(
    programs: Programs,
    make: Callable[..., str],
    podman: Podman,
    destination: str,
    tmp_path: Path,
) -> None:
    amd, arm = (
        make(f"{destination}-amd64", "linux/amd64"),
        make(f"{destination}-arm", "linux/arm64"),
    )
    metadata = tmp_path / "metadata.json"
    _join(programs, amd, arm, "-d", destination, "--metadata-file", metadata)

    index = readers.manifest(destination)
    assert index["mediaType"] == _OCI_INDEX
    assert _platforms(index) == ["linux/amd64", "linux/arm64"]
    assert [item["digest"] for item in index["manifests"]] == list(map(readers.digest, (amd, arm)))
    assert podman.run(destination) == "amd64"
    podman("pull", "--quiet", "--tls-verify=false", "--arch=arm64", destination)
    assert json.loads(podman("image", "inspect", destination))[0]["Architecture"] == "arm64"
    assert json.loads(metadata.read_text())["containerimage.digest"] == readers.digest(destination)


def test_images_may_be_in_other_repositories_and_registries(
    programs: Programs,
    make: Callable[..., str],
    make_registry: Callable[..., Registry],
    registry: Registry,
    destination: str,
) -> None:
    base = destination.removesuffix(":latest")
    near = make(f"{base}/near:1", "linux/amd64")
    far = make(f"{make_registry().address}/far:1", "linux/arm64")
    registry.forget()
    _join(programs, near, far, "-d", destination)

    for item in readers.manifest(destination)["manifests"]:
        assert readers.manifest(f"{base}@{item['digest']}")["layers"]
    layer = readers.manifest(near)["layers"][0]["digest"].removeprefix("sha256:")
    requests = registry.requests()
    assert [r for r in requests if "mount=" in r.path and layer in r.path and r.status == 201]
    assert not [r for r in requests if r.uploads and layer in r.path]


def test_index_and_image_are_joined(
    programs: Programs, make: Callable[..., str], destination: str
) -> None:
    amd, arm = (
        make(f"{destination}-amd64", "linux/amd64"),
        make(f"{destination}-arm", "linux/arm64"),
    )
    other = make(f"{destination}-s390x", "linux/s390x")
    _join(programs, amd, arm, "-d", f"{destination}-two")
    _join(programs, f"{destination}-two", other, "-d", destination, f"-d={destination}-also")

    index = readers.manifest(destination)
    assert _platforms(index) == ["linux/amd64", "linux/arm64", "linux/s390x"]
    assert readers.digest(destination) == readers.digest(f"{destination}-also")


def test_dockers_images_become_a_manifest_list(
    programs: Programs, make: Callable[..., str], registry: Registry, destination: str
) -> None:
    base = images.push(images.busybox_layout(), registry, "base/docker-list:1", docker=True)
    image = make(f"{destination}-amd64", "linux/amd64", base)
    _join(programs, image, "-d", destination)
    assert readers.manifest(destination)["mediaType"] == _DOCKER_LIST

    # A manifest list has no annotations.
    _join(programs, image, "-d", destination, "--annotation=index:a=b=c", "--annotation", "d=e")
    index = readers.manifest(destination)
    assert (index["mediaType"], index["annotations"]) == (_OCI_INDEX, {"a": "b=c", "d": "e"})


def test_image_is_named_by_its_digest(
    programs: Programs, make: Callable[..., str], destination: str
) -> None:
    """Machines of an Indexed Job need not agree about tags."""
    image = make(f"{destination}-amd64", "linux/amd64")
    digest = readers.digest(image)
    _join(programs, f"{destination.removesuffix(':latest')}@{digest}", "-d", destination)

    assert [item["digest"] for item in readers.manifest(destination)["manifests"]] == [digest]


def test_attestations_come_along(
    programs: Programs, make: Callable[..., str], busybox: str, destination: str
) -> None:
    amd = make(f"{destination}-amd64", "linux/amd64", busybox, "--provenance=true")
    arm = make(f"{destination}-arm", "linux/arm64", busybox, "--provenance=true")
    _join(programs, amd, arm, "-d", destination)

    index = readers.manifest(destination)
    assert _platforms(index) == ["linux/amd64", "unknown/unknown", "linux/arm64", "unknown/unknown"]
    images = index["manifests"]
    for image, attestation in zip(images[::2], images[1::2], strict=True):
        assert attestation["annotations"]["vnd.docker.reference.digest"] == image["digest"]
        repository = destination.removesuffix(":latest")
        statement = readers.manifest(f"{repository}@{attestation['digest']}")
        assert statement["layers"][0]["mediaType"] == "application/vnd.in-toto+json"


# --- what cannot be joined ----------------------------------------------------------------


def test_two_images_for_one_platform(
    programs: Programs, make: Callable[..., str], destination: str
) -> None:
    image = make(f"{destination}-one", "linux/amd64")
    other = make(f"{destination}-two", "linux/amd64")
    done = _join(programs, image, other, "-d", destination, check=False)
    said(done, f"both {image} and {other} are for linux/amd64", "one image for each platform")


def test_image_that_is_not_there(programs: Programs, destination: str) -> None:
    done = _join(programs, f"{destination}-missing", "-d", destination, check=False)
    said(done, f"there is no image {destination}-missing", "check the name and the tag")


def test_nothing_to_join(programs: Programs, destination: str) -> None:
    said(_join(programs, "-d", destination, check=False), "missing argument 'IMAGE...'")


def test_nowhere_to_push_to(programs: Programs, destination: str) -> None:
    said(_join(programs, destination, check=False), "nowhere to push to", "--destination")


def test_annotation_of_something_else(programs: Programs, destination: str) -> None:
    flags = ("-d", destination, "--annotation=manifest:a=b")
    done = _join(programs, destination, *flags, check=False)
    said(done, "--annotation: 'manifest:a=b' is no annotation of an index", "index:KEY=VALUE")


def test_name_that_is_none(programs: Programs, destination: str) -> None:
    done = _join(programs, "Not/A:Name:", "-d", destination, check=False)
    said(done, "is not an image name")
