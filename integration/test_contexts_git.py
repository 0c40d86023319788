"""Contexts from git, in real builds: git daemon, git http-backend with TLS and tokens, and sshd."""

from __future__ import annotations

import base64
import json
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import trustme

from integration import readers
from integration.git_world import COMMITS, History, SshServer, new_history, running_daemon
from integration.git_world import running_sshd as _running_sshd
from integration.programs import Build, Finished, said
from tests.repository import COMMITTED, new_repository, run_git
from tests.web_server import Answer, Request, WebServer, running_web

_TOKEN = "geheim"
_AT_ONCE = "--image-download-retry=0"
_ALL = {"Dockerfile", ".dockerignore", "n", "dir", "dir/Dockerfile", "dir/b.txt"}

BuildContext = Callable[..., Finished]


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the servers find the history as ``code.git``, and ``library.git``."""
    made = tmp_path_factory.mktemp("git") / "repositories"
    library = new_repository(made.parent / "checkouts", made, "library")
    library.commit({"lib.txt": "lib"})
    new_history(made / "code.git", "../library.git")
    return made


@pytest.fixture(scope="module")
def history(repositories: Path) -> History:
    return History(repositories / "code.git")


@pytest.fixture(scope="module")
def daemon(repositories: Path) -> Iterator[str]:
    with running_daemon(repositories) as address:
        yield address


@pytest.fixture
def web(repositories: Path) -> Iterator[WebServer]:
    with running_web(repositories=repositories) as server:
        yield server


@pytest.fixture
def secure(repositories: Path, tmp_path: Path) -> Iterator[WebServer]:
    """The same over TLS, whose authority is in ca.pem; nobody gets in without a token."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    wanted = base64.b64encode(f"x-access-token:{_TOKEN}".encode()).decode()

    def guard(request: Request) -> Answer | None:
        if request.headers.get("authorization") == f"Basic {wanted}":
            return None
        return Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})

    with running_web(tls=context, repositories=repositories) as server:
        server.guard = guard
        yield server


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    if not Path("/usr/sbin/sshd").exists():
        pytest.skip("not installed: openssh-server (`make setup` installs it)")
    with _running_sshd(tmp_path_factory.mktemp("ssh") / "server") as server:
        yield server


@pytest.fixture
def built(build: Build) -> BuildContext:
    """Build the context at an address."""

    def run(
        context: str, *flags: str, env: Mapping[str, str] | None = None, check: bool = True
    ) -> Finished:
        arguments = (f"--context={context}", f"--destination={build.image}", *flags)
        return build.programs.executor(*arguments, env=env, check=check)

    return run


def names(build: Build) -> set[str]:
    return set(readers.tree(build.image, "out")) - {"."}


def number(build: Build) -> str:
    """Return which commit is in the image."""
    with readers.unpacked(build.image) as root:
        return (root / "out/n").read_text()


# --- git daemon ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [None, "git"])
def test_own_protocol_of_git(
    build: Build, built: BuildContext, daemon: str, history: History, method: str | None
) -> None:
    env = {"GIT_PULL_METHOD": method} if method else {}

    built(f"git://{daemon}/code.git", env=env)

    assert names(build) == _ALL
    assert number(build) == str(COMMITS)
    assert readers.tree(build.image, "out")["n"].mtime == COMMITTED


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [
        ("#main", str(COMMITS)),
        ("#refs/heads/next", "heads/next"),
        ("#next", "heads/next"),
        ("#v1", "2"),
        ("#refs/tags/v2", "3"),
        ("?tag=v2", "3"),
        ("?branch=next", "heads/next"),
        ("#refs/pull/7/head", "pull/7/head"),
        ("#{v2}", "3"),
        ("#refs/heads/main#{v1}", "2"),
        ("#refs/pull/7/head#{v1}", "2"),
        ("#refs/heads/main#{v1}:", "2"),
    ],
)
def test_references(
    build: Build, built: BuildContext, daemon: str, history: History, suffix: str, expected: str
) -> None:
    commits = {name: history.commit(name) for name in ("v1", "v2")}

    built(f"git://{daemon}/code.git{suffix.format(**commits)}")

    assert number(build) == expected


@pytest.mark.parametrize("suffix", ["#:dir", "?subdir=dir", "#main:dir", "#main"])
def test_directories(build: Build, built: BuildContext, daemon: str, suffix: str) -> None:
    flags = () if "dir" in suffix else ("--context-sub-path=dir",)

    built(f"git://{daemon}/code.git{suffix}", *flags)

    assert names(build) == {"Dockerfile", "b.txt"}


@pytest.mark.parametrize(
    ("said", "count"),
    [
        ((), 1),
        (("--git=depth=3",), 3),
        (("--git=depth=3,single-branch=true",), 3),
        (("--git=depth=0",), COMMITS),
    ],
)
def test_no_more_history_is_fetched_than_is_asked_for(
    build: Build, built: BuildContext, daemon: str, said: tuple[str, ...], count: int
) -> None:
    built(f"git://{daemon}/code.git?keep-git-dir=true", *said)

    with readers.unpacked(build.image) as root:
        assert run_git(root / "out", "rev-list", "--count", "--all") == str(count)
        if count == 1:
            objects = run_git(root / "out", "count-objects", "-v").splitlines()
            # One commit, two directories, and the files; those with the same content are one.
            assert "in-pack: 8" in objects


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("branch=next", "heads/next"),
        ("branch=v1", "2"),
        ("branch=next,recurse-submodules=true,single-branch=false", "heads/next"),
    ],
)
def test_branch_of_an_address_without_one(
    build: Build, built: BuildContext, daemon: str, flag: str, expected: str
) -> None:
    built(f"git://{daemon}/code.git", f"--git={flag}")

    assert number(build) == expected


@pytest.mark.parametrize(
    ("flags", "there"),
    [
        ((), True),
        (("--git=recurse-submodules=true",), True),
        (("--git=recurse-submodules=false",), False),
    ],
)
def test_submodules(
    build: Build, built: BuildContext, daemon: str, flags: tuple[str, ...], there: bool
) -> None:
    built(f"git://{daemon}/code.git#sub", *flags)

    assert ("lib/lib.txt" in names(build)) == there


def test_commit_is_in_the_result(
    build: Build, built: BuildContext, daemon: str, history: History, tmp_path: Path
) -> None:
    result = tmp_path / "result.json"

    built(f"git://{daemon}/code.git#v2", f"--metadata-file={result}")

    assert history.commit("v2") in json.dumps(json.loads(result.read_text()))


def test_named_context(build: Build, busybox: str, daemon: str) -> None:
    build(
        f"FROM {busybox}\nCOPY --from=code . /out/\n",
        f"--build-context=code=git://{daemon}/code.git#v1:dir",
    )

    assert names(build) == {"Dockerfile", "b.txt"}


@pytest.mark.parametrize(
    ("suffix", "words"),
    [
        ("#maim", ("it has no branch or tag maim", "did you mean main?")),
        (f"#{'0' * 40}", (f"it has no commit {'0' * 40}",)),
        (f"#main#{'0' * 40}", (f"it has no commit {'0' * 40}",)),
        ("#main#0123", ('"0123" is no commit',)),
        ("#:none", ("it has no directory none", "it has dir")),
        ("#:dir/b.txt", ("it has no directory dir/b.txt",)),
    ],
)
def test_what_is_not_there_is_a_sentence(
    build: Build, built: BuildContext, daemon: str, suffix: str, words: tuple[str, ...]
) -> None:
    done = built(f"git://{daemon}/code.git{suffix}", _AT_ONCE, check=False)

    said(done, *words)
    assert f"{daemon}/code.git" in done.stderr
    assert not build.programs.leftovers()


def test_repository_that_is_not_there(build: Build, built: BuildContext, daemon: str) -> None:
    done = built(f"git://{daemon}/none.git", _AT_ONCE, check=False)

    said(done, f"git://{daemon}/none.git")
    assert not build.programs.leftovers()


# --- git http-backend ------------------------------------------------------------------------


def test_pull_method_says_what_git_addresses_mean(
    build: Build, built: BuildContext, web: WebServer
) -> None:
    address = web.address.removeprefix("http://")

    built(f"git://{address}/git/code.git#v1", env={"GIT_PULL_METHOD": "http"})

    assert number(build) == "2"


@pytest.mark.parametrize("where", ["https", "git"])
@pytest.mark.parametrize("trust", ["authority", "option"])
def test_token_of_the_environment(
    build: Build, built: BuildContext, secure: WebServer, tmp_path: Path, where: str, trust: str
) -> None:
    address = f"{secure.address}/git/code.git#sub".replace("https://", f"{where}://")
    env, flags = {"GIT_TOKEN": _TOKEN}, []
    if trust == "authority":
        env["SSL_CERT_FILE"] = str(tmp_path / "ca.pem")
    else:
        flags = ["--git=insecure-skip-tls=true"]

    done = built(address, *flags, "--verbosity=debug", env=env)

    assert "lib/lib.txt" in names(build)
    assert _TOKEN not in done.written


def test_token_is_kept_nowhere(
    build: Build, built: BuildContext, secure: WebServer, tmp_path: Path
) -> None:
    env = {"GIT_TOKEN": _TOKEN, "SSL_CERT_FILE": str(tmp_path / "ca.pem")}

    built(f"{secure.address}/git/code.git?keep-git-dir=true#sub", env=env)

    with readers.unpacked(build.image) as root:
        files = [path for path in root.rglob("*") if path.is_file()]
        assert any(path.name == "config" for path in files)
        assert not any(_TOKEN.encode() in path.read_bytes() for path in files)


def test_passwords_of_netrc(
    build: Build, built: BuildContext, secure: WebServer, tmp_path: Path
) -> None:
    build.programs.directory.joinpath(".netrc").write_text(
        f"machine 127.0.0.1 login x-access-token password {_TOKEN}\n"
    )

    built(f"{secure.address}/git/code.git#v1", env={"SSL_CERT_FILE": str(tmp_path / "ca.pem")})

    assert number(build) == "2"


@pytest.mark.parametrize("env", [{}, {"GIT_USERNAME": "me", "GIT_PASSWORD": "falsch"}])
def test_refused_credentials_are_a_sentence(
    build: Build, built: BuildContext, secure: WebServer, tmp_path: Path, env: dict[str, str]
) -> None:
    env = {**env, "SSL_CERT_FILE": str(tmp_path / "ca.pem")}

    done = built(f"{secure.address}/git/code.git", _AT_ONCE, env=env, check=False)

    said(done, f"cannot fetch {secure.address}/git/code.git: ", "GIT_TOKEN")
    assert "falsch" not in done.written
    assert not build.programs.leftovers()


def test_certificate_that_nobody_signed(built: BuildContext, secure: WebServer) -> None:
    done = built(f"{secure.address}/git/code.git", _AT_ONCE, env={"GIT_TOKEN": _TOKEN}, check=False)

    said(done, "certificate")
    assert _TOKEN not in done.written


# --- ssh -------------------------------------------------------------------------------------


@pytest.fixture
def ssh_address(sshd: SshServer, history: History) -> str:
    return f"ssh://root@127.0.0.1:{sshd.port}{history.bare}"


def test_key_file(build: Build, built: BuildContext, sshd: SshServer, ssh_address: str) -> None:
    folder = build.programs.directory / ".ssh"
    folder.mkdir()
    shutil.copy(sshd.key, folder / "id_ed25519")

    built(f"{ssh_address}#v1")

    assert number(build) == "2"


def test_agent(
    build: Build, built: BuildContext, sshd: SshServer, ssh_address: str, tmp_path: Path
) -> None:
    agent = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", agent], stdout=subprocess.DEVNULL) as process:
        try:
            env = {"SSH_AUTH_SOCK": str(agent)}
            for _ in range(100):
                added = subprocess.run(["ssh-add", "-q", sshd.key], env=env, check=False)
                if added.returncode == 0:
                    break
            built(f"{ssh_address}#v1", env=env)
        finally:
            process.terminate()

    assert number(build) == "2"


def test_refused_key_is_a_sentence(build: Build, built: BuildContext, ssh_address: str) -> None:
    done = built(ssh_address, _AT_ONCE, check=False)

    said(done, "Permission denied")
    assert not build.programs.leftovers()
