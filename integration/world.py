"""Registries for tests and benchmarks: Debian's docker-registry on a free loopback port.

Each has its own storage directory and access log, and ends with the program that started it,
whatever ends that program: it runs under ``setpriv --pdeathsig``.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"

_START_SECONDS = 20.0
_ACCESS = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[\d.]+" (?P<status>\d{3})')
_LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")


def world_cache() -> Path:
    """Name the directory that keeps what is costly to make, such as base images, between runs."""
    directory = Path(os.environ.get("KANIKO_WORLD_CACHE") or REPOSITORY / ".cache" / "world")
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def end_in_good_order() -> None:
    """Let SIGTERM unwind the program, as Ctrl-C does: what it started and made goes with it."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def missing_tools(*names: str) -> list[str]:
    """List those of *names* that are not on PATH (Debian keeps some in /usr/sbin)."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [name for name in names if shutil.which(name, path=path) is None]


@dataclass(frozen=True, slots=True)
class Request:
    """A request that a registry answered, as its access log tells."""

    method: str
    path: str
    status: int

    @property
    def fetches_blob(self) -> bool:
        """Whether bytes of a blob were asked for."""
        return self.method == "GET" and "/blobs/sha256:" in self.path

    @property
    def uploads(self) -> bool:
        """Whether bytes of a blob were sent."""
        return self.method in ("PUT", "PATCH") and "/blobs/uploads/" in self.path


@dataclass(frozen=True, slots=True)
class Passwords:
    """The one user that a registry admits."""

    user: str
    password: str


@dataclass(slots=True)
class Registry:
    """A running docker-registry; plain HTTP unless it has a certificate."""

    directory: Path
    address: str
    log: Path
    process: subprocess.Popen[bytes]
    certificate: Path | None = None
    passwords: Passwords | None = None
    _mark: int = field(default=0, repr=False)

    @property
    def storage(self) -> Path:
        """The directory that holds the blobs."""
        return self.directory / "storage"

    def requests(self) -> list[Request]:
        """List the requests answered since the start, or since the last :meth:`forget`."""
        with self.log.open("rb") as stream:
            stream.seek(self._mark)
            text = stream.read().decode(errors="replace")
        return [
            Request(match["method"], match["path"], int(match["status"]))
            for match in _ACCESS.finditer(text)
        ]

    def forget(self) -> None:
        """Let :meth:`requests` begin with what comes from now on."""
        self._mark = self.log.stat().st_size

    def stop(self) -> None:
        """End the registry; a second call changes nothing."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(timeout=_START_SECONDS)


_CONFIGURATION = """\
version: 0.1
log:
  level: info
  accesslog: {{disabled: false}}
storage:
  filesystem: {{rootdirectory: {directory}/storage}}
  delete: {{enabled: true}}
http:
  addr: 127.0.0.1:0
  secret: for-tests-only
"""


def _configuration(directory: Path, *, certificate: Path | None, key: Path | None) -> str:
    text = _CONFIGURATION.format(directory=directory)
    if certificate is not None:
        text += f"  tls: {{certificate: {certificate}, key: {key}}}\n"
    if (directory / "htpasswd").exists():
        text += f"auth:\n  htpasswd: {{realm: tests, path: {directory}/htpasswd}}\n"
    return text


def _issue_certificate(directory: Path) -> tuple[Path, Path, Path]:
    """Make a CA and a certificate for 127.0.0.1; return the CA's, the server's and its key."""
    import trustme

    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    ca, certificate, key = (directory / name for name in ("ca.pem", "server.pem", "server.key"))
    authority.cert_pem.write_to_path(str(ca))
    issued.private_key_pem.write_to_path(str(key))
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    return ca, certificate, key


def start_registry(
    directory: Path, *, tls: bool = False, passwords: Passwords | None = None
) -> Registry:
    """Start a registry that keeps everything in *directory*; the caller stops it."""
    directory.mkdir(parents=True, exist_ok=True)
    ca = certificate = key = None
    if tls:
        ca, certificate, key = _issue_certificate(directory)
    if passwords is not None:
        line = subprocess.run(
            ["htpasswd", "-Bbn", passwords.user, passwords.password],
            check=True,
            capture_output=True,
        ).stdout
        (directory / "htpasswd").write_bytes(line)
    configuration = directory / "config.yml"
    configuration.write_text(_configuration(directory, certificate=certificate, key=key))
    log = directory / "registry.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "docker-registry", "serve", str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            # Telemetry variables of a CI machine must not make it talk to anybody.
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "OTEL_TRACES_EXPORTER": "none"},
        )
    port = _wait_for_port(process, log)
    return Registry(directory, f"127.0.0.1:{port}", log, process, ca, passwords)


def _wait_for_port(process: subprocess.Popen[bytes], log: Path) -> int:
    """Read the port that the kernel chose from the log."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        found = _LISTENING.search(log.read_text(errors="replace"))
        if found:
            return int(found[1])
        if process.poll() is not None:
            break
        time.sleep(0.02)
    process.kill()
    process.wait()
    raise RuntimeError(f"docker-registry did not start:\n{log.read_text(errors='replace')}")


@contextmanager
def running_registry(
    directory: Path, *, tls: bool = False, passwords: Passwords | None = None
) -> Iterator[Registry]:
    """Run a registry for as long as the block lasts."""
    registry = start_registry(directory, tls=tls, passwords=passwords)
    try:
        yield registry
    finally:
        registry.stop()
