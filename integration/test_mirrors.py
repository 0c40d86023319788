"""Images of one registry from others: mirrors that work, and what happens where they do not.

docker.io itself is out of reach here, as in many clusters: what comes, came from a mirror.
"""

from __future__ import annotations

import base64
import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from integration import images, readers
from integration.faults import BreakOff, Fault, Faults, Lie, Refuse, faulty_registry, layer_of
from integration.programs import Build, Finished, Programs, said
from integration.transport_world import Reachable, reachable_registry
from integration.world import Registry

_FROM = "FROM busybox:1.35\nRUN echo made > /made\n"
_ALONE = "--skip-default-registry-fallback"
_SECRET = "hunter2"


@pytest.fixture(scope="module")
def upstream(registry: Registry) -> Registry:
    """A registry that has what Docker Hub has under the same name, and below a prefix."""
    for name in ("library/busybox:1.35", "hub/cache/library/busybox:1.35"):
        images.push(images.busybox_layout(), registry, name)
    return registry


@pytest.fixture
def through(upstream: Registry, tmp_path: Path) -> Iterator[Reachable]:
    """A pull-through mirror of *upstream*, with nothing in it yet."""
    url = f"http://{upstream.address}"
    with reachable_registry(tmp_path / "mirror", mirror_of=url) as started:
        yield started


@pytest.fixture
def down() -> str:
    """The address of a registry that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def warnings(done: Finished) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("warning:")]


def built(build: Build) -> bool:
    return "made" in readers.layers(build.image)[-1].names


# --- mirrors that work ---------------------------------------------------------------------


def test_build_pulls_through_a_mirror(build: Build, through: Reachable) -> None:
    done = build(_FROM, f"--registry-mirror={through.address}", _ALONE)

    assert built(build)
    assert warnings(done) == []
    assert any("/v2/library/busybox/blobs/" in path for path in through.pulls())
    assert build.programs.leftovers() == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [("KANIKO_REGISTRY_MIRROR", "{}"), ("KANIKO_REGISTRY_MAP", "index.docker.io={}")],
)
def test_variables_add_to_the_flags(
    build: Build, through: Reachable, down: str, variable: str, value: str
) -> None:
    build.fill({"Dockerfile": _FROM})
    done = build.programs.executor(
        *build.arguments,
        f"--registry-map=docker.io={down}",
        _ALONE,
        env={variable: value.format(through.address)},
    )

    assert built(build)
    (warning,) = warnings(done)
    assert f"cannot reach {down}" in warning
    assert f"asking {through.address} instead" in warning


def test_prefix_of_a_mirror(build: Build, upstream: Registry) -> None:
    build(_FROM, f"--registry-map=docker.io={upstream.address}/hub/cache", _ALONE)

    assert built(build)


def test_any_registry_can_be_mapped(build: Build, upstream: Registry) -> None:
    mapped = f"gcr.io=127.0.0.1:1;registry.example.invalid:5000={upstream.address}/hub"
    build(
        "FROM registry.example.invalid:5000/cache/library/busybox:1.35\nRUN echo made > /made\n",
        f"--registry-map={mapped}",
    )

    assert built(build)


def test_image_that_copy_names_comes_from_the_mirror(build: Build, through: Reachable) -> None:
    build(
        "FROM scratch\nCOPY --from=busybox:1.35 /bin/busybox /made\n",
        f"--registry-mirror={through.address}",
        _ALONE,
    )

    assert built(build)


def test_what_was_warmed_through_one_mirror_is_found_through_another(
    build: Build, programs: Programs, through: Reachable, upstream: Registry, tmp_path: Path
) -> None:
    """The cache knows the image by its own name, not by where it came from."""
    cache = tmp_path / "cache"
    warmed = programs.warmer(
        *("--image=busybox:1.35", f"--cache-dir={cache}", "--insecure-pull"),
        *(f"--registry-mirror={through.address}", _ALONE),
    )
    assert "downloaded" in warmed.stdout
    before = len(through.pulls())

    done = build(
        _FROM,
        *("--cache", "--no-push-cache", f"--cache-dir={cache}"),
        *(f"--registry-map=docker.io={upstream.address}/hub/cache", _ALONE),
    )

    assert "busybox:1.35 is in the cache" in done.written
    assert built(build)
    assert len(through.pulls()) == before


def test_credentials_are_those_of_the_mirrors_host(build: Build, tmp_path: Path) -> None:
    line = subprocess.run(
        ["htpasswd", "-Bbn", "me", _SECRET], check=True, capture_output=True, text=True
    ).stdout
    with reachable_registry(tmp_path / "closed", htpasswd=line) as closed:
        pushed = f"docker://{closed.address}/library/busybox:1.35"
        subprocess.run(
            [
                *("skopeo", "copy", "--quiet", "--dest-tls-verify=false"),
                *(f"--dest-creds=me:{_SECRET}", f"oci:{images.busybox_layout()}:latest", pushed),
            ],
            check=True,
        )
        auth = base64.b64encode(f"me:{_SECRET}".encode()).decode()
        (tmp_path / "config.json").write_text(
            json.dumps({"auths": {closed.address: {"auth": auth}}})
        )
        build.fill({"Dockerfile": _FROM})
        done = build.programs.executor(
            *build.arguments,
            *(f"--registry-mirror={closed.address}", _ALONE, "--verbosity=trace"),
            env={"DOCKER_CONFIG": str(tmp_path)},
        )

    assert built(build)
    assert _SECRET not in done.written
    assert auth not in done.written


# --- mirrors that do not -------------------------------------------------------------------


def _manifests(fault: Fault) -> Faults:
    return lambda _, path: fault if "/manifests/" in path else None


def _layers(fault: Fault) -> Faults:
    return lambda _, path: fault if layer_of(images.busybox_layout()) in path else None


_FAULTS: dict[str, tuple[Faults, str]] = {
    "refuses": (_manifests(Refuse(403)), "answered 403"),
    "has a problem": (_manifests(Refuse(503)), "answered 503"),
    "has a limit": (_manifests(Refuse(429, (("Retry-After", "3600"),))), "answered 429"),
    "lacks the image": (_manifests(Refuse(404)), "does not have"),
    "breaks off": (_manifests(BreakOff()), "broke off"),
    "sends another manifest": (_manifests(Lie()), "is not"),
    "lacks the layer": (_layers(Refuse(404)), "does not have it"),
    "sends another layer": (_layers(Lie()), "instead of the promised"),
    "sends half a layer": (_layers(BreakOff()), "broke off"),
}


@pytest.mark.parametrize("case", _FAULTS)
def test_next_place_is_asked_with_one_warning(build: Build, upstream: Registry, case: str) -> None:
    faults, word = _FAULTS[case]
    with faulty_registry(images.busybox_layout(), faults) as faulty:
        done = build(
            _FROM,
            f"--registry-mirror={faulty.address}",
            f"--registry-mirror={upstream.address}",
            _ALONE,
        )

    assert built(build)
    (warning,) = warnings(done)
    assert faulty.address in warning
    assert word in warning
    assert f"asking {upstream.address} instead" in warning
    assert "Traceback" not in done.written
    assert build.programs.leftovers() == []


def test_warmer_does_the_same(
    programs: Programs, upstream: Registry, down: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        liar = stack.enter_context(faulty_registry(images.busybox_layout(), _layers(Lie())))
        done = programs.warmer(
            *("--image=busybox:1.35", f"--cache-dir={tmp_path}/cache", "--insecure-pull"),
            *(f"--registry-map=docker.io={down};docker.io={liar.address}",),
            *(f"--registry-mirror={upstream.address}", _ALONE),
        )

    assert "downloaded" in done.stdout
    assert len(warnings(done)) == 2
    assert f"cannot reach {down}" in done.stderr
    assert f"asking {upstream.address} instead" in done.stderr


def test_mirror_alone_that_lacks_the_image(build: Build, upstream: Registry) -> None:
    done = build(
        "FROM busybox:no-such-tag\n", f"--registry-mirror={upstream.address}", _ALONE, check=False
    )

    said(done, "no mirror of docker.io has busybox:no-such-tag", upstream.address, _ALONE)
    assert build.programs.leftovers() == []


def test_mirror_alone_that_sends_another_layer(build: Build) -> None:
    with faulty_registry(images.busybox_layout(), _layers(Lie())) as faulty:
        done = build(_FROM, f"--registry-mirror={faulty.address}", _ALONE, check=False)

    said(done, faulty.address, "instead of the promised")
    assert build.programs.leftovers() == []


def test_original_is_asked_after_its_mirrors(build: Build, upstream: Registry, down: str) -> None:
    name = f"{upstream.address}/library/busybox:1.35"
    done = build(
        f"FROM {name}\nRUN echo made > /made\n", f"--registry-map={upstream.address}={down}"
    )

    assert built(build)
    (warning,) = warnings(done)
    assert f"asking {upstream.address} instead" in warning


# --- layers that are fetched anew ----------------------------------------------------------


@pytest.mark.parametrize("fault", [Lie(), Refuse(503, (("Retry-After", "0"),)), BreakOff()])
def test_layer_is_fetched_anew(build: Build, fault: Fault) -> None:
    left = [2]

    def twice(_: str, path: str) -> Fault | None:
        if layer_of(images.busybox_layout()) not in path or not left[0]:
            return None
        left[0] -= 1
        return fault

    with faulty_registry(images.busybox_layout(), twice) as faulty:
        dockerfile = f"FROM {faulty.address}/base:1\nRUN echo made > /made\n"
        flags = ("--image-fs-extract-retry=2", "--image-download-retry=0")
        done = build(dockerfile, *flags)

    assert built(build)
    assert len(warnings(done)) == 2
    assert all("fetching it again" in warning for warning in warnings(done))
    assert build.programs.leftovers() == []


# --- what cannot be ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--registry-map=docker.io", ("--registry-map", "maps no registry", "ORIGINAL=MIRROR")),
        ("--registry-map=docker.io/library=m", ("--registry-map", "not the name of a registry")),
        ("--registry-mirror=m.io:tag", ("--registry-mirror", "could be a mirror")),
        ("--image-fs-extract-retry=-1", ("--image-fs-extract-retry", "negative")),
        ("--registry-client-cert=r.io=/a.pem", ("--registry-client-cert", "HOST=CERT")),
    ],
)
def test_flags_that_make_no_sense(build: Build, flag: str, words: tuple[str, ...]) -> None:
    done = build("FROM scratch\n", flag, check=False)

    said(done, *words)
    assert done.status == 2


def test_variable_that_makes_no_sense_is_named(build: Build) -> None:
    build.fill({"Dockerfile": "FROM scratch\n"})
    done = build.programs.executor(
        *build.arguments, check=False, env={"KANIKO_REGISTRY_MIRROR": "a.io,b.io"}
    )

    said(done, "KANIKO_REGISTRY_MIRROR", "could be a mirror")
