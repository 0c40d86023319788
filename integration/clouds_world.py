"""Names of the internet for our programs alone: a proxy that answers for hosts that it knows.

A program that has the proxy and its CA in its environment reaches ``mine.azurecr.io`` by TLS, as
it would from a machine in that cloud; what is behind the name is a server of the test's own.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import trustme

from tests.serving import Handler, served

# They are of one connection, and not handed on.
_OF_A_HOP = frozenset({"connection", "transfer-encoding", "proxy-connection", "keep-alive"})


@dataclass
class Internet:
    """What is behind names of hosts.

    Attributes:
        address: of the proxy.
        backends: by host, or host and first part of a path: the address of an HTTP server.
        asked: hosts and paths, in order.
    """

    address: str
    backends: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    authority: trustme.CA = field(default_factory=trustme.CA)

    def environment(self, directory: Path) -> dict[str, str]:
        """Return the variables of a program that is to see this internet and no other."""
        bundle = directory / "internet.pem"
        self.authority.cert_pem.write_to_path(str(bundle))
        return {"HTTPS_PROXY": f"http://{self.address}", "SSL_CERT_FILE": str(bundle)}

    def backend(self, host: str, path: str) -> str:
        """Return the address of the server for a request."""
        first = path.partition("?")[0].split("/")[1]
        return self.backends.get(f"{host}/{first}") or self.backends[host]


class _Proxy(Handler):
    host = ""

    def do_CONNECT(self) -> None:  # noqa: N802 - the library's name
        internet: Internet = self.server.state  # type: ignore[attr-defined]
        self.host = self.path.partition(":")[0]
        if self.host not in internet.backends:
            self.send_error(502)
            return
        self.send_response(200)
        self.end_headers()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        internet.authority.issue_cert(self.host).configure_cert(context)
        self.connection = context.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), _Sending(self.connection)
        self.close_connection = False

    def forward(self) -> None:
        internet: Internet = self.server.state  # type: ignore[attr-defined]
        internet.asked.append(f"{self.command} {self.host}{self.path.partition('?')[0]}")
        backend = HTTPConnection(internet.backend(self.host, self.path))
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _OF_A_HOP}
        backend.request(self.command, self.path, self._body(), headers)
        answer = backend.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {*_OF_A_HOP, "content-length"}:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        backend.close()

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = forward  # noqa: N815


class _Sending:
    """The writing side of a connection, as the library's handlers want it."""

    closed = False

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self._connection = connection

    def write(self, data: bytes) -> int:
        self._connection.sendall(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: what was written is sent."""

    def close(self) -> None:
        self._connection.close()


@contextmanager
def running_internet(backends: dict[str, str]) -> Iterator[Internet]:
    """Run the proxy for as long as the block lasts."""
    with served(_Proxy, Internet) as internet:
        internet.backends.update(backends)
        yield internet
