"""Build contexts behind URLs, in real builds: HTTPS with a test CA, a server that misbehaves."""

from __future__ import annotations

import base64
import getpass
import gzip
import hashlib
import io
import random
import shutil
import socket
import ssl
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration import readers
from integration.programs import Build, Finished, said
from integration.transport_world import Authority
from tests.repository import COMMITTED
from tests.web_server import Answer, Request, WebServer, running_web

_SECRET = "geheim"
_AT_ONCE = "--image-download-retry=0"
_DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
_START_SECONDS = 20.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.made(tmp_path / "authority")


@pytest.fixture
def secure(authority: Authority) -> Iterator[WebServer]:
    """A server with a certificate of *authority*."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("127.0.0.1"))
    with running_web(tls=context) as started:
        yield started


def packed(files: dict[str, bytes]) -> bytes:
    """Return a tar.gz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(content), 0o640, COMMITTED
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), 1)


@pytest.fixture
def content(busybox: str) -> bytes:
    """An archive of 1.5 MB with a Dockerfile that copies it."""
    return packed(
        {
            "Dockerfile": f"FROM {busybox}\nCOPY . /out/\n".encode(),
            ".dockerignore": b"left\n",
            "left": b"left",
            "deep/file": b"deep",
            "large": random.Random(5).randbytes(1_500_000),
        }
    )


FOUND = {"Dockerfile", ".dockerignore", "deep", "deep/file", "large"}


@dataclass(frozen=True)
class FromTheWeb:
    """Builds what a URL serves."""

    build: Build
    trust: tuple[str, ...]

    def __call__(
        self, url: str, *flags: str, check: bool = True, env: dict[str, str] | None = None
    ) -> Finished:
        """Build with ``--context=URL``, with every word of the log."""
        done = self.build.programs.executor(
            *(f"--context={url}", f"--destination={self.build.image}", "--verbosity=trace"),
            *(*self.trust, *flags),
            check=check,
            env=env,
        )
        assert "Traceback" not in done.written
        assert _SECRET not in done.written
        assert self.build.programs.leftovers() == []
        return done

    def found(self) -> set[str]:
        """List what the image got."""
        return set(readers.tree(self.build.image, "out")) - {"."}


@pytest.fixture
def built(build: Build, secure: WebServer, authority: Authority) -> FromTheWeb:
    host = secure.address.removeprefix("https://")
    return FromTheWeb(build, (f"--registry-certificate={host}={authority.file}",))


def basic(user: str) -> str:
    return f"Basic {base64.b64encode(user.encode()).decode()}"


# --- what works ------------------------------------------------------------------------------


def test_archive_behind_https_is_the_context(
    built: FromTheWeb, secure: WebServer, content: bytes
) -> None:
    done = built(secure.add("/context.tar.gz", content), "--reproducible")

    assert done.status == 0
    assert built.found() == FOUND
    assert len(secure.requests) == 1


def test_name_of_the_archive_does_not_matter(
    built: FromTheWeb, secure: WebServer, content: bytes
) -> None:
    built(f"{secure.add('/download', content)}?id=7&sig={_SECRET}")

    assert built.found() == FOUND


def test_certificate_of_an_unknown_authority_is_refused(
    build: Build, secure: WebServer, content: bytes
) -> None:
    done = FromTheWeb(build, ())(secure.add("/c.tar.gz", content), _AT_ONCE, check=False)

    said(done, "cannot verify the TLS certificate", "--registry-certificate")


@pytest.mark.parametrize(
    ("user", "flags", "netrc", "wanted"),
    [
        ("me:geheim@", (), "", basic("me:geheim")),
        ("", ("--secret=id=HTTP_AUTH_TOKEN_127.0.0.1,env=TOKEN",), "", "Bearer geheim"),
        ("", ("--secret=id=HTTP_AUTH_HEADER_127.0.0.1,env=HEADER",), "", "Custom geheim"),
        ("", (), "machine 127.0.0.1 login me password geheim", basic("me:geheim")),
        ("me@", (), "machine 127.0.0.1 login me password geheim", basic("me:geheim")),
        (
            "you:else@",
            ("--secret=id=HTTP_AUTH_TOKEN_127.0.0.1,env=TOKEN",),
            "machine 127.0.0.1 login me password else",
            "Bearer geheim",
        ),
    ],
    ids=["address", "token", "header", "netrc", "netrc-for-a-user", "token-first"],
)
def test_credentials_open_it(
    built: FromTheWeb,
    secure: WebServer,
    content: bytes,
    user: str,
    flags: tuple[str, ...],
    netrc: str,
    wanted: str,
) -> None:
    url = secure.add("/c.tar.gz", content)
    secure.demand(wanted)
    (built.build.programs.directory / ".netrc").write_text(netrc)

    built(
        url.replace("://", f"://{user}"),
        *flags,
        env={"TOKEN": _SECRET, "HEADER": f"Custom {_SECRET}"},
    )

    assert built.found() == FOUND


def test_netrc_that_is_named(
    built: FromTheWeb, secure: WebServer, content: bytes, tmp_path: Path
) -> None:
    url = secure.add("/c.tar.gz", content)
    secure.demand(basic("me:geheim"))
    (tmp_path / "passwords").write_text("machine 127.0.0.1 login me password geheim")

    built(url, env={"NETRC": str(tmp_path / "passwords")})

    assert built.found() == FOUND


def test_damaged_netrc_is_a_warning(built: FromTheWeb, secure: WebServer, content: bytes) -> None:
    (built.build.programs.directory / ".netrc").write_text(f"machine x pass {_SECRET}\n")

    done = built(secure.add("/c.tar.gz", content))

    assert done.stderr.count("cannot read passwords from") == 1
    assert built.found() == FOUND


@pytest.mark.parametrize("etag", ['"1"', 'W/"1"', ""])
def test_connections_that_break_off_are_taken_up(
    built: FromTheWeb, secure: WebServer, content: bytes, etag: str
) -> None:
    url = secure.add("/c.tar.gz", content, etag=etag)
    whole, sizes = secure.pages["/c.tar.gz"], [100_000, 400_000, 1_000_000]

    def page(request: Request) -> Answer:
        answer = whole(request)
        return Answer(answer.status, answer.headers, answer.body, sizes.pop(0) if sizes else None)

    secure.pages["/c.tar.gz"] = page

    built(url)

    assert built.found() == FOUND
    asked = [request.headers.get("range", "") for request in secure.asked("/c.tar.gz")]
    assert len(asked) >= 3
    assert all(asked[1:]) == (etag == '"1"')


@pytest.mark.parametrize("ranges", ["bytes", "none"])
def test_slow_server(built: FromTheWeb, secure: WebServer, content: bytes, ranges: str) -> None:
    built(secure.add("/c.tar.gz", content, pause=0.02, etag='"1"', accept_ranges=ranges))

    assert built.found() == FOUND


def test_redirect_to_another_host_takes_no_credentials_along(
    built: FromTheWeb, secure: WebServer, authority: Authority, content: bytes
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("127.0.0.2"))
    with running_web("127.0.0.2", tls=context) as other:
        target = f"{other.add('/real', content)}?signature={_SECRET}"
        url = secure.answer("/c.tar.gz", Answer(302, {"Location": target}))
        host = other.address.removeprefix("https://")

        built(
            url.replace("://", "://me:geheim@"),
            f"--registry-certificate={host}={authority.file}",
        )

        assert "authorization" in secure.requests[0].headers
        assert "authorization" not in other.requests[0].headers
    assert built.found() == FOUND


def test_right_checksum_of_the_server(built: FromTheWeb, secure: WebServer, content: bytes) -> None:
    built(secure.add("/c.tar.gz", content, repr_digest=f"sha-256=:{checksum('sha256', content)}:"))

    assert built.found() == FOUND


def checksum(algorithm: str, body: bytes) -> str:
    return base64.b64encode(hashlib.new(algorithm, body).digest()).decode()


# --- named contexts and ADD ------------------------------------------------------------------


def test_named_context_and_add_of_the_same(
    built: FromTheWeb, secure: WebServer, content: bytes, busybox: str
) -> None:
    url = secure.add("/c.tar.gz", content, etag='"1"', stop_after=700_000, last_modified=_DATE)
    secure.demand("Bearer geheim")
    sum_of = hashlib.sha256(content).hexdigest()
    programs = built.build.programs

    dockerfile = (
        f"FROM {busybox}\nCOPY --from=named . /out/named/\nADD {url} /out/file\n"
        f"ADD --unpack --checksum=sha256:{sum_of} {url} /out/unpacked/\n"
    )
    built.build.fill({"Dockerfile": dockerfile})
    programs.executor(
        *(*built.build.arguments, *built.trust, f"--build-context=named={url}"),
        "--secret=id=HTTP_AUTH_TOKEN_127.0.0.1,env=TOKEN",
        env={"TOKEN": _SECRET},
    )

    found = readers.tree(built.build.image, "out")
    assert {"named/deep/file", "named/left", "file", "unpacked/deep/file"} <= set(found)
    assert found["file"].mtime == COMMITTED
    assert programs.leftovers() == []


# --- what goes wrong -------------------------------------------------------------------------


def test_checksum_that_the_bytes_do_not_have(
    built: FromTheWeb, secure: WebServer, content: bytes
) -> None:
    url = secure.add("/c.tar.gz", content, content_md5=checksum("md5", b"other"))

    said(built(url, _AT_ONCE, check=False), url, "damaged on its way")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(404, {}, b"<html>"), ("nothing at this address (404)",)),
        (Answer(401, {}, b"<html>"), ("wants credentials (401)", "HTTP_AUTH_TOKEN_127.0.0.1")),
        (Answer(403, {}, b"<html>"), ("wants credentials (403)", ".netrc")),
        (Answer(500, {}, b"<html>"), ("busy or broken (500)",)),
        (Answer(200, {"Content-Type": "text/html"}, b"<html>" + b"x" * 4096), ("archive",)),
        (Answer(200, {}, b""), ("is empty",)),
        (Answer(302, {"Location": "http://127.0.0.1:1/x"}), ("without TLS",)),
        (Answer(302, {"Location": "/c.tar.gz"}), ("redirects without end",)),
    ],
)
def test_answer_without_an_archive_is_one_sentence(
    built: FromTheWeb, secure: WebServer, answer: Answer, words: tuple[str, ...]
) -> None:
    url = secure.answer("/c.tar.gz", answer)

    said(built(f"{url}?sig={_SECRET}", _AT_ONCE, check=False), url, *words)


def test_credentials_that_are_wrong(built: FromTheWeb, secure: WebServer) -> None:
    url = secure.address + "/c.tar.gz"
    secure.demand(basic("me:other"))

    done = built(url.replace("://", "://me:geheim@"), _AT_ONCE, check=False)

    said(done, url, "does not accept the credentials (401)")


def test_connection_that_breaks_off_for_good(
    built: FromTheWeb, secure: WebServer, content: bytes
) -> None:
    url = secure.answer("/c.tar.gz", Answer(body=content, stop_after=700_000))

    said(built(url, _AT_ONCE, check=False), url, "broke off")


def test_file_that_changes_meanwhile(built: FromTheWeb, secure: WebServer, content: bytes) -> None:
    url = secure.answer(
        "/c.tar.gz",
        Answer(200, {"ETag": '"1"'}, content, stop_after=700_000),
        Answer(200, {"ETag": '"2"'}, content),
    )

    said(built(url, check=False), url, "changed while it was fetched")


def test_nobody_listens(built: FromTheWeb) -> None:
    done = built("https://127.0.0.1:1/c.tar.gz", _AT_ONCE, check=False)

    said(done, "https://127.0.0.1:1/c.tar.gz", "refuses connections")


# --- a server as people have it --------------------------------------------------------------

_NGINX = """\
daemon off;
worker_processes 1;
pid {directory}/pid;
error_log stderr warn;
events {{}}
http {{
  log_format asked "$request_uri|$http_range|$status";
  access_log {directory}/access asked;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl;
    sendfile on;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    root {directory}/files;
    location /slow/ {{ alias {directory}/files/; limit_rate 16m; }}
    location /whole/ {{ alias {directory}/files/; max_ranges 0; }}
    location /private/ {{
      alias {directory}/files/;
      auth_basic tests;
      auth_basic_user_file {directory}/users;
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A server that runs."""

    address: str
    directory: Path

    def ranges(self) -> list[str]:
        """List what was asked for, request by request; "-" for everything."""
        lines = (self.directory / "access").read_text().splitlines()
        return [line.split("|")[1] for line in lines]


@contextmanager
def running_nginx(directory: Path, authority: Authority) -> Iterator[Nginx]:
    certificate, key = authority.issue("127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    (directory / "files").mkdir(parents=True)
    (directory / "users").write_text(f"me:{{PLAIN}}{_SECRET}\n")
    text = _NGINX.format(directory=directory, port=port, certificate=certificate, key=key)
    # The directory of a test is its user's alone.
    (directory / "nginx.conf").write_text(f"user {getpass.getuser()};\n{text}")
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "TERM", "nginx", "-e", "stderr"),
                *("-p", str(directory), "-c", str(directory / "nginx.conf")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not (directory / "pid").exists():
            assert process.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield Nginx(f"https://127.0.0.1:{port}", directory)
    finally:
        process.terminate()
        process.wait(_START_SECONDS)


@pytest.fixture
def nginx(tmp_path: Path, authority: Authority) -> Iterator[Nginx]:
    if shutil.which("nginx") is None:
        pytest.skip("needs nginx")
    with running_nginx(tmp_path / "nginx", authority) as started:
        yield started


@pytest.fixture
def large(busybox: str) -> bytes:
    """An archive of 48 MB."""
    return packed(
        {
            "Dockerfile": f"FROM {busybox}\nCOPY small large /out/\n".encode(),
            "small": b"small",
            "large": random.Random(6).randbytes(48 << 20),
        }
    )


def from_nginx(
    build: Build, nginx: Nginx, authority: Authority, path: str, content: bytes, user: str = ""
) -> None:
    (nginx.directory / "files/context.tar.gz").write_bytes(content)
    host = nginx.address.removeprefix("https://")
    built = FromTheWeb(build, (f"--registry-certificate={host}={authority.file}",))

    built(f"{nginx.address}{path}/context.tar.gz".replace("://", f"://{user}"))

    assert built.found() in (FOUND, {"small", "large"})


def test_large_archive_of_a_server_that_limits_connections_comes_in_parts(
    build: Build, nginx: Nginx, authority: Authority, large: bytes
) -> None:
    from_nginx(build, nginx, authority, "/slow", large)

    assert sum(asked.startswith("bytes=") for asked in nginx.ranges()) > 4
    with readers.unpacked(build.image) as root:
        assert (root / "out/large").read_bytes() == random.Random(6).randbytes(48 << 20)


@pytest.mark.parametrize(
    ("path", "user"),
    [("", ""), ("/whole", ""), ("/private", "me:geheim@")],
    ids=["ranges", "whole", "private"],
)
def test_nginx(
    build: Build, nginx: Nginx, authority: Authority, content: bytes, path: str, user: str
) -> None:
    from_nginx(build, nginx, authority, path, content, user)
