"""Builds that look alike and are not: what a key must tell apart, from what it must not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from integration import images, readers
from integration.compare import differences, image_of_layout
from integration.rebuilds import Rebuild, copy_layout
from integration.world import Registry
from tests.web_server import WebServer

_UNIQUE = "RUN cat /proc/sys/kernel/random/uuid > /stamp"


# --- builds that look alike ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    """What a build is given; ``FROM`` is put before it."""

    dockerfile: str
    files: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


_F = {"f": "x"}
_TREE = "COPY tree /tree"
# Each a pair that Go kaniko's keys confuse, or once did, and that must not be confused.
_ALIKE = {
    "an argument in a destination": (
        Look("ARG D\nCOPY f /$D/", _F, ("--build-arg=D=one",)),
        Look("ARG D\nCOPY f /$D/", _F, ("--build-arg=D=two",)),
    ),
    "an argument in a source": (
        Look("ARG S\nCOPY $S /f", {"a": "1", "b": "1"}, ("--build-arg=S=a",)),
        Look("ARG S\nCOPY $S /", {"a": "1", "b": "1"}, ("--build-arg=S=b",)),
    ),
    "a variable in a destination": (
        Look("ENV D=one\nCOPY f /$D/", _F),
        Look("ENV D=two\nCOPY f /$D/", _F),
    ),
    "an argument in a working directory": (
        Look("ARG D\nWORKDIR /$D", {}, ("--build-arg=D=one",)),
        Look("ARG D\nWORKDIR /$D", {}, ("--build-arg=D=two",)),
    ),
    "an argument in a mode": (
        Look("ARG M\nCOPY --chmod=$M f /f", _F, ("--build-arg=M=600",)),
        Look("ARG M\nCOPY --chmod=$M f /f", _F, ("--build-arg=M=700",)),
    ),
    "an argument in an owner": (
        Look("ARG O\nCOPY --chown=$O f /f", _F, ("--build-arg=O=1",)),
        Look("ARG O\nCOPY --chown=$O f /f", _F, ("--build-arg=O=2",)),
    ),
    "the text of a here-document that is copied": (
        Look("COPY <<EOF /f\none\nEOF"),
        Look("COPY <<EOF /f\ntwo\nEOF"),
    ),
    "a variable in a here-document": (
        Look("ENV V=one\nCOPY <<EOF /f\n$V\nEOF"),
        Look("ENV V=two\nCOPY <<EOF /f\n$V\nEOF"),
    ),
    "the text of a here-document that is run": (
        Look("RUN <<EOF\necho one > /f\nEOF"),
        Look("RUN <<EOF\necho two > /f\nEOF"),
    ),
    "a here-document of a command that reads it": (
        Look("RUN cat <<EOF > /f\none\nEOF"),
        Look("RUN cat <<EOF > /f\ntwo\nEOF"),
    ),
    "instructions that are one word when they are joined": (
        Look("ENV A=x\nENV B=y\nCOPY f /$A/", _F),
        Look("ENV A=x-ENV B=y\nCOPY f /$A/", _F),
    ),
    "commands that are one when they are joined": (
        Look("LABEL a=b\nRUN echo 1 >> /f\nRUN echo 2 >> /f"),
        Look("LABEL a=b\nRUN echo 1 >> /f-RUN echo 2 >> /f"),
    ),
    "variables that are one when they are joined": (
        Look('ENV A="1-B=2"\nRUN echo "$A,$B" > /f'),
        Look('ENV A="1" B="2"\nRUN echo "$A,$B" > /f'),
    ),
    "names of files": (Look(_TREE, {"tree/a": "x"}), Look(_TREE, {"tree/b": "x"})),
    "names that exchange their contents": (
        Look(_TREE, {"tree/a": "1", "tree/b": "2"}),
        Look(_TREE, {"tree/a": "2", "tree/b": "1"}),
    ),
    "names that are one when they are joined": (
        Look(_TREE, {"tree/ab": "", "tree/c": ""}),
        Look(_TREE, {"tree/a": "", "tree/bc": ""}),
    ),
    "a name and a content that are one when they are joined": (
        Look(_TREE, {"tree/a": "bc"}),
        Look(_TREE, {"tree/ab": "c"}),
    ),
    "a file and a directory": (Look(_TREE, {"tree/a": ""}), Look(_TREE, {"tree/a/": ""})),
    "two files under one name": (
        Look("COPY one /f", {"one": "1", "two": "1"}),
        Look("COPY --chmod=777 one /f", {"one": "1", "two": "1"}),
    ),
    "what is unpacked and what is not": (
        Look("ADD --unpack=true a.tar /d/"),
        Look("ADD --unpack=false a.tar /d/"),
    ),
    "what is left out": (
        Look(_TREE, {"tree/a": "1", "tree/b": "1"}),
        Look("COPY --exclude=b tree /tree", {"tree/a": "1", "tree/b": "1"}),
    ),
    "a file of a mount": (
        Look("RUN --mount=target=/src cp /src/f /copy", {"f": "1"}),
        Look("RUN --mount=target=/src cp /src/f /copy", {"f": "2"}),
    ),
    "where a mount is": (
        Look("RUN --mount=target=/a --mount=type=tmpfs,target=/b ls /a /b > /f", _F),
        Look("RUN --mount=target=/b --mount=type=tmpfs,target=/a ls /a /b > /f", _F),
    ),
    "who runs it": (Look("USER 0\nRUN id > /tmp/f"), Look("USER 1234\nRUN id > /tmp/f")),
    "where it runs": (
        Look("RUN mkdir /a /b\nWORKDIR /a\nRUN touch f"),
        Look("RUN mkdir /a /b\nWORKDIR /b\nRUN touch f"),
    ),
    "which shell runs it": (
        Look("RUN echo $0 > /f"),
        Look('SHELL ["/bin/sh", "-c", "echo other > /f"]\nRUN echo $0 > /f'),
    ),
    "the form of a command": (
        Look("RUN echo $HOME > /f"),
        Look('RUN ["/bin/sh", "-c", "echo $PATH > /f"]'),
    ),
    "the time that it is": (
        Look("COPY --chmod=600 f /f", _F, ("--build-arg=SOURCE_DATE_EPOCH=1000",)),
        Look("COPY --chmod=600 f /f", _F, ("--build-arg=SOURCE_DATE_EPOCH=2000",)),
    ),
    "the platform": (
        Look("COPY f /f", _F),
        Look("COPY f /f", _F, ("--custom-platform=linux/s390x",)),
    ),
}


@pytest.mark.parametrize("name", _ALIKE)
def test_builds_that_look_alike_are_told_apart(
    rebuild: Rebuild, busybox: str, tmp_path: Path, name: str
) -> None:
    """The second gives what it gives without a cache, whatever the first has left."""
    for number, look in enumerate(_ALIKE[name]):
        readers.output_of("rm", "-rf", rebuild.context)
        rebuild.context.mkdir()
        readers.output_of("tar", "-cf", rebuild.context / "a.tar", "-C", "/etc", "hostname")
        base = "scratch" if name == "the platform" else busybox
        log = rebuild(f"FROM {base}\n{look.dockerfile}\n", *look.flags, files=look.files)
        assert log.ran, f"build {number + 1} took everything from the cache"
    layout = tmp_path / "cached"
    again = rebuild("", f"--oci-layout-path={layout}", *look.flags)
    assert again.ran == []
    rebuild.without_cache(tmp_path / "plain", *look.flags)

    ours, theirs = image_of_layout(layout), image_of_layout(tmp_path / "plain")
    assert differences(ours, theirs) == {}


def test_a_base_that_is_made_anew_with_the_same_files_is_the_same(
    rebuild: Rebuild, registry: Registry, tmp_path: Path
) -> None:
    """Its date, labels and command are no part of what a step stands on; its layers are."""
    layout = images.busybox_layout()
    base = images.push(layout, registry, "base/rebuilt:1")
    assert rebuild(f"FROM {base}\nCOPY f /f\n{_UNIQUE}\n", files=_F).ran
    config = {**readers.config(base)["config"], "Labels": {"a": "b"}, "Cmd": ["other"]}
    newer = copy_layout(layout, tmp_path / "newer", created="2025-01-01T00:00:00Z", config=config)
    images.push(newer, registry, "base/rebuilt:1")
    again = rebuild()

    assert again.ran == []
    assert readers.config(rebuild.image)["config"]["Labels"] == {"a": "b"}

    config["Env"] = [*config["Env"], "MORE=1"]
    other = copy_layout(layout, tmp_path / "other", config=config)
    images.push(other, registry, "base/rebuilt:1")
    assert rebuild().ran == [_UNIQUE]


def test_what_a_url_gives_is_part_of_the_key(
    rebuild: Rebuild, busybox: str, web: WebServer
) -> None:
    url = web.add("/file", b"one", last_modified="Wed, 21 Oct 2015 07:28:00 GMT")
    add = f"ADD {url} /file"
    rebuild(f"FROM {busybox}\n{add}\n")
    web.add("/file", b"one", last_modified="Wed, 21 Oct 2020 07:28:00 GMT")
    same = rebuild()
    web.add("/file", b"two", last_modified="Wed, 21 Oct 2015 07:28:00 GMT")
    other = rebuild()

    assert (same.ran, other.ran) == ([], [add])
    with readers.unpacked(rebuild.image) as root:
        assert (root / "file").read_bytes() == b"two"


def test_what_a_branch_means_is_part_of_the_key(
    rebuild: Rebuild, busybox: str, web: WebServer
) -> None:
    assert web.repositories is not None
    bare, work = web.repositories / "r.git", rebuild.directory / "work"
    init = ("git", "init", "--quiet", "--initial-branch=main")
    readers.output_of(*init, "--bare", bare)
    readers.output_of(*init, work)
    git = ("git", "-C", str(work), "-c", "user.name=x", "-c", "user.email=x")

    def publish(text: str) -> None:
        (work / "file").write_text(text)
        readers.output_of(*git, "add", "file")
        readers.output_of(*git, "commit", "--quiet", "--message=x")
        readers.output_of(*git, "push", "--quiet", bare, "main")

    publish("one")
    add = f"ADD {web.address}/git/r.git#main /r"
    rebuild(f"FROM {busybox}\n{add}\n")
    same = rebuild()
    publish("two")
    other = rebuild()

    assert (same.ran, other.ran) == ([], [add])
    with readers.unpacked(rebuild.image) as root:
        assert (root / "r/file").read_text() == "two"
