"""Registries that are harder to reach: with client certificates, on other addresses, as mirrors."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_START_SECONDS = 20.0
_LISTENING = re.compile(r"listening on (\S+:\d+)")
_CONFIGURATION = """\
version: 0.1
log:
  level: info
  accesslog: {{disabled: false}}
storage:
  filesystem: {{rootdirectory: {directory}/storage}}
  maintenance: {{readonly: {{enabled: {read_only}}}}}
http:
  addr: "{address}:0"
  secret: for-tests-only
"""


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority whose files are in *directory*."""

    directory: Path
    authority: trustme.CA

    @classmethod
    def made(cls, directory: Path) -> Authority:
        """Make an authority, and write its certificate to ``ca.pem``."""
        directory.mkdir()
        made = cls(directory, trustme.CA())
        made.authority.cert_pem.write_to_path(str(made.file))
        return made

    @property
    def file(self) -> Path:
        """The authority's own certificate."""
        return self.directory / "ca.pem"

    def self_signed(self, name: str) -> tuple[Path, Path]:
        """Return files of a new certificate for the address *name* that no authority signed."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), datetime.now(UTC)
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(name))])
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(names, critical=False)
            .sign(key, hashes.SHA256())
        )
        certificate, secret = self.directory / "self.pem", self.directory / "self.key"
        certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, secret

    def issue(self, *names: str) -> tuple[Path, Path]:
        """Return files of a new certificate for *names*, and of its key."""
        issued = self.authority.issue_cert(*names)
        base = re.sub(r"[^a-z0-9]", "-", names[0])
        certificate, key = self.directory / f"{base}.pem", self.directory / f"{base}.key"
        issued.private_key_pem.write_to_path(str(key))
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        return certificate, key


@dataclass(frozen=True, slots=True)
class Reachable:
    """A registry that runs: where, and what it was asked."""

    address: str
    log: Path

    def pulls(self) -> list[str]:
        """List the paths of manifests and blobs that it gave away, each once."""
        text = self.log.read_text(errors="replace")
        found = re.findall(r'"GET (/v2/\S+/(?:manifests|blobs)/\S+) HTTP/[\d.]+" 200', text)
        return list(dict.fromkeys(found))


@contextmanager
def reachable_registry(
    directory: Path,
    *,
    address: str = "127.0.0.1",
    tls: tuple[Path, Path] | None = None,
    clients: Path | None = None,
    mirror_of: str = "",
    htpasswd: str = "",
    read_only: bool = False,
) -> Iterator[Reachable]:
    """Run a docker-registry for as long as the block lasts.

    Args:
        directory: of its own; made here.
        address: an address of this machine, in brackets where it is one of IPv6.
        tls: its certificate and key.
        clients: the authority whose clients alone may talk to it.
        mirror_of: the registry's URL that it fetches from what it does not have.
        htpasswd: ``user:hash`` of its one user.
        read_only: whether it takes no pushes.
    """
    directory.mkdir()
    text = _CONFIGURATION.format(
        directory=directory, address=address, read_only=str(read_only).lower()
    )
    if tls is not None:
        asks = f", clientcas: [{clients}]" if clients else ""
        text += f"  tls: {{certificate: {tls[0]}, key: {tls[1]}{asks}}}\n"
    if mirror_of:
        text += f"proxy: {{remoteurl: {mirror_of}}}\n"
    if htpasswd:
        (directory / "htpasswd").write_text(htpasswd)
        text += f"auth:\n  htpasswd: {{realm: tests, path: {directory}/htpasswd}}\n"
    configuration, log = directory / "config.yml", directory / "registry.log"
    configuration.write_text(text)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "docker-registry", "serve", str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        yield Reachable(f"{address}:{_port(process, log)}", log)
    finally:
        process.terminate()
        process.wait(_START_SECONDS)


def _port(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while (found := _LISTENING.search(log.read_text(errors="replace"))) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"docker-registry did not start:\n{log.read_text()}")
        time.sleep(0.02)
    return found[1].rpartition(":")[2].rstrip(',"')
