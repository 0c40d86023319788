"""A registry in this process, over real HTTP, that misbehaves on request.

with running_registry() as server:
    server.add_image("team/app", "1", image)
    server.misbehave(BreakOff(1000), path="/blobs/", times=1)
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image
from kaniko_core.oci.reference import Reference
from tests.serving import Handler, Server, served

_PATH = re.compile(r"/v2/(?P<name>.+?)/(?P<kind>manifests|blobs/uploads|blobs|tags)/(?P<rest>.*)")


@dataclass(frozen=True)
class Answer:
    """Answer with this instead; an error code of the specification may be in the body."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    code: str = ""
    message: str = ""
    text: str | None = None

    @property
    def body(self) -> bytes:
        if self.text is not None:
            return self.text.encode()
        error = {"code": self.code, "message": self.message}
        return json.dumps({"errors": [error]}).encode() if self.code else b""


@dataclass(frozen=True)
class BreakOff:
    """Promise everything, send so many bytes of the body, and close the connection."""

    after: int


@dataclass(frozen=True)
class Corrupt:
    """Send as many bytes as promised, but the last one changed."""


@dataclass(frozen=True)
class Without:
    """Leave a header out of an otherwise good answer."""

    header: str


@dataclass(frozen=True)
class With:
    """Change a header of an otherwise good answer."""

    header: str
    value: str


@dataclass(frozen=True)
class HangUp:
    """Do what was asked, and close the connection instead of answering."""


Fault = HangUp | Answer | BreakOff | Corrupt | Without | With


@dataclass
class _Rule:
    fault: Fault
    method: str
    path: str
    times: int | None


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = field(repr=False, default=b"")

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")

    @property
    def line(self) -> str:
        return f"{self.method} {urlsplit(self.path).path}"


@dataclass
class RegistryServer:
    """What a running registry holds, was asked, and will do wrong."""

    address: str = ""
    ranges: bool = True
    refused: Answer | None = None  # to those who ask for a part that has an end
    room: threading.Semaphore | None = None  # for so many requests at once; others are refused
    mounts: bool = True
    challenge: str | None = None
    authorized: set[str] = field(default_factory=set)
    token_service: Callable[[Seen], Answer] | None = None
    upload_location: str = ""  # in place of this server, where uploads go to
    blobs: dict[str, dict[str, bytes]] = field(default_factory=dict)
    manifests: dict[str, dict[str, tuple[str, bytes]]] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    requests: list[Seen] = field(default_factory=list)
    rules: list[_Rule] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def misbehave(
        self, fault: Fault, *, method: str = "", path: str = "", times: int | None = 1
    ) -> None:
        """Let *fault* happen to the next requests of *method* whose path has *path*."""
        self.rules.append(_Rule(fault, method, path, times))

    def reference(self, name: str) -> Reference:
        return Reference.parse(f"{self.address}/{name}")

    def add_blob(self, name: str, data: bytes) -> Digest:
        digest = Digest.of(data)
        self.blobs.setdefault(name, {})[str(digest)] = data
        return digest

    def add_manifest(self, name: str, tag: str, media_type: str, data: bytes) -> Digest:
        held = self.manifests.setdefault(name, {})
        digest = Digest.of(data)
        held[tag] = held[str(digest)] = (media_type, data)
        return digest

    def add_image(self, name: str, tag: str, image: Image) -> Reference:
        for layer in image.layers:
            with layer.open() as stream:
                self.add_blob(name, stream.read())
        self.add_blob(name, image.raw_config)
        self.add_manifest(name, tag, image.manifest.media_type, image.raw_manifest)
        return self.reference(f"{name}:{tag}")

    def lines(self, method: str = "") -> list[str]:
        """List the requests as ``GET /path``, without queries."""
        return [seen.line for seen in self.requests if seen.method.startswith(method)]

    def fault_for(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for rule in self.rules:
                if rule.method in ("", method) and rule.path in path and rule.times != 0:
                    if rule.times is not None:
                        rule.times -= 1
                    return rule.fault
        return None


@contextmanager
def running_registry(
    host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[RegistryServer]:
    """Serve until the block ends."""
    with served(_Handler, RegistryServer, host, tls) as state:
        yield state


class _Handler(Handler):
    server: Server[RegistryServer]

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def _serve(self) -> None:
        room = self.server.state.room
        if room is None:
            self._take()
        elif room.acquire(blocking=False):
            time.sleep(0.01)  # else one is gone before the next one comes
            try:
                self._take()
            finally:
                room.release()
        else:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self._send(429, {}, b"", None)

    def _take(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        state = self.server.state
        seen = Seen(self.command, self.path, headers, body)
        state.requests.append(seen)
        fault = state.fault_for(self.command, self.path)
        if state.refused is not None and re.fullmatch(r"bytes=\d+-\d+", headers.get("range", "")):
            fault = state.refused
        if isinstance(fault, Answer):
            self._send(fault.status, dict(fault.headers), fault.body, None)
        elif urlsplit(self.path).path == "/token" and state.token_service is not None:
            answer = state.token_service(seen)
            self._send(answer.status, dict(answer.headers), answer.body, None)
        elif state.challenge and headers.get("authorization") not in state.authorized:
            denied = Answer(401, code="UNAUTHORIZED", message="authentication required")
            self._send(401, {"WWW-Authenticate": state.challenge}, denied.body, None)
        else:
            self._send(*self._answer(body), fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server's names

    def _send(self, status: int, headers: dict[str, str], body: bytes, fault: Fault | None) -> None:
        if isinstance(fault, HangUp):
            self.close_connection = True
            return
        headers = {"Content-Length": str(len(body)), **headers}
        if isinstance(fault, Without):
            headers.pop(fault.header, None)
        if isinstance(fault, With):
            headers[fault.header] = fault.value
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if isinstance(fault, Corrupt):
            body = body[:-1] + bytes([body[-1] ^ 1])
        if isinstance(fault, BreakOff):
            body = body[: fault.after]
            self.close_connection = True
        self.wfile.write(body)

    def _answer(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        match = _PATH.fullmatch(urlsplit(self.path).path)
        if match is None:
            return (200, {}, b"{}") if self.path == "/v2/" else (404, {}, b"")
        name, kind, rest = match["name"], match["kind"], match["rest"]
        if kind == "manifests":
            return self._manifest(name, rest, body)
        if kind == "blobs/uploads":
            return self._upload(name, rest, body)
        if kind == "tags":
            return self._tags(name)
        return self._blob(name, rest)

    def _manifest(self, name: str, rest: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        held = self.server.state.manifests.setdefault(name, {})
        if self.command == "PUT":
            digest = Digest.of(body)
            held[rest] = held[str(digest)] = (self.headers["Content-Type"], body)
            return 201, {"Docker-Content-Digest": str(digest)}, b""
        if self.command == "DELETE":
            return (202, {}, b"") if held.pop(rest, None) else (404, {}, b"")
        if rest not in held:
            return 404, {}, Answer(404, code="MANIFEST_UNKNOWN", message="unknown").body
        media_type, data = held[rest]
        headers = {"Content-Type": media_type, "Docker-Content-Digest": str(Digest.of(data))}
        return 200, headers, data

    def _tags(self, name: str) -> tuple[int, dict[str, str], bytes]:
        tags = [tag for tag in self.server.state.manifests.get(name, {}) if ":" not in tag]
        return 200, {}, json.dumps({"name": name, "tags": tags}).encode()

    def _blob(self, name: str, digest: str) -> tuple[int, dict[str, str], bytes]:
        data = self.server.state.blobs.get(name, {}).get(digest)
        if data is None:
            return 404, {}, Answer(404, code="BLOB_UNKNOWN", message="unknown").body
        if not self.server.state.ranges:
            return 200, {}, data
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            start, end = int(asked[1]), min(int(asked[2] or len(data)) + 1, len(data))
            where = f"bytes {start}-{end - 1}/{len(data)}"
            return 206, {"Content-Range": where}, data[start:end]
        return 200, {"Accept-Ranges": "bytes"}, data

    def _upload(self, name: str, rest: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        state = self.server.state
        query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        if self.command == "POST":
            source = state.blobs.get(query.get("from", ""), {})
            if state.mounts and query.get("mount") in source:
                state.blobs.setdefault(name, {})[query["mount"]] = source[query["mount"]]
                return 201, {}, b""
            with state.lock:
                number = str(len(state.uploads))
                state.uploads[number] = b""
            return 202, {"Location": self._location(name, number)}, b""
        if rest not in state.uploads:
            return 404, {}, Answer(404, code="BLOB_UPLOAD_UNKNOWN").body
        if self.command == "DELETE":
            del state.uploads[rest]
            return 204, {}, b""
        state.uploads[rest] += body
        if self.command == "PATCH":
            return 202, {"Location": self._location(name, rest)}, b""
        digest = Digest.of(state.uploads[rest])
        if str(digest) != query.get("digest"):
            return 400, {}, Answer(400, code="DIGEST_INVALID").body
        state.blobs.setdefault(name, {})[str(digest)] = state.uploads[rest]
        return 201, {"Docker-Content-Digest": str(digest)}, b""

    def _location(self, name: str, number: str) -> str:
        return f"{self.server.state.upload_location}/v2/{name}/blobs/uploads/{number}?_state=a%3D"
