"""Repositories that the user names as contexts: what ``--git`` says, and what is left out."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from kaniko_core.addresses.cloning import GitOptions
from kaniko_core.addresses.git import parse_git_context
from kaniko_core.context.ignore import IgnorePatterns
from kaniko_core.context.leaving import IgnoreFiles
from kaniko_core.errors import ContextError
from kaniko_core.registry.hosts import Trust
from kaniko_core.registry.pacing import Pacing
from kaniko_core.remote.git.clone import Checkout
from kaniko_core.remote.git.repositories import GitTree, Repositories
from kaniko_core.remote.git.run import find_git
from tests.repository import Repository, new_repository, run_git
from tests.web_server import WebServer

TREE = {
    ".dockerignore": "*.log\nsecret\n!important.log\n",
    "Dockerfile": "FROM scratch",
    "a.txt": "a",
    "debug.log": "log",
    "important.log": "important",
    "logs/one.log": "kept: the pattern is for the root",
    "secret/deep/key": "key",
    "src/.dockerignore": "**/*.o",
    "src/main.c": "c",
    "src/main.o": "o",
    "src/built/x.o": "o",
}


@pytest.fixture
def repository(web: WebServer, tmp_path: Path) -> Repository:
    """A repository with one commit on its branch main, served as /git/code.git."""
    assert web.repositories is not None
    made = new_repository(tmp_path / "checkouts", web.repositories, "code")
    made.commit(TREE)
    return made


@pytest.fixture
def url(web: WebServer, repository: Repository) -> str:
    return f"{web.address}/git/{repository.bare.name}"


@pytest.fixture
def repositories(tmp_path: Path) -> Repositories:
    stopped = threading.Event()
    return Repositories(
        lambda: find_git(tmp_path / "home", stopped),
        {},
        lambda host: Trust(),
        lambda: None,
        lambda event: None,
        stopped,
        Pacing(1, first=0.001),
    )


class Fetch:
    """Fetches into ever new directories."""

    def __init__(self, repositories: Repositories, workspace: Path) -> None:
        self.repositories = repositories
        self.workspace = workspace

    def __call__(self, text: str, how: Checkout | None = None) -> GitTree:
        reference = parse_git_context(text)
        assert reference is not None
        number = len(list(self.workspace.iterdir()))
        return self.repositories.fetch(reference, self.workspace / str(number), how)


@pytest.fixture
def fetch(repositories: Repositories, workspace: Path) -> Fetch:
    return Fetch(repositories, workspace)


def names(tree: GitTree) -> set[str]:
    """Return the files, and the directories without any."""
    paths = tree.directory.rglob("*")
    return {
        str(path.relative_to(tree.directory))
        for path in paths
        if path.is_symlink() or not path.is_dir() or not any(path.iterdir())
    }


def options(**said: object) -> Checkout:
    return Checkout(GitOptions(**said))  # type: ignore[arg-type]


# --- references ------------------------------------------------------------------------------


def test_commit_behind_a_reference_that_moved_on(
    fetch: Fetch, url: str, repository: Repository
) -> None:
    old = repository.git("rev-parse", "HEAD")
    repository.commit({"a.txt": "new"})

    for text in (f"{url}#refs/heads/main#{old}", f"{url}#main#{old}", f"{url}##{old}"):
        tree = fetch(text)
        assert tree.commit == old
        assert (tree.directory / "a.txt").read_text() == "a"
    assert names(fetch(f"{url}#main#{old}:src/built")) == {"x.o"}


def test_commit_of_a_pull_request_where_hashes_are_not_served(
    fetch: Fetch, url: str, web: WebServer, repository: Repository
) -> None:
    """Such servers want a name, and no branch has this commit."""
    commit = repository.commit({"a.txt": "pulled"})
    repository.commit({"a.txt": "more"})
    repository.git("push", "--quiet", str(repository.bare), "HEAD:refs/pull/7/head")
    repository.git("reset", "--quiet", "--hard", "HEAD~2")
    repository.push()
    run_git(repository.bare, "update-server-info")
    _serve_files(web, repository)

    assert fetch(f"{url}#refs/pull/7/head#{commit}").commit == commit


def _serve_files(web: WebServer, repository: Repository) -> None:
    """Have the server give away files, as one without any git does."""
    from urllib.parse import urlsplit

    from tests.web_server import Answer, Request

    def guard(request: Request) -> Answer:
        path = urlsplit(request.path).path.removeprefix(f"/git/{repository.bare.name}/")
        file = repository.bare / path
        return Answer(200, {}, file.read_bytes()) if file.is_file() else Answer(404)

    web.guard = guard


def test_full_name_of_what_was_found_is_told(
    fetch: Fetch, url: str, repository: Repository
) -> None:
    repository.git("tag", "v1")
    repository.push()
    commit = repository.git("rev-parse", "HEAD")

    assert fetch(url).ref == "refs/heads/main"
    assert fetch(f"{url}#v1").ref == "refs/tags/v1"
    assert fetch(f"{url}#{commit}").ref == commit
    assert fetch(f"{url}#main#{commit}").ref == commit


@pytest.mark.parametrize(
    ("suffix", "hint"),
    [
        ("#maim", "did you mean main?"),
        ("#refs/heads/maim", "did you mean main?"),
        ("#other", "it has main, v1.0"),
        ("#v1.1", "did you mean v1.0?"),
        (f"#{'0' * 40}", "check the hash, and that the commit was pushed"),
        ("#:scr", "did you mean src?"),
        ("#:lib", "it has logs, secret, secret/deep, src, src/built"),
    ],
)
def test_what_is_not_there_has_a_hint_with_what_is(
    fetch: Fetch, url: str, repository: Repository, suffix: str, hint: str
) -> None:
    repository.git("tag", "v1.0")
    repository.push()

    with pytest.raises(ContextError) as caught:
        fetch(url + suffix)

    assert caught.value.hint == hint


# --- what --git says -------------------------------------------------------------------------


def test_branch_is_for_addresses_that_name_nothing(
    fetch: Fetch, url: str, repository: Repository
) -> None:
    old = repository.git("rev-parse", "HEAD")
    repository.git("checkout", "--quiet", "-b", "next")
    new = repository.commit({"a.txt": "new"})

    assert fetch(url, options(branch="next")).commit == new
    assert fetch(f"{url}#main", options(branch="next")).commit == old
    assert fetch(f"{url}#{old}", options(branch="next")).commit == old
    with pytest.raises(ContextError, match=r"code\.git#nowhere: it has no branch or tag nowhere"):
        fetch(url, options(branch="nowhere"))
    with pytest.raises(ContextError, match="is no name of a branch"):
        fetch(url, options(branch="--upload-pack=x"))


@pytest.mark.parametrize(("depth", "count"), [(None, 1), (1, 1), (2, 2), (0, 4), (9, 4)])
def test_depth_of_the_history(
    fetch: Fetch, url: str, repository: Repository, depth: int | None, count: int
) -> None:
    for number in range(3):
        repository.commit({"a.txt": str(number)})

    tree = fetch(f"{url}?keep-git-dir=1", options(depth=depth))

    assert run_git(tree.directory, "rev-list", "--count", "HEAD") == str(count)


def test_other_branches_come_only_if_they_are_asked_for(
    fetch: Fetch, url: str, repository: Repository
) -> None:
    repository.git("checkout", "--quiet", "-b", "next")
    repository.commit({"a.txt": "new"})

    def branches(single: bool | None) -> list[str]:
        tree = fetch(f"{url}?keep-git-dir=1", options(single_branch=single))
        return run_git(tree.directory, "branch", "--all", "--format=%(refname)").splitlines()[1:]

    assert branches(None) == branches(True) == ["refs/heads/main", "refs/remotes/origin/main"]
    assert branches(False) == [
        "refs/heads/main",
        "refs/remotes/origin/main",
        "refs/remotes/origin/next",
    ]


@pytest.fixture
def library(web: WebServer, tmp_path: Path, repository: Repository) -> Repository:
    """A repository that is a submodule of *repository* in src/lib."""
    assert web.repositories is not None
    made = new_repository(tmp_path / "checkouts", web.repositories, "library")
    made.commit({"lib.txt": "lib"})
    repository.git("submodule", "--quiet", "add", f"{web.address}/git/library.git", "src/lib")
    repository.commit({})
    return made


@pytest.mark.parametrize(
    ("query", "recurse", "there"),
    [
        ("", None, True),
        ("", False, False),
        ("", True, True),
        ("?submodules=true", False, True),
        ("?submodules=false", True, False),
    ],
)
def test_submodules_are_fetched_unless_somebody_says_no(
    fetch: Fetch, url: str, library: Repository, query: str, recurse: bool | None, there: bool
) -> None:
    tree = fetch(url + query, options(recurse_submodules=recurse))

    assert (tree.directory / "src/lib/lib.txt").exists() == there


# --- what is left out ------------------------------------------------------------------------


def leaving(dockerfile: str | None = "Dockerfile", top: str = "") -> Checkout:
    return Checkout(leaving=IgnoreFiles.of(dockerfile, top))


def test_files_that_patterns_leave_out_are_not_written(fetch: Fetch, url: str) -> None:
    tree = fetch(url, leaving())

    assert names(tree) == set(TREE) - {"debug.log", "secret/deep/key"}
    assert not (tree.directory / "secret").exists()


def test_directories_stay_whose_files_are_left_out(fetch: Fetch, url: str) -> None:
    """As in a context that lies here: the pattern is for the files."""
    tree = fetch(f"{url}#:src", leaving(None, "src"))

    assert names(tree) == {".dockerignore", "main.c", "built"}


def test_patterns_of_the_dockerfile_come_first(
    fetch: Fetch, url: str, repository: Repository
) -> None:
    repository.commit({"app/Dockerfile.dockerignore": "**\n!src\n", "app/Dockerfile": ""})

    tree = fetch(url, leaving("app/Dockerfile"))

    assert {name for name in names(tree) if not name.startswith("src/")} == {
        ".dockerignore",
        "app/Dockerfile",
        "app/Dockerfile.dockerignore",
    }
    assert (tree.directory / "src/main.o").exists()


def test_patterns_from_outside_are_the_only_ones(fetch: Fetch, url: str) -> None:
    known = IgnorePatterns(["src", "a.*"])

    tree = fetch(url, Checkout(leaving=IgnoreFiles.of(None, known=known)))

    assert names(tree) == {name for name in TREE if not name.startswith("src/") and name != "a.txt"}


def test_link_in_the_place_of_patterns_leaves_everything_in(
    fetch: Fetch, url: str, repository: Repository
) -> None:
    repository.commit({".dockerignore": None, "patterns": "src"})
    (repository.checkout / ".dockerignore").symlink_to("patterns")
    repository.commit({})

    assert "src/main.c" in names(fetch(url, leaving()))


def test_wrong_pattern_names_file_and_line(
    fetch: Fetch, url: str, repository: Repository, workspace: Path
) -> None:
    repository.commit({".dockerignore": "a\n[\n"})

    with pytest.raises(ContextError, match=r"\.dockerignore:2: "):
        fetch(url, leaving())

    assert not list(workspace.iterdir())


def test_repository_that_is_kept_is_whole(fetch: Fetch, url: str) -> None:
    tree = fetch(f"{url}?keep-git-dir=1", leaving())

    assert run_git(tree.directory, "status", "--porcelain") == ""
    assert (tree.directory / "debug.log").exists()


def test_times_and_modes_are_those_of_a_whole_checkout(
    fetch: Fetch, url: str, repository: Repository
) -> None:
    (repository.checkout / "program").write_text("#!/bin/sh\n")
    (repository.checkout / "program").chmod(0o755)
    (repository.checkout / "link").symlink_to("nowhere")
    (repository.checkout / "Größe\n").write_text("")
    (repository.checkout / os.fsdecode(b"\xff")).write_text("")
    repository.commit({".gitattributes": "*.txt eol=crlf\n", "b.txt": "b\n"})
    repository.commit({".dockerignore": "src/built\n.gitattributes\n"})

    def found(tree: GitTree) -> Mapping[str, tuple[int, int, bytes | str]]:
        paths = [path for path in tree.directory.rglob("*") if "built" not in path.parts]
        return {
            str(path.relative_to(tree.directory)): (
                path.lstat().st_mode,
                path.lstat().st_mtime_ns,
                str(path.readlink())
                if path.is_symlink()
                else (path.read_bytes() if path.is_file() else b""),
            )
            for path in (*paths, tree.directory)
            if path.name != ".gitattributes"
        }

    assert found(fetch(url, leaving())) == found(fetch(url))
    assert found(fetch(url))["b.txt"][2] == b"b\r\n"


@pytest.mark.parametrize(
    ("pattern", "fetched"), [("src/lib", False), ("src", False), ("*.log", True)]
)
def test_submodules_that_are_left_out_are_not_fetched(
    fetch: Fetch,
    url: str,
    library: Repository,
    repository: Repository,
    web: WebServer,
    pattern: str,
    fetched: bool,
) -> None:
    repository.commit({".dockerignore": f"{pattern}\n.gitmodules\n"})
    web.requests.clear()

    tree = fetch(url, leaving())

    assert (tree.directory / "src/lib/lib.txt").exists() == fetched
    assert any("library" in request.path for request in web.requests) == fetched
    assert not (tree.directory / ".gitmodules").exists()


def test_directory_in_a_submodule(fetch: Fetch, url: str, library: Repository) -> None:
    library.commit({"deep/x": "x"})
    tree = fetch(f"{url}#:src/lib")

    assert names(tree) == {"lib.txt"}
    with pytest.raises(ContextError, match="it has no directory src/lib/none"):
        fetch(f"{url}#:src/lib/none")


# --- a part of a repository ------------------------------------------------------------------


def _lose(repository: Repository, name: str) -> None:
    """Have the server lose a file: whoever wants it fails."""
    value = repository.git("rev-parse", f"HEAD:{name}")
    (repository.bare / "objects" / value[:2] / value[2:]).unlink(missing_ok=True)


def test_of_a_directory_no_other_files_are_fetched(
    fetch: Fetch, url: str, repository: Repository
) -> None:
    repository.commit({"src/.gitattributes": "*.c eol=crlf\n", ".gitattributes": "*.h eol=crlf\n"})
    repository.commit({"src/main.c": "c\n", "src/main.h": "h\n"})
    run_git(repository.bare, "config", "uploadpack.allowFilter", "true")
    for name in ("a.txt", "secret/deep/key", "src/main.o", "src/built/x.o"):
        _lose(repository, name)

    tree = fetch(f"{url}#:src", leaving(None, "src"))

    assert names(tree) == {".dockerignore", ".gitattributes", "main.c", "main.h", "built"}
    assert (tree.directory / "main.c").read_bytes() == b"c\r\n"
    assert (tree.directory / "main.h").read_bytes() == b"h\r\n"
    with pytest.raises(ContextError):
        fetch(url)


def test_linked_directory_of_a_server_that_leaves_files_out(
    fetch: Fetch, url: str, repository: Repository
) -> None:
    (repository.checkout / "link").symlink_to("src/built")
    repository.commit({})
    run_git(repository.bare, "config", "uploadpack.allowFilter", "true")

    assert names(fetch(f"{url}#:link", leaving(None, "link"))) == {"x.o"}


def test_directory_of_a_server_that_is_but_files(
    fetch: Fetch, url: str, web: WebServer, repository: Repository
) -> None:
    run_git(repository.bare, "update-server-info")
    _serve_files(web, repository)

    assert "main.c" in names(fetch(f"{url}#main:src"))


def _bad_tree(repository: Repository, scratch: Path, outside: Path) -> None:
    """Make the branch bad: there is both a directory and a link at ``a``."""

    def written(kind: str, content: bytes) -> bytes:
        scratch.write_bytes(content)
        arguments = ("hash-object", "-t", kind, "-w", "--literally", str(scratch))
        return bytes.fromhex(run_git(repository.bare, *arguments))

    def tree(*entries: tuple[bytes, bytes]) -> bytes:
        return written("tree", b"".join(head + b"\0" + value for head, value in entries))

    file = written("blob", b"left out")
    top = tree(
        (b"100644 .dockerignore", written("blob", b"a/d/f\n")),
        (b"40000 a", tree((b"40000 d", tree((b"100644 f", file))))),
        (b"120000 a", written("blob", bytes(outside))),
    )
    commit = run_git(repository.bare, "commit-tree", "-m", "bad", top.hex())
    run_git(repository.bare, "update-ref", "refs/heads/bad", commit)


def test_nothing_is_made_behind_a_link(
    fetch: Fetch, url: str, repository: Repository, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    _bad_tree(repository, tmp_path / "scratch", outside)

    with pytest.raises(ContextError, match="it has two different things at a"):
        fetch(f"{url}#bad", Checkout(leaving=IgnoreFiles((".dockerignore",))))

    assert not list(outside.iterdir())
