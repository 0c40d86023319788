"""A registry that misbehaves on request: it serves one image, and breaks its promises."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

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


Fault = Refuse | Lie | BreakOff
# From a request's method and path to what goes wrong, if anything.
Faults = Callable[[str, str], Fault | None]


@dataclass(slots=True)
class FaultyRegistry:
    """A running one: its address, and what it was asked."""

    address: str
    requests: list[str] = field(default_factory=list)


@contextmanager
def faulty_registry(layout: Path, faults: Faults) -> Iterator[FaultyRegistry]:
    """Serve the image of an OCI layout under any name; it takes no uploads."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        registry = FaultyRegistry(f"127.0.0.1:{server.server_address[1]}")
        server.plan = (layout, faults, registry.requests)  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()


def layer_of(layout: Path) -> str:
    """Return the digest, without its algorithm, of the first layer of a layout's image."""
    listed = json.loads((layout / "index.json").read_text())["manifests"][0]
    blob = layout / "blobs" / "sha256" / listed["digest"].removeprefix("sha256:")
    digest = json.loads(blob.read_text())["layers"][0]["digest"]
    return str(digest).removeprefix("sha256:")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    def _answer(self) -> None:
        layout, faults, requests = self.server.plan  # type: ignore[attr-defined]
        requests.append(f"{self.command} {self.path}")
        fault = faults(self.command, self.path)
        if isinstance(fault, Refuse):
            body = json.dumps({"errors": [{"code": "DENIED", "message": "not today"}]}).encode()
            self._send(fault.status, "application/json", body, None, fault.headers)
            return
        if self.path.rstrip("/") == "/v2":
            self._send(200, "application/json", b"{}", None)
            return
        found = _content(layout, self.path)
        if found is None:
            self._send(404, "application/json", b'{"errors":[]}', None)
        else:
            self._send(200, *found, fault)

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
