"""Images for several platforms in one build: what each is, and the index that lists them."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from integration import images, readers
from integration.programs import Build, Finished, finished, said
from integration.readers import Podman
from integration.rebuilds import InLayout, Rebuild, flip
from integration.world import Registry
from kaniko_core.oci.platform import Platform

_BOTH = "--platform=linux/amd64,linux/arm64"
_INDEX = "application/vnd.oci.image.index.v1+json"
_ARM = "linux/arm64"
# Runs a command in namespaces in which it is root and every user, and an emulator is registered:
# it ends with them. Magic and mask are those of arm64's ELF header.
_EMULATED = r"""
import os, subprocess, sys
child, parent = os.pipe(), os.pipe()
pid = os.fork()
if not pid:
    flags = 0x10000000 | 0x20000  # CLONE_NEWUSER, CLONE_NEWNS
    import ctypes
    assert ctypes.CDLL(None, use_errno=True).unshare(flags) == 0
    os.write(child[1], b"1")
    os.read(parent[0], 1)
    os.setuid(0)
    place = "/proc/sys/fs/binfmt_misc"
    subprocess.run(["mount", "-t", "binfmt_misc", "none", place], check=True)
    magic = r"\x7fELF\x02\x01\x01" + r"\x00" * 9 + r"\x02\x00\xb7\x00"
    mask = r"\xff" * 7 + r"\x00" + r"\xff" * 8 + r"\xfe\xff\xff\xff"
    with open(place + "/register", "w") as register:
        register.write(f":arm64:M::{magic}:{mask}:{sys.argv[1]}:F")
    os.execvp(sys.argv[2], sys.argv[2:])
os.read(child[0], 1)
for kind in ("uid", "gid"):
    with open(f"/proc/{pid}/{kind}_map", "w") as mapping:
        mapping.write("0 0 65536")
os.write(parent[1], b"1")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""

pytestmark = pytest.mark.skipif(
    Platform.host().architecture != "amd64", reason="the images of these tests are for amd64"
)


@pytest.fixture(name="base")
def fixture_base(registry: Registry) -> str:
    """An image for both platforms, by one name."""
    try:
        layouts = {"amd64": images.busybox_layout(), "arm64": images.foreign_layout()}
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this machine's mirror of Debian has no packages for arm64: {error}")
    entries = []
    for architecture, layout in layouts.items():
        name = images.push(layout, registry, f"base/both:{architecture}")
        raw = readers.output_of(
            "skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}"
        )
        entries.append(
            {
                "mediaType": json.loads(raw)["mediaType"],
                "digest": readers.digest(name),
                "size": len(raw.encode()),
                "platform": {"os": "linux", "architecture": architecture},
            }
        )
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": entries}
    request = urllib.request.Request(
        f"http://{registry.address}/v2/base/both/manifests/latest",
        data=json.dumps(index).encode(),
        headers={"Content-Type": _INDEX},
        method="PUT",
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 201
    return f"{registry.address}/base/both:latest"


def _listed(image: str) -> dict[str, dict[str, Any]]:
    """Return what an index lists, by platform."""
    index = readers.manifest(image)
    return {
        f"{item['platform']['os']}/{item['platform']['architecture']}": item
        for item in index["manifests"]
    }


def _of(image: str, platform: str) -> str:
    """Return the name of one platform's image in an index."""
    return f"{image.rpartition(':')[0]}@{_listed(image)[platform]['digest']}"


_COPIES = """FROM {base}
ARG TARGETARCH TARGETPLATFORM
ENV FOR=$TARGETARCH
COPY $TARGETARCH /word
LABEL platform=$TARGETPLATFORM
"""
_WORDS = {"amd64": "one\n", "arm64": "two\n"}


def test_an_index_lists_the_image_of_each_platform(build: Build, base: str, podman: Podman) -> None:
    build(_COPIES.format(base=base), _BOTH, files=_WORDS)

    assert readers.manifest(build.image)["mediaType"] == _INDEX
    assert [*_listed(build.image)] == ["linux/amd64", _ARM]
    for architecture, word in _WORDS.items():
        image = _of(build.image, f"linux/{architecture}")
        config = readers.config(image)
        assert config["architecture"] == architecture
        assert f"FOR={architecture}" in config["config"]["Env"]
        assert config["config"]["Labels"] == {"platform": f"linux/{architecture}"}
        with readers.unpacked(image) as root:
            assert (root / "word").read_text() == word
    assert podman.run(build.image, "cat", "/word") == "one\n"
    podman("pull", "--quiet", "--tls-verify=false", f"--platform={_ARM}", build.image)
    assert podman("image", "inspect", "--format={{.Architecture}}", build.image) == "arm64\n"


def test_go_kanikos_flag_takes_several_as_well(build: Build, base: str) -> None:
    build(
        _COPIES.format(base=base),
        *("--custom-platform=linux/amd64", f"--custom-platform={_ARM}", "--platform=local"),
        files=_WORDS,
    )

    assert [*_listed(build.image)] == ["linux/amd64", _ARM]


def test_one_platform_is_one_image(build: Build, base: str) -> None:
    build(_COPIES.format(base=base), f"--platform={_ARM}", files=_WORDS)

    assert readers.config(build.image, "--override-arch=arm64")["architecture"] == "arm64"
    assert "manifests" not in readers.manifest(build.image)


def test_a_layout_holds_the_index(build: Build, base: str, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    build(_COPIES.format(base=base), _BOTH, f"--oci-layout-path={layout}", files=_WORDS)

    name = f"oci:{layout}:latest"
    for architecture in _WORDS:
        config = readers.config(name, f"--override-arch={architecture}")
        assert config["architecture"] == architecture
    assert readers.digest(name) == readers.digest(build.image)


def test_docker_s_own_types_make_a_manifest_list(build: Build, base: str) -> None:
    build(_COPIES.format(base=base), _BOTH, "--image-format=docker", files=_WORDS)

    list_type = "application/vnd.docker.distribution.manifest.list.v2+json"
    assert readers.manifest(build.image)["mediaType"] == list_type


def test_annotations_of_the_index_and_its_entries(build: Build, base: str) -> None:
    build(
        _COPIES.format(base=base),
        *(_BOTH, "--annotation=index:a=1", "--annotation=index,manifest:b=2"),
        f"--annotation=manifest-descriptor[{_ARM}]:c=3",
        files=_WORDS,
    )

    index = readers.manifest(build.image)
    assert index["annotations"] == {"a": "1", "b": "2"}
    listed = _listed(build.image)
    assert listed[_ARM]["annotations"] == {"c": "3"}
    assert "annotations" not in listed["linux/amd64"]
    for platform in listed:
        assert readers.manifest(_of(build.image, platform))["annotations"] == {"b": "2"}


_NATIVE = """FROM --platform=$BUILDPLATFORM {busybox} AS tools
{run} > /made
FROM {base}
COPY --from=tools /made /made
"""
_FOR_EACH = 'ARG TARGETARCH\nRUN echo "made for $TARGETARCH"'
_UNIQUE = "RUN cat /proc/sys/kernel/random/uuid"


def _is_made_for_all(image: str) -> bool:
    for architecture in _WORDS:
        with readers.unpacked(_of(image, f"linux/{architecture}")) as root:
            if (root / "made").read_text() != f"made for {architecture}\n":
                return False
    return True


def test_what_runs_on_this_machine_may_serve_all(build: Build, base: str, busybox: str) -> None:
    build(_NATIVE.format(base=base, busybox=busybox, run=_FOR_EACH), _BOTH)

    assert _is_made_for_all(build.image)


@pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
def test_what_platforms_have_in_common_is_made_once(
    build: Build, base: str, busybox: str, tmp_path: Path, cached: bool
) -> None:
    text = _NATIVE.format(base=base, busybox=busybox, run=_UNIQUE)
    more = ("--cache", f"--cache-repo=dir:{tmp_path}/layers") if cached else ()
    done = build(text, _BOTH, *more)

    texts = set()
    for platform in ("linux/amd64", _ARM):
        with readers.unpacked(_of(build.image, platform)) as root:
            texts.add((root / "made").read_text())
    assert len(texts) == 1
    assert "layers are not cached" not in done.stderr


def test_platforms_in_place(make_rebuild: Callable[..., Rebuild], base: str, busybox: str) -> None:
    """On one root directory, one after the other."""
    rebuild = make_rebuild(None, "in-place")
    rebuild(_NATIVE.format(base=base, busybox=busybox, run=_FOR_EACH), _BOTH)

    assert _is_made_for_all(rebuild.image)


def test_a_command_that_cannot_run_here_is_named_before_anything_is_built(
    build: Build, base: str, registry: Registry
) -> None:
    registry.forget()
    done = build(f"FROM {base}\nRUN echo 1\nRUN uname -m > /machine\n", _BOTH, check=False)

    said(done, "linux/arm64", "linux/amd64", "RUN echo 1", "Dockerfile:2", "binfmt")
    assert not [r for r in registry.requests() if r.uploads]


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--tar-path=image.tar", ("--tar-path", "one image")),
        ("--materialize", ("--materialize", "one platform")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_holds_one_image_is_refused(
    build: Build, base: str, flag: str, words: tuple[str, ...]
) -> None:
    said(build(f"FROM {base}\n", _BOTH, flag, check=False), *words)


# --- emulation ------------------------------------------------------------------------------


def _emulated(build: Build, *flags: str) -> Finished:
    """Build where programs of arm64 can be run."""
    programs = build.programs
    programs.work.mkdir(parents=True, exist_ok=True)
    prefix = (sys.executable, "-c", _EMULATED, str(images.emulator()))
    common = ("--insecure", "--insecure-pull", f"--kaniko-dir={programs.work}")
    process = programs.start("kaniko_executor", *build.arguments, *flags, *common, prefix=prefix)
    return finished(process)


@pytest.fixture(name="emulation")
def fixture_emulation(build: Build) -> None:
    probe = finished(
        build.programs.start(
            "kaniko_executor",
            "version",
            prefix=(sys.executable, "-c", _EMULATED, str(images.emulator())),
        ),
        check=False,
    )
    if probe.status != 0:
        pytest.skip(f"this kernel has no binfmt_misc of a namespace's own: {probe.stderr.strip()}")


@pytest.mark.usefixtures("emulation")
def test_commands_of_another_platform_run_where_they_can(
    build: Build, base: str, tmp_path: Path
) -> None:
    """And are taken from the cache where they cannot."""
    build.fill({"Dockerfile": f"FROM {base}\nRUN uname -m > /machine\n"})
    cached = (
        _BOTH,
        "--cache",
        f"--cache-dir={tmp_path / 'cache'}",
        f"--cache-repo=oci:{tmp_path / 'layers'}",
    )
    _emulated(build, *cached)

    made = readers.digest(build.image)
    for platform, machine in (("linux/amd64", "x86_64"), (_ARM, "aarch64")):
        with readers.unpacked(_of(build.image, platform)) as root:
            assert (root / "machine").read_text() == f"{machine}\n"
    build.programs.executor(*build.arguments, *cached)
    assert readers.digest(build.image) == made


def test_a_layer_that_is_lost_is_built_again_for_all_platforms(
    build: Build, base: str, busybox: str, tmp_path: Path
) -> None:
    text = _NATIVE.format(base=base, busybox=busybox, run=_UNIQUE)
    place = InLayout(tmp_path / "layers")
    cached = (_BOTH, "--cache", "--cache-copy-layers", f"--cache-repo={place.flag}")
    build(text, *cached)
    kept = readers.digest(build.image)
    build(text, *cached)
    assert readers.digest(build.image) == kept
    for file in place.blob(readers.manifest(_of(build.image, _ARM))["layers"][-1]["digest"]):
        flip(file)
    elsewhere = build.image.replace(":latest", "/elsewhere:1")
    done = build(text, *cached, f"--destination={elsewhere}")

    assert "the step is built again" in done.stderr
    for platform in ("linux/amd64", _ARM):
        with readers.unpacked(_of(elsewhere, platform)) as root:
            assert len((root / "made").read_text()) == 37
