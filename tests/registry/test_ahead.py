from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from typing import BinaryIO

import pytest

from kaniko_core.errors import DigestMismatch, RegistryError
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.spec import Descriptor, MediaType
from kaniko_core.options import RegistryOptions
from kaniko_core.progress import silent
from kaniko_core.registry.ahead import Ahead, Haste, Lanes, Speed
from kaniko_core.registry.download import Downloads
from kaniko_core.registry.hosts import HostRules
from kaniko_core.registry.pacing import Pacing
from kaniko_core.registry.session import Session
from kaniko_core.registry.transport import Transport
from tests.registry.conftest import FixedKeychain
from tests.registry_server import Answer, BreakOff, Corrupt, RegistryServer, running_registry
from tests.samples import noise

PART = 100_000
DATA = noise(1_234_567)
DIGEST = Digest.of(DATA)
AT_ONCE = Haste(most=4, part=PART, least=2 * PART, patience=0)


class Client:
    """Fetches blobs of a server with the connections of one registry."""

    def __init__(self, server: RegistryServer, haste: Haste = AT_ONCE) -> None:
        self._transport = Transport(HostRules.of(RegistryOptions(), push=False))
        self.session = Session(self._transport, FixedKeychain(), Pacing(3, first=0.001))
        self.lanes = Lanes(haste)
        self._downloads = Downloads(self.session, silent, lanes=self.lanes)
        self._server = server

    def open(self, digest: Digest = DIGEST, size: int = len(DATA)) -> BinaryIO:
        descriptor = Descriptor(MediaType.OCI_LAYER, digest, size)
        return self._downloads.open(self._server.reference("app:1"), descriptor)

    def read(self) -> bytes:
        with self.open() as stream:
            return b"".join(iter(lambda: stream.read(1 << 16), b""))

    def close(self) -> None:
        self.session.stop()
        self._transport.close()


@pytest.fixture
def client(server: RegistryServer) -> Iterator[Client]:
    server.add_blob("app", DATA)
    with closing(Client(server)) as client:
        yield client


def ranges(server: RegistryServer) -> list[str]:
    """List the ranges that were asked for, but for the first request's, which has none."""
    asked = (seen.headers.get("range", "") for seen in server.requests if "/blobs/" in seen.path)
    return [text.removeprefix("bytes=") for text in asked if text]


def parts(server: RegistryServer) -> list[str]:
    """List the ranges that have an end."""
    return [text for text in ranges(server) if not text.endswith("-")]


def wait_for_parts() -> None:
    """Wait until nobody fetches a part any more, or has one refused."""
    for thread in threading.enumerate():
        if thread.name == "ahead":
            thread.join()


@pytest.mark.parametrize("size", [2 * PART - 1, 2 * PART, 3 * PART, 3 * PART + 1, len(DATA)])
@pytest.mark.parametrize("part", [1 << 14, PART])
def test_bytes_are_the_same_however_they_come(
    server: RegistryServer, client: Client, size: int, part: int
) -> None:
    data = DATA[:size]
    digest = server.add_blob("app", data)
    haste = Haste(most=4, part=part, least=2 * PART, patience=0)
    with closing(Client(server, haste)) as hasty, hasty.open(digest, size) as stream:
        assert stream.read() == data
    assert bool(parts(server)) == (size >= 2 * PART)


def test_each_byte_is_asked_for_once(server: RegistryServer, client: Client) -> None:
    assert client.read() == DATA

    spans = sorted(tuple(map(int, text.split("-"))) for text in parts(server))
    assert spans[0][0] == PART
    assert spans[-1][1] == len(DATA) - 1
    assert all(end + 1 == start for (_, end), (start, _) in pairwise(spans))


def test_registry_without_ranges_is_asked_for_none(server: RegistryServer, client: Client) -> None:
    server.ranges = False

    assert client.read() == DATA
    assert not ranges(server)


def test_one_fast_connection_stays_the_only_one(server: RegistryServer, client: Client) -> None:
    with closing(Client(server, Haste(part=PART, least=PART, slow=0.0))) as calm:
        assert calm.read() == DATA
    assert not ranges(server)


def test_connections_are_shared_by_all_blobs(server: RegistryServer, client: Client) -> None:
    """What others hold is not waited for: a blob has a connection of its own in any case."""
    while client.lanes.take():
        pass

    assert client.read() == DATA
    assert not ranges(server)


def test_all_connections_are_free_again_at_the_end(server: RegistryServer, client: Client) -> None:
    assert client.read() == DATA
    wait_for_parts()
    taken = 0
    while client.lanes.take():
        taken += 1
    assert taken == AT_ONCE.most


def test_reader_who_stands_still_holds_no_more_than_the_parts(
    server: RegistryServer, client: Client
) -> None:
    with client.open() as stream:
        stream.read(1)
        assert len(parts(server)) < AT_ONCE.most
        with client.open() as other:
            assert hashlib.sha256(other.read()).hexdigest() == DIGEST.hex


@pytest.mark.parametrize("after", [0, 1, PART // 2])
def test_part_that_breaks_off_is_made_good(
    server: RegistryServer, client: Client, after: int
) -> None:
    with client.open() as stream:
        first = stream.read(1)
        server.misbehave(BreakOff(after), path="/blobs/", times=3)
        assert first + stream.read() == DATA


@pytest.mark.parametrize("refused", [Answer(403), Answer(200, text="all"), Answer(503)])
def test_registry_that_refuses_parts_is_left_in_peace(
    server: RegistryServer, client: Client, refused: Answer
) -> None:
    server.refused = refused

    assert client.read() == DATA
    assert len(parts(server)) <= AT_ONCE.failures * AT_ONCE.most


def test_refused_parts_cost_no_other_request(server: RegistryServer, client: Client) -> None:
    """A registry that says that it is asked too much is asked nothing else, and not again."""
    server.refused = Answer(429, {"Retry-After": "1"})
    with client.open() as stream:
        first = stream.read(1)
        wait_for_parts()
        assert first + stream.read() == DATA
    assert len(parts(server)) < AT_ONCE.most
    assert ranges(server) == parts(server)


def test_container_without_room_for_threads_has_one_connection(
    server: RegistryServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name == "ahead":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    assert client.read() == DATA
    assert not ranges(server)


def test_registry_may_begin_to_refuse(server: RegistryServer, client: Client) -> None:
    """Addresses that are signed expire."""
    with client.open() as stream:
        first = stream.read(PART)
        server.refused = Answer(403)
        assert first + stream.read() == DATA


def test_parts_are_asked_for_where_the_registry_led_to(
    server: RegistryServer, client: Client
) -> None:
    with running_registry() as store:
        store.add_blob("app", DATA)
        there = f"http://{store.address}/v2/app/blobs/{DIGEST}"
        server.misbehave(Answer(307, {"Location": there}), path="/blobs/")
        assert client.read() == DATA
        assert parts(store)
    assert not ranges(server)


def test_part_that_lies_is_found_out(server: RegistryServer, client: Client) -> None:
    with client.open() as stream:
        stream.read(1)
        server.misbehave(Corrupt(), path="/blobs/")
        with pytest.raises(DigestMismatch):
            stream.read()


def test_giving_everything_up_ends_it(server: RegistryServer, client: Client) -> None:
    with client.open() as stream:
        stream.read(1)
        client.session.stop()
        with pytest.raises(RegistryError, match="cancelled"):
            stream.read()


def test_stream_may_be_left_while_parts_are_under_way(
    server: RegistryServer, client: Client
) -> None:
    with client.open() as stream:
        stream.read(1)

    assert client.read() == DATA


def test_several_blobs_at_once(server: RegistryServer, client: Client) -> None:
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(client.read())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [DATA] * 6


class SingleBytes:
    """A reply that brings each byte alone."""

    status = 206
    headers = {"content-range": f"bytes {PART}-"}  # noqa: RUF012 - never changed

    def chunks(self) -> Iterator[bytes]:
        return (DATA[at : at + 1] for at in range(PART, 2 * PART))

    def close(self) -> None:
        """Do nothing: nothing is open."""


def test_bytes_that_come_one_by_one_are_kept_together() -> None:
    """An object for each would take fifty times the memory that there is for a part."""
    ahead = Ahead(Lanes(AT_ONCE), 2 * PART, lambda: None)
    ahead.begin(0, lambda start, end: SingleBytes())  # type: ignore[arg-type,return-value]
    wait_for_parts()
    pieces: list[bytes] = []
    while piece := ahead.read(PART + sum(map(len, pieces))):
        pieces.append(piece)
    assert b"".join(pieces) == DATA[PART : 2 * PART]
    assert len(pieces) < 100


@pytest.mark.parametrize(
    ("waited", "brought", "slow"),
    [(0.05, 0, False), (0.2, 100, True), (0.2, 1_000_000, False), (0.0, 0, False)],
)
def test_only_waiting_is_judged(waited: float, brought: int, slow: bool) -> None:
    speed = Speed(Haste(slow=1e6, patience=0.1))
    for _ in range(10):
        speed.note(waited / 10, brought // 10)
    assert speed.too_slow is slow


def test_a_registry_that_stops_once_is_not_a_slow_line() -> None:
    speed = Speed(Haste(slow=1e6, patience=0.1))
    for seconds in (0.001, 5.0, 0.002, 0.09):
        speed.note(seconds, 1)
        assert not speed.too_slow
    speed.note(0.02, 1)
    assert speed.too_slow
