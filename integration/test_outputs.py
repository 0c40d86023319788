"""Where images go and where bases come from: registries, archives, layouts, the warmed cache."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from integration import images, readers
from integration.programs import Build, Programs, finished
from integration.readers import Podman
from integration.world import Passwords, Registry

_USER = Passwords("builder", "correct horse")


def _credentials(directory: Path, registry: Registry) -> dict[str, str]:
    """Write a Docker config with the password of *registry*; return the environment for it."""
    directory.mkdir()
    assert registry.passwords is not None
    text = f"{registry.passwords.user}:{registry.passwords.password}"
    auth = base64.b64encode(text.encode()).decode()
    config = {"auths": {registry.address: {"auth": auth}}}
    (directory / "config.json").write_text(json.dumps(config))
    return {"DOCKER_CONFIG": str(directory)}


def test_tarball_is_what_podman_loads(
    build: Build, busybox: str, podman: Podman, tmp_path: Path
) -> None:
    tar = tmp_path / "image.tar"
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN echo loaded > /word\nCMD cat /word\n"})
    build.programs.executor(
        *("--context", build.context, "--destination", "localhost/loaded:1"),
        *("--no-push", "--tar-path", tar),
    )

    podman("load", "--input", tar)
    assert podman("run", "--rm", "--network=host", "--log-driver=none", "localhost/loaded:1") == (
        "loaded\n"
    )
    assert len(readers.config(f"docker-archive:{tar}")["rootfs"]["diff_ids"]) == 2


def test_layout_is_what_skopeo_and_umoci_read(build: Build, busybox: str, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    build(f"FROM {busybox}\nRUN echo word > /word\n", "--oci-layout-path", layout)

    assert readers.digest(f"oci:{layout}") == readers.digest(build.image)
    assert readers.tree(f"oci:{layout}")["word"].kind == "-"


def test_nothing_is_pushed_without_push(
    build: Build, busybox: str, registry: Registry, tmp_path: Path
) -> None:
    registry.forget()
    layout = tmp_path / "layout"
    build(f"FROM {busybox}\nRUN true\n", "--no-push", "--oci-layout-path", layout)

    assert not [r for r in registry.requests() if r.method in ("POST", "PUT", "PATCH")]
    assert readers.manifest(f"oci:{layout}")["layers"]


def test_digest_file_has_the_digest_that_was_pushed(
    build: Build, busybox: str, tmp_path: Path
) -> None:
    file = tmp_path / "deep" / "digest"
    file.parent.mkdir()
    build(f"FROM {busybox}\nRUN echo x > /x\n", "--digest-file", file)

    assert file.read_text().strip() == readers.digest(build.image)


def test_label_of_the_command_line_wins(build: Build, busybox: str) -> None:
    build(f"FROM {busybox}\nLABEL a=1 b=1\n", "--label=b=2", "--label=c=3=4")

    assert readers.config(build.image)["config"]["Labels"] == {"a": "1", "b": "2", "c": "3=4"}


def test_every_destination_gets_the_same_image(
    build: Build, busybox: str, registry_names: list[str]
) -> None:
    flags = [f"--destination={name}" for name in registry_names]
    build(f"FROM {busybox}\nRUN echo x > /x\n", *flags)

    assert {readers.digest(name) for name in registry_names} == {readers.digest(build.image)}


def test_base_layers_are_mounted_from_their_repository(
    build: Build, busybox: str, registry: Registry
) -> None:
    """Pushing to the base's own registry moves no byte of the base's layers."""
    registry.forget()
    build(f"FROM {busybox}\nRUN echo x > /x\n")

    base = readers.manifest(busybox)["layers"][0]["digest"]
    requests = registry.requests()
    mounts = [r for r in requests if r.method == "POST" and "mount=" in r.path]
    assert any(base.split(":")[1] in r.path and r.status == 201 for r in mounts)
    sent = [r for r in requests if r.method == "PUT" and r.uploads]
    assert not [r for r in sent if base.split(":")[1] in r.path]


def test_pushes_over_tls_with_a_password(
    make_registry: Callable[..., Registry], build: Build, busybox: str, tmp_path: Path
) -> None:
    secure = make_registry(tls=True, passwords=_USER)
    image = f"{secure.address}/team/app:1"
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN echo x > /x\n"})
    docker = tmp_path / "docker"
    process = build.programs.start(
        "kaniko_executor",
        *("--context", build.context, "--destination", image),
        *("--registry-certificate", f"{secure.address}={secure.certificate}"),
        *("--insecure-registry", busybox.split("/", maxsplit=1)[0]),
        *("--kaniko-dir", build.programs.work),
        env=_credentials(docker, secure),
    )
    finished(process)

    pushed = readers.output_of(
        *("skopeo", "inspect", "--raw", "--tls-verify=false"),
        *(f"--creds={_USER.user}:{_USER.password}", f"docker://{image}"),
    )
    assert len(json.loads(pushed)["layers"]) == 2


def test_base_comes_from_a_registry_with_a_password(
    make_registry: Callable[..., Registry], build: Build, tmp_path: Path
) -> None:
    closed = make_registry(passwords=_USER)
    base = images.push(images.busybox_layout(), closed, "private/base:1")
    build.fill({"Dockerfile": f"FROM {base}\nRUN echo x > /x\n"})
    environment = _credentials(tmp_path / "docker", closed)
    build.programs.executor(*build.arguments, env=environment)

    assert len(readers.manifest(build.image)["layers"]) == 2


def test_docker_media_types_of_the_base_are_kept(build: Build, registry: Registry) -> None:
    base = images.push(images.busybox_layout(), registry, "base/docker-types:1", docker=True)
    build(f"FROM {base}\nRUN echo x > /x\n")

    built = readers.manifest(build.image)
    assert built["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    assert {layer["mediaType"] for layer in built["layers"]} == {
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
    }


# --- the warmed cache ---------------------------------------------------------------------


@pytest.fixture
def origin(make_registry: Callable[..., Registry]) -> Registry:
    """A registry of the test's own, which it may stop."""
    return make_registry()


@pytest.fixture
def warmed(origin: Registry, programs: Programs, tmp_path: Path) -> tuple[str, Path]:
    """A base image of *origin* and the cache directory that the warmer put it into."""
    base = images.push(images.busybox_layout(), origin, "library/base:1")
    cache = tmp_path / "cache"
    programs.warmer("--image", base, "--cache-dir", cache, "--insecure-pull")
    return base, cache


def test_warmer_leaves_a_tarball_and_its_manifest(warmed: tuple[str, Path], tmp_path: Path) -> None:
    base, cache = warmed
    digest = readers.digest(base)

    assert (cache / f"{digest}.json").read_bytes()
    # skopeo takes what follows a colon for a tag.
    tar = tmp_path / "warmed.tar"
    tar.hardlink_to(cache / digest)
    assert readers.config(f"docker-archive:{tar}")["rootfs"] == readers.config(base)["rootfs"]


def test_warming_again_fetches_nothing(
    warmed: tuple[str, Path], origin: Registry, programs: Programs
) -> None:
    base, cache = warmed
    origin.forget()
    programs.warmer("--image", base, "--cache-dir", cache, "--insecure-pull")

    assert not [r for r in origin.requests() if r.fetches_blob]


def test_warmer_takes_the_bases_of_a_dockerfile(
    programs: Programs, busybox: str, tmp_path: Path
) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("ARG BASE\nFROM ${BASE} AS one\nFROM one\nFROM scratch\n")
    cache = tmp_path / "cache"
    programs.warmer(
        *("--dockerfile", dockerfile, "--build-arg", f"BASE={busybox}"),
        *("--cache-dir", cache, "--insecure-pull"),
    )

    assert (cache / readers.digest(busybox)).exists()


def test_no_blob_of_a_warmed_base_is_fetched(
    build: Build, warmed: tuple[str, Path], origin: Registry
) -> None:
    base, cache = warmed
    origin.forget()
    build(f"FROM {base}\nRUN echo x > /x\n", "--cache", "--cache-dir", cache)

    assert not [r for r in origin.requests() if r.fetches_blob]
    assert len(readers.manifest(build.image)["layers"]) == 2
    assert build.programs.leftovers() == []


def test_warmed_base_serves_while_its_registry_is_away(
    build: Build, warmed: tuple[str, Path], origin: Registry
) -> None:
    base, cache = warmed
    origin.stop()
    done = build(
        f"FROM {base}\nRUN echo x > /x\n",
        *("--cache", "--cache-dir", cache, "--image-download-retry=0"),
    )

    assert "warn" in done.written.lower()
    assert base in done.written
    with readers.unpacked(build.image) as root:
        assert (root / "x").read_text() == "x\n"


def test_newer_base_is_fetched_although_an_older_one_is_warmed(
    build: Build, warmed: tuple[str, Path], origin: Registry, tmp_path: Path
) -> None:
    base, cache = warmed
    newer = tmp_path / "newer"
    shutil.copytree(images.busybox_layout(), newer)
    readers.output_of("umoci", "config", "--image", f"{newer}:latest", "--config.env", "NEWER=yes")
    images.push(newer, origin, "library/base:1")
    build(f"FROM {base}\nRUN echo $NEWER > /x\n", "--cache", "--cache-dir", cache)

    with readers.unpacked(build.image) as root:
        assert (root / "x").read_text() == "yes\n"


def test_second_build_from_a_warmed_base_gives_the_same_layers(
    build: Build, warmed: tuple[str, Path]
) -> None:
    """The first unpacks the base; the second finds it unpacked."""
    base, cache = warmed
    flags = ("--cache", "--cache-dir", str(cache))
    build(f"FROM {base}\nCOPY a /a\n", *flags, files={"a": "a"})
    first = readers.manifest(build.image)["layers"]
    build(f"FROM {base}\nCOPY a /a\n", *flags)

    assert readers.manifest(build.image)["layers"] == first
