from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from kaniko_core.errors import ContentError, NotFound, RegistryError, Unauthorized, UsageError
from kaniko_core.oci.image import Image
from kaniko_core.oci.reference import Reference, Repository
from kaniko_core.oci.spec import Index, MediaType
from kaniko_core.options import RegistryOptions
from kaniko_core.options.mirrors import Mirror, hub_mirror, mirror_map
from kaniko_core.progress import Event, Noted, Warned
from kaniko_core.registry.auth import Credentials
from kaniko_core.registry.client import Registry
from kaniko_core.registry.mirrors import MirrorRules
from tests.registry.conftest import MakeRegistry
from tests.registry_server import (
    Answer,
    BreakOff,
    Corrupt,
    HangUp,
    RegistryServer,
    running_registry,
)
from tests.samples import AMD64, image

BLOBS, MANIFESTS = "/blobs/", "/manifests/"


def mirrors(*places: str, of: str = "docker.io") -> tuple[tuple[Mirror, ...], ...]:
    return (mirror_map(";".join(f"{of}={place}" for place in places)),)


def warnings(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Warned)]


def content(got: Image | None) -> list[bytes]:
    assert got is not None
    found = []
    for layer in got.layers:
        with layer.open() as stream:
            found.append(stream.read())
    return found


EXPECTED = content(image())


@pytest.fixture
def third() -> Iterator[RegistryServer]:
    with running_registry("127.0.0.3") as started:
        yield started


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def mirrored(
    server: RegistryServer,
    other_server: RegistryServer,
    make_registry: MakeRegistry,
    events: list[Event],
) -> Registry:
    """A client that knows *other_server* as a mirror of *server*; both have team/app:1."""
    for each in (server, other_server):
        each.add_image("team/app", "1", image())
    mapped = mirrors(other_server.address, of=server.address)
    return make_registry(registry_map=mapped, progress=events.append)


# --- what users write ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("docker.io=mirror", [("docker.io", "mirror", "")]),
        ("index.docker.io=m.io", [("docker.io", "m.io", "")]),
        ("registry-1.docker.io=m.io", [("docker.io", "m.io", "")]),
        ("gcr.io=m.io:5000/a/b", [("gcr.io", "m.io:5000", "a/b")]),
        ("gcr.io=https://m.io/", [("gcr.io", "m.io", "")]),
        ("[::1]:5000=[fd00::2]/x", [("[::1]:5000", "[fd00::2]", "x")]),
        ("a.io=b.io;c.io=d.io", [("a.io", "b.io", ""), ("c.io", "d.io", "")]),
        ("a.io=b.io; c.io ;", [("a.io", "b.io", ""), ("a.io", "c.io", "")]),
        ("A.io=B.io", [("a.io", "b.io", "")]),
        ("quay.io=index.docker.io", [("quay.io", "docker.io", "")]),
    ],
)
def test_maps_are_read(text: str, expected: list[tuple[str, str, str]]) -> None:
    assert mirror_map(text) == tuple(Mirror(*each) for each in expected)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "maps no registry"),
        (";", "maps no registry"),
        ("docker.io", "maps no registry"),
        ("=m.io", "not the name of a registry"),
        ("docker.io/library=m.io", "not the name of a registry"),
        ("docker.io=", "could be a mirror"),
        ("docker.io=m.io:tag", "could be a mirror"),
        ("docker.io=m.io/Upper", "could be a mirror"),
        ("docker.io=m.io/a@sha256:" + "0" * 64, "could be a mirror"),
        ("docker.io=m.io,n.io", "could be a mirror"),
        ("docker.io=user:password@m.io", "could be a mirror"),
    ],
)
def test_what_maps_nothing_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        mirror_map(text)
    assert caught.value.hint


def test_short_form_is_for_docker_hub() -> None:
    assert hub_mirror("m.io/hub") == Mirror("docker.io", "m.io", "hub")
    with pytest.raises(UsageError, match="could be a mirror"):
        hub_mirror("m.io,n.io")


def test_places_are_asked_in_order_and_once() -> None:
    options = RegistryOptions(
        registry_map=(mirror_map("docker.io=a.io/x;gcr.io=b.io"), mirror_map("docker.io=c.io")),
        registry_mirror=(hub_mirror("d.io"), hub_mirror("c.io"), hub_mirror("docker.io")),
    )
    debian = Repository("docker.io", "library/debian")

    assert MirrorRules.of(options).places(debian) == (
        Repository("a.io", "x/library/debian"),
        Repository("c.io", "library/debian"),
        Repository("d.io", "library/debian"),
        debian,
    )


def test_without_fallback_the_original_is_left_out_where_it_has_mirrors() -> None:
    options = RegistryOptions(registry_map=mirrors("a.io"), skip_default_registry_fallback=True)
    rules = MirrorRules.of(options)

    assert rules.places(Repository("docker.io", "x")) == (Repository("a.io", "x"),)
    assert rules.places(Repository("gcr.io", "x")) == (Repository("gcr.io", "x"),)


# --- a mirror that works -------------------------------------------------------------------


def test_everything_comes_from_the_mirror(
    server: RegistryServer,
    other_server: RegistryServer,
    mirrored: Registry,
    events: list[Event],
) -> None:
    reference = server.reference("team/app:1")

    assert mirrored.head(reference) == image().descriptor
    assert content(mirrored.get(reference, AMD64)) == EXPECTED
    assert server.requests == []
    assert warnings(events) == []
    assert [event.message for event in events if isinstance(event, Noted)] == [
        f"pulling {server.address}/team/app from its mirror {other_server.address}/team/app"
    ]


def test_prefix_goes_before_the_path(server: RegistryServer, make_registry: MakeRegistry) -> None:
    server.add_image("hub/cache/library/debian", "12", image())
    registry = make_registry(registry_map=mirrors(f"{server.address}/hub/cache"))

    assert content(registry.get(Reference.parse("debian:12"), AMD64)) == EXPECTED


def test_nothing_is_pushed_to_a_mirror(
    server: RegistryServer, other_server: RegistryServer, make_registry: MakeRegistry
) -> None:
    mapped = mirrors(other_server.address, of=server.address)
    registry = make_registry(push=True, registry_map=mapped)

    registry.check_push(server.reference("new:1"))
    registry.put(server.reference("new:1"), image())

    assert other_server.requests == []
    assert "1" in server.manifests["new"]


def test_mirror_of_a_mirror_is_not_followed(
    server: RegistryServer, other_server: RegistryServer, make_registry: MakeRegistry
) -> None:
    """Two registries that name each other would lead nowhere."""
    server.add_image("app", "1", image())
    mapped = (
        *mirrors(other_server.address, of=server.address),
        *mirrors(server.address, of=other_server.address),
    )
    registry = make_registry(registry_map=mapped)

    assert registry.head(server.reference("app:1")) == image().descriptor


def test_credentials_are_looked_up_for_the_mirrors_host(
    server: RegistryServer, other_server: RegistryServer, make_registry: MakeRegistry
) -> None:
    other_server.add_image("team/app", "1", image())
    other_server.challenge = 'Basic realm="mirror"'
    credentials = Credentials("me", "hunter2")
    other_server.authorized = {credentials.basic or ""}
    registry = make_registry(
        credentials, registry_map=mirrors(other_server.address, of=server.address)
    )

    assert registry.head(server.reference("team/app:1")) is not None
    keychain = registry._session._authorizer._keychain
    assert {repository.registry for repository in keychain.asked} == {  # type: ignore[attr-defined]
        other_server.address
    }
    assert server.requests == []


# --- a mirror that does not ----------------------------------------------------------------


def test_mirror_that_lacks_the_image_is_passed_over(
    server: RegistryServer, other_server: RegistryServer, mirrored: Registry, events: list[Event]
) -> None:
    other_server.manifests.clear()

    assert mirrored.head(server.reference("team/app:1")) == image().descriptor
    assert content(mirrored.get(server.reference("team/app:1"), AMD64)) == EXPECTED

    assert warnings(events) == [
        f"the mirror {other_server.address} does not have {other_server.address}/team/app:1; "
        f"asking {server.address} instead"
    ]
    # Of what it does not have, it is not asked for the parts.
    assert not [line for line in other_server.lines() if BLOBS in line]


def test_next_of_several_is_asked(
    server: RegistryServer,
    other_server: RegistryServer,
    third: RegistryServer,
    make_registry: MakeRegistry,
    events: list[Event],
) -> None:
    third.add_image("team/app", "1", image())
    mapped = mirrors(other_server.address, third.address, of=server.address)
    registry = make_registry(registry_map=mapped, progress=events.append)

    assert content(registry.get(server.reference("team/app:1"), AMD64)) == EXPECTED
    assert server.requests == []
    assert len(warnings(events)) == 1
    assert warnings(events)[0].endswith(f"asking {third.address} instead")


def test_mirror_that_is_down_is_asked_once(
    server: RegistryServer, make_registry: MakeRegistry, events: list[Event]
) -> None:
    with socket.create_server(("127.0.0.4", 0)) as closed:
        address = f"127.0.0.4:{closed.getsockname()[1]}"
    server.add_image("team/app", "1", image())
    registry = make_registry(
        registry_map=mirrors(address, of=server.address), progress=events.append
    )

    for _ in range(2):
        assert content(registry.get(server.reference("team/app:1"), AMD64)) == EXPECTED

    assert warnings(events) == [
        f"cannot reach {address}: it refuses connections; asking {server.address} instead"
    ]


def test_failing_mirror_is_not_waited_for_long(
    server: RegistryServer, other_server: RegistryServer, mirrored: Registry, events: list[Event]
) -> None:
    other_server.misbehave(Answer(503, {"Retry-After": "0"}), times=None)

    assert content(mirrored.get(server.reference("team/app:1"), AMD64)) == EXPECTED
    assert len(other_server.requests) == 2
    assert len(warnings(events)) == 1
    assert "answered 503" in warnings(events)[0]


def test_mirror_that_refuses_is_passed_over(
    server: RegistryServer, other_server: RegistryServer, mirrored: Registry, events: list[Event]
) -> None:
    other_server.challenge = 'Basic realm="mirror"'

    assert mirrored.head(server.reference("team/app:1")) is not None
    assert content(mirrored.get(server.reference("team/app:1"), AMD64)) == EXPECTED
    assert len(warnings(events)) == 1
    assert f"{other_server.address} answered 401" in warnings(events)[0]


@pytest.mark.parametrize("path", [MANIFESTS, BLOBS])
@pytest.mark.parametrize("fault", [Corrupt(), BreakOff(0), HangUp(), Answer(404), Answer(500)])
def test_whatever_a_mirror_does_wrong_the_bytes_are_right(
    server: RegistryServer,
    other_server: RegistryServer,
    mirrored: Registry,
    events: list[Event],
    path: str,
    fault: Corrupt | BreakOff | HangUp | Answer,
) -> None:
    other_server.misbehave(fault, method="GET", path=path, times=None)

    assert content(mirrored.get(server.reference("team/app:1"), AMD64)) == EXPECTED
    assert len(warnings(events)) == 1
    assert other_server.address in warnings(events)[0]


def test_one_wrong_layer_comes_from_elsewhere(
    server: RegistryServer, other_server: RegistryServer, mirrored: Registry, events: list[Event]
) -> None:
    """And a reader never sees a byte of the wrong one."""
    digest = image().layers[0].descriptor.digest
    other_server.misbehave(Corrupt(), path=str(digest), times=None)
    got = mirrored.get(server.reference("team/app:1"), AMD64)
    assert got is not None

    with got.layers[0].open() as stream:
        first = stream.read(5)
        rest = stream.read()

    assert first + rest == EXPECTED[0]
    assert [line for line in server.lines() if BLOBS in line] == [
        f"GET /v2/team/app/blobs/{digest}"
    ]
    assert "instead of the promised" in warnings(events)[0]


def test_page_of_a_captive_portal_is_no_image(
    server: RegistryServer, other_server: RegistryServer, mirrored: Registry, events: list[Event]
) -> None:
    page = Answer(200, {"Content-Type": "text/html"}, text="<html>Log in</html>")
    other_server.misbehave(page, times=None)

    assert content(mirrored.get(server.reference("team/app:1"), AMD64)) == EXPECTED
    assert any("not JSON" in message for message in warnings(events))


def test_image_of_an_index_that_a_mirror_has_lost_comes_from_elsewhere(
    server: RegistryServer, other_server: RegistryServer, mirrored: Registry, events: list[Event]
) -> None:
    index = Index(MediaType.OCI_INDEX, (image().descriptor,)).to_bytes()
    for each in (server, other_server):
        each.add_manifest("team/app", "all", MediaType.OCI_INDEX, index)
    del other_server.manifests["team/app"][str(image().digest)]

    assert content(mirrored.get(server.reference("team/app:all"), AMD64)) == EXPECTED
    assert len(warnings(events)) == 1


# --- without the original ------------------------------------------------------------------


@pytest.fixture
def alone(
    server: RegistryServer, other_server: RegistryServer, make_registry: MakeRegistry
) -> Registry:
    """A client that may ask the mirror only."""
    server.add_image("team/app", "1", image())
    mapped = mirrors(other_server.address, of=server.address)
    return make_registry(registry_map=mapped, skip_default_registry_fallback=True)


def test_nobody_else_is_asked_for_what_the_mirrors_lack(
    server: RegistryServer, other_server: RegistryServer, alone: Registry
) -> None:
    with pytest.raises(NotFound, match=r"no mirror of .* has .*/team/app:1: asked") as caught:
        alone.head(server.reference("team/app:1"))

    assert other_server.address in str(caught.value)
    assert "--skip-default-registry-fallback" in (caught.value.hint or "")
    assert server.requests == []


def test_mirrors_that_could_not_be_asked_are_told_from_those_that_were(
    server: RegistryServer, other_server: RegistryServer, make_registry: MakeRegistry
) -> None:
    with socket.create_server(("127.0.0.4", 0)) as closed:
        down = f"127.0.0.4:{closed.getsockname()[1]}"
    mapped = mirrors(down, other_server.address, of=server.address)
    registry = make_registry(registry_map=mapped, skip_default_registry_fallback=True)

    with pytest.raises(NotFound) as caught:
        registry.head(server.reference("team/app:1"))

    asked = f"asked {other_server.address}; {down} could not be asked"
    assert str(caught.value).endswith(asked)


def test_failure_of_the_only_mirror_says_who_was_not_asked(
    server: RegistryServer, other_server: RegistryServer, alone: Registry
) -> None:
    other_server.misbehave(Answer(403, code="DENIED"), times=None)

    with pytest.raises(Unauthorized, match=f"{other_server.address} answered 403") as caught:
        alone.head(server.reference("team/app:1"))

    assert any("--skip-default-registry-fallback" in note for note in caught.value.__notes__)
    assert server.requests == []


def test_wrong_bytes_of_the_only_mirror_are_an_error(
    server: RegistryServer, other_server: RegistryServer, alone: Registry
) -> None:
    other_server.add_image("team/app", "1", image())
    got = alone.get(server.reference("team/app:1"), AMD64)
    other_server.misbehave(Corrupt(), path=BLOBS, times=None)

    with pytest.raises(ContentError, match="instead of the promised"):
        content(got)
    assert server.requests == []


# --- a layer that is fetched anew ----------------------------------------------------------


def test_wrong_layer_is_fetched_anew_as_often_as_wanted(
    server: RegistryServer, make_registry: MakeRegistry, events: list[Event]
) -> None:
    reference = server.add_image("team/app", "1", image())
    registry = make_registry(image_fs_extract_retry=2, progress=events.append)
    got = registry.get(reference, AMD64)
    assert got is not None
    server.misbehave(Corrupt(), path=str(got.layers[0].descriptor.digest), times=2)

    assert content(got) == EXPECTED
    assert [message.endswith("; fetching it again") for message in warnings(events)] == [True] * 2


def test_wrong_layer_is_fetched_anew_no_more_than_that(
    server: RegistryServer, make_registry: MakeRegistry
) -> None:
    reference = server.add_image("team/app", "1", image())
    registry = make_registry(image_fs_extract_retry=2)
    got = registry.get(reference, AMD64)
    assert got is not None
    digest = str(got.layers[0].descriptor.digest)
    server.misbehave(Corrupt(), path=digest, times=None)

    with pytest.raises(ContentError, match="instead of the promised"):
        content(got)
    assert len([line for line in server.lines() if digest in line]) == 3


def test_layer_that_keeps_breaking_off_is_fetched_anew(
    server: RegistryServer, make_registry: MakeRegistry
) -> None:
    server.ranges = False
    reference = server.add_image("team/app", "1", image())
    registry = make_registry(retries=0, image_fs_extract_retry=1)
    got = registry.get(reference, AMD64)
    server.misbehave(BreakOff(10), path=BLOBS, times=1)

    assert content(got) == EXPECTED


def test_what_the_registry_refuses_is_not_asked_for_again(
    server: RegistryServer, make_registry: MakeRegistry
) -> None:
    reference = server.add_image("team/app", "1", image())
    registry = make_registry(image_fs_extract_retry=5)
    got = registry.get(reference, AMD64)
    server.misbehave(Answer(403), path=BLOBS, times=None)
    before = len(server.requests)

    with pytest.raises(RegistryError, match="answered 403"):
        content(got)
    assert len(server.requests) == before + 1
