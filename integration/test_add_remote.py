"""ADD of URLs and git repositories, in real builds."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from integration import readers
from integration.programs import Build, said
from tests.repository import COMMITTED, Repository, new_repository, run_git
from tests.web_server import Answer, Request, WebServer

_DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
_BODY = b"body\n" * 1000


@pytest.fixture
def repository(web: WebServer, tmp_path: Path) -> Repository:
    assert web.repositories is not None
    made = new_repository(tmp_path / "checkouts", web.repositories, "code")
    program = made.checkout / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (made.checkout / "link").symlink_to("dir/b.txt")
    made.commit({"a.txt": "a", "dir/b.txt": "b"})
    return made


@pytest.fixture
def code(web: WebServer, repository: Repository) -> str:
    return f"{web.address}/git/{repository.bare.name}"


def _tar(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.uid = len(data), 0o640, 4711
        tar.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue())


def test_url_to_a_name_and_to_a_directory(build: Build, busybox: str, web: WebServer) -> None:
    web.add("/f.bin", _BODY, last_modified=_DATE)

    build(
        f"FROM {busybox}\n"
        f"ARG SITE={web.address}\n"
        "ADD $SITE/f.bin /out/name\n"
        "ADD ${SITE}/f.bin /out/dir/\n"
        "ADD --chown=7:8 --chmod=755 $SITE/f.bin /out/owned/\n"
        "RUN test -s /out/dir/f.bin && cmp /out/name /out/dir/f.bin\n"
    )

    tree = readers.tree(build.image, "out")
    for name in ("name", "dir/f.bin"):
        node = tree[name]
        assert (node.mode, node.uid, node.gid) == (0o600, 0, 0)
        assert node.mtime == COMMITTED
    owned = tree["owned/f.bin"]
    assert (owned.mode, owned.uid, owned.gid) == (0o755, 7, 8)
    assert len(web.asked("/f.bin")) == 1


def test_archives_behind_urls_stay_archives_unless_told_otherwise(
    build: Build, busybox: str, web: WebServer
) -> None:
    url = web.add("/x.tar.gz", _tar("deep/file", b"x"))

    build(f"FROM {busybox}\nADD {url} /out/kept/\nADD --unpack {url} /out/unpacked/\n")

    tree = readers.tree(build.image, "out")
    assert "kept/x.tar.gz" in tree
    assert tree["unpacked/deep/file"].mode == 0o640


def test_url_of_which_no_time_is_known_has_the_epoch(
    build: Build, busybox: str, web: WebServer
) -> None:
    build(f"FROM {busybox}\nADD {web.add('/f', b'x')} /out/\n")

    assert readers.tree(build.image, "out")["f"].mtime == 0


def test_checksums(build: Build, busybox: str, web: WebServer) -> None:
    url = web.add("/f", _BODY)
    right = hashlib.sha256(_BODY).hexdigest()
    wrong = "0" * 64

    build(f"FROM {busybox}\nARG SUM={right}\nADD --checksum=sha256:$SUM {url} /out/\n")
    done = build(f"FROM {busybox}\nADD --checksum=sha256:{wrong} {url} /out/\n", check=False)

    said(done, "Dockerfile:2", right, wrong)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ADD {web}/none /x", ("there is nothing at this address (404)", "/none")),
        ("ADD --checksum=sha256:0 {web}/none /x", ("is not a checksum",)),
        ("ADD --checksum=sha256:0 {web}/a {web}/b /x/", ("--checksum is for one source",)),
        ("ADD --checksum=sha256:0 a.txt /x", ("--checksum is for URLs and git",)),
        ("ADD {web}/a {web}/b /x", ("a slash",)),
        ("COPY {web}/a /x", ("ADD fetches URLs",)),
        ("ADD {code}#none /x", ("it has no branch or tag none",)),
        ("ADD {code}?x=y /x", ("says nothing about a git repository",)),
        ("ADD --keep-git-dir {code}?keep-git-dir=0 /x", ("contradicts",)),
        ("ADD --checksum=0123 {code} /x", ("instead of the expected 0123",)),
        ("COPY {code} /x", ("ADD fetches URLs",)),
    ],
)
def test_errors_are_sentences(
    build: Build, busybox: str, web: WebServer, code: str, line: str, words: tuple[str, ...]
) -> None:
    web.add("/a", b""), web.add("/b", b"")
    line = line.format(web=web.address, code=code)

    done = build(f"FROM {busybox}\n{line}\n", check=False, files={"a.txt": "a"})

    said(done, "Dockerfile:2", *words)
    assert not build.programs.leftovers()


def test_repository(build: Build, busybox: str, code: str) -> None:
    build(f"FROM {busybox}\nADD {code} /out\n")

    tree = readers.tree(build.image, "out")
    assert {name for name in tree if name != "."} == {
        "a.txt",
        "dir",
        "dir/b.txt",
        "link",
        "program",
    }
    assert tree["a.txt"].mode == 0o644
    assert tree["program"].mode == 0o755
    assert {(node.uid, node.gid, node.mtime) for node in tree.values()} == {(0, 0, COMMITTED)}


def test_repository_gives_the_same_image_each_time(build: Build, busybox: str, code: str) -> None:
    dockerfile = f"FROM {busybox}\nADD --keep-git-dir=true {code}#main /out\n"

    build(dockerfile)
    first = readers.manifest(build.image)["layers"][-1]
    build(dockerfile)

    assert readers.manifest(build.image)["layers"][-1] == first


def test_part_of_a_repository_with_flags(build: Build, busybox: str, code: str) -> None:
    build(f"FROM {busybox}\nADD --chown=7 --chmod=600 --exclude=*.md {code}#main:dir /out/\n")

    tree = readers.tree(build.image, "out")
    assert tree["b.txt"].mode == 0o600
    assert (tree["b.txt"].uid, tree["b.txt"].gid) == (7, 7)


def test_several_sources_of_all_kinds(
    build: Build, busybox: str, web: WebServer, code: str
) -> None:
    url = web.add("/f", b"f")

    build(
        f"FROM {busybox}\nADD {url} {code}?subdir=dir local.txt <<EOF /out/\ninline\nEOF\n",
        files={"local.txt": "l"},
    )

    found = {name for name in readers.tree(build.image, "out") if name != "."}
    assert found == {"f", "b.txt", "local.txt", "EOF"}


def test_kept_git_directory(build: Build, busybox: str, code: str, repository: Repository) -> None:
    build(f"FROM {busybox}\nADD --keep-git-dir {code} /out\n")

    with readers.unpacked(build.image) as root:
        assert run_git(root / "out", "rev-parse", "HEAD") == repository.git("rev-parse", "HEAD")
        assert run_git(root / "out", "status", "--porcelain") == ""


def test_secrets_open_doors_and_are_not_shown(
    build: Build, busybox: str, web: WebServer, code: str, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("geheim\n")
    web.add("/f", b"f")

    def guard(request: Request) -> Answer | None:
        if request.headers.get("authorization"):
            return None
        return Answer(401, {"WWW-Authenticate": "Basic"})

    web.guard = guard
    dockerfile = f"FROM {busybox}\nADD {web.address}/f /out/\nADD --keep-git-dir {code} /out/\n"
    denied = build(dockerfile, check=False)
    done = build(
        dockerfile,
        f"--secret=id=HTTP_AUTH_TOKEN_127.0.0.1,src={token}",
        f"--secret=id=GIT_AUTH_TOKEN,src={token}",
    )

    said(denied, "the server wants credentials (401)", "HTTP_AUTH_TOKEN_127.0.0.1")
    assert "geheim" not in done.written
    with readers.unpacked(build.image) as root:
        for path in (root / "out").rglob("*"):
            assert not path.is_file() or b"geheim" not in path.read_bytes()
