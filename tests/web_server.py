"""A web server in this process, over real HTTP, that misbehaves on request, and serves git.

with running_web() as web:
    web.add("/a.txt", b"a", last_modified="...")
    web.address            # http://127.0.0.1:12345
    web.repositories       # a directory: what is in it is served below /git/
"""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.serving import Handler, Server, served

_GIT = "/git/"
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_PIECE = 64 << 10  # bytes


@dataclass(frozen=True)
class Request:
    """A request as it came; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Answer:
    """What is answered.

    Attributes:
        stop_after: bytes of the body after which the connection is cut.
        pause: seconds before each 64 KiB of the body.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    stop_after: int | None = None
    pause: float = 0.0


Page = Callable[[Request], Answer]


@dataclass
class WebServer:
    """What a running server serves and was asked.

    Attributes:
        guard: looks at each request first; where it returns an answer, that is sent.
    """

    address: str = ""
    repositories: Path | None = None
    pages: dict[str, Page] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    guard: Callable[[Request], Answer | None] | None = None

    def add(
        self,
        path: str,
        body: bytes,
        *,
        stop_after: int | None = None,
        pause: float = 0.0,
        **headers: str,
    ) -> str:
        """Serve *body* below *path*, ranges included where it has an ETag; return its address.

        Args:
            stop_after: bytes after which each answer ends.
            pause: seconds before each 64 KiB.
        """
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        def page(request: Request) -> Answer:
            match = _RANGE.fullmatch(request.headers.get("range", ""))
            if match is None or request.headers.get("if-range") != named.get("etag"):
                return Answer(200, named, body, stop_after, pause)
            start, last = int(match[1]), int(match[2] or len(body) - 1)
            span = {"Content-Range": f"bytes {start}-{last}/{len(body)}"}
            return Answer(206, {**named, **span}, body[start : last + 1], stop_after, pause)

        self.pages[path] = page
        return self.address + path

    def demand(self, authorization: str, realm: str = 'Basic realm="tests"') -> None:
        """Answer 401 to every request without this ``Authorization``."""

        def guard(request: Request) -> Answer | None:
            if request.headers.get("authorization") == authorization:
                return None
            return Answer(401, {"WWW-Authenticate": realm}, b"who are you?")

        self.guard = guard

    def answer(self, path: str, *answers: Answer) -> str:
        """Give *answers* in turn, the last one for good; return the address."""
        left = list(answers)
        self.pages[path] = lambda _: left.pop(0) if len(left) > 1 else left[0]
        return self.address + path

    def asked(self, path: str) -> list[Request]:
        """List the requests for *path*."""
        return [request for request in self.requests if urlsplit(request.path).path == path]


@contextmanager
def running_web(
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
    repositories: Path | None = None,
) -> Iterator[WebServer]:
    """Serve until the block ends."""
    scheme = "http" if tls is None else "https"

    def state_at(address: str) -> WebServer:
        return WebServer(f"{scheme}://{address}", repositories)

    with served(_Handler, state_at, host, tls) as state:
        yield state


class _Handler(Handler):
    server: Server[WebServer]

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("transfer-encoding", "") == "chunked":
            body = self._chunked()
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body)
        state = self.server.state
        state.requests.append(request)
        path = urlsplit(self.path).path
        answer = state.guard(request) if state.guard else None
        if answer is not None:
            self._send(answer)
        elif (page := state.pages.get(path)) is not None:
            self._send(page(request))
        elif path.startswith(_GIT) and state.repositories is not None:
            self._send(_backend(request, body, state.repositories))
        else:
            self._send(Answer(404, {}, b"not here"))

    do_GET = do_HEAD = do_POST = _serve  # noqa: N815 - http.server's names

    def _chunked(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        body = answer.body
        if answer.stop_after is not None:
            body = body[: answer.stop_after]
            self.close_connection = True
        if self.command == "HEAD":
            return
        if not answer.pause:
            self.wfile.write(body)
            return
        for start in range(0, len(body), _PIECE):
            time.sleep(answer.pause)
            self.wfile.write(body[start : start + _PIECE])


def _backend(request: Request, body: bytes, repositories: Path) -> Answer:
    """Answer as ``git http-backend`` does."""
    parts = urlsplit(request.path)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(repositories),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_PROJECT_ROOT": str(repositories),
        "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
        "PATH_INFO": "/" + parts.path.removeprefix(_GIT),
        "QUERY_STRING": parts.query,
        "REQUEST_METHOD": request.method,
        "CONTENT_TYPE": request.headers.get("content-type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
        "REMOTE_ADDR": "127.0.0.1",
    }
    done = subprocess.run(
        ["git", "http-backend"], input=body, env=environment, capture_output=True, check=False
    )
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
    status = int(headers.pop("Status", "200").split()[0])
    return Answer(status, headers, content)
