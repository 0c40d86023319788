"""The Dockerfile language in real builds: what docs/DOCKERFILE.md says and no other test shows."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from integration import readers
from integration.programs import Build, said

# Nobody listens there: what is told in spite of it is told before anything is fetched.
_NOWHERE = "127.0.0.1:1/base"


# --- what the build looks at -----------------------------------------------------------------


def test_changed_bytes_are_seen_though_size_and_times_are_the_same(
    build: Build, busybox: str, tmp_path: Path
) -> None:
    flags = ("--cache", f"--cache-dir={tmp_path / 'cache'}")
    text = f"FROM {busybox}\nCOPY a /a\nRUN --mount=target=/context cp /context/a /b\n"
    for content in ("one", "two"):
        build.fill({"a": content})
        os.utime(build.context / "a", (1, 1))
        build(text, *flags)

        with readers.unpacked(build.image) as root:
            assert [(root / name).read_text() for name in "ab"] == [content, content]


def test_commands_need_no_program_of_the_machine(
    build: Build, busybox: str, tmp_path: Path
) -> None:
    """No runc and no crun, of whatever version: the sandbox is our own."""
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN --network=none echo made > /made\n"})
    programs = tmp_path / "bin"
    programs.mkdir()
    # The tests start every program with it.
    (programs / "env").symlink_to("/usr/bin/env")

    build.programs.executor(*build.arguments, env={"PATH": str(programs)})

    assert "made" in readers.tree(build.image)


def test_archive_member_without_a_name_is_the_destination_itself(
    build: Build, busybox: str
) -> None:
    """Go kaniko took it for the root of the image, and removed that."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, kind in (("", tarfile.DIRTYPE), ("kept", tarfile.REGTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, 0o700
            archive.addfile(member)

    build(f"FROM {busybox}\nADD a.tar /\n", files={"a.tar": data.getvalue()})

    tree = readers.tree(build.image)
    assert "kept" in tree
    assert "bin/busybox" in tree


# --- what the image says ---------------------------------------------------------------------


def test_image_without_layers_has_lists_all_the_same(build: Build, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    build("FROM scratch\nENV A=1\n", "--no-push", f"--oci-layout-path={layout}")

    def blob(digest: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(
            (layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_text()
        )
        return found

    (listed,) = json.loads((layout / "index.json").read_text())["manifests"]
    manifest = blob(listed["digest"])
    assert manifest["layers"] == []
    config = blob(manifest["config"]["digest"])  # type: ignore[index]
    assert config["rootfs"] == {"type": "layers", "diff_ids": []}
    assert len(config["history"]) == 1  # type: ignore[arg-type]


# --- build arguments -------------------------------------------------------------------------


def test_proxies_reach_commands_in_both_cases_and_nothing_else(build: Build, busybox: str) -> None:
    done = build(
        f"FROM {busybox}\n"
        "ENV HTTPS_PROXY=http://of-the-image.invalid\n"
        "RUN env | grep -i proxy | sort\n"
        "ENV SEEN=$HTTP_PROXY$http_proxy\n",
        "--build-arg=HTTP_PROXY=http://p.invalid",
        "--build-arg=https_proxy=http://q.invalid",
        "--build-arg=all_proxy=http://r.invalid",
    )

    shown = [line for line in done.stderr.splitlines() if "_proxy=" in line.lower()]
    assert [line.split("] ")[-1] for line in shown if not line.startswith("[")] == [
        "ALL_PROXY=http://r.invalid",
        "HTTPS_PROXY=http://q.invalid",
        "HTTP_PROXY=http://p.invalid",
        "all_proxy=http://r.invalid",
        "http_proxy=http://p.invalid",
        "https_proxy=http://q.invalid",
    ]
    config = readers.config(build.image)
    assert "SEEN=" in config["config"]["Env"]
    assert "p.invalid" not in json.dumps(config)


def test_build_arguments_that_could_only_change_buildkit_are_told(
    build: Build, busybox: str
) -> None:
    names = ("INLINE_CACHE", "MULTI_PLATFORM", "BUILD_NAME", "SBOM_SCAN_CONTEXT", "SBOM_SCAN_STAGE")
    done = build(f"FROM {busybox}\n", *(f"--build-arg=BUILDKIT_{name}=1" for name in names))

    for name in names:
        assert f"warning: --build-arg BUILDKIT_{name} has no effect" in done.stderr


def test_syntax_given_as_a_build_argument_is_noted(build: Build, busybox: str) -> None:
    text = f"# syntax=example.com/other:1\nFROM {busybox}\n"
    done = build(text, "--build-arg=BUILDKIT_SYNTAX=docker/dockerfile:1")

    assert "docker/dockerfile:1 is not fetched: the stable Dockerfile language" in done.stderr
    assert "other" not in done.stderr
    assert "has no effect" not in done.stderr


def test_target_and_platform_are_there_for_who_asks(build: Build) -> None:
    build(
        "ARG KIND=$TARGETSTAGE-$TARGETARCH-$TARGETVARIANT\n"
        "FROM scratch AS first\n"
        "ARG KIND TARGETPLATFORM TARGETOS TARGETOSVERSION BUILDPLATFORM TARGETSTAGE\n"
        "LABEL kind=$KIND platform=$TARGETPLATFORM os=$TARGETOS version=[$TARGETOSVERSION] "
        "stage=$TARGETSTAGE unasked=[$TARGETARCH$BUILDARCH]\n"
        "FROM scratch AS last\n",
        "--target=first",
        "--custom-platform=linux/arm/v7",
    )

    assert readers.config(build.image, "--override-arch=arm")["config"]["Labels"] == {
        "kind": "first-arm-v7",
        "platform": "linux/arm/v7",
        "os": "linux",
        "version": "[]",
        "stage": "first",
        "unasked": "[]",
    }


# --- what is refused before anything is fetched ----------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("RUN --mount=type=bind,target=/x,mode=0400 true", ("mode does not go with a bind",)),
        ("RUN --mount=type=cache,required true", ("required does not go with a cache mount",)),
        ("RUN --mount=from=$A,target=/x true", ("variables are not expanded",)),
        ("RUN --security=insecure true", ("--security=insecure is not allowed",)),
        ("COPY --from=7 /a /a", ("there is no stage 7",)),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_fetched(
    build: Build, line: str, words: tuple[str, ...]
) -> None:
    done = build(f"FROM {_NOWHERE}\n{line}\n", check=False)

    said(done, "Dockerfile:2", *words)
    assert build.programs.leftovers() == []


def test_missing_directory_of_a_context_is_told_before_anything_is_fetched(build: Build) -> None:
    done = build(
        f"FROM {_NOWHERE}\nCOPY --from=files /a /a\n",
        "--build-context=files=/no/such/directory",
        check=False,
    )

    said(done, "the build context files", "/no/such/directory")
