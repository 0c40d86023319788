"""An HTTP proxy in this process, which leads to where a test says, whatever it is asked for.

with running_proxy() as proxy:
    proxy.leads["registry.invalid:443"] = "127.0.0.1:40001"
"""

from __future__ import annotations

import base64
import http.client
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.serving import Handler, Server, served

_PIECE = 1 << 16


@dataclass
class ProxyServer:
    """What a running proxy was asked for, and where it leads.

    Attributes:
        leads: from ``host:port``, as asked for, to the one that answers.
        user: the only one, ``name:password``, who may pass; empty for everybody.
        refuses: answers with this status instead of connecting.
        joins: whether it joins anybody to a port, for TLS.
    """

    address: str = ""
    leads: dict[str, str] = field(default_factory=dict)
    user: str = ""
    refuses: int = 0
    joins: bool = True
    asked: list[str] = field(default_factory=list)

    def denies(self, authorization: str | None) -> int:
        """Return the status for a request that may not pass; 0 for one that may."""
        expected = f"Basic {base64.b64encode(self.user.encode()).decode()}"
        return 407 if self.user and authorization != expected else self.refuses


@contextmanager
def running_proxy(host: str = "127.0.0.1") -> Iterator[ProxyServer]:
    """Serve until the block ends."""
    with served(_Handler, ProxyServer, host) as state:
        yield state


class _Handler(Handler):
    server: Server[ProxyServer]

    def do_CONNECT(self) -> None:  # noqa: N802 - http.server's name
        if not self.server.state.joins:
            self.send_error(403)
            return
        target = self._lead(self.path)
        if target is None:
            return
        self.send_response(200)
        self.end_headers()
        with target:
            _join(self.connection, target)
        self.close_connection = True

    def _forward(self) -> None:
        parts = urlsplit(self.path)
        target = self._lead(parts.netloc)
        if target is None:
            return
        with target:
            connection = http.client.HTTPConnection("ignored")
            connection.sock = target
            path = f"{parts.path}?{parts.query}" if parts.query else parts.path
            sent = self.rfile.read(int(self.headers["Content-Length"] or 0))
            connection.request(self.command, path, sent, dict(self.headers.items()))
            answer = connection.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name not in ("Date", "Server"):
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _forward  # noqa: N815

    def _lead(self, asked: str) -> socket.socket | None:
        state = self.server.state
        state.asked.append(asked)
        status = state.denies(self.headers["Proxy-Authorization"])
        if not status and asked not in state.leads:
            status = 502
        if status:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        host, _, port = state.leads[asked].rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)))


def _join(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until either end is done."""
    while True:
        for ready in select.select([one, other], [], [])[0]:
            try:
                data = ready.recv(_PIECE)
                (other if ready is one else one).sendall(data)
            except OSError:
                return
            if not data:
                return
