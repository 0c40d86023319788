from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from kaniko_core.errors import DigestMismatch, NotFound, RegistryError
from kaniko_core.oci.image import Layer
from kaniko_core.oci.spec import MediaType
from kaniko_core.progress import BytesMoved, Direction, Event
from kaniko_core.registry.client import Registry, RemoteLayer
from tests.registry.conftest import MakeRegistry
from tests.registry_server import Answer, BreakOff, Corrupt, RegistryServer
from tests.samples import AMD64, image, layer, noise

SIZE = 700_000
DATA = layer({"data": noise(SIZE)}, media_type=MediaType.OCI_LAYER)
BLOBS = f"/blobs/{DATA.descriptor.digest}"


def fetched(server: RegistryServer, registry: Registry) -> Layer:
    got = registry.get(server.add_image("app", "1", image(DATA)), AMD64)
    assert got is not None
    return got.layers[0]


def read(remote: Layer, piece: int = 100_000) -> bytes:
    with remote.open() as stream:
        return b"".join(iter(lambda: stream.read(piece), b""))


def ranges(server: RegistryServer) -> list[str | None]:
    return [seen.headers.get("range") for seen in server.requests if BLOBS in seen.path]


@pytest.mark.parametrize("piece", [1, 1000, 1 << 20, -1])
def test_layer_is_read_in_pieces_of_any_size(
    server: RegistryServer, registry: Registry, piece: int
) -> None:
    small = layer({"a": b"x"}, media_type=MediaType.OCI_LAYER) if piece == 1 else DATA
    got = registry.get(server.add_image("app", "1", image(small)), AMD64)
    assert got is not None

    assert read(got.layers[0], piece) == small.data


def test_layer_is_read_into_buffers(server: RegistryServer, registry: Registry) -> None:
    with io.BufferedReader(fetched(server, registry).open()) as stream:  # type: ignore[arg-type]
        assert stream.read() == DATA.data


def test_layer_can_be_opened_again_and_by_several_threads(
    server: RegistryServer, registry: Registry
) -> None:
    remote = fetched(server, registry)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: read(remote), range(8))) == {DATA.data}


def test_remote_layer_says_where_it_is(server: RegistryServer, registry: Registry) -> None:
    remote = fetched(server, registry)

    assert isinstance(remote, RemoteLayer)
    assert remote.repository == server.reference("app").repository
    assert (remote.descriptor, remote.diff_id) == (DATA.descriptor, DATA.diff_id)


@pytest.mark.parametrize("after", [0, 1, 300_000, SIZE])
def test_broken_connection_is_resumed_where_it_broke(
    server: RegistryServer, registry: Registry, after: int
) -> None:
    remote = fetched(server, registry)
    server.misbehave(BreakOff(after), path=BLOBS)

    assert read(remote) == DATA.data
    first, second = ranges(server)
    assert first is None
    # What was under way in buffers may be lost with the connection, and is asked for again.
    start = int((second or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
    assert start <= after


def test_broken_connection_is_resumed_without_ranges(
    server: RegistryServer, registry: Registry
) -> None:
    server.ranges = False
    remote = fetched(server, registry)
    server.misbehave(BreakOff(200_000), path=BLOBS)
    server.misbehave(BreakOff(300_000), path=BLOBS)

    assert read(remote, 33_333) == DATA.data
    assert len(ranges(server)) == 3


def test_progress_renews_the_patience(server: RegistryServer, make_registry: MakeRegistry) -> None:
    """A bad line that always gets a little further is no reason to give up."""
    remote = fetched(server, make_registry(retries=1))
    server.misbehave(BreakOff(100_000), path=BLOBS, times=6)

    assert read(remote) == DATA.data


def test_no_progress_ends_it(server: RegistryServer, registry: Registry) -> None:
    server.ranges = False
    remote = fetched(server, registry)
    server.misbehave(BreakOff(200_000), path=BLOBS, times=None)

    with pytest.raises(RegistryError, match="broke off after 200000 of") as caught:
        read(remote)

    assert str(DATA.descriptor.digest) in str(caught.value)
    assert server.address in str(caught.value)
    assert len(ranges(server)) == 4


def test_busy_registry_is_waited_for(server: RegistryServer, registry: Registry) -> None:
    remote = fetched(server, registry)
    server.misbehave(Answer(503, {"Retry-After": "0"}), path=BLOBS, times=3)

    assert read(remote) == DATA.data


def test_lie_is_found_out(server: RegistryServer, registry: Registry) -> None:
    remote = fetched(server, registry)
    server.misbehave(Corrupt(), path=BLOBS)

    with pytest.raises(DigestMismatch, match=f"layer {DATA.descriptor.digest} of"):
        read(remote)


def test_answers_that_do_not_belong_together_are_found_out(
    server: RegistryServer, registry: Registry
) -> None:
    remote = fetched(server, registry)
    server.misbehave(BreakOff(200_000), path=BLOBS)
    server.misbehave(Corrupt(), path=BLOBS)

    with pytest.raises(DigestMismatch):
        read(remote)


@pytest.mark.parametrize("change", [b"", b"more"])
def test_blob_of_another_size_is_refused(
    server: RegistryServer, registry: Registry, change: bytes
) -> None:
    remote = fetched(server, registry)
    server.blobs["app"][str(DATA.descriptor.digest)] = change and DATA.data + change

    with pytest.raises((DigestMismatch, RegistryError)):
        read(remote)


def test_lost_blob_is_told_from_a_missing_image(server: RegistryServer, registry: Registry) -> None:
    remote = fetched(server, registry)
    server.blobs["app"].clear()

    with pytest.raises(NotFound, match=f"layer {DATA.descriptor.digest} .*does not have it"):
        read(remote)


def test_stream_may_be_left_before_its_end(server: RegistryServer, registry: Registry) -> None:
    remote = fetched(server, registry)
    with remote.open() as stream:
        stream.read(10)

    assert read(remote) == DATA.data


def test_progress_is_told_seldom_and_to_the_end(
    server: RegistryServer, make_registry: MakeRegistry
) -> None:
    events: list[Event] = []
    read(fetched(server, make_registry(progress=events.append)), 1000)

    moved = [event for event in events if isinstance(event, BytesMoved)]
    total = DATA.descriptor.size
    what = f"{server.address}/app:1 sha256:{DATA.descriptor.digest.short}"
    assert moved[-1] == BytesMoved(Direction.PULL, what, total, total)
    assert len(moved) < 10


def test_cancelling_ends_a_transfer(server: RegistryServer, registry: Registry) -> None:
    remote = fetched(server, registry)
    with remote.open() as stream:
        stream.read(10)
        registry.cancel()
        with pytest.raises(RegistryError, match="cancelled"):
            while stream.read(1000):
                pass


def test_cancelling_ends_a_long_pause(server: RegistryServer, registry: Registry) -> None:
    remote = fetched(server, registry)
    server.misbehave(Answer(503, {"Retry-After": "60"}), path=BLOBS, times=None)
    timer = threading.Timer(0.05, registry.cancel)
    timer.start()

    with pytest.raises(RegistryError, match="cancelled"):
        read(remote)
    timer.join()


def test_blob_is_looked_for_without_fetching_it(server: RegistryServer, registry: Registry) -> None:
    digest = server.add_blob("app", b"data")
    repository = server.reference("app").repository
    assert registry.has_blob(repository, digest)
    assert not registry.has_blob(server.reference("other").repository, digest)
    assert server.lines("GET") == []


def test_blob_counts_as_there_where_the_registry_does_not_tell(
    server: RegistryServer, registry: Registry
) -> None:
    """Some registries lead to an object store that takes no HEAD."""
    digest = server.add_blob("app", b"data")
    server.misbehave(Answer(405), method="HEAD")
    assert registry.has_blob(server.reference("app").repository, digest)


def test_registry_with_a_problem_says_nothing_of_a_blob(
    server: RegistryServer, registry: Registry
) -> None:
    digest = server.add_blob("app", b"data")
    server.misbehave(Answer(503), method="HEAD", times=None)
    with pytest.raises(RegistryError):
        registry.has_blob(server.reference("app").repository, digest)
