"""Registries that misbehave on request: one that serves one image, one in front of a real one."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.serving import Handler, Server, served

_BLOB = re.compile(r"/v2/.+/blobs/sha256:([0-9a-f]{64})")
_MANIFEST = re.compile(r"/v2/.+/manifests/(.+)")


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with *status* instead."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Lie:
    """Send as many bytes as promised, but one of them another."""


@dataclass(frozen=True, slots=True)
class BreakOff:
    """Promise everything, send half, and close the connection."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Never answer: the connection stays open until the registry ends."""


@dataclass(frozen=True, slots=True)
class Late:
    """Answer after *seconds*."""

    seconds: float


Fault = Refuse | Lie | BreakOff | Silence | Late
# From a request's method and path to what goes wrong, if anything. Only the proxy keeps silent, or
# is late.
Faults = Callable[[str, str], Fault | None]


@dataclass(slots=True)
class FaultyRegistry:
    """A running one: its address, and what it was asked, such as ``GET /v2/``."""

    address: str
    layout: Path
    faults: Faults
    requests: list[str] = field(default_factory=list)


@contextmanager
def faulty_registry(layout: Path, faults: Faults) -> Iterator[FaultyRegistry]:
    """Serve the image of an OCI layout under any name; it takes no uploads."""
    with served(_Handler, lambda address: FaultyRegistry(address, layout, faults)) as registry:
        yield registry


def layer_of(layout: Path) -> str:
    """Return the digest, without its algorithm, of the first layer of a layout's image."""
    listed = json.loads((layout / "index.json").read_text())["manifests"][0]
    blob = layout / "blobs" / "sha256" / listed["digest"].removeprefix("sha256:")
    digest = json.loads(blob.read_text())["layers"][0]["digest"]
    return str(digest).removeprefix("sha256:")


class _Handler(Handler):
    server: Server[FaultyRegistry]

    def _serve(self) -> None:
        registry = self.server.state
        registry.requests.append(f"{self.command} {self.path}")
        fault = registry.faults(self.command, self.path)
        if isinstance(fault, Refuse):
            body = json.dumps({"errors": [{"code": "DENIED", "message": "not today"}]}).encode()
            self._send(fault.status, "application/json", body, None, fault.headers)
            return
        if self.path.rstrip("/") == "/v2":
            self._send(200, "application/json", b"{}", None)
            return
        found = _content(registry.layout, self.path)
        if found is None:
            self._send(404, "application/json", b'{"errors":[]}', None)
        else:
            self._send(200, *found, fault)

    do_GET = do_HEAD = do_POST = _serve  # noqa: N815 - http.server's names

    def _send(
        self,
        status: int,
        media_type: str,
        body: bytes,
        fault: Fault | None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", media_type), *headers):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if isinstance(fault, Lie):
            body = body[:-1] + bytes([body[-1] ^ 1])
        if isinstance(fault, BreakOff):
            body = body[: len(body) // 2]
            self.close_connection = True
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the client had enough: that is its right


def _content(layout: Path, path: str) -> tuple[str, bytes] | None:
    """Find the media type and the bytes of a manifest or blob."""
    listed = json.loads((layout / "index.json").read_text())["manifests"][0]
    if (match := _MANIFEST.fullmatch(path)) and not match[1].startswith("missing"):
        media_type, digest = listed["mediaType"], listed["digest"].split(":")[1]
    elif match := _BLOB.fullmatch(path):
        media_type, digest = "application/octet-stream", match[1]
    else:
        return None
    blob = layout / "blobs" / "sha256" / digest
    return (media_type, blob.read_bytes()) if blob.exists() else None


# --- in front of a real registry ----------------------------------------------------------

# What concerns one connection, and not the next.
_OF_A_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding"})
_PATIENCE = 60.0  # seconds


@dataclass(slots=True)
class FaultyProxy:
    """A running one: its address, what it was asked, and what goes wrong from now on."""

    address: str
    upstream: str
    faults: Faults
    requests: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)


def nothing(method: str, path: str) -> Fault | None:
    """Let everything go well."""
    return None


@contextmanager
def faulty_proxy(upstream: str, faults: Faults = nothing) -> Iterator[FaultyProxy]:
    """Pass requests to the registry at *upstream*; ``faults`` of what is given may be replaced."""
    with served(_ProxyHandler, lambda address: FaultyProxy(address, upstream, faults)) as proxy:
        try:
            yield proxy
        finally:
            proxy.ended.set()


class _ProxyHandler(Handler):
    server: Server[FaultyProxy]

    def _pass(self) -> None:
        proxy = self.server.state
        proxy.requests.append(f"{self.command} {self.path}")
        fault = proxy.faults(self.command, self.path)
        if isinstance(fault, Silence):
            proxy.ended.wait()
            self.close_connection = True
            return
        if isinstance(fault, Late):
            proxy.ended.wait(fault.seconds)
        if isinstance(fault, BreakOff) and self.command not in ("GET", "HEAD"):
            self.close_connection = True
            return
        sent = self._body()
        if isinstance(fault, Refuse):
            body = json.dumps({"errors": [{"code": "DENIED", "message": "not today"}]}).encode()
            headers = [("Content-Type", "application/json"), *fault.headers]
            self._answer(fault.status, headers, body, None)
            return
        connection = http.client.HTTPConnection(proxy.upstream, timeout=_PATIENCE)
        try:
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            # Host is ours, so that the addresses in answers lead back to us.
            for name, value in self.headers.items():
                if name.lower() not in (*_OF_A_CONNECTION, "content-length"):
                    connection.putheader(name, value)
            if sent or self.command in ("POST", "PUT", "PATCH"):
                connection.putheader("Content-Length", str(len(sent)))
            connection.endheaders(sent)
            with connection.getresponse() as answer:
                self._answer(answer.status, answer.getheaders(), answer.read(), fault)
        finally:
            connection.close()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _pass  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, fault: Fault | None
    ) -> None:
        self.send_response(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() == "content-length":
                # Of HEAD, it is the size of what GET would give.
                length = value
            elif name.lower() not in _OF_A_CONNECTION:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command == "HEAD":
            return
        if isinstance(fault, Lie):
            body = body[:-1] + bytes([body[-1] ^ 1])
        if isinstance(fault, BreakOff):
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)
