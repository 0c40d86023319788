from __future__ import annotations

import base64
import gzip
import hashlib
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kaniko_core.addresses.archives import WebFile
from kaniko_core.builder.remote import RemoteSources
from kaniko_core.errors import ContextError, UsageError
from kaniko_core.oci.digest import Digest
from kaniko_core.progress import BytesMoved, Event
from kaniko_core.remote.web.files import FetchedUrl, parse_checksum
from tests.remote.conftest import MakeSources
from tests.web_server import Answer, Request, WebServer, running_web

trustme = pytest.importorskip("trustme")

BODY = bytes(range(256)) * 5000


def checksum(body: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}"


def fetch(sources: RemoteSources, url: str, wanted: Digest | None = None) -> FetchedUrl:
    return sources.file(WebFile(url), wanted)


def left(workspace: Path) -> list[Path]:
    return [path for path in workspace.rglob("*") if path.is_file()]


def test_file_has_the_bytes_the_name_the_time_and_a_mode(
    web: WebServer, sources: RemoteSources
) -> None:
    url = web.add("/a/b.bin", BODY, last_modified="Wed, 21 Oct 2015 07:28:00 GMT")

    fetched = fetch(sources, f"{url}?token=x#fragment")

    assert fetched.path.read_bytes() == BODY
    assert fetched.path.stat().st_mode & 0o7777 == 0o600
    assert (fetched.name, fetched.mtime_ns) == ("b.bin", 1445412480 * 10**9)
    assert str(fetched.digest) == checksum(BODY)
    assert [request.path for request in web.requests] == ["/a/b.bin?token=x"]


@pytest.mark.parametrize(
    "said",
    [
        *("", "yesterday", "Wed, 99 Oct 2015 07:28:00 GMT"),
        f"Wed, 21 Oct {'9' * 20} 07:28:00 GMT",
    ],
)
def test_without_a_usable_time_it_is_the_epoch(
    web: WebServer, sources: RemoteSources, said: str
) -> None:
    assert fetch(sources, web.add("/a", b"", last_modified=said)).mtime_ns == 0


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a", "a"),
        ("/dir/", "dir"),
        ("/a%20b", "a b"),
        ("/x%2Fy", "y"),
        ("/", "__unnamed__"),
        ("", "__unnamed__"),
        ("/a/..", "__unnamed__"),
    ],
)
def test_name_is_the_last_part_of_the_path(
    web: WebServer, sources: RemoteSources, path: str, name: str
) -> None:
    web.guard = lambda _: Answer(200, {"Content-Disposition": 'attachment; filename="other"'})

    assert fetch(sources, web.address + path).name == name


def test_each_address_is_fetched_once(web: WebServer, sources: RemoteSources) -> None:
    url = web.add("/a", BODY)

    threads = [threading.Thread(target=fetch, args=(sources, url)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(web.requests) == 1
    assert fetch(sources, url) == fetch(sources, url)


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_right_checksum_is_accepted(web: WebServer, sources: RemoteSources, algorithm: str) -> None:
    wanted = parse_checksum(checksum(BODY, algorithm))

    assert fetch(sources, web.add("/a", BODY), wanted).digest == wanted


def test_wrong_checksum_names_both_and_leaves_nothing(
    web: WebServer, sources: RemoteSources, workspace: Path
) -> None:
    wanted = checksum(b"other")

    with pytest.raises(ContextError) as caught:
        fetch(sources, web.add("/a", BODY), parse_checksum(wanted))

    assert wanted in str(caught.value)
    assert checksum(BODY) in str(caught.value)
    assert not left(workspace)


@pytest.mark.parametrize(
    "text",
    ["", "sha256", "sha256:", "sha256:abc", f"md5:{'0' * 32}", f"sha256:{'G' * 64}", "0" * 64],
)
def test_what_is_no_checksum_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_checksum(text)


def test_broken_transfer_is_resumed(web: WebServer, sources: RemoteSources) -> None:
    url = web.add("/a", BODY, etag='"1"')
    whole = web.pages["/a"]
    first = [Answer(200, {"ETag": '"1"'}, BODY, stop_after=700_000)]
    web.pages["/a"] = lambda request: first.pop() if first else whole(request)

    assert fetch(sources, url).path.read_bytes() == BODY
    ranges = [request.headers.get("range") for request in web.requests]
    assert ranges[0] is None
    assert ranges[1] is not None


def test_file_that_changed_meanwhile_is_fetched_from_its_beginning(
    web: WebServer, sources: RemoteSources
) -> None:
    web.add("/a", b"new" * 1000, etag='"2"')
    whole = web.pages["/a"]
    first = [Answer(200, {"ETag": '"1"'}, BODY, stop_after=700_000)]
    web.pages["/a"] = lambda request: first.pop() if first else whole(request)

    fetched = fetch(sources, f"{web.address}/a")

    assert fetched.path.read_bytes() == b"new" * 1000
    assert str(fetched.digest) == checksum(b"new" * 1000)


def test_server_without_ranges_is_asked_for_everything_again(
    web: WebServer, sources: RemoteSources
) -> None:
    url = web.answer("/a", Answer(body=BODY, stop_after=9), Answer(body=BODY))

    assert fetch(sources, url).path.read_bytes() == BODY


def test_transfer_that_never_gets_further_fails_and_leaves_nothing(
    web: WebServer, make_sources: MakeSources, workspace: Path
) -> None:
    url = web.answer("/a", Answer(body=BODY, stop_after=9))

    with pytest.raises(ContextError, match=r"cannot fetch http://\S+/a: .* broke off"):
        fetch(make_sources(retries=2), url)

    assert len(web.requests) == 3
    assert not left(workspace)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_server_is_asked_again(web: WebServer, sources: RemoteSources, status: int) -> None:
    url = web.answer("/a", Answer(status), Answer(status), Answer(body=b"x"))

    assert fetch(sources, url).path.read_bytes() == b"x"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_and_the_name_is_the_first_one(
    web: WebServer, sources: RemoteSources, status: int
) -> None:
    web.add("/deep/real", b"x", last_modified="Wed, 21 Oct 2015 07:28:00 GMT")
    url = web.answer("/name", Answer(status, {"Location": "/deep/real"}))

    fetched = fetch(sources, url)

    assert (fetched.name, fetched.path.read_bytes()) == ("name", b"x")
    assert fetched.mtime_ns == 1445412480 * 10**9


def test_endless_redirects_end(web: WebServer, sources: RemoteSources) -> None:
    url = web.answer("/a", Answer(302, {"Location": "/a"}))

    with pytest.raises(ContextError, match="redirects without end"):
        fetch(sources, url)


@pytest.mark.parametrize("target", ["ftp://x/y", "file:///etc/passwd", "https://[", "http://a b/"])
def test_redirects_elsewhere_are_refused(
    web: WebServer, sources: RemoteSources, target: str
) -> None:
    url = web.answer("/a", Answer(302, {"Location": target}))

    with pytest.raises(ContextError, match="points to an address"):
        fetch(sources, url)


@pytest.mark.parametrize(
    ("secrets", "sent"),
    [
        ({"HTTP_AUTH_TOKEN_127.0.0.1": b"abc\n"}, "Bearer abc"),
        ({"HTTP_AUTH_HEADER_127.0.0.1": b"Custom xyz"}, "Custom xyz"),
        (
            {"HTTP_AUTH_HEADER_127.0.0.1": b"Custom", "HTTP_AUTH_TOKEN_127.0.0.1": b"t"},
            "Bearer t",
        ),
        ({"HTTP_AUTH_TOKEN_127.0.0.2": b"abc"}, None),
        ({"HTTP_AUTH_TOKEN_": b"abc"}, None),
    ],
)
def test_secrets_for_the_host_are_sent(
    web: WebServer, make_sources: MakeSources, secrets: dict[str, bytes], sent: str | None
) -> None:
    fetch(make_sources(secrets=secrets), web.add("/a", b""))

    assert web.requests[0].headers.get("authorization") == sent


def test_password_of_the_address_is_sent_and_not_shown(
    web: WebServer, make_sources: MakeSources
) -> None:
    events: list[Event] = []
    url = web.add("/a", b"x").replace("://", "://me:pass%40word@")

    fetch(make_sources(progress=events.append), url)

    sent = base64.b64encode(b"me:pass@word").decode()
    assert web.requests[0].headers["authorization"] == f"Basic {sent}"
    assert "pass" not in repr(events)


def test_other_hosts_are_told_nothing(
    web: WebServer, other_web: WebServer, make_sources: MakeSources
) -> None:
    other_web.add("/b", b"x")
    url = web.answer("/a", Answer(302, {"Location": f"{other_web.address}/b"}))

    fetch(make_sources(secrets={"HTTP_AUTH_TOKEN_127.0.0.1": b"abc"}), url)

    assert "authorization" in web.requests[0].headers
    assert "authorization" not in other_web.requests[0].headers


def test_secret_that_is_no_header_is_refused(web: WebServer, make_sources: MakeSources) -> None:
    sources = make_sources(secrets={"HTTP_AUTH_TOKEN_127.0.0.1": b"a\r\nHost: evil"})

    with pytest.raises(ContextError, match="cannot be sent"):
        fetch(sources, web.add("/a", b""))

    assert not web.requests


@pytest.mark.parametrize(
    ("status", "said", "hint"),
    [
        (404, "there is nothing at this address (404)", "check the address"),
        (401, "the server wants credentials (401)", "HTTP_AUTH_TOKEN_127.0.0.1"),
        (403, "the server wants credentials (403)", "HTTP_AUTH_TOKEN_127.0.0.1"),
        (418, "status 418", ""),
    ],
)
def test_refusals_are_sentences_without_secrets(
    web: WebServer, sources: RemoteSources, status: int, said: str, hint: str
) -> None:
    url = web.answer("/a", Answer(status, {}, b"<html>"))

    with pytest.raises(ContextError) as caught:
        fetch(sources, f"{url.replace('://', '://me:geheim@')}?sig=geheim")

    text = str(caught.value)
    assert f"cannot fetch {url}: " in text
    assert said.replace("wants", "does not accept the") in text or said in text
    assert hint in (caught.value.hint or "")
    assert "geheim" not in text


def test_nobody_listens(sources: RemoteSources, web: WebServer) -> None:
    with running_web() as gone:
        url = gone.add("/a", b"")

    with pytest.raises(ContextError, match=f"cannot fetch {url}: cannot reach .* refuses"):
        fetch(sources, url)


def test_compressed_transfers_are_undone(web: WebServer, sources: RemoteSources) -> None:
    url = web.add("/a", gzip.compress(BODY), content_encoding="gzip")

    assert fetch(sources, url).path.read_bytes() == BODY


def test_compressed_transfers_have_members_and_padding(
    web: WebServer, sources: RemoteSources
) -> None:
    data = gzip.compress(BODY[:9]) + gzip.compress(b"") + gzip.compress(BODY[9:]) + bytes(70_000)
    url = web.add("/a", data, content_encoding="gzip")

    assert fetch(sources, url).path.read_bytes() == BODY


def test_compressed_files_stay_compressed(web: WebServer, sources: RemoteSources) -> None:
    data = gzip.compress(BODY)

    assert fetch(sources, web.add("/a.gz", data)).path.read_bytes() == data


@pytest.mark.parametrize(
    "damage",
    [b"garbage", gzip.compress(BODY)[:-20], gzip.compress(BODY) + b"garbage"],
)
def test_damaged_compression_is_an_error(
    web: WebServer, make_sources: MakeSources, damage: bytes
) -> None:
    url = web.add("/a", damage, content_encoding="gzip")

    with pytest.raises(ContextError, match=r"damaged gzip|broke off"):
        fetch(make_sources(retries=0), url)


def test_bytes_are_counted(web: WebServer, make_sources: MakeSources) -> None:
    events: list[Event] = []

    fetch(make_sources(progress=events.append), web.add("/a", BODY))

    last = events[-1]
    assert isinstance(last, BytesMoved)
    assert (last.what, last.done, last.total) == (f"{web.address}/a", len(BODY), len(BODY))


def test_cancelling_ends_a_transfer(
    web: WebServer, make_sources: MakeSources, workspace: Path
) -> None:
    sources = make_sources()

    def page(_: Request) -> Answer:
        sources.cancel()
        return Answer(body=BODY)

    web.pages["/a"] = page

    with pytest.raises(ContextError, match="cancelled"):
        fetch(sources, f"{web.address}/a")

    assert not left(workspace)


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[WebServer, str]]:
    """A server with a certificate, and the file that has its authority."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    with running_web(tls=context) as server:
        yield server, str(path)


def test_named_authority_is_believed(
    secure: tuple[WebServer, str], make_sources: MakeSources
) -> None:
    web, certificate = secure
    host = web.address.removeprefix("https://")
    sources = make_sources(registry_certificate=((host, certificate),))

    assert fetch(sources, web.add("/a", b"x")).path.read_bytes() == b"x"


def test_unknown_certificate_is_refused_whatever_holds_for_all_registries(
    secure: tuple[WebServer, str], make_sources: MakeSources
) -> None:
    web, _ = secure
    sources = make_sources(skip_tls_verify=True, insecure=True, insecure_pull=True)

    with pytest.raises(ContextError, match="cannot verify the TLS certificate"):
        fetch(sources, web.add("/a", b"x"))


def test_https_does_not_lead_to_http(
    secure: tuple[WebServer, str], web: WebServer, make_sources: MakeSources
) -> None:
    server, certificate = secure
    host = server.address.removeprefix("https://")
    url = server.answer("/a", Answer(302, {"Location": web.add("/a", b"x")}))

    with pytest.raises(ContextError, match="points to an address without TLS"):
        fetch(make_sources(registry_certificate=((host, certificate),)), url)

    assert not web.requests


def test_server_without_tls_is_named_as_such(web: WebServer, sources: RemoteSources) -> None:
    url = web.add("/a", b"").replace("http://", "https://")

    with pytest.raises(ContextError, match="does not speak TLS") as caught:
        fetch(sources, url)

    assert "write http://" in (caught.value.hint or "")


@pytest.mark.parametrize("host", ["", "x" * 300, "a..b"])
def test_what_is_no_host_is_one_sentence(sources: RemoteSources, host: str) -> None:
    with pytest.raises(ContextError, match="cannot fetch http://"):
        fetch(sources, f"http://{host}/file")


def test_silent_server_is_not_waited_for_when_everything_is_given_up(
    make_sources: MakeSources,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/file"
        sources = make_sources()
        with ThreadPoolExecutor(1) as pool:
            fetching = pool.submit(fetch, sources, url)
            connection, _ = listener.accept()
            with connection:
                connection.recv(1)  # the request is here: now there is nothing but the answer
                sources.cancel()
                with pytest.raises(ContextError):
                    fetching.result(timeout=20)
