from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from kaniko_core.errors import DigestMismatch
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.spec import Descriptor, MediaType
from kaniko_core.options import RegistryOptions
from kaniko_core.options.mirrors import mirror_map
from kaniko_core.progress import Event, Warned, silent
from kaniko_core.registry.client import Registry, RemoteLayer
from kaniko_core.registry.pacing import Pacing
from tests.registry.conftest import FixedKeychain
from tests.registry_server import Answer, Corrupt, RegistryServer

LARGE = bytes(range(256)) * (5 << 12)  # 5 MiB: more than is held in memory


@contextmanager
def pulling(
    server: RegistryServer, mirror: RegistryServer, *, spool: Path, events: list[Event]
) -> Iterator[Registry]:
    options = RegistryOptions(registry_map=(mirror_map(f"{server.address}={mirror.address}"),))
    with Registry(
        options,
        progress=events.append,
        keychain=FixedKeychain(),
        pacing=Pacing(1, first=0.001),
        spool=spool,
    ) as registry:
        yield registry


def layer_of(registry: Registry, server: RegistryServer, data: bytes = LARGE) -> RemoteLayer:
    descriptor = Descriptor(MediaType.OCI_LAYER, Digest.of(data), len(data))
    return registry.layer(server.reference("app:1"), descriptor, descriptor.digest)


def warnings(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Warned)]


@pytest.fixture
def both(server: RegistryServer, other_server: RegistryServer) -> tuple[RegistryServer, ...]:
    for each in (server, other_server):
        each.add_blob("app", LARGE)
    return server, other_server


def test_nothing_is_asked_before_a_read(
    both: tuple[RegistryServer, RegistryServer], tmp_path: Path
) -> None:
    server, mirror = both
    with pulling(server, mirror, spool=tmp_path, events=[]) as registry:
        layer_of(registry, server).open().close()

    assert server.requests == mirror.requests == []


def test_layer_is_checked_in_the_directory_that_is_given_and_leaves_nothing(
    both: tuple[RegistryServer, RegistryServer], tmp_path: Path
) -> None:
    server, mirror = both
    with (
        pulling(server, mirror, spool=tmp_path, events=[]) as registry,
        layer_of(registry, server).open() as stream,
    ):
        assert stream.read(1) == LARGE[:1]
        assert list(tmp_path.iterdir()) == []
        assert stream.read() == LARGE[1:]
    assert server.requests == []


def test_layer_that_no_disk_can_hold_is_passed_on_unchecked(
    both: tuple[RegistryServer, RegistryServer], tmp_path: Path
) -> None:
    server, mirror = both
    events: list[Event] = []
    with pulling(server, mirror, spool=tmp_path / "missing", events=events) as registry:
        with layer_of(registry, server).open() as stream:
            assert stream.read() == LARGE
        mirror.misbehave(Corrupt(), path="/blobs/", times=None)
        with (
            layer_of(registry, server).open() as stream,
            pytest.raises(DigestMismatch),
        ):
            stream.read()

    assert server.requests == []
    assert warnings(events) == []


def test_many_readers_of_a_mirror_that_fails_are_warned_once(
    server: RegistryServer, other_server: RegistryServer, tmp_path: Path
) -> None:
    contents = [bytes([number]) * 1000 for number in range(8)]
    for data in contents:
        server.add_blob("app", data)
    other_server.misbehave(Answer(500, {"Retry-After": "0"}), times=None)
    events: list[Event] = []
    begin = threading.Barrier(len(contents))

    with pulling(server, other_server, spool=tmp_path, events=events) as registry:

        def read(data: bytes) -> bytes:
            begin.wait()
            with layer_of(registry, server, data).open() as stream:
                return stream.read()

        with ThreadPoolExecutor(len(contents)) as pool:
            assert list(pool.map(read, contents)) == contents

    assert len(warnings(events)) == 1


def test_only_place_is_read_from_as_it_comes(server: RegistryServer, tmp_path: Path) -> None:
    """What cannot be fetched anew is not checked on disk before."""
    server.add_blob("app", LARGE)
    with Registry(
        progress=silent, keychain=FixedKeychain(), spool=tmp_path / "missing"
    ) as registry:
        server.misbehave(Corrupt(), path="/blobs/", times=None)
        with layer_of(registry, server).open() as stream:
            assert stream.read(1000) == LARGE[:1000]
            with pytest.raises(DigestMismatch):
                stream.read()
