"""An object store that speaks as much of S3, GCS (XML API) and Azure as reading an object takes.

``/BUCKET/KEY`` for GET and HEAD: ranges, ``If-Match``, errors in XML with the store's codes. It
can refuse, break off, stall, and send other bytes than it was given.
"""

from __future__ import annotations

import hashlib
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from tests.serving import Handler, served

DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
MTIME_NS = 1445412480 * 10**9


@dataclass
class Stored:
    """An object: its bytes, and the headers that tell of it."""

    data: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def tag(self) -> str:
        return self.headers.get("ETag") or f'"{hashlib.md5(self.data).hexdigest()}"'


@dataclass(frozen=True)
class Answer:
    """What is answered instead of an object."""

    status: int
    code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]

    @property
    def range(self) -> str:
        return self.headers.get("range", "")


@dataclass
class ObjectServer:
    """The store.

    Attributes:
        address: host and port.
        objects: by ``BUCKET/KEY``.
        guard: says what is answered to a request, or None where it may pass.
        breaks: for each GET that is to break off: after how many bytes.
        damaged: whether other bytes are sent than those that were stored.
        stalled: set when a request has come that gets no answer; None: all are answered.
        before_get: called before a GET is answered.
    """

    address: str
    objects: dict[str, Stored] = field(default_factory=dict)
    buckets: set[str] = field(default_factory=lambda: {"bucket"})
    guard: Callable[[Asked], Answer | None] = lambda asked: None
    codes: tuple[str, str] = ("NoSuchBucket", "NoSuchKey")
    breaks: list[int] = field(default_factory=list)
    damaged: bool = False
    stalled: threading.Event | None = None
    before_get: Callable[[], None] = lambda: None
    asked: list[Asked] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def add(self, name: str, data: bytes, **headers: str) -> Stored:
        """Keep an object; underscores of header names are dashes."""
        given = {key.replace("_", "-"): value for key, value in headers.items()}
        self.objects[name] = stored = Stored(data, given)
        return stored

    def answer(self, asked: Asked) -> Answer | Stored:
        refused = self.guard(asked)
        if refused is not None:
            return refused
        name = asked.path.lstrip("/")
        if name.partition("/")[0] not in self.buckets:
            return Answer(404, self.codes[0])
        found = self.objects.get(name)
        if found is None:
            return Answer(404, self.codes[1])
        if asked.headers.get("if-match", found.tag) != found.tag:
            return Answer(412, "PreconditionFailed")
        return found


class _Objects(Handler):
    def do_GET(self) -> None:  # noqa: N802 - the library's name
        server: ObjectServer = self.server.state  # type: ignore[attr-defined]
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, unquote(parts.path), parts.query, headers)
        server.asked.append(asked)
        if self.command == "GET":
            server.before_get()
            if server.stalled is not None:
                server.stalled.set()
                server.ended.wait(60)
                self.close_connection = True
                return
        answer = server.answer(asked)
        if isinstance(answer, Answer):
            self._refuse(answer)
        else:
            self._send(server, answer, asked)

    do_HEAD = do_GET  # noqa: N815

    def _refuse(self, answer: Answer) -> None:
        body = f"<?xml version='1.0'?><Error><Code>{answer.code}</Code></Error>".encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send(self, server: ObjectServer, stored: Stored, asked: Asked) -> None:
        data = stored.data
        start, end = 0, len(data)
        if asked.range:
            first, _, last = asked.range.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1 if last else end, end)
        piece = data[start:end]
        if server.damaged:
            piece = bytes(byte ^ 1 for byte in piece)
        self.send_response(206 if asked.range else 200)
        if asked.range:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(piece)))
        self.send_header("Last-Modified", DATE)
        for name, value in {"ETag": stored.tag, **stored.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if server.breaks:
            piece = piece[: server.breaks.pop(0)]
            self.close_connection = True
        self.wfile.write(piece)


@contextmanager
def running_objects(tls: ssl.SSLContext | None = None) -> Iterator[ObjectServer]:
    """Run a store with one empty bucket for as long as the block lasts."""
    with served(_Objects, ObjectServer, tls=tls) as server:
        try:
            yield server
        finally:
            server.ended.set()
