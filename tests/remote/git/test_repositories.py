from __future__ import annotations

import base64
import os
import ssl
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kaniko_core.addresses.git import parse_git_reference
from kaniko_core.builder.remote import RemoteSources
from kaniko_core.errors import ContextError
from kaniko_core.options.mirrors import ClientCertificate
from kaniko_core.progress import Event, Noted
from kaniko_core.remote.git.repositories import GitTree
from tests.remote.conftest import MakeSources
from tests.repository import COMMITTED, Repository, new_repository, run_git
from tests.web_server import Answer, Request, WebServer, running_web

trustme = pytest.importorskip("trustme")

TREE = {"a.txt": "a", "dir/b.txt": "b", "dir/deep/c.txt": "c"}


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


def fetched(sources: RemoteSources, text: str) -> GitTree:
    reference = parse_git_reference(text)
    assert reference is not None
    return sources.git_tree(reference)


def files(tree: GitTree) -> dict[str, str]:
    paths = [path for path in tree.directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(tree.directory)): path.read_text() for path in paths}


def left(workspace: Path) -> list[Path]:
    return [path for path in (workspace / "git").rglob("*") if path.is_file()]


def test_default_branch(sources: RemoteSources, url: str, repository: Repository) -> None:
    tree = fetched(sources, url)

    assert files(tree) == TREE
    assert tree.commit == repository.git("rev-parse", "HEAD")
    assert tree.time == COMMITTED


def test_default_branch_with_another_name(
    sources: RemoteSources, web: WebServer, tmp_path: Path
) -> None:
    assert web.repositories is not None
    made = new_repository(tmp_path, web.repositories, "other", branch="trunk/main")
    made.commit({"x": "y"})

    assert files(fetched(sources, f"{web.address}/git/other.git")) == {"x": "y"}


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        ("#feature/x", "branch"),
        ("#refs/heads/feature/x", "branch"),
        ("#heads/feature/x", "branch"),
        ("?branch=feature/x", "branch"),
        ("#v1", "tagged"),
        ("?tag=v1", "tagged"),
        ("#annotated", "tagged"),
        ("#tags/annotated", "tagged"),
        ("#both", "branch"),
        ("?tag=both", "tagged"),
        ("#pull/7/head", "pulled"),
        ("?ref=refs/pull/7/head", "pulled"),
    ],
)
def test_names(
    sources: RemoteSources, url: str, repository: Repository, suffix: str, text: str
) -> None:
    repository.commit({"a.txt": "tagged"})
    repository.git("tag", "v1")
    repository.git("tag", "both")
    repository.git("tag", "--annotate", "annotated", "--message", "m")
    repository.git("checkout", "--quiet", "-b", "feature/x")
    repository.commit({"a.txt": "branch"})
    repository.git("branch", "both")
    repository.commit({"a.txt": "pulled"})
    repository.git("push", "--quiet", str(repository.bare), "HEAD:refs/pull/7/head")
    repository.git("reset", "--quiet", "--hard", "HEAD~")
    repository.push()

    assert (fetched(sources, url + suffix).directory / "a.txt").read_text() == text


@pytest.mark.parametrize("allowed", ["true", "false"])
def test_commits_that_no_branch_ends_in(
    sources: RemoteSources, url: str, repository: Repository, allowed: str
) -> None:
    """Servers may refuse to give away such a commit by its hash alone."""
    old = repository.git("rev-parse", "HEAD")
    repository.commit({"a.txt": "new"})
    run_git(repository.bare, "config", "uploadpack.allowAnySHA1InWant", allowed)

    tree = fetched(sources, f"{url}#{old}")

    assert files(tree) == TREE
    assert tree.commit == old


def test_hash_of_a_tag(sources: RemoteSources, url: str, repository: Repository) -> None:
    repository.git("tag", "--annotate", "v1", "--message", "m")
    repository.push()
    tag, commit = repository.git("rev-parse", "v1"), repository.git("rev-parse", "HEAD")

    assert fetched(sources, f"{url}#{tag}").commit == commit


def test_repository_with_sha256(sources: RemoteSources, web: WebServer, tmp_path: Path) -> None:
    assert web.repositories is not None
    made = new_repository(tmp_path, web.repositories, "long", object_format="sha256")
    commit = made.commit({"x": "y"})
    address = f"{web.address}/git/long.git"

    assert len(commit) == 64
    assert fetched(sources, address).commit == commit
    assert fetched(sources, f"{address}#{commit}").commit == commit


@pytest.mark.parametrize("suffix", ["#:dir", "?subdir=dir", "?subdir=/dir/", "#main:./dir/x/.."])
def test_subdirectory_becomes_the_root(sources: RemoteSources, url: str, suffix: str) -> None:
    assert files(fetched(sources, url + suffix)) == {"b.txt": "b", "deep/c.txt": "c"}


@pytest.mark.parametrize(
    "directory", ["nowhere", "a.txt", ".git", "../..", "dir/../../..", "out", "out/etc", "loop"]
)
def test_subdirectory_does_not_lead_out(
    sources: RemoteSources, url: str, repository: Repository, workspace: Path, directory: str
) -> None:
    (repository.checkout / "out").symlink_to("/")
    (repository.checkout / "loop").symlink_to("loop")
    repository.commit({})

    with pytest.raises(ContextError, match="it has no directory"):
        fetched(sources, f"{url}?subdir={directory}")

    assert not left(workspace)


def test_linked_subdirectory_is_followed_inside(
    sources: RemoteSources, url: str, repository: Repository
) -> None:
    (repository.checkout / "link").symlink_to("dir/deep")
    repository.commit({})

    assert files(fetched(sources, f"{url}#:link")) == {"c.txt": "c"}


def test_modes_and_times_depend_on_the_commit_alone(
    sources: RemoteSources, url: str, repository: Repository
) -> None:
    program = repository.checkout / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    (repository.checkout / "link").symlink_to("nowhere")
    repository.commit({})
    before = os.umask(0o077)
    try:
        tree = fetched(sources, url)
    finally:
        os.umask(before)

    found = {path.name: path.lstat() for path in (tree.directory, *tree.directory.rglob("*"))}
    assert {status.st_mtime_ns for status in found.values()} == {COMMITTED * 10**9}
    modes = {name: stat.S_IMODE(status.st_mode) for name, status in found.items()}
    assert (modes["a.txt"], modes["program"], modes["dir"]) == (0o644, 0o755, 0o755)
    assert modes[tree.directory.name] == 0o755


@pytest.mark.parametrize(
    ("date", "seconds"),
    [("", 0), ("-5", 0), ("18446744073709551615", 253402300799), ("99999999999", 99999999999)],
)
def test_commits_that_nobody_could_make_then_have_a_time(
    sources: RemoteSources,
    url: str,
    repository: Repository,
    tmp_path: Path,
    date: str,
    seconds: int,
) -> None:
    commit = tmp_path / "commit"
    made = f"a <a@example.com> {date} +0000"
    tree = run_git(repository.bare, "rev-parse", "main^{tree}")
    commit.write_text(f"tree {tree}\nauthor {made}\ncommitter {made}\n\nx\n")
    value = run_git(
        repository.bare, "hash-object", "-t", "commit", "-w", "--literally", str(commit)
    )
    run_git(repository.bare, "update-ref", "refs/heads/then", value)

    tree_of_then = fetched(sources, f"{url}#then")

    assert tree_of_then.time == seconds


def test_times_of_the_checkout_where_they_are_wanted(sources: RemoteSources, url: str) -> None:
    tree = fetched(sources, f"{url}?mtime=checkout")

    assert (tree.directory / "a.txt").stat().st_mtime > time.time() - 600
    assert (
        fetched(sources, f"{url}?mtime=commit").directory / "a.txt"
    ).stat().st_mtime == COMMITTED


def test_kept_git_directory_is_a_repository(
    sources: RemoteSources, url: str, repository: Repository
) -> None:
    repository.git("tag", "--annotate", "v1", "--message", "m")
    repository.push()

    tree = fetched(sources, f"{url}?keep-git-dir=1#v1")

    assert run_git(tree.directory, "rev-parse", "HEAD") == repository.git("rev-parse", "HEAD")
    assert run_git(tree.directory, "status", "--porcelain") == ""
    assert run_git(tree.directory, "describe") == "v1"
    assert run_git(tree.directory, "remote", "get-url", "origin") == url
    run_git(tree.directory, "fsck", "--strict")


def test_kept_git_directory_is_the_same_each_time(make_sources: MakeSources, url: str) -> None:
    def content() -> dict[str, tuple[int, bytes]]:
        tree = fetched(make_sources(), f"{url}?keep-git-dir=1")
        paths = [path for path in tree.directory.rglob("*") if path.is_file()]
        return {
            str(path.relative_to(tree.directory)): (path.stat().st_mode, path.read_bytes())
            for path in paths
        }

    first = content()
    time.sleep(1.1)
    assert content() == first


def test_git_directory_of_a_part_is_not_kept(sources: RemoteSources, url: str) -> None:
    assert ".git" not in os.listdir(fetched(sources, f"{url}?keep-git-dir=1#:dir").directory)


@pytest.fixture
def library(web: WebServer, tmp_path: Path, repository: Repository) -> Repository:
    """A repository that is a submodule of *repository*."""
    assert web.repositories is not None
    made = new_repository(tmp_path / "checkouts", web.repositories, "library")
    made.commit({"lib.txt": "lib"})
    repository.git("submodule", "--quiet", "add", f"{web.address}/git/library.git", "lib")
    repository.commit({})
    return made


def test_submodules_are_fetched(
    sources: RemoteSources, url: str, library: Repository, web: WebServer
) -> None:
    tree = fetched(sources, url)

    assert (tree.directory / "lib" / "lib.txt").read_text() == "lib"
    assert sorted(os.listdir(tree.directory / "lib")) == ["lib.txt"]
    assert (tree.directory / "lib" / "lib.txt").stat().st_mtime == COMMITTED


def test_submodules_of_servers_that_give_away_no_commits_by_hash(
    sources: RemoteSources, url: str, library: Repository
) -> None:
    library.commit({"lib.txt": "newer"})
    run_git(library.bare, "config", "uploadpack.allowAnySHA1InWant", "false")

    assert (fetched(sources, url).directory / "lib" / "lib.txt").read_text() == "lib"


def test_relative_submodules(
    sources: RemoteSources, url: str, library: Repository, repository: Repository
) -> None:
    repository.git("config", "--file", ".gitmodules", "submodule.lib.url", "../library.git")
    repository.commit({})

    assert (fetched(sources, url).directory / "lib" / "lib.txt").read_text() == "lib"


def test_submodules_can_be_left_out(sources: RemoteSources, url: str, library: Repository) -> None:
    assert not os.listdir(fetched(sources, f"{url}?submodules=false").directory / "lib")


def test_kept_git_directory_has_submodules(
    sources: RemoteSources, url: str, library: Repository
) -> None:
    tree = fetched(sources, f"{url}?keep-git-dir=1")

    assert run_git(tree.directory, "status", "--porcelain") == ""
    assert run_git(tree.directory / "lib", "status", "--porcelain") == ""


def test_submodules_do_not_come_from_this_machine(
    sources: RemoteSources, url: str, library: Repository, repository: Repository
) -> None:
    repository.git("config", "--file", ".gitmodules", "submodule.lib.url", str(library.bare))
    repository.commit({})

    with pytest.raises(ContextError, match="'file' not allowed"):
        fetched(sources, url)


def test_submodules_run_no_commands(
    sources: RemoteSources, url: str, library: Repository, repository: Repository, tmp_path: Path
) -> None:
    proof = tmp_path / "executed"
    repository.git("config", "--file", ".gitmodules", "submodule.lib.update", f"!touch {proof}")
    repository.commit({})

    with pytest.raises(ContextError):
        fetched(sources, url)

    assert not proof.exists()


def test_filters_and_hooks_of_the_user_do_not_run(
    sources: RemoteSources,
    url: str,
    repository: Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proof = tmp_path / "executed"
    home = tmp_path / "home"
    hooks = home / "template" / "hooks"
    hooks.mkdir(parents=True)
    (hooks / "post-checkout").write_text(f"#!/bin/sh\ntouch {proof}\n")
    (hooks / "post-checkout").chmod(0o755)
    (home / ".gitconfig").write_text(
        f'[init]\n templateDir = {home}/template\n[filter "f"]\n smudge = touch {proof}\n'
        f"[core]\n hooksPath = {hooks}\n"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(home / "template"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    repository.commit({".gitattributes": "* filter=f\n"})

    tree = fetched(sources, f"{url}?keep-git-dir=1")

    assert (tree.directory / "a.txt").read_text() == "a"
    assert not proof.exists()


@pytest.mark.parametrize("digits", [7, 40])
def test_right_checksum(
    sources: RemoteSources, url: str, repository: Repository, digits: int
) -> None:
    commit = repository.git("rev-parse", "HEAD")

    assert fetched(sources, f"{url}?checksum={commit[:digits]}#main").commit == commit
    assert fetched(sources, f"{url}?checksum={commit[:digits]}#{commit}").commit == commit


def test_checksum_of_a_tag_or_of_its_commit(
    sources: RemoteSources, url: str, repository: Repository
) -> None:
    repository.git("tag", "--annotate", "v1", "--message", "m")
    repository.push()
    tag, commit = repository.git("rev-parse", "v1"), repository.git("rev-parse", "HEAD")

    assert fetched(sources, f"{url}?tag=v1&checksum={tag}").commit == commit
    assert fetched(sources, f"{url}?tag=v1&checksum={commit}").commit == commit


def test_wrong_checksum_names_both_and_leaves_nothing(
    sources: RemoteSources, url: str, repository: Repository, workspace: Path
) -> None:
    with pytest.raises(ContextError) as caught:
        fetched(sources, f"{url}?checksum=deadbeef")

    assert "deadbeef" in str(caught.value)
    assert repository.git("rev-parse", "HEAD") in str(caught.value)
    assert not left(workspace)


def test_commit_behind_a_branch_that_moved_on(
    sources: RemoteSources, url: str, repository: Repository
) -> None:
    old = repository.git("rev-parse", "HEAD")
    repository.commit({"a.txt": "new"})

    assert fetched(sources, f"{url}?fetch-by-commit=true&checksum={old}#main").commit == old
    with pytest.raises(ContextError, match="instead of the expected"):
        fetched(sources, f"{url}?checksum={old}#main")
    with pytest.raises(ContextError, match="a whole commit"):
        fetched(sources, f"{url}?fetch-by-commit=true&checksum={old[:9]}#main")


@pytest.mark.parametrize("key", ["checksum", "commit"])
def test_whole_commit_without_a_branch_is_the_one_that_is_meant(
    sources: RemoteSources, url: str, repository: Repository, key: str
) -> None:
    old = repository.git("rev-parse", "HEAD")
    repository.commit({"a.txt": "new"})

    assert fetched(sources, f"{url}?{key}={old}").commit == old
    with pytest.raises(ContextError, match="instead of the expected"):
        fetched(sources, f"{url}?{key}={old[:9]}")


@pytest.mark.parametrize(
    ("suffix", "said"),
    [
        ("#nothing", "it has no branch or tag nothing"),
        ("?tag=main", "it has no branch or tag refs/tags/main"),
        (f"#{'0' * 40}", f"it has no commit {'0' * 40}"),
        ("#0123abc", "it has no branch or tag 0123abc"),
        ("#-x", '"-x" is no name of a branch or tag'),
        ("#--upload-pack=x", "is no name of a branch or tag"),
        ("#a..b", "is no name of a branch or tag"),
        ("#ma*", "is no name of a branch or tag"),
        ("#main%0A", "is no name of a branch or tag"),
        ("?checksum=xyz", "is not hexadecimal"),
        ("?checksum=--x", "is not hexadecimal"),
    ],
)
def test_wrong_references_are_sentences(
    sources: RemoteSources, url: str, workspace: Path, suffix: str, said: str
) -> None:
    with pytest.raises(ContextError) as caught:
        fetched(sources, url + suffix)

    assert said in str(caught.value)
    assert f"cannot fetch {url}" in str(caught.value)
    assert not left(workspace)


@pytest.mark.parametrize(
    "text",
    [
        "ssh://-oProxyCommand=x/y",
        "ssh://-oProxyCommand=x@host/y",
        "-x@host:y",
        "git@-oProxyCommand:y",
        "git://-x/y",
    ],
)
def test_remotes_are_never_options(sources: RemoteSources, text: str) -> None:
    with pytest.raises(ContextError, match="cannot begin with a dash"):
        fetched(sources, text)


@pytest.mark.parametrize("name", ["none", "none-401"])
def test_repository_that_is_not_there(sources: RemoteSources, web: WebServer, name: str) -> None:
    with pytest.raises(ContextError, match="not found") as caught:
        fetched(sources, f"{web.address}/git/{name}.git")

    assert "check the address" in (caught.value.hint or "")


def test_empty_repository(sources: RemoteSources, web: WebServer, tmp_path: Path) -> None:
    assert web.repositories is not None
    new_repository(tmp_path, web.repositories, "empty")

    with pytest.raises(ContextError, match="it seems to be empty"):
        fetched(sources, f"{web.address}/git/empty.git")


def test_failing_server_is_asked_again(sources: RemoteSources, url: str, web: WebServer) -> None:
    left = [Answer(503), Answer(502)]
    web.guard = lambda _: left.pop() if left else None

    assert files(fetched(sources, url)) == TREE


def test_server_that_is_but_files(
    sources: RemoteSources, url: str, web: WebServer, repository: Repository
) -> None:
    """Such a server can neither answer questions, nor leave the history out."""
    repository.commit({"a.txt": "new"})
    run_git(repository.bare, "update-server-info")

    def guard(request: Request) -> Answer:
        path = urlsplit(request.path).path.removeprefix("/git/code.git/")
        file = repository.bare / path
        return Answer(200, {}, file.read_bytes()) if file.is_file() else Answer(404)

    web.guard = guard

    assert files(fetched(sources, f"{url}#main")) == {**TREE, "a.txt": "new"}


def guarded(web: WebServer, authorization: str) -> None:
    """Let nobody in without that header."""

    def guard(request: Request) -> Answer | None:
        if request.headers.get("authorization") == authorization:
            return None
        return Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})

    web.guard = guard


def test_server_that_forbids_wants_a_token(
    sources: RemoteSources, url: str, web: WebServer
) -> None:
    web.guard = lambda request: Answer(403)

    with pytest.raises(ContextError, match="returned 403") as caught:
        fetched(sources, url)

    assert "--secret id=GIT_AUTH_TOKEN" in (caught.value.hint or "")


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("secrets", "sent"),
    [
        ({"GIT_AUTH_TOKEN": b"geheim\n"}, "basic " + encoded("x-access-token:geheim")),
        ({"GIT_AUTH_HEADER": b"Custom geheim"}, "Custom geheim"),
        (
            {"GIT_AUTH_TOKEN.HOST": b"geheim", "GIT_AUTH_HEADER": b"Custom"},
            "basic " + encoded("x-access-token:geheim"),
        ),
        (
            {"GIT_AUTH_TOKEN": b"other", "GIT_AUTH_HEADER": b"Custom geheim"},
            "Custom geheim",
        ),
    ],
)
def test_secrets_are_sent_and_not_kept(
    make_sources: MakeSources, url: str, web: WebServer, secrets: dict[str, bytes], sent: str
) -> None:
    host = web.address.removeprefix("http://")
    sources = make_sources(
        secrets={name.replace("HOST", host): value for name, value in secrets.items()}
    )
    guarded(web, sent)

    tree = fetched(sources, f"{url}?keep-git-dir=1")

    for path in tree.directory.rglob("*"):
        assert path.is_dir() or b"geheim" not in path.read_bytes()


def test_password_of_the_address_is_sent_and_not_kept(
    make_sources: MakeSources, url: str, web: WebServer, workspace: Path
) -> None:
    events: list[Event] = []
    guarded(web, "Basic " + encoded("me:geheim"))

    tree = fetched(
        make_sources(progress=events.append),
        url.replace("://", "://me:geheim@") + "?keep-git-dir=1",
    )

    assert run_git(tree.directory, "remote", "get-url", "origin") == url
    for path in workspace.rglob("*"):
        assert not path.is_file() or b"geheim" not in path.read_bytes()
    assert "geheim" not in repr(events)


def test_credentials_are_in_no_list_of_processes(
    make_sources: MakeSources, url: str, web: WebServer
) -> None:
    seen: list[bytes] = []

    def guard(request: Request) -> Answer | None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                seen.append(path.read_bytes())
            except OSError:
                continue
        return None

    web.guard = guard
    fetched(make_sources(secrets={"GIT_AUTH_TOKEN": b"geheim"}), url)
    fetched(make_sources(), url.replace("://", "://me:geheim@"))

    assert any(b"ls-remote" in line for line in seen)
    ours = [line for line in seen if line.startswith((b"git", b"/usr"))]
    assert not any(b"geheim" in line or encoded("geheim").encode() in line for line in ours)


def test_without_credentials_nobody_is_asked(
    sources: RemoteSources, url: str, web: WebServer
) -> None:
    guarded(web, "Basic x")

    with pytest.raises(ContextError) as caught:
        fetched(sources, url)

    host = web.address.removeprefix("http://")
    assert f"--secret id=GIT_AUTH_TOKEN.{host}" in (caught.value.hint or "")


def test_commit_is_told(make_sources: MakeSources, url: str, repository: Repository) -> None:
    events: list[Event] = []
    commit = repository.git("rev-parse", "HEAD")

    fetched(make_sources(progress=events.append), f"{url}#main")

    assert events == [Noted(f"{url}#main is commit {commit}")]


def test_each_reference_is_fetched_once(sources: RemoteSources, url: str, web: WebServer) -> None:
    first = fetched(sources, url)
    count = len(web.requests)

    assert fetched(sources, url) == first
    assert len(web.requests) == count


def test_cancelling_ends_git(
    make_sources: MakeSources, url: str, web: WebServer, workspace: Path
) -> None:
    sources = make_sources()
    asked, finished = threading.Event(), threading.Event()

    def guard(_: Request) -> Answer | None:
        asked.set()
        finished.wait(20)
        return None

    web.guard = guard
    canceller = threading.Thread(target=lambda: (asked.wait(20), sources.cancel()))
    canceller.start()
    try:
        with pytest.raises(ContextError, match="cancelled"):
            fetched(sources, url)
    finally:
        finished.set()
        canceller.join()

    assert not left(workspace)


def test_git_is_not_installed(
    sources: RemoteSources, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ContextError, match="not installed") as caught:
        fetched(sources, url)

    assert (
        caught.value.hint == "install the package git; an image for building usually has it already"
    )


def test_git_is_too_old(
    sources: RemoteSources, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "git").write_text("#!/bin/sh\necho git version 2.30.9\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    with pytest.raises(ContextError, match=r"need git 2\.31 or newer"):
        fetched(sources, url)


def test_ssh_gets_the_agent_and_asks_nobody(
    make_sources: MakeSources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A stand-in for ssh shows what git is given; nothing listens on this machine."""
    programs = tmp_path / "programs"
    programs.mkdir()
    log = tmp_path / "log"
    (programs / "ssh").write_text(
        f'#!/bin/sh\necho "$SSH_AUTH_SOCK $*" > {log}\n'
        "echo 'git@host: Permission denied (publickey).' >&2\nexit 255\n"
    )
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    with pytest.raises(ContextError, match=r"cannot fetch git@host:x\.git: .*denied") as caught:
        fetched(make_sources(ssh_socket=tmp_path / "socket"), "git@host:x.git")

    said = log.read_text()
    assert said.startswith(f"{tmp_path}/socket ")
    assert "-oBatchMode=yes" in said
    assert "-F /dev/null" in said
    assert caught.value.hint == "give the keys of your SSH agent with --ssh default"


@pytest.fixture
def secure(web: WebServer, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The address of the repositories over https, and the file that has its authority."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    with running_web(tls=context, repositories=web.repositories) as server:
        yield server.address, str(path)


def test_https_with_a_named_authority(
    secure: tuple[str, str], make_sources: MakeSources, repository: Repository
) -> None:
    address, certificate = secure
    host = address.removeprefix("https://")

    trusting = make_sources(registry_certificate=((host, certificate),))
    assert files(fetched(trusting, f"{address}/git/code.git")) == TREE
    with pytest.raises(ContextError, match="certificate"):
        fetched(make_sources(skip_tls_verify=True), f"{address}/git/code.git")


@pytest.mark.parametrize("verified", [True, False])
def test_client_certificate_is_shown_to_a_server_that_asks(
    web: WebServer,
    repository: Repository,
    make_sources: MakeSources,
    tmp_path: Path,
    verified: bool,
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    mine = authority.issue_cert("somebody@example.com")
    ca, certificate, key = (str(tmp_path / name) for name in ("ca.pem", "my.pem", "my.key"))
    authority.cert_pem.write_to_path(ca)
    mine.cert_chain_pems[0].write_to_path(certificate)
    mine.private_key_pem.write_to_path(key)
    with running_web(tls=context, repositories=web.repositories) as server:
        host = server.address.removeprefix("https://")
        trust = {"registry_certificate": ((host, ca),)}
        if not verified:
            trust = {"skip_tls_verify_registry": (host,)}
        shown = ClientCertificate(host, certificate, key)

        with pytest.raises(ContextError, match="cannot fetch"):
            fetched(make_sources(**trust), f"{server.address}/git/code.git")
        showing = make_sources(registry_client_cert=(shown,), **trust)
        assert files(fetched(showing, f"{server.address}/git/code.git")) == TREE


def test_https_with_an_authority_of_the_environment(
    secure: tuple[str, str],
    sources: RemoteSources,
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, certificate = secure
    monkeypatch.setenv("SSL_CERT_FILE", certificate)

    assert files(fetched(sources, f"{address}/git/code.git")) == TREE
