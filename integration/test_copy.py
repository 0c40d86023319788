"""COPY and ADD, compared path by path with what buildah makes of the same Dockerfile."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from integration import readers
from integration.programs import Build
from integration.readers import Buildah

_OLD = 1_500_000_000

_FILES: dict[str, str | bytes] = {
    "a.txt": "a",
    "b.txt": "b",
    "notes.md": "notes",
    "deep/one/1": "1",
    "deep/one/2": "2",
    "deep/two/3": "3",
    "deep/empty/": "",
    "odd names/sp ace": "space",
}


def _prepare(build: Build) -> None:
    """Fill the context with modes, times and links worth preserving."""
    build.fill(_FILES)
    context = build.context
    (context / "program").write_text("#!/bin/sh\n")
    (context / "program").chmod(0o750)
    (context / "link").symlink_to("a.txt")
    (context / "deep" / "link").symlink_to("../a.txt")
    (context / "deep" / "dangling").symlink_to("/nowhere")
    (context / "deep" / "one").chmod(0o711)
    for path in sorted(context.rglob("*"), reverse=True):
        os.utime(path, (_OLD, _OLD), follow_symlinks=False)


# Forms about which buildah 1.28 and BuildKit agree. What is copied lies below /out.
_AGREED = {
    "one file to a name": "COPY a.txt /out/renamed",
    "one file to a directory": "COPY a.txt /out/",
    "two files": "COPY a.txt b.txt /out/",
    "glob": "COPY *.txt /out/",
    "glob with a class": "COPY [ab].txt /out/",
    "directory's content": "COPY deep /out",
    "directory's content to a path with a slash": "COPY deep/ /out/",
    "everything": "COPY . /out/",
    "names with spaces": 'COPY ["odd names/sp ace", "/out/with space"]',
    "owner by number": "COPY --chown=7:8 deep /out/",
    "owner by number, of a file": "COPY --chown=7:8 program /out/sub/program",
    "owner by name": "COPY --chown=web:staff a.txt /out/",
    "mode": "COPY --chmod=0640 a.txt /out/",
    "an executable": "COPY program /out/",
    "link that is named": "COPY link /out/",
    "links in a directory": "COPY deep /out/deep",
    "below the working directory": "WORKDIR /out\nCOPY a.txt sub/",
    "over a file that is there": "RUN mkdir /out && echo x > /out/a.txt\nCOPY a.txt /out/",
    "through a link to a directory": "RUN mkdir /out && ln -s /out /alias\nCOPY a.txt /alias/",
    "ADD of a file": "ADD a.txt /out/",
    "from the root of the context": "COPY /a.txt /out/",
}


@pytest.mark.parametrize("form", _AGREED)
def test_copies_as_buildah_does(build: Build, busybox: str, buildah: Buildah, form: str) -> None:
    """The same paths, kinds, modes, owners, contents; and the times of what was in the context."""
    _prepare(build)
    build(f"FROM {busybox}\n{_AGREED[form]}\n")
    theirs = build.image.replace("/built/", "/buildah/")
    buildah.build(build.context, theirs)

    assert _described(build.image) == _described(theirs)


def _described(image: str) -> dict[str, object]:
    """Describe what is below /out; times only where the context gave them."""
    return {
        path: (
            *(node.kind, oct(node.mode), node.uid, node.gid, node.content),
            node.mtime == _OLD if node.kind == "-" else None,
        )
        for path, node in readers.tree(image, "out").items()
        if path not in ("Dockerfile", ".dockerignore")
    }


def test_ignored_files_are_not_copied(build: Build, busybox: str) -> None:
    _prepare(build)
    ignore = "# comment\n*.md\ndeep\n!deep/two\n.dockerignore\nDockerfile\n"
    build(f"FROM {busybox}\nCOPY . /out/\n", files={".dockerignore": ignore})

    names = set(readers.tree(build.image, "out"))
    assert {"a.txt", "b.txt", "program", "deep/two/3"} <= names
    assert not names & {"notes.md", "deep/one", "deep/one/1", "Dockerfile", ".dockerignore"}


def test_ignore_file_of_the_dockerfile_comes_first(build: Build, busybox: str) -> None:
    files: dict[str, str | bytes] = {
        **_FILES,
        ".dockerignore": "*.txt\n",
        "Dockerfile.dockerignore": "*.md\n",
    }
    build(f"FROM {busybox}\nCOPY . /out/\n", files=files)

    names = set(readers.tree(build.image, "out"))
    assert "a.txt" in names
    assert "notes.md" not in names


def test_copy_from_a_stage_and_from_an_image(build: Build, busybox: str, debian: str) -> None:
    build(
        f"""FROM {busybox} AS made
RUN mkdir -p /d/sub && echo x > /d/sub/x && chown -R 5:6 /d && chmod 0700 /d/sub
FROM {busybox}
COPY --from=made /d /out/named
COPY --from=0 /d/sub/x /out/numbered
COPY --from={debian} /etc/debian_version /out/
COPY --from=made --chown=web /d/sub/x /out/owned
"""
    )

    out = readers.tree(build.image, "out")
    assert (out["named/sub"].mode, out["named/sub"].uid, out["named/sub"].gid) == (0o700, 5, 6)
    assert (out["numbered"].uid, out["numbered"].gid) == (5, 6)
    assert (out["owned"].uid, out["owned"].gid) == (1234, 2345)
    assert out["debian_version"].kind == "-"


def test_symbolic_modes(build: Build, busybox: str) -> None:
    _prepare(build)
    build(f"FROM {busybox}\nCOPY --chmod=u=rwX,go=rX deep /out/\n")

    out = readers.tree(build.image, "out")
    assert oct(out["one"].mode) == oct(0o755)
    assert oct(out["one/1"].mode) == oct(0o644)


def test_directory_that_exists_keeps_what_is_in_it(build: Build, busybox: str) -> None:
    _prepare(build)
    build(f"FROM {busybox}\nRUN mkdir -p /out/one && echo x > /out/one/x\nCOPY deep /out/\n")

    assert {"one/x", "one/1", "two/3"} <= set(readers.tree(build.image, "out"))


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.xz", "tar.bz2"])
def test_add_unpacks_archives(build: Build, busybox: str, suffix: str) -> None:
    """By content, whatever the name; COPY leaves the same file as it is."""
    _, _, compression = suffix.partition(".")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w:{compression}") as archive:  # type: ignore[call-overload]
        member = tarfile.TarInfo("sub/file")
        member.size, member.mode, member.mtime = 4, 0o640, _OLD
        member.uid, member.gid = 11, 12
        archive.addfile(member, io.BytesIO(b"text"))
    build(
        f"FROM {busybox}\nADD packed /out/\nCOPY packed /out/as-it-was\n",
        files={"packed": data.getvalue()},
    )

    out = readers.tree(build.image, "out")
    node = out["sub/file"]
    assert (node.mode, node.uid, node.gid, node.mtime) == (0o640, 11, 12, _OLD)
    assert out["as-it-was"].kind == "-"
    assert "packed" not in out


@pytest.mark.parametrize("name", ["../../escaped", "/escaped"])
def test_archive_cannot_leave_the_image(
    build: Build, busybox: str, tmp_path: Path, name: str
) -> None:
    """Either the build is refused or the member lands inside; this machine keeps clean."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    build(f"FROM {busybox}\nADD evil.tar /out/\n", files={"evil.tar": data.getvalue()}, check=False)

    assert not Path("/escaped").exists()
    assert not list(tmp_path.rglob("escaped"))


def test_link_in_the_image_cannot_lead_out_of_it(
    build: Build, busybox: str, tmp_path: Path
) -> None:
    """COPY to a path behind an absolute link stays inside the image's root."""
    outside = tmp_path / "outside"
    outside.mkdir()
    build(
        f"FROM {busybox}\nRUN ln -s {outside} /out\nCOPY a /out/\n",
        files={"a": "a"},
        check=False,
    )

    assert list(outside.iterdir()) == []
