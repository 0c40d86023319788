"""A layer cache that fails: the build goes on without it, says so once, and its image is right."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from integration import images, readers
from integration.faults import (
    BreakOff,
    Fault,
    Faults,
    FaultyProxy,
    Late,
    Lie,
    Refuse,
    Silence,
    faulty_proxy,
    nothing,
)
from integration.programs import Programs
from integration.rebuilds import (
    InRegistry,
    Place,
    Rebuild,
    flip,
    in_sandbox,
    key_for,
    layer_digests,
    layer_for,
    mounted,
)
from integration.world import Passwords, Registry

MakeRebuild = Callable[..., Rebuild]

_UNIQUE = "RUN cat /proc/sys/kernel/random/uuid > /stamp"
_COPY = "RUN cp /stamp /copy"
_LAST = "RUN cat /stamp /copy > /last"
_STEPS = [_UNIQUE, _COPY, _LAST]


_ON_DISK = ("layout", "directory")


def dockerfile(base: str, *steps: str) -> str:
    """Begin with *base*, and go on with *steps* or the usual three."""
    return "\n".join((f"FROM {base}", *(steps or _STEPS), ""))


def is_whole(image: str) -> bool:
    """Whether all steps of an image were made on each other."""
    with readers.unpacked(image) as root:
        stamp = (root / "stamp").read_text()
        return (root / "copy").read_text() == stamp and (root / "last").read_text() == stamp * 2


# --- a registry that cannot be asked ------------------------------------------------------


@pytest.fixture
def proxy(make_registry: Callable[..., Registry]) -> Iterator[FaultyProxy]:
    """A registry of the test's own, for the cache alone, that misbehaves when it is told to."""
    with faulty_proxy(make_registry().address) as started:
        yield started


@pytest.fixture
def behind(proxy: FaultyProxy, make_rebuild: MakeRebuild, busybox: str) -> Rebuild:
    """A build whose three steps are in the cache behind the proxy."""
    rebuild = make_rebuild(_InProxy(proxy))
    log = rebuild(dockerfile(busybox))
    assert (log.ran, log.warnings) == (_STEPS, [])
    proxy.requests.clear()
    return rebuild


class _InProxy:
    """A repository behind a proxy."""

    def __init__(self, proxy: FaultyProxy) -> None:
        self._proxy = proxy

    @property
    def flag(self) -> str:
        return f"{self._proxy.address}/cache/layers"


def _everywhere(fault: Fault) -> Faults:
    return lambda method, path: fault


def _for(words: str, fault: Fault, *methods: str) -> Faults:
    """Let *fault* happen to what has *words* in its path."""
    return lambda method, path: (
        fault if words in path and (not methods or method in methods) else None
    )


_WRITING = ("POST", "PUT", "PATCH", "DELETE")
_UNREACHABLE = {
    "401": _everywhere(Refuse(401)),
    "403": _everywhere(Refuse(403)),
    "429": _everywhere(Refuse(429, (("Retry-After", "600"),))),
    "500": _everywhere(Refuse(500)),
    "no answer": _everywhere(Silence()),
    "half an answer": _everywhere(BreakOff()),
    "no answer for manifests": _for("/manifests/", Silence()),
    "500 for manifests": _for("/manifests/", Refuse(500)),
}


@pytest.mark.parametrize("case", _UNREACHABLE)
def test_a_cache_that_cannot_be_asked_costs_one_warning(
    behind: Rebuild, proxy: FaultyProxy, case: str
) -> None:
    """It is given up after few requests, however many steps there are."""
    proxy.faults = _UNREACHABLE[case]
    log = behind()

    assert log.ran == _STEPS
    assert len(log.warnings) == 1, log.warnings
    assert proxy.address in log.warnings[0]
    assert len(proxy.requests) < 20, proxy.requests
    assert is_whole(behind.image)


def test_a_cache_that_is_not_there_costs_one_warning(
    make_rebuild: MakeRebuild, make_registry: Callable[..., Registry], busybox: str
) -> None:
    registry = make_registry()
    registry.stop()
    rebuild = make_rebuild(InRegistry(registry))
    log = rebuild(dockerfile(busybox))

    assert log.ran == _STEPS
    assert len(log.warnings) == 1, log.warnings
    assert registry.address in log.warnings[0]


def test_a_cache_that_is_slow_is_used_all_the_same(behind: Rebuild, proxy: FaultyProxy) -> None:
    """All steps are looked up at once: ten of them take no longer than one."""
    proxy.faults = _everywhere(Late(0.7))
    log = behind()

    assert (log.taken, log.warnings) == (_STEPS, [])


def test_a_cache_that_comes_back_is_used_again(behind: Rebuild, proxy: FaultyProxy) -> None:
    proxy.faults = _UNREACHABLE["500"]
    behind()
    proxy.faults = nothing

    assert behind().taken == _STEPS


# --- a registry that takes nothing --------------------------------------------------------

_READ_ONLY = {
    "401": _for("", Refuse(401), *_WRITING),
    "403": _for("", Refuse(403), *_WRITING),
    "405": _for("", Refuse(405), *_WRITING),
    "500 for blobs": _for("/blobs/uploads/", Refuse(500)),
    "blobs break off": _for("/blobs/uploads/", BreakOff(), "PUT", "PATCH"),
    "no answer for blobs": _for("/blobs/uploads/", Silence(), *_WRITING),
    "only blobs": _for("/manifests/", Refuse(403), "PUT"),
}


@pytest.mark.parametrize("case", _READ_ONLY)
def test_a_cache_that_takes_nothing_is_read_all_the_same(
    behind: Rebuild, proxy: FaultyProxy, busybox: str, case: str
) -> None:
    """One warning, however many layers there were to be sent; the image is pushed."""
    proxy.faults = _READ_ONLY[case]
    more = [f"RUN echo {number} > /{number}" for number in range(3)]
    log = behind(dockerfile(busybox, *_STEPS, *more))

    assert (log.taken, log.ran) == (_STEPS, more)
    assert len(log.warnings) == 1, log.warnings
    assert proxy.address in log.warnings[0]
    assert is_whole(behind.image)


def test_nothing_is_sent_where_everything_is_there(behind: Rebuild, proxy: FaultyProxy) -> None:
    proxy.faults = _READ_ONLY["403"]
    log = behind()

    assert (log.ran, log.warnings) == ([], [])
    assert not [r for r in proxy.requests if r.startswith(("PUT", "PATCH"))]


# --- layers that are gone, or wrong -------------------------------------------------------


_LOST: dict[str, Callable[[str], Faults]] = {
    "gone": lambda digest: _for(digest, Refuse(404)),
    "gone when it is fetched": lambda digest: _for(digest, Refuse(404), "GET"),
    "refused when it is fetched": lambda digest: _for(digest, Refuse(403), "GET"),
    "wrong": lambda digest: _for(digest, Lie(), "GET"),
    "half": lambda digest: _for(digest, BreakOff(), "GET"),
}


@pytest.mark.parametrize("case", _LOST)
@pytest.mark.parametrize("number", range(3))
def test_a_layer_that_cannot_be_had_is_made_anew_with_what_stands_on_it(
    behind: Rebuild, proxy: FaultyProxy, busybox: str, case: str, number: int
) -> None:
    """It is needed to run what is new. What it holds decides what stands on it may stay."""
    elsewhere = replace(behind, image=behind.image.replace(":latest", "/elsewhere:latest"))
    proxy.faults = _LOST[case](layer_digests(behind.image)[1 + number])
    log = elsewhere(dockerfile(busybox, *_STEPS, "RUN true"))

    # A UUID is another one now; the others give what they gave.
    assert log.ran == [*(_STEPS if number == 0 else [_STEPS[number]]), "RUN true"]
    assert len(log.warnings) == 1, log.warnings
    assert is_whole(elsewhere.image)


@pytest.mark.parametrize("case", _LOST)
def test_a_layer_that_cannot_be_had_is_missed_though_nothing_was_to_run(
    behind: Rebuild, proxy: FaultyProxy, make_registry: Callable[..., Registry], case: str
) -> None:
    """The destination has none of the layers; half way, the build finds out and starts over."""
    elsewhere = replace(behind, image=f"{make_registry().address}/app:1")
    proxy.faults = _LOST[case](layer_digests(behind.image)[2])
    log = elsewhere()

    assert (log.taken, log.ran) == ([_UNIQUE, _LAST], [_COPY])
    assert len(log.warnings) == 1, log.warnings
    assert is_whole(elsewhere.image)


def test_a_layer_that_is_at_the_destination_is_not_missed(
    behind: Rebuild, proxy: FaultyProxy
) -> None:
    """Nobody reads it: that its bytes are wrong in the cache is of no importance."""
    proxy.faults = _for(layer_digests(behind.image)[2], Lie(), "GET")
    log = behind()

    assert (log.ran, log.warnings) == ([], [])


@pytest.mark.parametrize("how", ["gone", "wrong", "cut"])
def test_a_damaged_file_is_a_miss_and_mended(
    make_rebuild: MakeRebuild, place: Place, mode: str, busybox: str, how: str
) -> None:
    rebuild = make_rebuild(place, mode)
    rebuild(dockerfile(busybox))
    files = place.blob(layer_for(place, "cp /stamp"))
    assert files
    for file in files:
        match how:
            case "gone":
                file.unlink()
            case "wrong":
                flip(file)
            case _:
                os.truncate(file, file.stat().st_size - 1)
    elsewhere = replace(rebuild, image=rebuild.image.replace(":latest", "/elsewhere:latest"))
    time.sleep(1)  # what is made anew is of another second, and so another blob
    log = elsewhere(dockerfile(busybox, *_STEPS, "RUN true"))
    again = elsewhere()

    assert (log.taken, log.ran) == ([_UNIQUE, _LAST], [_COPY, "RUN true"])
    assert len(log.warnings) == 1, log.warnings
    assert is_whole(elsewhere.image)
    assert (again.ran, again.warnings) == ([], [])


def test_an_entry_of_somebody_else_is_no_entry(
    make_rebuild: MakeRebuild, make_registry: Callable[..., Registry], busybox: str
) -> None:
    """Any image can have our tag; its layer is not what our step made."""
    registry = make_registry()
    place = InRegistry(registry)
    rebuild = make_rebuild(place)
    rebuild(dockerfile(busybox))
    images.push(images.busybox_layout(), registry, f"cache/layers:{key_for(place, 'uuid')}")
    log = rebuild()

    assert _UNIQUE in log.ran
    assert is_whole(rebuild.image)
    assert rebuild().ran == []


@pytest.mark.parametrize("place", _ON_DISK, indirect=True)
@pytest.mark.parametrize("text", ["", "{", "[]", '{"manifests": [{}]}', "\0"])
def test_an_index_that_is_none_is_survived(
    make_rebuild: MakeRebuild, busybox: str, tmp_path: Path, place: Place, text: str
) -> None:
    rebuild = make_rebuild(place)
    rebuild(dockerfile(busybox))
    for index in (tmp_path / "layers").rglob("index.json"):
        index.write_text(text)
    log = rebuild()

    assert log.ran == _STEPS
    assert 0 < len(log.warnings) <= len(_STEPS)
    assert is_whole(rebuild.image)


# --- who may --------------------------------------------------------------------------------

_USER = Passwords("cacher", "hunter2")


def _login(directory: Path, logins: dict[str, Passwords]) -> dict[str, str]:
    """Log in as ``docker login`` does; return the environment that says where."""
    directory.mkdir(exist_ok=True)
    auths = {
        host: {"auth": base64.b64encode(f"{who.user}:{who.password}".encode()).decode()}
        for host, who in logins.items()
    }
    (directory / "config.json").write_text(json.dumps({"auths": auths}))
    return {"DOCKER_CONFIG": str(directory)}


def test_the_cache_has_credentials_of_its_own(
    make_rebuild: MakeRebuild,
    make_registry: Callable[..., Registry],
    busybox: str,
    tmp_path: Path,
) -> None:
    """Neither the destination's nor none."""
    registry, other = make_registry(passwords=_USER), make_registry(passwords=Passwords("me", "1"))
    logins = {registry.address: _USER, other.address: Passwords("me", "1")}
    rebuild = replace(
        make_rebuild(InRegistry(registry)),
        image=f"{other.address}/app:1",
        env=_login(tmp_path / "docker", logins),
    )
    first, second = rebuild(dockerfile(busybox)), rebuild()

    assert (first.ran, first.warnings) == (_STEPS, [])
    assert (second.taken, second.warnings) == (_STEPS, [])


@pytest.mark.parametrize("password", [None, "wrong"])
def test_a_cache_that_does_not_know_us_costs_one_warning(
    make_rebuild: MakeRebuild,
    make_registry: Callable[..., Registry],
    busybox: str,
    tmp_path: Path,
    password: str | None,
) -> None:
    registry = make_registry(passwords=_USER)
    logins = {} if password is None else {registry.address: Passwords(_USER.user, password)}
    env = _login(tmp_path / "docker", logins)
    log = replace(make_rebuild(InRegistry(registry)), env=env)(dockerfile(busybox))

    assert log.ran == _STEPS
    assert len(log.warnings) == 1, log.warnings
    assert registry.address in log.warnings[0]
    assert "hunter2" not in log.finished.written


# --- directories ----------------------------------------------------------------------------


@pytest.mark.parametrize("place", _ON_DISK, indirect=True)
def test_a_directory_that_cannot_be_written_to_is_read_all_the_same(
    make_rebuild: MakeRebuild, place: Place, busybox: str, programs: Programs, tmp_path: Path
) -> None:
    """As a builder has it that must not change what others build from."""
    rebuild = make_rebuild(place)
    rebuild(dockerfile(busybox))
    prefix = mounted("read-only", tmp_path / "layers")
    read_only = replace(rebuild, execute=in_sandbox(programs, prefix))
    log = read_only()
    more = read_only(dockerfile(busybox, *_STEPS, "RUN :"))

    assert (log.ran, log.warnings) == ([], [])
    assert (more.taken, more.ran) == (_STEPS, ["RUN :"])
    assert len(more.warnings) == 1, more.warnings


@pytest.mark.parametrize("place", _ON_DISK, indirect=True)
def test_a_full_disk_is_no_reason_to_fail(
    make_rebuild: MakeRebuild, place: Place, busybox: str, programs: Programs, tmp_path: Path
) -> None:
    rebuild = make_rebuild(place)
    small = in_sandbox(programs, mounted("small", tmp_path / "layers"))
    noise = [f"RUN head -c 6000000 /dev/urandom > /{name}" for name in "ab"]
    log = replace(rebuild, execute=small)(dockerfile(busybox, *noise, *_STEPS))

    assert len(log.ran) == 5
    assert 0 < len(log.warnings) <= len(noise), log.warnings
    assert is_whole(rebuild.image)
