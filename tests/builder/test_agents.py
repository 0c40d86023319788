from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kaniko_core.builder.agents import Agents, open_agents
from kaniko_core.errors import SandboxError, UsageError
from kaniko_core.values import SshAgent

needs_openssh = pytest.mark.skipif(
    shutil.which("ssh-agent") is None, reason="ssh-agent is not installed"
)


@contextmanager
def echoing(path: Path) -> Iterator[None]:
    """Listen at *path*, and answer each message with itself, twice."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,)).start()

    def answer(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(1 << 16):
                connection.sendall(data * 2)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        yield client


def key(path: Path, passphrase: str = "") -> Path:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "a test", "-f", path]
    subprocess.run(command, check=True)
    return path


def listed(path: Path) -> str:
    environment = {"SSH_AUTH_SOCK": str(path), "PATH": os.defpath}
    return subprocess.run(
        ["ssh-add", "-l"], env=environment, capture_output=True, text=True, check=False
    ).stdout


def test_what_is_said_to_the_offered_socket_reaches_the_agent(tmp_path: Path) -> None:
    with echoing(tmp_path / "real"):
        agents = Agents({"default": tmp_path / "real"})
        with (
            agents.offered("default", tmp_path / "d", mode=0o600, owner=(0, 0)) as path,
            connected(path) as one,
            connected(path) as two,
        ):
            two.sendall(b"second")
            one.sendall(b"first")
            assert one.recv(100) == b"firstfirst"
            assert two.recv(100) == b"secondsecond"


def test_offered_socket_has_owner_and_mode(tmp_path: Path) -> None:
    owner = (1234, 99) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    agents = Agents({"x": tmp_path / "real"})
    with agents.offered("x", tmp_path / "d", mode=0o640, owner=owner) as path:
        status = path.stat()
        assert (status.st_uid, status.st_gid) == owner
        assert stat.S_IMODE(status.st_mode) == 0o640


def test_end_of_the_offer_ends_open_connections(tmp_path: Path) -> None:
    with echoing(tmp_path / "real"):
        agents = Agents({"x": tmp_path / "real"})
        offer = agents.offered("x", tmp_path / "d", mode=0o600, owner=(os.geteuid(), os.getegid()))
        with offer as path, connected(path) as client:
            client.sendall(b"a")
            assert client.recv(10) == b"aa"
            offer.__exit__(None, None, None)
            assert client.recv(10) == b""


def test_agent_that_is_gone_looks_like_none(tmp_path: Path) -> None:
    agents = Agents({"x": tmp_path / "real"})
    owner = (os.geteuid(), os.getegid())
    with (
        agents.offered("x", tmp_path / "d", mode=0o600, owner=owner) as path,
        connected(path) as client,
    ):
        assert client.recv(10) == b""


def test_long_directories_are_no_matter(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    owner = (os.geteuid(), os.getegid())
    with Agents({"x": tmp_path / "real"}).offered("x", deep / "s", mode=0o600, owner=owner) as path:
        assert stat.S_ISSOCK(path.stat().st_mode)


def test_socket_is_forwarded_as_it_is(tmp_path: Path) -> None:
    with (
        echoing(tmp_path / "real"),
        open_agents([SshAgent("a", (tmp_path / "real",))], tmp_path / "new") as agents,
    ):
        assert agents.sockets == {"a": tmp_path / "real"}
    assert not (tmp_path / "new").exists()


def test_agent_of_nobody_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="no SSH agent to forward as default: SSH_AUTH_SOCK"),
        open_agents([SshAgent("default")], tmp_path),
    ):
        pass


def test_missing_path_is_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match=r"agent or key .*/none cannot be used: No such file"),
        open_agents([SshAgent("a", (tmp_path / "none",))], tmp_path),
    ):
        pass


def test_socket_beside_keys_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").touch()
    with (
        echoing(tmp_path / "real"),
        pytest.raises(UsageError, match="has a socket and something else"),
        open_agents([SshAgent("a", (tmp_path / "real", tmp_path / "key"))], tmp_path),
    ):
        pass


@needs_openssh
def test_keys_are_held_by_an_agent_that_ends_with_the_block(tmp_path: Path) -> None:
    keys = (key(tmp_path / "one"), key(tmp_path / "two"))
    keys[0].chmod(0o644)  # as files of secrets are in a pod
    with open_agents([SshAgent("a", keys)], tmp_path / "agents") as agents:
        assert listed(agents.sockets["a"]).count("ED25519") == 2
    assert not list((tmp_path / "agents").iterdir())


@needs_openssh
def test_offered_socket_leads_to_the_keys(tmp_path: Path) -> None:
    with open_agents([SshAgent("a", (key(tmp_path / "one"),))], tmp_path / "agents") as agents:
        owner = (os.geteuid(), os.getegid())
        with agents.offered("a", tmp_path / "d", mode=0o600, owner=owner) as path:
            assert "a test" in listed(path)


@needs_openssh
def test_key_with_a_passphrase_is_refused(tmp_path: Path) -> None:
    path = key(tmp_path / "one", "letmein")
    with (
        pytest.raises(UsageError, match=r"/one cannot be used: .* passphrase"),
        open_agents([SshAgent("a", (path,))], tmp_path / "agents"),
    ):
        pass
    assert not list((tmp_path / "agents").iterdir())


@needs_openssh
def test_file_that_is_no_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hello\n")
    with (
        pytest.raises(UsageError, match="it is no private key"),
        open_agents([SshAgent("a", (tmp_path / "key",))], tmp_path / "agents"),
    ):
        pass


def test_keys_without_openssh_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("hello\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(SandboxError, match="ssh-add, which are not installed") as caught,
        open_agents([SshAgent("a", (tmp_path / "key",))], tmp_path / "agents"),
    ):
        pass
    assert "openssh-client" in str(caught.value.hint)
