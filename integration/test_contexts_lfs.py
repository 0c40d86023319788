"""Git LFS in real builds: what is committed as a pointer is built as what it stands for."""

from __future__ import annotations

import base64
import shutil
import ssl
from pathlib import Path

import pytest
import trustme

from integration import readers
from integration.programs import Build, said
from tests.lfs_server import LfsServer, oid_of, pointer
from tests.repository import COMMITTED, Repository, new_repository, run_git
from tests.web_server import Answer, Request, WebServer, running_web

_ATTRIBUTES = "*.bin filter=lfs diff=lfs merge=lfs -text\n"
_LARGE = bytes(range(256)) * 20_000
# Nothing that fails here gets better by waiting.
_AT_ONCE = "--image-download-retry=0"
_DOCKERFILE = "FROM scratch\nCOPY . /\n"


@pytest.fixture
def repository(web: WebServer, tmp_path: Path) -> Repository:
    assert web.repositories is not None
    return new_repository(tmp_path / "checkouts", web.repositories, "code")


@pytest.fixture
def lfs(web: WebServer) -> LfsServer:
    return LfsServer(web, "/git/code.git")


@pytest.fixture
def code(web: WebServer, repository: Repository) -> str:
    """The repository's address."""
    return f"{web.address}/git/{repository.bare.name}"


def content(build: Build, name: str) -> bytes:
    """Return the bytes of a file of the image."""
    with readers.unpacked(build.image) as root:
        return (root / name).read_bytes()


def test_context_has_the_files_and_not_their_pointers(
    build: Build, lfs: LfsServer, repository: Repository, code: str
) -> None:
    repository.commit(
        {
            "Dockerfile": _DOCKERFILE,
            ".gitattributes": _ATTRIBUTES,
            "large.bin": lfs.put(_LARGE),
            "deep/run.bin": lfs.put(b"#!"),
            "pointer.txt": lfs.put(_LARGE),
        }
    )
    repository.git("update-index", "--chmod=+x", "deep/run.bin")
    repository.git("commit", "--quiet", "--message", "a mode")
    repository.push()

    build.programs.executor(f"--context={code}", f"--destination={build.image}")

    assert content(build, "large.bin") == _LARGE
    assert content(build, "pointer.txt") == pointer(_LARGE).encode()
    tree = readers.tree(build.image)
    assert (tree["large.bin"].mode, tree["deep/run.bin"].mode) == (0o644, 0o755)
    assert build.programs.leftovers() == []


def test_named_context_and_add_have_them_too(
    build: Build, lfs: LfsServer, repository: Repository, code: str
) -> None:
    repository.commit({".gitattributes": _ATTRIBUTES, "large.bin": lfs.put(_LARGE)})

    build(
        f"FROM scratch\nCOPY --from=code large.bin /named\nADD {code}#main /added/\n",
        f"--build-context=code={code}",
    )

    assert content(build, "named") == _LARGE
    assert content(build, "added/large.bin") == _LARGE
    tree = readers.tree(build.image)
    assert {tree[name].mtime for name in ("named", "added/large.bin")} == {COMMITTED}


def test_what_the_build_leaves_out_is_not_fetched(
    build: Build, lfs: LfsServer, repository: Repository, code: str
) -> None:
    repository.commit(
        {
            "Dockerfile": _DOCKERFILE,
            ".dockerignore": ".git*\nleft\n",
            ".gitattributes": _ATTRIBUTES,
            "in.bin": lfs.put(b"in"),
            "left/out.bin": pointer(b"nobody has this"),
        }
    )

    build.programs.executor(f"--context={code}", f"--destination={build.image}")

    assert content(build, "in.bin") == b"in"
    assert [oid for batch in lfs.asked for oid in batch] == [oid_of(b"in")]


def test_server_that_the_commit_names_is_asked(
    build: Build, web: WebServer, repository: Repository, code: str
) -> None:
    """Also where .dockerignore leaves that file out."""
    elsewhere = LfsServer(web, "/elsewhere")
    repository.commit(
        {
            "Dockerfile": _DOCKERFILE,
            ".dockerignore": ".*\n",
            ".gitattributes": _ATTRIBUTES,
            ".lfsconfig": f"[lfs]\n\turl = {elsewhere.url}\n",
            "a.bin": elsewhere.put(b"a"),
        }
    )

    build.programs.executor(f"--context={code}", f"--destination={build.image}")

    assert content(build, "a.bin") == b"a"


def test_private_server_gets_the_repository_s_token(
    build: Build, web: WebServer, lfs: LfsServer, repository: Repository, code: str, tmp_path: Path
) -> None:
    wanted = "basic " + base64.b64encode(b"x-access-token:t0ken").decode()
    secret = tmp_path / "token"
    secret.write_text("t0ken\n")
    repository.commit(
        {"Dockerfile": _DOCKERFILE, ".gitattributes": _ATTRIBUTES, "a.bin": lfs.put(b"a")}
    )

    def guard(request: Request) -> Answer | None:
        if request.headers.get("authorization", "").lower() == wanted.lower():
            return None
        return Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})

    web.guard = guard

    done = build.programs.executor(
        f"--context={code}",
        f"--destination={build.image}",
        f"--secret=id=GIT_AUTH_TOKEN,src={secret}",
    )

    assert content(build, "a.bin") == b"a"
    assert "t0ken" not in done.written


def test_missing_object_is_named(
    build: Build, lfs: LfsServer, repository: Repository, code: str
) -> None:
    repository.commit(
        {
            "Dockerfile": _DOCKERFILE,
            ".gitattributes": _ATTRIBUTES,
            "here.bin": lfs.put(b"here"),
            "models/gone.bin": pointer(b"never pushed"),
        }
    )

    done = build.programs.executor(f"--context={code}", "--no-push", _AT_ONCE, check=False)

    message = said(done, "models/gone.bin", "does not have it (404)", "git lfs push")
    assert "Traceback" not in message
    assert build.programs.leftovers() == []


def test_wrong_bytes_are_not_built(
    build: Build, lfs: LfsServer, repository: Repository, code: str
) -> None:
    repository.commit(
        {
            "Dockerfile": _DOCKERFILE,
            ".gitattributes": _ATTRIBUTES,
            "a.bin": lfs.put(_LARGE, _LARGE[:-1] + b"!"),
        }
    )

    done = build.programs.executor(f"--context={code}", "--no-push", _AT_ONCE, check=False)

    said(done, "a.bin", f"instead of the expected sha256:{oid_of(_LARGE)}")
    assert build.programs.leftovers() == []


def test_server_without_lfs_is_named(build: Build, repository: Repository, code: str) -> None:
    repository.commit(
        {"Dockerfile": _DOCKERFILE, ".gitattributes": _ATTRIBUTES, "a.bin": pointer(b"a")}
    )

    done = build.programs.executor(f"--context={code}", "--no-push", _AT_ONCE, check=False)

    said(done, "a.bin", "there is no LFS server at", "code.git/info/lfs")


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")
def test_repository_that_git_lfs_filled_is_built(
    build: Build, web: WebServer, lfs: LfsServer, repository: Repository, code: str
) -> None:
    """The pointers are those of git-lfs itself."""
    filters = ("filter.lfs.clean=git-lfs clean -- %f", "filter.lfs.required=true")
    configured = [word for setting in filters for word in ("-c", setting)]
    (repository.checkout / ".gitattributes").write_text(_ATTRIBUTES)
    (repository.checkout / "large.bin").write_bytes(_LARGE)
    (repository.checkout / "empty.bin").write_bytes(b"")
    (repository.checkout / "Dockerfile").write_text(_DOCKERFILE)
    run_git(repository.checkout, *configured, "add", "--all")
    # It would push to its server, for which there is no need here.
    shutil.rmtree(repository.checkout / ".git/hooks")
    repository.git("commit", "--quiet", "--message", "large files")
    repository.push()
    assert repository.git("show", "HEAD:large.bin") == pointer(_LARGE).strip()
    lfs.put(_LARGE)

    build.programs.executor(f"--context={code}", f"--destination={build.image}")

    assert content(build, "large.bin") == _LARGE
    assert content(build, "empty.bin") == b""


def test_certificate_that_nobody_signed_is_taken_for_the_repository_alone(
    build: Build, web: WebServer, repository: Repository
) -> None:
    """What --git says is said of the context, not of what its Dockerfile fetches."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with running_web(tls=context, repositories=web.repositories) as server:
        lfs = LfsServer(server, "/git/code.git")
        files = {".gitattributes": _ATTRIBUTES, "large.bin": lfs.put(_LARGE)}
        repository.commit({"Dockerfile": _DOCKERFILE, **files})
        flags = (f"--context={server.address}/git/code.git", f"--destination={build.image}")
        build.programs.executor(*flags, "--git=insecure-skip-tls=true")
        assert content(build, "large.bin") == _LARGE

        said(build.programs.executor(*flags, check=False), "certificate")
        other = server.add("/other", b"other")
        repository.commit({"Dockerfile": f"FROM scratch\nADD {other} /\n"})
        done = build.programs.executor(
            *flags, "--git=insecure-skip-tls=true", _AT_ONCE, check=False
        )
        said(done, "certificate")
