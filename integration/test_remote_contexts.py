"""Contexts and Dockerfiles from elsewhere, in real builds: git, archives, URLs, stdin."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from integration import readers
from integration.programs import Build, Finished, finished, said
from tests.repository import COMMITTED, Repository, new_repository, run_git
from tests.web_server import WebServer

_DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
_CREATED = "2015-10-21T07:28:00Z"
# Nothing that fails here gets better by waiting.
_AT_ONCE = "--image-download-retry=0"


@pytest.fixture
def repository(web: WebServer, tmp_path: Path) -> Repository:
    assert web.repositories is not None
    made = new_repository(tmp_path / "checkouts", web.repositories, "code")
    made.commit({"old.txt": "old"})
    made.git("tag", "v1")
    made.commit({"a.txt": "a", "dir/b.txt": "b", "dir/left": "left", ".dockerignore": "a.txt\n"})
    return made


@pytest.fixture
def code(web: WebServer, repository: Repository) -> str:
    return f"{web.address}/git/{repository.bare.name}"


@pytest.fixture
def archive(web: WebServer) -> str:
    """The address of a small archive."""
    return web.add("/x.tar.gz", _packed(b"x"), last_modified=_DATE)


def _packed(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("deep/file")
        info.size, info.mode, info.mtime = len(content), 0o640, COMMITTED
        tar.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue())


def names(build: Build, below: str) -> set[str]:
    """Return the paths below a directory of the image."""
    return set(readers.tree(build.image, below)) - {"."}


# --- named contexts: git ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "found"),
    [
        ("", {"a.txt", "old.txt", ".dockerignore", "dir", "dir/b.txt", "dir/left"}),
        ("#v1", {"old.txt"}),
        ("#main:dir", {"b.txt", "left"}),
        ("?tag=v1", {"old.txt"}),
        ("?branch=main&subdir=dir", {"b.txt", "left"}),
    ],
)
def test_repository_is_copied_from(
    build: Build, busybox: str, code: str, suffix: str, found: set[str]
) -> None:
    build(f"FROM {busybox}\nCOPY --from=code . /out/\n", f"--build-context=code={code}{suffix}")

    assert names(build, "out") == found
    tree = readers.tree(build.image, "out")
    files = [node for name, node in tree.items() if name != "."]
    assert {(node.uid, node.gid, node.mtime) for node in files} == {(0, 0, COMMITTED)}


def test_repository_is_mounted_and_started_from(build: Build, busybox: str, code: str) -> None:
    build(
        f"FROM code AS files\n"
        f"FROM {busybox}\n"
        "RUN --mount=from=code,source=dir,target=/m,rw touch /m/new && ls /m > /listed\n"
        "COPY --from=files /dir /dir\n",
        f"--build-context=code={code}",
    )

    with readers.unpacked(build.image) as root:
        assert (root / "listed").read_text().split() == ["b.txt", "left", "new"]
        assert (root / "dir/b.txt").read_text() == "b"


@pytest.mark.parametrize(
    ("value", "kept"), [("1", True), ("true", True), ("0", False), ("false", False), (None, False)]
)
def test_git_directory_is_kept_where_the_build_argument_says_so(
    build: Build, busybox: str, code: str, repository: Repository, value: str | None, kept: bool
) -> None:
    given = [] if value is None else [f"--build-arg=BUILDKIT_CONTEXT_KEEP_GIT_DIR={value}"]
    done = build(
        f"FROM {busybox}\nCOPY --from=code . /out/\n", f"--build-context=code={code}", *given
    )

    assert "has no effect" not in done.stderr
    with readers.unpacked(build.image) as root:
        assert (root / "out/.git").is_dir() == kept
        if kept:
            head = run_git(root / "out", "rev-parse", "HEAD")
            assert head == repository.git("rev-parse", "HEAD")


def test_address_comes_before_the_build_argument(build: Build, busybox: str, code: str) -> None:
    build(
        f"FROM {busybox}\nCOPY --from=code . /out/\n",
        f"--build-context=code={code}?keep-git-dir=false",
        "--build-arg=BUILDKIT_CONTEXT_KEEP_GIT_DIR=1",
    )

    assert ".git" not in names(build, "out")


def test_context_that_nobody_needs_is_not_fetched(build: Build, web: WebServer, code: str) -> None:
    build(
        "FROM scratch AS unused\nCOPY --from=code . /\nFROM scratch\nENV A=1\n",
        f"--build-context=code={code}",
        f"--build-context=data={web.address}/none.tar",
    )

    assert web.requests == []


# --- named contexts: archives ----------------------------------------------------------------


def test_archive_is_copied_from_mounted_and_started_from(
    build: Build, busybox: str, web: WebServer, archive: str
) -> None:
    build(
        f"FROM data AS files\nFROM {busybox}\n"
        "COPY --from=data . /copied/\n"
        "COPY --from=files / /started/\n"
        "RUN --mount=from=data,target=/m ls -R /m > /listed\n",
        f"--build-context=data={archive}",
    )

    for place in ("copied", "started"):
        assert names(build, place) == {"deep", "deep/file"}
        assert readers.tree(build.image, place)["deep/file"].mode == 0o640
    with readers.unpacked(build.image) as root:
        assert "file" in (root / "listed").read_text()
    assert len(web.asked("/x.tar.gz")) == 1


def test_what_is_no_archive_is_one_file(build: Build, busybox: str, web: WebServer) -> None:
    address = web.add("/f.txt", b"text")
    build(f"FROM {busybox}\nCOPY --from=data . /out/\n", f"--build-context=data={address}")

    assert names(build, "out") == {"context"}


# --- the Dockerfile --------------------------------------------------------------------------


def test_dockerfile_from_a_url(build: Build, busybox: str, web: WebServer) -> None:
    address = web.add("/d/Dockerfile", f"FROM {busybox}\nCOPY . /out/\n".encode())
    build.fill({"a": "a", "left": "left", ".dockerignore": "left\n"})

    build.programs.executor(*build.arguments, f"--dockerfile={address}")

    assert names(build, "out") == {"a", ".dockerignore"}


def _from_stdin(build: Build, dockerfile: str, *flags: str) -> Finished:
    """Build what a shell pipes into the executor."""
    quoted = ["sh", "-c", 'printf %s "$0" | exec "$@"', dockerfile]
    build.programs.work.mkdir(parents=True, exist_ok=True)
    arguments = (*build.arguments, "--dockerfile=-", f"--kaniko-dir={build.programs.work}", *flags)
    process = build.programs.start(
        "kaniko_executor", *arguments, "--insecure", "--insecure-pull", prefix=quoted
    )
    return finished(process, check=False)


def test_dockerfile_from_stdin(build: Build, busybox: str) -> None:
    build.fill({"a": "a", "left": "left", ".dockerignore": "left\n", "Dockerfile": "nonsense\n"})

    done = _from_stdin(build, f"FROM {busybox}\nCOPY . /out/\n")

    assert done.status == 0, done.written
    assert names(build, "out") == {"a", ".dockerignore", "Dockerfile"}
    assert build.programs.leftovers() == []


def test_dockerfile_outside_the_context_brings_its_own_patterns(
    build: Build, busybox: str, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "app.Dockerfile").write_text(f"FROM {busybox}\nCOPY . /out/\n")
    (elsewhere / "app.Dockerfile.dockerignore").write_text("own\n.dockerignore\n")
    build.fill({"own": "", "context": "", ".dockerignore": "context\n"})

    build.programs.executor(*build.arguments, f"--dockerfile={elsewhere / 'app.Dockerfile'}")

    assert names(build, "out") == {"context"}


# --- SOURCE_DATE_EPOCH -----------------------------------------------------------------------


def test_time_of_a_repository_is_the_time_of_the_build(
    build: Build, busybox: str, code: str
) -> None:
    build(
        f"FROM {busybox}\nARG SOURCE_DATE_EPOCH\nLABEL at=$SOURCE_DATE_EPOCH\nWORKDIR /made\n",
        f"--build-context=code={code}",
        "--build-arg=SOURCE_DATE_EPOCH=code",
    )

    config = readers.config(build.image)
    assert config["created"] == _CREATED
    assert config["config"]["Labels"]["at"] == str(COMMITTED)
    assert readers.tree(build.image)["made"].mtime == COMMITTED


def test_time_of_what_a_stage_adds_is_the_time_of_the_build(
    build: Build, busybox: str, web: WebServer, archive: str
) -> None:
    build(
        "ARG SOURCE_DATE_EPOCH=sources\n"
        f"FROM scratch AS Sources\nARG SITE={web.address}\nADD $SITE/x.tar.gz /\n"
        f"FROM {busybox}\nCOPY --from=sources . /out/\nWORKDIR /made\n"
    )

    assert readers.config(build.image)["created"] == _CREATED
    assert readers.tree(build.image)["made"].mtime == COMMITTED
    assert len(web.asked("/x.tar.gz")) == 1


def test_archive_of_a_named_context_has_a_time(build: Build, busybox: str, archive: str) -> None:
    build(
        f"FROM {busybox}\nENV A=1\n",
        f"--build-context=data={archive}",
        "--build-arg=SOURCE_DATE_EPOCH=data",
    )

    assert readers.config(build.image)["created"] == _CREATED


def test_stage_that_does_more_has_no_time(build: Build, busybox: str, archive: str) -> None:
    done = build(
        "ARG SOURCE_DATE_EPOCH=sources\n"
        f"FROM scratch AS sources\nADD {archive} /\nENV A=1\n"
        f"FROM {busybox}\nENV A=1\n",
        check=False,
    )

    said(done, "Dockerfile:4", "SOURCE_DATE_EPOCH", "one remote ADD")
    assert build.programs.leftovers() == []


# --- what goes wrong -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{web}/none.tar.gz", ("{web}/none.tar.gz", "nothing at this address (404)")),
        ("{web}/broken.tar.gz", ("cannot unpack {web}/broken.tar.gz: ", "ends too early")),
        ("{web}/git/none.git", ("{web}/git/none.git", "not found")),
        ("{code}#none", ("{code}#none", "it has no branch or tag none")),
        ("{code}#main:none", ("{code}#main", "it has no directory none")),
        ("{code}#main:a.txt", ("{code}#main", "a.txt")),
        ("{code}?x=y", ("build context code", "x")),
        ("http://127.0.0.1:1/x.tar", ("127.0.0.1:1", "refuses connections")),
    ],
)
@pytest.mark.parametrize(
    "line", ["COPY --from=code . /out/", "RUN --mount=from=code,target=/m true", "FROM code"]
)
def test_context_that_cannot_be_had_is_one_sentence(
    build: Build,
    busybox: str,
    web: WebServer,
    code: str,
    line: str,
    value: str,
    words: tuple[str, ...],
) -> None:
    whole = _packed(bytes(1 << 20))
    web.add("/broken.tar.gz", whole[: len(whole) // 2])
    address = value.format(web=web.address, code=code)

    done = build(
        f"FROM {busybox}\n{line}\n", f"--build-context=code={address}", _AT_ONCE, check=False
    )

    said(done, *(word.format(web=web.address, code=code) for word in words))
    assert build.programs.leftovers() == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (None, ("nothing at this address (404)",)),
        (b"<html>\n<body>not found</body>\n", ("/D:1:1", "unknown instruction")),
        (b"", ("/D", "there is no FROM in it")),
        (bytes(range(256)) * 64, ("/D:",)),
    ],
)
def test_dockerfile_that_is_none_behind_a_url_is_one_sentence(
    build: Build, web: WebServer, body: bytes | None, words: tuple[str, ...]
) -> None:
    if body is not None:
        web.add("/D", body)

    done = build.programs.executor(
        *build.arguments, f"--dockerfile={web.address}/D", _AT_ONCE, check=False
    )

    said(done, f"{web.address}/D", *words)
    assert build.programs.leftovers() == []


def test_dockerfile_that_is_a_repository_is_one_sentence(build: Build, code: str) -> None:
    done = build.programs.executor(*build.arguments, f"--dockerfile={code}", check=False)

    said(done, code)
    assert build.programs.leftovers() == []


def test_closed_stdin_is_one_sentence(build: Build) -> None:
    process = build.programs.start(
        "kaniko_executor",
        *build.arguments,
        "--dockerfile=-",
        f"--kaniko-dir={build.programs.directory}",
        prefix=["sh", "-c", 'exec "$@" <&-', "sh"],
    )

    said(finished(process, check=False), "stdin")


def test_git_that_is_missing_is_one_sentence(
    build: Build, busybox: str, code: str, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    # The tests start every program with it.
    (programs / "env").symlink_to("/usr/bin/env")
    build.fill({"Dockerfile": f"FROM {busybox}\nCOPY --from=code . /\n"})

    done = build.programs.executor(
        *build.arguments,
        f"--build-context=code={code}",
        check=False,
        env={"PATH": str(programs)},
    )

    said(done, "git", "not installed")
    assert build.programs.leftovers() == []
