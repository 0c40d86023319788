"""What benchmarks of contexts fetch, and the servers that give it, all on this machine."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

_DOCKERFILE = b"FROM scratch\nCOPY small /\n"
_PER_DIRECTORY = 100
_WHEN = 1445412480  # 2015-10-21 07:28:00 UTC
_START_SECONDS = 20.0
_NGINX = """\
daemon off;
user root;
pid {top}/nginx.pid;
error_log {top}/nginx.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  sendfile on;
  default_type application/octet-stream;
  client_body_temp_path {top}/body;
  map $uri $git_path {{ ~^/git(?<rest>/.*)$ $rest; }}
  server {{
    listen 127.0.0.1:{plain};
    listen 127.0.0.1:{secure} ssl;
    ssl_certificate {top}/server.pem;
    ssl_certificate_key {top}/server.pem;
    location / {{ root {files}; }}
    location /git/ {{
      fastcgi_pass unix:{top}/cgi;
      fastcgi_buffering off;
      client_max_body_size 0;
      include /etc/nginx/fastcgi_params;
      fastcgi_param SCRIPT_FILENAME {core}/git-http-backend;
      fastcgi_param GIT_PROJECT_ROOT {files};
      fastcgi_param GIT_HTTP_EXPORT_ALL 1;
      fastcgi_param GIT_CONFIG_COUNT 1;
      fastcgi_param GIT_CONFIG_KEY_0 safe.directory;
      fastcgi_param GIT_CONFIG_VALUE_0 *;
      fastcgi_param GIT_PROTOCOL $http_git_protocol;
      fastcgi_param PATH_INFO $git_path;
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class World:
    """What is served, and where.

    Attributes:
        files: the directory with the archives and the repository.
        certificate: of whoever signed that of the server.
        plain: port of HTTP; secure: of HTTPS; git: of ``git daemon``.
    """

    files: Path
    certificate: Path
    plain: int
    secure: int
    git: int


# --- what is fetched -------------------------------------------------------------------------


def files(count: int, size: int) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents: a Dockerfile, a small file, and *count* files of *size* bytes."""
    yield "Dockerfile", _DOCKERFILE
    yield "small", b"small\n"
    chance = random.Random(count)
    for number in range(count):
        name = f"tree/{number // _PER_DIRECTORY:04}/file-{number:06}.bin"
        yield name, chance.randbytes(size)


def make(path: Path, count: int, size: int) -> None:
    """Make what a source needs, named by *path*."""
    match path.suffix:
        case ".git":
            _repository(path, count, size)
        case ".tar":
            with path.open("wb") as file:
                _archive(file, count, size)
        case suffix:
            program = {".gz": ("gzip", "-1"), ".zst": ("zstd", "-1", "-q")}[suffix]
            with path.open("wb") as file:
                packer = subprocess.Popen([*program], stdin=subprocess.PIPE, stdout=file)
                assert packer.stdin is not None
                with packer.stdin as pipe:
                    _archive(pipe, count, size)
                if packer.wait() != 0:
                    raise SystemExit(f"benchmarks: {program[0]} failed")


def _archive(file: IO[bytes], count: int, size: int) -> None:
    with tarfile.open(fileobj=file, mode="w|") as tar:
        for name, content in files(count, size):
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(content), 0o644, _WHEN
            tar.addfile(info, BytesIO(content))


def _repository(path: Path, count: int, size: int) -> None:
    """Make a bare repository with one commit."""
    subprocess.run(["git", "init", "--quiet", "--bare", path], check=True)
    command = ["git", "-C", str(path), "fast-import", "--quiet"]
    importing = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert importing.stdin is not None
    with importing.stdin as pipe:
        who = f"A <a@example.com> {_WHEN} +0000"
        pipe.write(f"commit refs/heads/main\ncommitter {who}\ndata 1\nx\n".encode())
        for name, content in files(count, size):
            pipe.write(f"M 100644 inline {name}\ndata {len(content)}\n".encode() + content + b"\n")
    if importing.wait() != 0:
        raise SystemExit("benchmarks: git fast-import failed")
    for setting in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        subprocess.run(["git", "-C", path, "config", setting, "true"], check=True)
    subprocess.run(["git", "-C", path, "symbolic-ref", "HEAD", "refs/heads/main"], check=True)


# --- who serves it ---------------------------------------------------------------------------


@contextmanager
def serving(top: Path) -> Iterator[tuple[World, frozenset[int]]]:
    """Serve ``top/files`` in all ways; yield where, and the processes that do it."""
    served = top / "files"
    for name in ("bucket", "account"):
        # Stores see the same files, in a bucket, and in a container of an account.
        served.joinpath(name).symlink_to(".")
    certificate = _certificate(top)
    plain, secure, git = (_free_port() for _ in range(3))
    core = subprocess.run(["git", "--exec-path"], check=True, capture_output=True, text=True)
    configuration = top / "nginx.conf"
    configuration.write_text(
        _NGINX.format(top=top, plain=plain, secure=secure, files=served, core=core.stdout.strip())
    )
    commands = (
        ("fcgiwrap", "-f", "-c", "1", "-s", f"unix:{top}/cgi"),
        ("/usr/sbin/nginx", "-c", str(configuration)),
        (
            *("git", "daemon", "--export-all", "--listen=127.0.0.1", f"--port={git}"),
            *(f"--base-path={served}", "--reuseaddr"),
        ),
    )
    with ExitStack() as stack:
        pids = [
            stack.enter_context(_running(*command, log=top / "servers.log")) for command in commands
        ]
        for port in (plain, secure, git):
            _wait(port)
        yield World(served, certificate, plain, secure, git), frozenset(pids)


@contextmanager
def _running(*command: str, log: Path) -> Iterator[int]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(log.parent),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }
    with log.open("ab") as said:
        process = subprocess.Popen(
            # A server ends with us, whatever ends us.
            ["setpriv", "--pdeathsig", "TERM", "--", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _certificate(top: Path) -> Path:
    import trustme

    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        top / "server.pem"
    )
    authority.cert_pem.write_to_path(top / "authority.pem")
    return top / "authority.pem"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait(port: int) -> None:
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise SystemExit("benchmarks: a server does not start") from None
            time.sleep(0.05)
