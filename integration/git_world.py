"""Git repositories with a history, and the servers that give them away: git daemon and sshd."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.repository import COMMITTED, run_git

COMMITS = 5_000
FILES = {
    "Dockerfile": "FROM scratch\nCOPY . /out/\n",
    ".dockerignore": "ignored\n",
    "ignored": "ignored",
    "dir/Dockerfile": "FROM scratch\nCOPY . /out/\n",
    "dir/b.txt": "b",
}
_START_SECONDS = 20.0
_SSHD = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/authorized_keys
PidFile none
PermitRootLogin yes
PasswordAuthentication no
StrictModes no
UsePAM no
"""


@dataclass(frozen=True, slots=True)
class History:
    """A bare repository with ``COMMITS`` commits on its branch main.

    Each of them has its number in the file ``n``. The branch ``next`` has one more commit, the
    tag ``v1`` is the second, the annotated tag ``v2`` the third, and pull request 7 goes on
    from there.
    """

    bare: Path

    def commit(self, name: str) -> str:
        """Return the commit that *name* means."""
        return run_git(self.bare, "rev-parse", f"{name}^{{commit}}")


def new_history(bare: Path, submodule: str | None = None) -> History:
    """Make the repository *bare*, with a *submodule* (its address) in ``lib`` on branch ``sub``.

    Its commit is that of the submodule's branch main, beside *bare*.
    """
    bare.mkdir(parents=True)
    run_git(bare, "init", "--quiet", "--bare", "--initial-branch=main")
    parts = ["commit refs/heads/main\n", _head("1"), *map(_file, FILES, FILES.values())]
    parts.append(_file("n", "1"))
    for number in range(2, COMMITS + 1):
        parts += ["commit refs/heads/main\n", f"mark :{number}\n", _head(str(number))]
        parts.append(_file("n", str(number)))
    for name, start in (("heads/next", COMMITS), ("pull/7/head", 3), ("heads/sub", COMMITS)):
        parts += [f"commit refs/{name}\n", _head(name), f"from :{start}\n", _file("n", name)]
        if name == "heads/sub" and submodule is not None:
            library = bare.parent / Path(submodule).name
            value = run_git(library, "rev-parse", "main")
            text = f'[submodule "lib"]\n\tpath = lib\n\turl = {submodule}\n'
            parts += [_file(".gitmodules", text), f"M 160000 {value} lib\n"]
    parts.append("reset refs/tags/v1\nfrom :2\n\n")
    tagger = f"tagger A <a@example.com> {COMMITTED} +0000\n"
    parts.append(f"tag v2\nfrom :3\n{tagger}data 1\nx\n")
    subprocess.run(
        ["git", "-C", bare, "fast-import", "--quiet"], input="".join(parts).encode(), check=True
    )
    return History(bare)


def _head(message: str) -> str:
    return f"committer A <a@example.com> {COMMITTED} +0000\ndata {len(message)}\n{message}\n"


def _file(name: str, text: str) -> str:
    return f"M 100644 inline {name}\ndata {len(text)}\n{text}\n"


@contextmanager
def running_daemon(repositories: Path) -> Iterator[str]:
    """Serve *repositories* by git's own protocol; yield the address ``HOST:PORT``."""
    port = _free_port()
    command = ["git", "daemon", "--listen=127.0.0.1", f"--port={port}", "--export-all"]
    with _running([*command, f"--base-path={repositories}", "--reuseaddr"], port):
        yield f"127.0.0.1:{port}"


@dataclass(frozen=True, slots=True)
class SshServer:
    """A server for one key, which is in the file *key*."""

    port: int
    key: Path


@contextmanager
def running_sshd(directory: Path) -> Iterator[SshServer]:
    """Let root in, on this machine, with a key of the test's own."""
    directory.mkdir()
    for name in ("host_key", "key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True
        )
    public = (directory / "key.pub").read_text()
    (directory / "authorized_keys").write_text(public)
    port = _free_port()
    configuration = directory / "sshd_config"
    configuration.write_text(_SSHD.format(port=port, directory=directory))
    # It wants a directory below /run, which is made where nobody else sees it.
    script = 'mount -t tmpfs none /run && mkdir /run/sshd && exec /usr/sbin/sshd -D -e -f "$0"'
    command = ["unshare", "--mount", "sh", "-c", script, str(configuration)]
    with _running(command, port):
        yield SshServer(port, directory / "key")


@contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    # git daemon and sshd start others for each client.
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with process:
        try:
            _wait(process, port)
            yield
        finally:
            process.terminate()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + _START_SECONDS
    while True:
        assert process.poll() is None, "the server ended at once"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < end, "nobody listens"
            time.sleep(0.02)
        else:
            return


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
