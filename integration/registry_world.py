"""Debian's docker-registry with token authentication, and the token service that it trusts."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

ISSUER, SERVICE = "tests", "the registry"
_START_SECONDS = 20.0
_LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")
_CONFIGURATION = """\
version: 0.1
log: {{level: info}}
storage:
  filesystem: {{rootdirectory: {directory}/storage}}
http: {{addr: "127.0.0.1:0", secret: for-tests-only}}
auth:
  token:
    realm: {realm}
    service: {service}
    issuer: {issuer}
    rootcertbundle: {directory}/issuer.pem
"""


@dataclass(slots=True)
class TokenService:
    """Gives everybody the right to pull, and its one user every right.

    Attributes:
        seconds: how long the tokens live.
        rights: what its user may do.
        leeway: how much earlier than it says they end, in seconds: docker-registry takes them for
            a minute longer than they are good.
        granted: the scopes of each token given, in order.
    """

    user: str
    password: str
    seconds: float = 300.0
    rights: frozenset[str] = frozenset({"pull", "push"})
    leeway: float = 0.0
    granted: list[tuple[str, ...]] = field(default_factory=list)
    key: rsa.RSAPrivateKey = field(
        default_factory=lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048)
    )
    address: str = ""
    certificate: x509.Certificate | None = None

    def certify(self, path: Path) -> None:
        """Write the certificate that the registry trusts, of our own key."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
        now = datetime.now(UTC)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def token(self, scopes: list[str], authorization: str | None) -> str | None:
        """Return a token for what of *scopes* may be given; None for a wrong password."""
        pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        if authorization not in (None, f"Basic {pair}"):
            return None
        access: list[dict[str, object]] = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            allowed = set(actions.split(",")) & (self.rights if authorization else {"pull"})
            access.append({"type": kind, "name": name, "actions": sorted(allowed)})
        self.granted.append(tuple(scopes))
        return self._signed(access)

    def _signed(self, access: list[dict[str, object]]) -> str:
        assert self.certificate is not None
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": self.user,
            "aud": SERVICE,
            "nbf": now - 10,
            "iat": now,
            "exp": now + int(self.seconds - self.leeway),
            "jti": str(len(self.granted)),
            "access": access,
        }
        text = b".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
        signature = self.key.sign(text, padding.PKCS1v15(), hashes.SHA256())
        return (text + b"." + _encoded(signature)).decode()


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@contextmanager
def token_registry(
    directory: Path, service: TokenService, *, realm: str | None = None
) -> Iterator[str]:
    """Run a registry that trusts *service*, and the service; yield the registry's address.

    With *realm* the registry names another place for tokens, which has them from *service*.
    """
    directory.mkdir(parents=True)
    service.certify(directory / "issuer.pem")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        server.service = service  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        realm = realm or f"http://127.0.0.1:{server.server_address[1]}/token"
        configuration = directory / "config.yml"
        configuration.write_text(
            _CONFIGURATION.format(directory=directory, realm=realm, service=SERVICE, issuer=ISSUER)
        )
        try:
            with _running(configuration, directory / "registry.log") as address:
                yield address
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def _running(configuration: Path, log: Path) -> Iterator[str]:
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "docker-registry", "serve", str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env={"PATH": os.defpath + ":/usr/sbin", "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while (found := _LISTENING.search(log.read_text(errors="replace"))) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"docker-registry did not start:\n{log.read_text()}")
            time.sleep(0.02)
        yield f"127.0.0.1:{found[1]}"
    finally:
        process.terminate()
        process.wait(_START_SECONDS)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        service: TokenService = self.server.service  # type: ignore[attr-defined]
        scopes = parse_qs(urlsplit(self.path).query).get("scope", [])
        token = service.token(scopes, self.headers["Authorization"])
        body = json.dumps({"token": token, "expires_in": int(service.seconds)}).encode()
        self.send_response(200 if token else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""
