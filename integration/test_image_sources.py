"""What our images fetch by themselves: repositories by git and ssh, and objects of buckets.

There is no shell in them, and of the image under construction no program may be run.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from integration import readers
from integration.buckets import amazon_bucket
from integration.container import EXECUTOR, Container
from integration.kaniko_images import KanikoImages
from integration.readers import Podman
from tests.repository import Repository, new_repository
from tests.web_server import WebServer, running_web

_BROKEN = """\
RUN for name in git git-remote-http git-remote-https ssh sh.real; do \\
      mkdir -p /usr/bin /usr/lib/git-core; \\
      printf '#!/bin/sh\\necho this one is broken >&2\\nexit 1\\n' >/usr/bin/$name; \\
      chmod 755 /usr/bin/$name; cp /usr/bin/$name /usr/lib/git-core/; \\
    done
# Configuration of all that git and ssh read on a Debian.
RUN mkdir -p /etc/ssh /etc/ssl /etc/gnutls /usr/lib/ssl && rm -f /etc/passwd /bin/sh \\
 && /bin/busybox tee /etc/gitconfig /etc/ssh/ssh_config /etc/gnutls/config \\
      /usr/lib/ssl/openssl.cnf </bin/busybox >/dev/null
"""


@pytest.fixture
def repository(web: WebServer, tmp_path: Path) -> Repository:
    """A repository with a submodule that has one, too."""
    assert web.repositories is not None
    made = {
        name: new_repository(tmp_path / "checkouts", web.repositories, name)
        for name in ("inner", "middle", "code")
    }
    made["inner"].commit({"inner.txt": "inner"})
    for outer, inside in (("middle", "inner"), ("code", "middle")):
        url = f"{web.address}/git/{inside}.git"
        made[outer].git("submodule", "--quiet", "add", url, inside)
        made[outer].commit({f"{outer}.txt": outer})
    return made["code"]


@pytest.fixture
def code(web: WebServer, repository: Repository) -> str:
    return f"{web.address}/git/{repository.bare.name}"


_FILES = {"code.txt", "middle/middle.txt", "middle/inner/inner.txt"}


def test_repository_in_an_image_that_has_nothing_else(
    kaniko_images: KanikoImages, podman: Podman, code: str, destination: str, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM scratch\nADD {code}#main /src\n")
    podman.run(
        kaniko_images.load(podman, "executor"),
        f"--destination={destination}",
        flags=(f"--volume={tmp_path}:/workspace:ro",),
    )
    assert readers.tree(destination, "src").keys() >= _FILES


def test_repository_where_git_ssh_and_shell_of_the_base_image_are_broken(
    container: Container, busybox: str, code: str, destination: str, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\n{_BROKEN}ADD {code}#main /src\n")
    container.run(
        *(EXECUTOR, "--isolation=in-place", "--insecure", "--insecure-pull"),
        *(f"--context={tmp_path}", f"--destination={destination}"),
    )
    assert readers.tree(destination, "src").keys() >= _FILES


def test_repository_where_commands_run_in_a_sandbox(
    kaniko_images: KanikoImages,
    podman: Podman,
    busybox: str,
    code: str,
    destination: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "Dockerfile").write_text(
        f'FROM {busybox}\n{_BROKEN}ADD {code}#main /src\nRUN ["/bin/busybox", "true"]\n'
    )
    podman.run(
        kaniko_images.load(podman, "executor"),
        *("--isolation=sandbox", f"--destination={destination}", "--insecure-pull"),
        flags=(
            *("--privileged", f"--volume={tmp_path}:/workspace:ro"),
            # A sandbox cannot be on the overlay that the container is on.
            *("--volume=/work", "--env=KANIKO_DIR=/work"),
        ),
    )
    assert readers.tree(destination, "src").keys() >= _FILES


def test_git_goes_where_the_home_goes(
    kaniko_images: KanikoImages,
    podman: Podman,
    busybox: str,
    code: str,
    destination: str,
    tmp_path: Path,
) -> None:
    """The old home is wiped like all else that the image does not have."""
    (tmp_path / "Dockerfile").write_text(
        f"FROM {busybox}\nRUN test ! -e /kaniko/lib\nADD {code}#main /src\n"
    )
    podman.run(
        kaniko_images.load(podman, "executor"),
        *("--isolation=in-place", f"--destination={destination}", "--insecure-pull"),
        flags=(f"--volume={tmp_path}:/workspace:ro", "--env=KANIKO_DIR=/work/a-new-home"),
    )
    assert readers.tree(destination, "src").keys() >= _FILES


@pytest.mark.parametrize("believed", [True, False])
def test_certificates_that_are_mounted_are_believed_by_git(
    kaniko_images: KanikoImages, podman: Podman, tmp_path: Path, *, believed: bool
) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    (tmp_path / "own.crt").write_bytes(authority.cert_pem.bytes())
    served = tmp_path / "served"
    new_repository(tmp_path / "checkouts", served, "code").commit({"code.txt": "code"})
    flags = [f"--volume={tmp_path}:/workspace:ro"]
    if believed:
        flags.append(f"--volume={tmp_path / 'own.crt'}:/kaniko/ssl/certs/own.crt:ro")
    with running_web(tls=tls, repositories=served) as web:
        address = web.address.replace("127.0.0.1", "localhost")
        (tmp_path / "Dockerfile").write_text(f"FROM scratch\nADD {address}/git/code.git /src\n")
        image = kaniko_images.load(podman, "executor")
        if believed:
            podman.run(image, "--no-push", flags=tuple(flags))
        else:
            with pytest.raises(AssertionError, match="certificate"):
                podman.run(image, "--no-push", flags=tuple(flags))


# --- contexts ------------------------------------------------------------------------------

_DOCKERFILE = "FROM scratch\nCOPY . /src/\n"


def test_context_in_a_repository(
    kaniko_images: KanikoImages, podman: Podman, repository: Repository, code: str, destination: str
) -> None:
    repository.commit({"Dockerfile": _DOCKERFILE})
    image = kaniko_images.load(podman, "executor")
    podman.run(image, f"--context={code}#main", f"--destination={destination}")
    assert readers.tree(destination, "src").keys() >= _FILES


def test_context_by_the_protocol_of_git(
    kaniko_images: KanikoImages, podman: Podman, destination: str, tmp_path: Path
) -> None:
    repository = new_repository(tmp_path / "checkouts", tmp_path / "served", "code")
    repository.commit({"Dockerfile": _DOCKERFILE, "code.txt": "code"})
    with git_daemon(repository.bare.parent) as address:
        image = kaniko_images.load(podman, "executor")
        context = f"--context={address}/{repository.bare.name}#refs/heads/main"
        podman.run(image, context, f"--destination={destination}")
    assert "code.txt" in readers.tree(destination, "src")


@contextmanager
def git_daemon(served: Path) -> Iterator[str]:
    """Serve the repositories in *served*; the address has the scheme ``git``."""
    port = free_port()
    directory = ("--export-all", f"--base-path={served}", "--reuseaddr")
    listening = ("--listen=127.0.0.1", f"--port={port}")
    variables = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory"}
    process = subprocess.Popen(
        ["git", "daemon", *directory, *listening],
        env={**os.environ, **variables, "GIT_CONFIG_VALUE_0": "*"},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _await(port)
        yield f"git://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def test_context_in_a_bucket(
    kaniko_images: KanikoImages, podman: Podman, destination: str, tmp_path: Path
) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, text in {"Dockerfile": _DOCKERFILE, "code.txt": "code"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    keys = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "hunter2-hunter2"}
    with amazon_bucket("contexts", {"a/context.tar.gz": archive.getvalue()}) as endpoint:
        podman.run(
            kaniko_images.load(podman, "executor"),
            *("--context=s3://contexts/a/context.tar.gz", f"--destination={destination}"),
            flags=(
                *(f"--env={name}={value}" for name, value in keys.items()),
                *(f"--env=S3_ENDPOINT={endpoint}", "--env=S3_FORCE_PATH_STYLE=true"),
            ),
        )
    assert "code.txt" in readers.tree(destination, "src")


# --- ssh -----------------------------------------------------------------------------------

_SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin")


@pytest.fixture
def ssh_server(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A server that lets root in with a key: its port, and the key."""
    assert _SSHD is not None
    directory = tmp_path / "ssh"
    directory.mkdir(mode=0o700)
    for name in ("host", "key"):
        keygen = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name)
        subprocess.run(keygen, check=True)
    port = free_port()
    settings = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": directory / "host",
        "AuthorizedKeysFile": directory / "key.pub",
        "PermitRootLogin": "prohibit-password",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
        "SetEnv": "GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=*",
    }
    (directory / "config").write_text("".join(f"{k} {v}\n" for k, v in settings.items()))
    # It wants a directory in /run, which it gets for itself alone.
    private = f"mount -t tmpfs none /run && mkdir /run/sshd && exec {_SSHD} -D -e -f config"
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", private], cwd=directory, stderr=log
        )
    try:
        _await(port)
        yield port, directory / "key"
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    """Return the number of a port that nobody uses now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _await(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


@pytest.mark.skipif(_SSHD is None, reason="openssh-server is not installed")
@pytest.mark.parametrize("moved", [False, True])
def test_repository_by_ssh_with_a_key(
    kaniko_images: KanikoImages,
    podman: Podman,
    repository: Repository,
    ssh_server: tuple[int, Path],
    busybox: str,
    destination: str,
    tmp_path: Path,
    *,
    moved: bool,
) -> None:
    """The base image has no users, and its shell and ssh are broken."""
    port, key = ssh_server
    address = f"ssh://root@127.0.0.1:{port}{repository.bare}"
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\n{_BROKEN}ADD {address}#main /src\n")
    podman.run(
        kaniko_images.load(podman, "executor"),
        *("--isolation=in-place", "--insecure-pull"),
        *(f"--destination={destination}", "--ssh=default=/run/key"),
        flags=(
            f"--volume={tmp_path}:/workspace:ro",
            f"--volume={key}:/run/key:ro",
            *(("--env=KANIKO_DIR=/work/new",) if moved else ()),
        ),
    )
    assert "code.txt" in readers.tree(destination, "src")
