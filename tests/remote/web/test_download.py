"""Files that are read while they arrive."""

from __future__ import annotations

import base64
import gzip
import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kaniko_core.errors import ContentError, ContextError
from kaniko_core.options import RegistryOptions
from kaniko_core.progress import BytesMoved, Event, silent
from kaniko_core.registry.hosts import HostRules
from kaniko_core.registry.pacing import Pacing
from kaniko_core.registry.transport import Transport
from kaniko_core.remote.web.download import Ranges
from kaniko_core.remote.web.files import WebFiles, parse_checksum
from kaniko_core.remote.web.netrc import Netrc
from tests.web_server import Answer, Request, WebServer

BODY = random.Random(7).randbytes(1_500_000)
PART = 100_000
# At once, however fast the server is.
EAGER = Ranges(part=PART, at_once=3, least=1, slow=float("inf"), patience=0.0)
NEVER = Ranges(slow=0.0)

MakeFiles = Callable[..., WebFiles]


@pytest.fixture
def make_files() -> Iterator[MakeFiles]:
    transport = Transport(HostRules.of(RegistryOptions(), push=False))

    def make(
        ranges: Ranges = NEVER,
        *,
        retries: int = 3,
        secrets: dict[str, bytes] | None = None,
        events: list[Event] | None = None,
        stopped: threading.Event | None = None,
        home: Path | None = None,
    ) -> WebFiles:
        return WebFiles(
            transport,
            secrets or {},
            Pacing(retries, first=0.001),
            silent if events is None else events.append,
            stopped or threading.Event(),
            Netrc({"HOME": str(home)}) if home else Netrc(),
            ranges,
        )

    yield make
    transport.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("range")]


def read(files: WebFiles, url: str) -> bytes:
    with files.open(url) as incoming:
        return incoming.stream.read()


def ranges_of(web: WebServer, path: str) -> list[str]:
    return [request.headers.get("range", "") for request in web.asked(path)]


def ranged(web: WebServer, path: str = "/a", **more: Any) -> str:
    return web.add(path, BODY, etag='"1"', accept_ranges="bytes", **more)


def after(web: WebServer, path: str, *first: Answer) -> None:
    """Give *first* in turn before what is served at *path*."""
    page, left = web.pages[path], list(first)
    web.pages[path] = lambda request: left.pop(0) if left else page(request)


# --- one connection --------------------------------------------------------------------------


def test_name_size_and_time_are_known_before_the_bytes(
    web: WebServer, make_files: MakeFiles
) -> None:
    url = web.add("/a.tar", BODY, last_modified="Wed, 21 Oct 2015 07:28:00 GMT")

    with make_files().open(f"{url.replace('://', '://me:geheim@')}?sig=geheim") as incoming:
        assert (incoming.name, incoming.size) == (url, len(BODY))
        assert incoming.mtime_ns == 1445412480 * 10**9
        assert incoming.stream.read() == BODY
        assert incoming.stream.read(1) == b""


def test_size_that_the_server_does_not_say_is_unknown(
    web: WebServer, make_files: MakeFiles
) -> None:
    compressed = web.add("/gz", gzip.compress(BODY), content_encoding="gzip")
    chunked = web.answer(
        "/chunked",
        Answer(
            200, {"Content-Length": "", "Transfer-Encoding": "chunked"}, b"3\r\nabc\r\n0\r\n\r\n"
        ),
    )

    for url, body in ((compressed, BODY), (chunked, b"abc")):
        events: list[Event] = []
        with make_files(events=events).open(url) as incoming:
            assert incoming.size is None
            assert incoming.stream.read() == body
        assert events[-1] == BytesMoved(events[-1].direction, url, len(body), len(body))  # type: ignore[union-attr]


def test_empty_file(web: WebServer, make_files: MakeFiles) -> None:
    with make_files(EAGER).open(web.add("/a", b"", etag='"1"', accept_ranges="bytes")) as incoming:
        assert incoming.size == 0
        assert incoming.stream.read() == b""


def test_errors_of_the_first_answer_come_from_opening(
    web: WebServer, make_files: MakeFiles
) -> None:
    with pytest.raises(ContextError, match=r"nothing at this address \(404\)"):
        make_files().open(f"{web.address}/none")


def test_breaking_connections_are_resumed_again_and_again(
    web: WebServer, make_files: MakeFiles
) -> None:
    url = web.add("/a", BODY, stop_after=400_000, etag='"1"')

    assert read(make_files(retries=1), url) == BODY

    asked = ranges_of(web, "/a")
    assert len(asked) >= 4
    assert all(asked[1:])


def test_server_without_ranges_is_asked_for_everything_and_the_beginning_passed_over(
    web: WebServer, make_files: MakeFiles
) -> None:
    url = web.add("/a", BODY)
    after(web, "/a", *(Answer(body=BODY, stop_after=size) for size in (9, 800_000)))

    assert read(make_files(), url) == BODY
    assert ranges_of(web, "/a") == ["", "", ""]


def test_server_that_ignores_a_range_but_has_the_same_version(
    web: WebServer, make_files: MakeFiles
) -> None:
    web.add("/a", BODY)
    url = web.answer(
        "/a",
        Answer(200, {"ETag": '"1"'}, BODY, stop_after=700_000),
        Answer(200, {"ETag": '"1"'}, BODY),
    )

    assert read(make_files(), url) == BODY


@pytest.mark.parametrize(
    ("tag", "changed", "other_tag"),
    [
        ('"1"', BODY, '"2"'),
        ("", b"x" + BODY[1:], ""),
        ('W/"1"', b"x" + BODY[1:], 'W/"1"'),
        ("", BODY + b"x", ""),
        ("", BODY[:10], ""),
        ("", BODY, '"1"'),
    ],
)
def test_file_that_changed_meanwhile_is_a_sentence(
    web: WebServer, make_files: MakeFiles, tag: str, changed: bytes, other_tag: str
) -> None:
    url = web.add("/a", changed, etag=other_tag)
    after(web, "/a", Answer(200, {"ETag": tag}, BODY, stop_after=700_000))

    with make_files().open(url) as incoming:
        with pytest.raises(ContextError, match="was changed while it was fetched"):
            incoming.stream.read()
        with pytest.raises(ContextError, match="was changed while it was fetched"):
            incoming.stream.read()


def test_compressed_transfer_is_resumed_by_what_it_means(
    web: WebServer, make_files: MakeFiles
) -> None:
    data = gzip.compress(BODY, 1)
    url = web.add("/a", data, content_encoding="gzip", etag='"1"', accept_ranges="bytes")
    after(web, "/a", Answer(200, {"Content-Encoding": "gzip", "ETag": '"1"'}, data, 700_000))

    assert read(make_files(EAGER), url) == BODY
    assert ranges_of(web, "/a") == ["", ""]


def test_file_of_unknown_size_that_became_shorter_is_no_whole_file(
    web: WebServer, make_files: MakeFiles
) -> None:
    named = {"Content-Encoding": "gzip"}
    url = web.answer(
        "/a",
        Answer(200, named, gzip.compress(BODY, 1), stop_after=700_000),
        Answer(200, named, gzip.compress(BODY[:10])),
    )

    with pytest.raises(ContextError, match="was changed while it was fetched"):
        read(make_files(), url)


@pytest.mark.parametrize(
    "span",
    [
        *("bytes 0-1499999/1500000", "bytes 5-6/7", "", "items 1-2/3", "bytes x"),
        f"bytes 700000-1499999{'0' * 5000}/*",
    ],
)
def test_answer_with_another_part_is_refused(
    web: WebServer, make_files: MakeFiles, span: str
) -> None:
    url = web.answer(
        "/a",
        Answer(200, {"ETag": '"1"'}, BODY, stop_after=700_000),
        Answer(206, {"ETag": '"1"', "Content-Range": span}, BODY[700_000:]),
    )

    with pytest.raises(ContextError, match="another part"):
        read(make_files(), url)


def test_connection_that_breaks_off_at_the_very_end_is_taken_up(
    web: WebServer, make_files: MakeFiles
) -> None:
    def page(request: Request) -> Answer:
        if request.headers.get("range"):
            return Answer(416, {"ETag": '"1"', "Content-Range": "bytes */3"})
        unknown = {"Content-Length": "", "Transfer-Encoding": "chunked", "ETag": '"1"'}
        asked = len(web.asked("/a"))
        return Answer(200, unknown, b"3\r\nabc\r\n0\r\n\r\n", 8 if asked == 1 else None)

    web.pages["/a"] = page

    assert read(make_files(), f"{web.address}/a") == b"abc"
    assert ranges_of(web, "/a") == ["", "bytes=3-", ""]


def test_part_of_another_version_is_refused(web: WebServer, make_files: MakeFiles) -> None:
    def page(request: Request) -> Answer:
        start = request.headers.get("range", "").removeprefix("bytes=").removesuffix("-")
        if not start:
            return Answer(200, {"ETag": '"1"'}, BODY, stop_after=700_000)
        span = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
        return Answer(206, {"ETag": '"2"', "Content-Range": span}, BODY[int(start) :])

    web.pages["/a"] = page

    with pytest.raises(ContextError, match="another part"):
        read(make_files(), f"{web.address}/a")


def test_server_that_never_gets_further_is_given_up(web: WebServer, make_files: MakeFiles) -> None:
    url = web.answer("/a", Answer(body=BODY, stop_after=300_000))

    with pytest.raises(ContextError, match="broke off"):
        read(make_files(retries=2), url)


# --- checksums -------------------------------------------------------------------------------


def promise(algorithm: str, data: bytes) -> str:
    return base64.b64encode(hashlib.new(algorithm, data).digest()).decode()


@pytest.mark.parametrize("ranges", [NEVER, EAGER])
@pytest.mark.parametrize(
    ("header", "text", "algorithm"),
    [
        ("repr_digest", "sha-256=:{}:", "sha256"),
        ("digest", "SHA-512={}", "sha512"),
        ("content_md5", "{}", "md5"),
        ("x_goog_hash", "crc32c=AAAAAA==,md5={}", "md5"),
    ],
)
def test_what_the_server_says_of_the_bytes_is_checked(
    web: WebServer, make_files: MakeFiles, header: str, text: str, algorithm: str, ranges: Ranges
) -> None:
    right = text.format(promise(algorithm, BODY))
    wrong = text.format(promise(algorithm, b"other"))

    assert read(make_files(ranges), ranged(web, "/right", **{header: right})) == BODY
    url = ranged(web, "/wrong", **{header: wrong})
    with (
        make_files(ranges).open(url) as incoming,
        pytest.raises(ContentError, match=f"{url} was damaged on its way"),
    ):
        incoming.stream.read()


def test_every_byte_is_there_before_the_checksum_fails(
    web: WebServer, make_files: MakeFiles
) -> None:
    url = web.add("/a", BODY, content_md5=promise("md5", b"other"))

    with make_files().open(url) as incoming:
        found = bytearray()
        with pytest.raises(ContentError):
            while chunk := incoming.stream.read(1 << 16):
                found += chunk

    assert found == BODY


def test_checksum_of_what_is_compressed_is_not_that_of_the_file(
    web: WebServer, make_files: MakeFiles
) -> None:
    url = web.add(
        "/a", gzip.compress(BODY), content_encoding="gzip", content_md5=promise("md5", b"other")
    )

    assert read(make_files(), url) == BODY


@pytest.mark.parametrize("ranges", [NEVER, EAGER])
def test_checksum_of_the_user_is_checked_at_the_end(
    web: WebServer, make_files: MakeFiles, ranges: Ranges
) -> None:
    url = ranged(web)
    right = parse_checksum(f"sha384:{hashlib.sha384(BODY).hexdigest()}")
    wrong = parse_checksum(f"sha256:{'0' * 64}")

    with make_files(ranges).open(url, right) as incoming:
        assert incoming.stream.read() == BODY
    with (
        make_files(ranges).open(url, wrong) as incoming,
        pytest.raises(ContextError, match=f"instead of the expected {wrong}"),
    ):
        incoming.stream.read()


# --- several connections ---------------------------------------------------------------------


def test_file_comes_by_parts_where_one_connection_is_slow(
    web: WebServer, make_files: MakeFiles
) -> None:
    url = ranged(web)
    events: list[Event] = []

    assert read(make_files(EAGER, events=events), url) == BODY

    first, *parts = ranges_of(web, "/a")
    assert first == ""
    assert len(parts) > 5
    assert all(not part.endswith("-") for part in parts)
    done = [event.done for event in events if isinstance(event, BytesMoved)]
    assert (done, done[-1]) == (sorted(done), len(BODY))


@pytest.mark.parametrize(
    ("headers", "ranges"),
    [
        ({"etag": '"1"'}, EAGER),
        ({"etag": '"1"', "accept_ranges": "none"}, EAGER),
        ({"accept_ranges": "bytes"}, EAGER),
        ({"accept_ranges": "bytes", "etag": 'W/"1"'}, EAGER),
        ({"etag": '"1"', "accept_ranges": "bytes"}, NEVER),
        (
            {"etag": '"1"', "accept_ranges": "bytes"},
            Ranges(part=PART, least=len(BODY) + 1, slow=float("inf"), patience=0.0),
        ),
    ],
)
def test_one_connection_stays_where_others_cannot_help(
    web: WebServer, make_files: MakeFiles, headers: dict[str, Any], ranges: Ranges
) -> None:
    assert read(make_files(ranges), web.add("/a", BODY, **headers)) == BODY

    assert ranges_of(web, "/a") == [""]


def test_slow_connection_is_found_out_by_waiting(web: WebServer, make_files: MakeFiles) -> None:
    url = ranged(web, pause=0.01)

    assert read(make_files(Ranges(part=PART, least=1, patience=0.02)), url) == BODY

    assert len(ranges_of(web, "/a")) > 3


def test_what_is_held_is_bounded_however_slow_the_reader_is(
    web: WebServer, make_files: MakeFiles
) -> None:
    url = ranged(web)

    with make_files(EAGER).open(url) as incoming:
        taken = len(incoming.stream.read(1))
        while len(ranges_of(web, "/a")) == 1:
            taken += len(incoming.stream.read(1 << 16))

    # The threads have ended: what they would have asked for, they have.
    asked = ranges_of(web, "/a")[1:]
    assert 1 <= len(asked) <= 2 * EAGER.at_once + taken // PART


def test_parts_that_break_off_are_resumed_each(web: WebServer, make_files: MakeFiles) -> None:
    url = ranged(web, stop_after=30_000)

    assert read(make_files(EAGER, retries=1), url) == BODY

    resumed = ranges_of(web, "/a")[1:]
    assert len(resumed) > 3 * (len(BODY) // PART)
    assert not any(part.endswith("-") for part in resumed)


def by_parts(web: WebServer, answer: Callable[[Request], Answer | None]) -> str:
    """Serve BODY; *answer* answers what asks for a part with an end, where it gives one."""
    url = ranged(web)
    page = web.pages["/a"]

    def guarded(request: Request) -> Answer:
        part = request.headers.get("range", "-")
        return (None if part.endswith("-") else answer(request)) or page(request)

    web.pages["/a"] = guarded
    return url


WRONG = {"ETag": '"1"', "Content-Range": "bytes 0-9/1500000"}


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, {"ETag": '"1"'}, BODY),
        Answer(206, WRONG, BODY[:10]),
        Answer(403),
        Answer(404),
        Answer(416),
        Answer(503, {"Retry-After": "0"}),
        Answer(302, {"Location": "ftp://x/y"}),
    ],
)
def test_server_that_refuses_parts_gives_the_whole(
    web: WebServer, make_files: MakeFiles, answer: Answer
) -> None:
    url = by_parts(web, lambda _: answer)

    assert read(make_files(EAGER, retries=1), url) == BODY

    # The first one, each part of one window twice, and the rest; parts are not tried ever again.
    assert len(web.requests) <= 1 + 2 * (2 * EAGER.at_once) + 1


def test_parts_that_end_with_more_or_less_than_they_say_do_no_harm(
    web: WebServer, make_files: MakeFiles
) -> None:
    def shifted(by: int) -> Callable[[Request], Answer]:
        def answer(request: Request) -> Answer:
            start, last = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
            span = f"bytes {start}-{last}/{len(BODY)}"
            body = BODY[start : last + 1 + by]
            return Answer(206, {"ETag": '"1"', "Content-Range": span}, body)

        return answer

    for by in (-10, 10):
        assert read(make_files(EAGER), by_parts(web, shifted(by))) == BODY


def test_file_that_changes_between_parts_is_a_sentence(
    web: WebServer, make_files: MakeFiles
) -> None:
    url = ranged(web)
    old = web.pages["/a"]
    web.add("/new", BODY[::-1], etag='"2"', accept_ranges="bytes")
    new = web.pages["/new"]
    web.pages["/a"] = lambda request: old(request) if len(web.requests) < 5 else new(request)

    with pytest.raises(ContextError, match="was changed while it was fetched"):
        read(make_files(EAGER), url)


def test_closing_early_ends_the_threads(web: WebServer, make_files: MakeFiles) -> None:
    url = ranged(web, pause=0.01)

    with make_files(EAGER).open(url) as incoming:
        incoming.stream.read(1)
        while not any(ranges_of(web, "/a")):
            incoming.stream.read(1 << 16)

    assert len(ranges_of(web, "/a")) < len(BODY) // PART


def test_closing_waits_for_no_pause_of_a_part(web: WebServer, make_files: MakeFiles) -> None:
    begins, refused = [0], threading.Event()

    def answer(request: Request) -> Answer | None:
        if request.headers["range"].startswith(f"bytes={begins[0]}-"):
            return None
        refused.set()
        return Answer(503, {"Retry-After": "20"})

    url = by_parts(web, answer)
    with make_files(EAGER).open(url) as incoming:
        begins[0] = len(incoming.stream.read(1 << 20))
        incoming.stream.read(1)
        assert refused.wait(20)

    # None was tried again.
    asked = ranges_of(web, "/a")
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize("ranges", [NEVER, EAGER])
def test_giving_up_is_a_sentence(web: WebServer, make_files: MakeFiles, ranges: Ranges) -> None:
    stopped = threading.Event()
    url = ranged(web, pause=0.01)

    with make_files(ranges, stopped=stopped).open(url) as incoming:
        incoming.stream.read(200_000)
        stopped.set()
        with pytest.raises(ContextError, match=f"cannot fetch {url}: the transfer was cancelled"):
            incoming.stream.read()


def test_pause_before_another_try_ends_when_everything_is_given_up(
    web: WebServer, make_files: MakeFiles
) -> None:
    stopped = threading.Event()
    url = web.answer("/a", Answer(503, {"Retry-After": "50"}))
    threading.Timer(0.1, stopped.set).start()

    with pytest.raises(ContextError, match="cancelled"):
        make_files(stopped=stopped).open(url)


# --- redirects and credentials ---------------------------------------------------------------


def test_parts_go_where_the_first_answer_came_from(
    web: WebServer, other_web: WebServer, make_files: MakeFiles
) -> None:
    target = ranged(other_web, "/deep")
    url = web.answer("/a", Answer(302, {"Location": f"{target}?signature=x"}))

    secrets = {"HTTP_AUTH_TOKEN_127.0.0.1": b"abc"}
    assert read(make_files(EAGER, secrets=secrets), url) == BODY

    assert len(web.requests) == 1
    assert len(other_web.requests) > 5
    assert all(request.path == "/deep?signature=x" for request in other_web.requests)
    assert not any("authorization" in request.headers for request in other_web.requests)


def test_parts_whose_address_has_run_out_begin_at_the_given_one(
    web: WebServer, other_web: WebServer, make_files: MakeFiles
) -> None:
    target = ranged(other_web, "/deep")
    url = web.answer("/a", Answer(302, {"Location": target}))
    other_web.guard = lambda request: (
        Answer(403) if len(other_web.requests) > 5 and len(web.requests) < 2 else None
    )

    assert read(make_files(EAGER), url) == BODY
    assert len(web.requests) == 2


@pytest.mark.parametrize("ranges", [NEVER, EAGER])
def test_every_request_is_authorized(web: WebServer, make_files: MakeFiles, ranges: Ranges) -> None:
    url = ranged(web, stop_after=90_000)
    web.demand("Bearer abc")

    assert read(make_files(ranges, secrets={"HTTP_AUTH_TOKEN_127.0.0.1": b"abc"}), url) == BODY


def encoded(user: str) -> str:
    return f"Basic {base64.b64encode(user.encode()).decode()}"


@pytest.mark.parametrize(
    ("user", "secrets", "sent"),
    [
        ("", {}, encoded("netrc:geheim")),
        ("other:pass@", {}, encoded("other:pass")),
        ("other@", {}, encoded("other:")),
        ("netrc@", {}, encoded("netrc:geheim")),
        ("netrc:@", {}, encoded("netrc:")),
        ("other:pass@", {"HTTP_AUTH_TOKEN_127.0.0.1": b"t"}, "Bearer t"),
        ("", {"HTTP_AUTH_HEADER_127.0.0.1": b"Custom x"}, "Custom x"),
    ],
)
def test_secret_comes_before_the_address_and_that_before_a_netrc(
    web: WebServer,
    make_files: MakeFiles,
    tmp_path: Path,
    user: str,
    secrets: dict[str, bytes],
    sent: str,
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login netrc password geheim\n")
    url = web.add("/a", b"x").replace("://", f"://{user}")

    assert read(make_files(home=tmp_path, secrets=secrets), url) == b"x"

    assert web.requests[0].headers["authorization"] == sent


def test_netrc_is_for_the_given_host_only(
    web: WebServer, other_web: WebServer, make_files: MakeFiles, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text(
        "machine 127.0.0.1 login me password geheim\nmachine 127.0.0.2 login you password geheim\n"
        "default login all password geheim\n"
    )
    url = web.answer("/a", Answer(302, {"Location": other_web.add("/b", b"x")}))

    assert read(make_files(home=tmp_path), url) == b"x"

    assert "authorization" in web.requests[0].headers
    assert "authorization" not in other_web.requests[0].headers
