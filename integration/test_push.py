"""``kaniko-executor push``: images in files, of ours and of other tools, on their way out."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from integration import images, readers
from integration.programs import Build, Finished, Programs, finished, said
from integration.readers import Podman
from integration.world import Passwords, Registry

_SECRET = "correct horse"
_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def _push(
    programs: Programs,
    *arguments: str | Path,
    check: bool = True,
    env: dict[str, str] | None = None,
) -> Finished:
    process = programs.start("kaniko_executor", "push", "--insecure", *arguments, env=env or {})
    return finished(process, check=check)


@pytest.fixture
def tarball(build: Build, busybox: str, tmp_path: Path) -> Path:
    """An image of ours, in a docker-save tarball."""
    tar = tmp_path / "image.tar"
    build(
        f"FROM {busybox}\nRUN echo pushed > /word\nCMD cat /word\n", "--no-push", "--tar-path", tar
    )
    return tar


@pytest.fixture
def layout(build: Build, busybox: str, tmp_path: Path) -> Path:
    """An image of ours, in an OCI layout."""
    directory = tmp_path / "layout"
    build(f"FROM {busybox}\nRUN echo pushed > /word\n", "--no-push", "--oci-layout-path", directory)
    return directory


def test_tarball_is_pushed_to_several_registries_and_runs(
    programs: Programs,
    tarball: Path,
    podman: Podman,
    destination: str,
    make_registry: Callable[..., Registry],
    tmp_path: Path,
) -> None:
    other = f"{make_registry().address}/far/app:2"
    digest = tmp_path / "digest"
    done = _push(
        programs, tarball, "-d", destination, f"--destination={other}", "--digest-file", digest
    )

    assert readers.digest(destination) == readers.digest(other) == digest.read_text()
    assert f"pushed {other}@{digest.read_text()}" in done.stderr
    assert podman.run(destination) == "pushed\n"


def test_layout_keeps_its_digest(programs: Programs, layout: Path, destination: str) -> None:
    _push(programs, layout, "-d", destination)

    assert readers.digest(destination) == readers.digest(f"oci:{layout}")


def test_image_of_several_names_is_one(programs: Programs, layout: Path, destination: str) -> None:
    """One image may be listed twice, as skopeo and we do for two tags."""
    command = ["skopeo", "copy", "--quiet", f"oci:{layout}:latest", f"oci:{layout}:again"]
    subprocess.run(command, check=True)
    assert len(json.loads((layout / "index.json").read_text())["manifests"]) == 2

    _push(programs, layout, "-d", destination)

    assert readers.manifest(destination)["layers"]


def test_index_in_a_layout_is_pushed_whole(
    programs: Programs, build: Build, destination: str, tmp_path: Path
) -> None:
    here, there = f"{destination}-amd64", f"{destination}-arm64"
    for name in (here, there):
        build.fill({"Dockerfile": "FROM scratch\nCOPY file /\n", "file": name})
        platform = f"--custom-platform=linux/{name.rpartition('-')[2]}"
        programs.executor("--context", build.context, "-d", name, platform)
    finished(
        programs.start(
            "kaniko_executor", "manifest", here, there, "--insecure", f"-d={destination}"
        )
    )
    layout = tmp_path / "index"
    copied = ["skopeo", "copy", "--all", "--quiet", "--src-tls-verify=false"]
    subprocess.run([*copied, f"docker://{destination}", f"oci:{layout}:latest"], check=True)

    _push(programs, layout, "-d", f"{destination}-copy")

    assert readers.digest(f"{destination}-copy") == readers.digest(destination)
    listed = readers.manifest(f"{destination}-copy")["manifests"]
    assert {item["platform"]["architecture"] for item in listed} == {"amd64", "arm64"}
    repository = destination.rpartition(":")[0]
    for item in listed:
        assert readers.manifest(f"{repository}@{item['digest']}")["layers"]


def test_what_podman_saved_is_compressed_and_keeps_its_id(
    programs: Programs, podman: Podman, busybox: str, destination: str, tmp_path: Path
) -> None:
    """docker save and podman save write layers as plain tars, which no registry should get."""
    podman("pull", "--quiet", "--tls-verify=false", busybox)
    tar = tmp_path / "saved.tar"
    podman("save", "--quiet", "--format=docker-archive", "--output", tar, busybox)

    _push(programs, tar, "-d", destination)

    pushed = readers.manifest(destination)
    assert {layer["mediaType"] for layer in pushed["layers"]} == {_GZIP}
    identity = json.loads(podman("image", "inspect", busybox))[0]["Id"]
    assert pushed["config"]["digest"] == f"sha256:{identity}"
    assert podman.run(destination, "echo", "runs") == "runs\n"
    assert programs.leftovers() == []


def test_names_and_digests_of_all_destinations_go_to_stdout(
    programs: Programs, layout: Path, registry_names: list[str]
) -> None:
    flags = [f"--destination={name}" for name in registry_names]
    done = _push(programs, layout, *flags, "--image-name-tag-with-digest-file=/dev/stdout")

    digest = readers.digest(f"oci:{layout}")
    assert done.stdout.splitlines() == [f"{name}@{digest}" for name in registry_names]


def _docker_config(directory: Path, registry: Registry, password: str) -> dict[str, str]:
    directory.mkdir()
    assert registry.passwords is not None
    auth = base64.b64encode(f"{registry.passwords.user}:{password}".encode()).decode()
    config = {"auths": {registry.address: {"auth": auth}}}
    (directory / "config.json").write_text(json.dumps(config))
    return {"DOCKER_CONFIG": str(directory)}


def test_pushes_with_a_password_over_tls(
    programs: Programs, layout: Path, make_registry: Callable[..., Registry], tmp_path: Path
) -> None:
    closed = make_registry(tls=True, passwords=Passwords("builder", _SECRET))
    environment = _docker_config(tmp_path / "docker", closed, _SECRET)
    name = f"{closed.address}/app:1"
    certificate = f"--registry-certificate={closed.address}={closed.certificate}"
    process = programs.start(
        "kaniko_executor", "push", layout, "-d", name, certificate, env=environment
    )
    finished(process)

    raw = readers.output_of(
        *("skopeo", "inspect", "--raw", "--tls-verify=false", f"--creds=builder:{_SECRET}"),
        f"docker://{name}",
    )
    assert json.loads(raw)["layers"]


def test_wrong_password_is_told_before_anything_is_read(
    programs: Programs, make_registry: Callable[..., Registry], tmp_path: Path
) -> None:
    closed = make_registry(passwords=Passwords("builder", _SECRET))
    environment = _docker_config(tmp_path / "docker", closed, "wrong staple")
    (tmp_path / "not-read.tar").write_text("this is no tarball")
    done = _push(
        programs,
        *(tmp_path / "not-read.tar", "-d", f"{closed.address}/app:1", "--verbosity=trace"),
        check=False,
        env=environment,
    )

    said(done, "cannot push to", "401", f"{tmp_path}/docker/config.json")
    hidden = base64.b64encode(b"builder:wrong staple").decode()
    assert "wrong staple" not in done.written
    assert hidden not in done.written


# --- what cannot be pushed ----------------------------------------------------------------


def test_nowhere_to_push_to(programs: Programs, layout: Path) -> None:
    said(_push(programs, layout, check=False), "nowhere to push to", "--destination")


def test_stages_are_of_builds(programs: Programs, layout: Path, destination: str) -> None:
    done = _push(programs, layout, "-d", f"app={destination}", check=False)
    said(done, "names a stage", f"--destination={destination}")


def test_what_is_not_there(programs: Programs, destination: str, tmp_path: Path) -> None:
    done = _push(programs, tmp_path / "missing", "-d", destination, check=False)
    said(done, f"there is no {tmp_path}/missing", "a docker-save tarball or an OCI layout")


def test_directory_that_is_no_layout(programs: Programs, destination: str, tmp_path: Path) -> None:
    done = _push(programs, tmp_path, "-d", destination, check=False)
    said(done, "is not an OCI layout: it has no index.json")


def test_file_that_is_no_tarball(programs: Programs, destination: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no tarball\n" * 200)
    done = _push(programs, tmp_path / "notes.txt", "-d", destination, check=False)
    said(done, "is not a whole tarball")


def test_layout_of_two_images(programs: Programs, layout: Path, destination: str) -> None:
    other = images.busybox_layout()
    command = ["skopeo", "copy", "--quiet", f"oci:{other}:latest", f"oci:{layout}:other"]
    subprocess.run(command, check=True)

    done = _push(programs, layout, "-d", destination, check=False)

    said(done, f"{layout} holds 2 images; one can be pushed", "latest, other")


def test_tarball_of_two_images(
    programs: Programs, podman: Podman, busybox: str, destination: str, tmp_path: Path
) -> None:
    podman("pull", "--quiet", "--tls-verify=false", busybox)
    podman("tag", busybox, "localhost/other:1")
    container = podman("create", "--network=host", busybox, "true").strip()
    podman("commit", "--quiet", container, "localhost/third:1")
    podman("rm", container)
    tar = tmp_path / "two.tar"
    podman("save", "--quiet", "--multi-image-archive", "-o", tar, busybox, "localhost/third:1")

    done = _push(programs, tar, "-d", destination, check=False)

    said(done, "holds 2 images; one can be pushed", "a tarball of its own")


def test_damaged_layer_is_not_pushed(programs: Programs, layout: Path, destination: str) -> None:
    digest = readers.manifest(f"oci:{layout}")["layers"][-1]["digest"].removeprefix("sha256:")
    blob = layout / "blobs" / "sha256" / digest
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")

    done = _push(programs, layout, "-d", destination, check=False)

    said(done, digest[:12])
    assert subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", f"docker://{destination}"],
        check=False,
        capture_output=True,
    ).returncode
