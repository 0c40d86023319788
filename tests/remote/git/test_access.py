"""Who we are for servers of repositories: variables, .netrc, keys; and who is told."""

from __future__ import annotations

import base64
import os
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kaniko_core.addresses.cloning import GitOptions
from kaniko_core.addresses.git import parse_git_context
from kaniko_core.errors import ContextError
from kaniko_core.progress import Event, Noted
from kaniko_core.registry.hosts import Trust
from kaniko_core.registry.pacing import Pacing
from kaniko_core.remote.git.access import settled
from kaniko_core.remote.git.clone import Checkout
from kaniko_core.remote.git.moves import Moves
from kaniko_core.remote.git.repositories import GitTree, Repositories
from kaniko_core.remote.git.run import Access, find_git
from kaniko_core.remote.web.netrc import Netrc
from tests.repository import Repository, new_repository, run_git
from tests.web_server import Answer, Request, WebServer, running_web

trustme = pytest.importorskip("trustme")

OWN = Checkout(own=True)
Make = Callable[..., Repositories]


@pytest.fixture
def repository(web: WebServer, tmp_path: Path) -> Repository:
    assert web.repositories is not None
    made = new_repository(tmp_path / "checkouts", web.repositories, "code")
    made.commit({"a.txt": "a"})
    return made


@pytest.fixture
def url(web: WebServer, repository: Repository) -> str:
    return f"{web.address}/git/{repository.bare.name}"


@pytest.fixture
def host(web: WebServer) -> str:
    return web.address.removeprefix("http://")


@pytest.fixture
def make(tmp_path: Path, host: str) -> Make:
    stopped = threading.Event()
    plain = Repositories(
        lambda: find_git(tmp_path / "home", stopped),
        {},
        lambda host: Trust(),
        lambda: None,
        lambda event: None,
        stopped,
        Pacing(1, first=0.001),
    )

    def made(environment: dict[str, str] | None = None, **fields: object) -> Repositories:
        variables = environment or {}
        fields = {"own_host": host, "netrc": Netrc(variables), **fields}
        return replace(plain, environment=variables, **fields)  # type: ignore[arg-type]

    return made


@pytest.fixture
def fetched(workspace: Path) -> Callable[..., GitTree]:
    def fetch(repositories: Repositories, text: str, how: Checkout = OWN) -> GitTree:
        reference = parse_git_context(text)
        assert reference is not None
        number = len(list(workspace.iterdir()))
        return repositories.fetch(reference, workspace / str(number), how)

    return fetch


Fetched = Callable[..., GitTree]


def user(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def guarded(web: WebServer, authorization: str) -> None:
    def guard(request: Request) -> Answer | None:
        if request.headers.get("authorization") == authorization:
            return None
        return Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})

    web.guard = guard


def told(web: WebServer) -> set[str | None]:
    """Return the credentials that the server was told."""
    return {request.headers.get("authorization") for request in web.requests}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"GIT_USERNAME": "me", "GIT_PASSWORD": "geheim"}, user("me", "geheim")),
        ({"GIT_USERNAME": "me", "GIT_TOKEN": "geheim"}, user("me", "geheim")),
        (
            {"GIT_USERNAME": "me", "GIT_TOKEN": "geheim", "GIT_PASSWORD": "other"},
            user("me", "geheim"),
        ),
        ({"GIT_TOKEN": "geheim\n"}, user("x-access-token", "geheim")),
        ({"GIT_TOKEN": "geheim"}, user("geheim", "")),
    ],
)
def test_variables_are_told_to_the_own_host(
    make: Make,
    fetched: Fetched,
    url: str,
    web: WebServer,
    environment: dict[str, str],
    expected: str,
) -> None:
    guarded(web, expected)

    tree = fetched(make(environment), f"{url}?keep-git-dir=1")

    for path in tree.directory.rglob("*"):
        assert path.is_dir() or b"geheim" not in path.read_bytes()
    assert run_git(tree.directory, "remote", "get-url", "origin") == url


def test_variables_are_told_to_nobody_else(
    make: Make, fetched: Fetched, url: str, web: WebServer
) -> None:
    environment = {"GIT_TOKEN": "geheim"}

    fetched(make(environment), url, Checkout())
    fetched(make(environment, own_host="example.com"), url)
    fetched(make(environment, own_host=None), url)

    assert told(web) == {None}


def test_submodules_of_the_own_host_are_let_in_and_others_told_nothing(
    make: Make, fetched: Fetched, url: str, web: WebServer, repository: Repository, tmp_path: Path
) -> None:
    assert web.repositories is not None
    new_repository(tmp_path / "checkouts", web.repositories, "library").commit({"x": "x"})
    with running_web("127.0.0.2", repositories=web.repositories) as other:
        for name, server in (("same", web), ("other", other)):
            address = f"{server.address}/git/library.git"
            repository.git("submodule", "--quiet", "add", address, name)
        repository.commit({})
        other.requests.clear()
        guarded(web, user("x-access-token", "geheim"))

        tree = fetched(make({"GIT_TOKEN": "geheim"}), url)

        assert (tree.directory / "same/x").exists()
        assert (tree.directory / "other/x").exists()
        assert told(other) == {None}


def _moved(prefix: str, target: str) -> Callable[[Request], Answer | None]:
    def guard(request: Request) -> Answer | None:
        if not request.path.startswith(prefix):
            return None
        return Answer(301, {"Location": target + request.path.removeprefix(prefix)})

    return guard


@pytest.mark.parametrize("secret", [True, False])
def test_redirect_to_another_server_tells_it_nothing(
    make: Make, fetched: Fetched, url: str, web: WebServer, repository: Repository, secret: bool
) -> None:
    secrets = {"GIT_AUTH_TOKEN": b"geheim"} if secret else {}
    repositories = make({} if secret else {"GIT_TOKEN": "geheim"}, secrets=secrets)
    with running_web("127.0.0.2", repositories=web.repositories) as other:
        web.guard = _moved("/git/", f"{other.address}/git/")

        tree = fetched(repositories, url)

        assert (tree.directory / "a.txt").exists()
        assert {request.method for request in other.requests} == {"GET", "POST"}
        assert told(other) == {None}


@pytest.mark.parametrize("secret", [True, False])
def test_repository_with_a_new_name_gets_the_same_credentials(
    make: Make, fetched: Fetched, url: str, web: WebServer, secret: bool
) -> None:
    old = f"{web.address}/old/name.git"
    secrets = {"GIT_AUTH_TOKEN": b"geheim"} if secret else {}
    repositories = make({} if secret else {"GIT_TOKEN": "geheim"}, secrets=secrets)
    guarded(web, ("basic " if secret else "Basic ") + user("x-access-token", "geheim")[6:])
    refusal = web.guard
    renamed = _moved("/old/name.git", url)
    web.guard = lambda request: (refusal(request) if refusal else None) or renamed(request)

    tree = fetched(repositories, f"{old}?keep-git-dir=1")

    assert (tree.directory / "a.txt").exists()
    assert run_git(tree.directory, "remote", "get-url", "origin") == old


@pytest.mark.parametrize(
    ("scope", "target", "count"),
    [
        ("https://host/", "https://host/new.git", 1),
        ("https://host/old.git", "https://host/new.git", 2),
        ("https://host/old.git", "https://other/new.git", 1),
        ("https://host/old.git", "https://host:444/new.git", 1),
        ("https://other/", "https://host/new.git", 1),
    ],
)
def test_header_is_given_once_for_each_address_of_one_server(
    scope: str, target: str, count: int
) -> None:
    access = Access(("https",), {f"http.{scope}.extraHeader": "Authorization: x"})

    known = Moves({"https://host/old.git": target}).known_to(access)

    assert known.configuration[f"url.{target}.insteadOf"] == "https://host/old.git"
    assert sum(key.endswith(".extraHeader") for key in known.configuration) == count


def test_submodule_with_a_new_name_is_found(
    make: Make, fetched: Fetched, url: str, web: WebServer, repository: Repository, tmp_path: Path
) -> None:
    assert web.repositories is not None
    new_repository(tmp_path / "checkouts", web.repositories, "library").commit({"x": "x"})
    repository.git("submodule", "--quiet", "add", f"{web.address}/git/library.git", "lib")
    repository.git("config", "-f", ".gitmodules", "submodule.lib.url", f"{web.address}/git/lib")
    repository.commit({})
    web.guard = _moved("/git/lib/", f"{web.address}/git/library.git/")

    tree = fetched(make({"GIT_TOKEN": "geheim"}), url)

    assert (tree.directory / "lib/x").exists()


@pytest.mark.parametrize(
    "target", ["/old/", "ftp://127.0.0.1/", "http://u:p@127.0.0.1/", "http://["]
)
def test_redirect_to_nowhere_ends(
    make: Make, fetched: Fetched, web: WebServer, target: str
) -> None:
    web.guard = _moved("/old/", target)

    with pytest.raises(ContextError, match="301"):
        fetched(make({"GIT_TOKEN": "geheim"}), f"{web.address}/old/name.git")


@pytest.mark.parametrize(
    ("secret", "address", "variable", "netrc", "expected"),
    [
        (True, True, True, True, "basic " + user("x-access-token", "secret")[6:]),
        (False, True, True, True, user("me", "address")),
        (False, False, True, True, user("x-access-token", "variable")),
        (False, False, False, True, user("you", "netrc")),
        (False, False, False, False, None),
    ],
)
def test_order_of_credentials(
    make: Make,
    fetched: Fetched,
    url: str,
    web: WebServer,
    tmp_path: Path,
    secret: bool,
    address: bool,
    variable: bool,
    netrc: bool,
    expected: str | None,
) -> None:
    environment = {"HOME": str(tmp_path)}
    if netrc:
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login you password netrc\n")
    if variable:
        environment["GIT_TOKEN"] = "variable"
    if address:
        url = url.replace("://", "://me:address@")
    secrets = {"GIT_AUTH_TOKEN": b"secret"} if secret else {}

    fetched(make(environment, secrets=secrets), url)

    assert told(web) == {expected}


def test_netrc_is_for_everybody(
    make: Make, fetched: Fetched, url: str, web: WebServer, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login you password geheim\n")
    guarded(web, user("you", "geheim"))

    fetched(make({"HOME": str(tmp_path)}), url, Checkout())


@pytest.mark.parametrize("repeated", ["geheimnis", user("x-access-token", "geheimnis")])
def test_credentials_that_a_server_repeats_are_not_shown(
    make: Make, fetched: Fetched, url: str, web: WebServer, repeated: str
) -> None:
    line = f"ERR no {repeated}"
    said = "001e# service=git-upload-pack\n0000" + f"{len(line) + 4:04x}{line}"
    kind = {"Content-Type": "application/x-git-upload-pack-advertisement"}
    web.guard = lambda _: Answer(200, kind, said.encode())

    with pytest.raises(ContextError, match=r"remote error: no .*\*\*\*") as caught:
        fetched(make({"GIT_TOKEN": "geheimnis"}), url)

    assert repeated.rsplit(maxsplit=1)[-1] not in str(caught.value)


def test_refused_credentials_are_a_sentence_without_them(
    make: Make, fetched: Fetched, url: str, web: WebServer, workspace: Path
) -> None:
    guarded(web, "nobody")

    with pytest.raises(ContextError) as caught:
        fetched(make({"GIT_TOKEN": "geheim"}), url)

    assert f"cannot fetch {url}: " in str(caught.value)
    assert "GIT_TOKEN" in (caught.value.hint or "")
    assert "geheim" not in str(caught.value) + str(caught.value.hint)
    assert not list(workspace.iterdir())
    assert told(web) == {user("x-access-token", "geheim"), user("geheim", "")}


def test_credentials_are_in_no_list_of_processes(
    make: Make, fetched: Fetched, url: str, web: WebServer
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
    fetched(make({"GIT_TOKEN": "geheim"}), url)

    ours = [line for line in seen if url.encode() in line]
    assert ours
    encoded = base64.b64encode(b"x-access-token:geheim")
    assert not any(b"geheim" in line or encoded in line for line in ours)


def test_own_protocol_of_git_tells_no_password(make: Make, fetched: Fetched) -> None:
    """It has none, and git would show it in the list of processes."""
    reference = parse_git_context("git://me:geheim@127.0.0.1:1/x", "git")

    assert reference is not None
    assert reference.address == "git://127.0.0.1:1/x"


# --- ssh -------------------------------------------------------------------------------------


@pytest.fixture
def ssh_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What a stand-in for ssh writes: its agent and arguments."""
    programs, log = tmp_path / "programs", tmp_path / "log"
    programs.mkdir()
    (programs / "ssh").write_text(
        f'#!/bin/sh\necho "agent=$SSH_AUTH_SOCK $*" > {log}\n'
        "echo 'git@host: Permission denied (publickey).' >&2\nexit 255\n"
    )
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return log


@pytest.mark.parametrize(("own", "given"), [(True, None), (True, "/given"), (False, None)])
def test_keys_and_agent_are_for_own_repositories(
    make: Make, fetched: Fetched, ssh_log: Path, tmp_path: Path, own: bool, given: str | None
) -> None:
    folder = tmp_path / "my home" / ".ssh"
    folder.mkdir(parents=True)
    (folder / "id_ed25519").touch()
    (folder / "id_ed25519.pub").touch()
    environment = {"HOME": str(folder.parent), "SSH_AUTH_SOCK": "/agent"}
    repositories = make(environment, ssh_socket=lambda: Path(given) if given else None)

    with pytest.raises(ContextError, match="Permission denied"):
        fetched(repositories, "git@host:x.git", Checkout(own=own))

    said = ssh_log.read_text()
    mine = own and given is None
    assert said.startswith(f"agent={'/agent' if mine else given or ''} ")
    assert (f'-oIdentityFile="{folder}/id_ed25519"' in said) == mine
    assert ("IdentityFile=none" in said) == (not mine)
    assert "id_ed25519.pub" not in said


# --- TLS -------------------------------------------------------------------------------------


def _tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_certificate_is_not_verified_only_where_that_is_said(
    make: Make, fetched: Fetched, web: WebServer, repository: Repository
) -> None:
    unverified = Checkout(GitOptions(insecure_skip_tls=True))
    with running_web(tls=_tls(), repositories=web.repositories) as server:
        url = f"{server.address}/git/code.git"

        assert (fetched(make(), url, unverified).directory / "a.txt").exists()
        with pytest.raises(ContextError, match="certificate"):
            fetched(make(), url)


def test_port_that_speaks_tls_is_https(
    make: Make, fetched: Fetched, web: WebServer, repository: Repository
) -> None:
    events: list[Event] = []
    unverified = Checkout(GitOptions(insecure_skip_tls=True), own=True)
    with running_web(tls=_tls(), repositories=web.repositories) as server:
        address = server.address.removeprefix("https://") + "/git/code.git"

        tree = fetched(make(progress=events.append), f"git://{address}", unverified)

    assert (tree.directory / "a.txt").exists()
    assert Noted(f"git://{address} is fetched as https://{address}") in events


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_port_that_speaks_something_else_is_gits_own(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        address = f"git://127.0.0.1:{server.getsockname()[1]}/x"
        reference = parse_git_context(address)
        assert reference is not None
        found = settled(reference)
        thread.join()

    assert (found.remote, found.either_protocol) == (address, False)


@pytest.mark.parametrize(("port", "scheme"), [(1, "https"), (9418, "git")])
def test_where_nobody_listens_the_port_tells(port: int, scheme: str) -> None:
    reference = parse_git_context(f"git://127.0.0.3:{port}/x")

    assert reference is not None
    assert settled(reference).remote == f"{scheme}://127.0.0.3:{port}/x"
