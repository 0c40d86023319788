"""What an image is like whatever is in it: its format, compression, annotations and times."""

from __future__ import annotations

import json
import os
import time

import pytest

from integration import images, readers
from integration.programs import Build, said
from integration.readers import Podman
from integration.rebuilds import Rebuild
from integration.world import Registry

_OCI, _DOCKER = "application/vnd.oci.image.", "application/vnd.docker."
_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
_UNIQUE = "RUN cat /proc/sys/kernel/random/uuid > /stamp"


def _types(image: str) -> set[str]:
    """Return all media types that a manifest has, of itself and of what it names."""
    manifest = readers.manifest(image)
    named = (manifest["config"], *manifest["layers"])
    return {manifest["mediaType"], *(item["mediaType"] for item in named)}


# --- format ---------------------------------------------------------------------------------


@pytest.mark.parametrize("docker", [False, True], ids=["oci-base", "docker-base"])
@pytest.mark.parametrize(("wanted", "prefix"), [("docker", _DOCKER), ("oci", _OCI)])
def test_format_is_the_one_that_is_wanted(
    build: Build, registry: Registry, podman: Podman, docker: bool, wanted: str, prefix: str
) -> None:
    base = images.push(
        images.busybox_layout(), registry, f"base/of-{docker}:1".lower(), docker=docker
    )
    build(f"FROM {base}\nRUN echo said > /word\n", f"--image-format={wanted}")

    assert all(kind.startswith(prefix) for kind in _types(build.image)), _types(build.image)
    assert podman.run(build.image, "cat", "/word") == "said\n"


def test_format_is_that_of_the_base_where_none_is_wanted(build: Build, registry: Registry) -> None:
    base = images.push(images.busybox_layout(), registry, "base/docker:1", docker=True)
    build(f"FROM {base}\nRUN echo said > /word\n")

    assert all(kind.startswith(_DOCKER) for kind in _types(build.image))


# --- compression ----------------------------------------------------------------------------


def test_zstd_is_what_podman_pulls_and_umoci_unpacks(
    build: Build, registry: Registry, podman: Podman
) -> None:
    base = images.push(images.busybox_layout(), registry, "base/docker:1", docker=True)
    build(f"FROM {base}\nRUN echo said > /word\nCOPY a /a\n", "--compression=zstd", files={"a": ""})

    of_base, *own = readers.manifest(build.image)["layers"]
    assert "gzip" in of_base["mediaType"]
    assert [layer["mediaType"] for layer in own] == [_ZSTD, _ZSTD]
    assert all(kind.startswith(_OCI) for kind in _types(build.image))
    assert podman.run(build.image, "cat", "/word") == "said\n"


def test_levels_make_layers_smaller(build: Build, busybox: str) -> None:
    text = "\n".join(f"{number * 7919 % 10007} {number}" for number in range(40_000))
    build.fill({"numbers": text})
    sizes = {}
    for level in (1, 9):
        for kind in ("gzip", "zstd"):
            build(
                f"FROM {busybox}\nCOPY numbers /\n",
                *(f"--compression={kind}", f"--compression-level={level}"),
            )
            sizes[kind, level] = readers.manifest(build.image)["layers"][-1]["size"]

    assert sizes["gzip", 9] < sizes["gzip", 1]
    assert sizes["zstd", 9] < sizes["zstd", 1]


def test_cached_layers_are_compressed_anew_where_that_is_wanted(
    rebuild: Rebuild, busybox: str, podman: Podman
) -> None:
    """The command is not run again: it would give something else."""
    rebuild(f"FROM {busybox}\n{_UNIQUE}\nRUN cp /stamp /copy\n")
    diff_ids = readers.config(rebuild.image)["rootfs"]["diff_ids"]
    log = rebuild("", "--compression=zstd")

    assert log.ran == []
    kinds = [layer["mediaType"] for layer in readers.manifest(rebuild.image)["layers"]]
    assert kinds[1:] == [_ZSTD, _ZSTD]
    assert readers.config(rebuild.image)["rootfs"]["diff_ids"] == diff_ids
    assert len(podman.run(rebuild.image, "cat", "/stamp", "/copy").split()) == 2


def test_default_compression_does_not_depend_on_what_is_cached(
    rebuild: Rebuild, busybox: str
) -> None:
    """Docker's format has no zstd, and a reproducible build no past."""
    rebuild(f"FROM {busybox}\n{_UNIQUE}\n", "--compression=zstd")
    log = rebuild("", "--image-format=docker")

    assert log.ran == []
    kinds = [layer["mediaType"] for layer in readers.manifest(rebuild.image)["layers"]]
    assert kinds[-1].startswith(_DOCKER)
    assert kinds[-1].endswith("gzip")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--compression=zstd", "--image-format=docker"), ("--compression=zstd", "docker")),
        (("--compression=lzma",), ("--compression", "'lzma'", "gzip or zstd")),
        (("--compression-level=12",), ("--compression-level 12", "0 to 9")),
        (("--compression=zstd", "--compression-level=0"), ("1 to 19",)),
        (("--annotation=a=b", "--image-format=docker"), ("--annotation", "docker")),
        (("--annotation=manfest:a=b",), ("'manfest'", "manifest")),
        (("--annotation=a",), ("--annotation", "key=value")),
        (("--annotation=index:a=b",), ("index:a", "a single image")),
        (("--image-format=oci", "--tar-path=x.tar"), ("--tar-path", "--image-format=oci")),
        (("--compression=zstd", "--tar-path=x.tar"), ("--tar-path", "--compression=zstd")),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_what_does_not_go_together_is_refused(
    build: Build, flags: tuple[str, ...], words: tuple[str, ...]
) -> None:
    said(build("FROM scratch\nCOPY . /\n", *flags, check=False), *words)


# --- annotations ----------------------------------------------------------------------------


def test_annotations_are_in_the_manifest(build: Build, registry: Registry) -> None:
    base = images.push(images.busybox_layout(), registry, "base/docker:1", docker=True)
    build(
        f"FROM {base}\nRUN true\n",
        "--annotation=org.opencontainers.image.source=https://example.com/a=b",
        "--annotation=manifest:team=one",
        "--annotation=manifest[linux/s390x]:team=another",
    )

    manifest = readers.manifest(build.image)
    assert manifest["annotations"] == {
        "org.opencontainers.image.source": "https://example.com/a=b",
        "team": "one",
    }
    assert manifest["mediaType"].startswith(_OCI)


# --- times ----------------------------------------------------------------------------------

_OF_TODAY = """FROM {base} AS made
WORKDIR /deep/er
COPY --chown=12 files/ ./
RUN touch new && mkdir -p made/by && ln -s new link && date -r new +%Y > /dev/null
FROM {base}
COPY --from=made /deep /deep
COPY <<FILE /here
text
FILE
RUN date > /dev/null; ln /here /there
"""


def _build_of_today(build: Build, base: str, *flags: str) -> dict[str, list[str]]:
    """Build with files that are of now, and return digests: of the manifest, and of its layers."""
    build.fill({"files/one": "1", "files/two": "2"})
    for path in (build.context / "files").iterdir():
        os.utime(path)
    build(_OF_TODAY.format(base=base), *flags)
    manifest = readers.manifest(build.image)
    return {
        "manifest": [readers.digest(build.image)],
        "layers": [layer["digest"] for layer in manifest["layers"]],
    }


@pytest.mark.parametrize("more", [(), ("--single-snapshot",)], ids=str)
def test_reproducible_builds_are_equal_at_any_time(
    build: Build, busybox: str, more: tuple[str, ...]
) -> None:
    first = _build_of_today(build, busybox, "--reproducible", *more)
    time.sleep(1.1)
    second = _build_of_today(build, busybox, "--reproducible", *more)

    assert first == second
    of_base = [layer["digest"] for layer in readers.manifest(busybox)["layers"]]
    assert second["layers"][: len(of_base)] == of_base
    config = readers.config(build.image)
    assert config["created"] == "1970-01-01T00:00:00Z"
    own = readers.layers(build.image)[len(of_base) :]
    assert {member.mtime for layer in own for member in layer.members.values()} == {0}


def test_reproducible_is_the_epoch_that_is_given(build: Build, busybox: str) -> None:
    build.fill({"old": "", "new": ""})
    os.utime(build.context / "old", (1_000_000_000, 1_000_000_000))
    build(
        f"FROM {busybox}\nCOPY old new /\nRUN touch /newest\n",
        *("--reproducible", "--build-arg=SOURCE_DATE_EPOCH=1700000000"),
    )

    times = {
        name: member.mtime
        for layer in readers.layers(build.image)[1:]
        for name, member in layer.members.items()
    }
    assert times["old"] == 1_000_000_000
    assert (times["new"], times["newest"]) == (1_700_000_000, 1_700_000_000)
    assert readers.config(build.image)["created"] == "2023-11-14T22:13:20Z"


def test_the_epoch_may_be_a_variable_of_the_environment(build: Build, busybox: str) -> None:
    """As docker buildx has it; a build argument wins."""
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN true > /x\n"})
    env = {"SOURCE_DATE_EPOCH": "1700000000"}
    build.programs.executor(*build.arguments, env=env)
    assert readers.config(build.image)["created"] == "2023-11-14T22:13:20Z"

    build.programs.executor(*build.arguments, "--build-arg=SOURCE_DATE_EPOCH=0", env=env)
    assert readers.config(build.image)["created"] == "1970-01-01T00:00:00Z"


def test_reproducible_does_not_take_layers_that_have_their_times(
    rebuild: Rebuild, busybox: str
) -> None:
    rebuild(f"FROM {busybox}\nRUN touch /now\n")
    log = rebuild("", "--reproducible")

    assert log.ran == ["RUN touch /now"]
    assert {m.mtime for m in readers.layers(rebuild.image)[-1].members.values()} == {0}
    made = readers.digest(rebuild.image)
    assert rebuild("", "--reproducible").ran == []
    assert readers.digest(rebuild.image) == made


def test_explain_tells_of_the_latest_time(rebuild: Rebuild, busybox: str) -> None:
    rebuild(f"FROM {busybox}\nRUN touch /now\n", "--reproducible")
    log = rebuild("", "--explain")

    notes = [json.loads(line) for line in log.finished.stderr.splitlines()]
    assert any("latest time of files" in note.get("msg", "") for note in notes), notes
