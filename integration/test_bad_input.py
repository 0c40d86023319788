"""Wrong input and misbehaving registries: one clear sentence, and nothing left behind."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from integration import images, readers
from integration.faults import BreakOff, Fault, Faults, Lie, Refuse, faulty_registry, layer_of
from integration.programs import Build, Programs, finished, said
from integration.world import Passwords, Registry

_AT_ONCE = ("--image-download-retry=0", "--push-retry=0")


# --- the command line and the Dockerfile --------------------------------------------------


def test_no_dockerfile(build: Build) -> None:
    done = build.programs.executor(*build.arguments, check=False)

    said(done, "Dockerfile")
    assert build.programs.leftovers() == []


def test_no_context(programs: Programs, destination: str) -> None:
    done = programs.executor(
        "--context=/nowhere/at/all", f"--destination={destination}", check=False
    )

    said(done, "/nowhere/at/all")


def test_nowhere_to_push(build: Build) -> None:
    build.fill({"Dockerfile": "FROM scratch\n"})
    done = build.programs.executor(f"--context={build.context}", check=False)

    said(done, "--destination", "--no-push")
    assert done.status == 2


def test_unknown_flag_is_told_with_the_one_meant(programs: Programs) -> None:
    done = programs.executor("--destinaton=x", check=False)

    assert done.status == 2
    assert "Traceback" not in done.written
    assert "--destination" in done.stderr


_WRONG_DOCKERFILES = {
    "unknown instruction": ("FROM {base}\nRUNN make\n", "Dockerfile:2", "RUNN", "RUN?"),
    "unknown flag": ("FROM {base}\nCOPY --chwon=1 a /a\n", "Dockerfile:2", "--chown"),
    "no FROM": ("RUN make\n", "Dockerfile:1", "FROM"),
    "empty": ("# nothing\n", "Dockerfile"),
    "copied file is missing": ("FROM {base}\nCOPY missing.txt /\n", "Dockerfile:2", "missing.txt"),
    "ignored file": ("FROM {base}\nCOPY ignored /\n", "Dockerfile:2", "ignored"),
    "copied from no stage": ("FROM {base}\nCOPY --from=7 a /\n", "Dockerfile:2", "7"),
    "several to a file": ("FROM {base}\nCOPY a b /file\n", "Dockerfile:2", "/"),
    "base without value": ("ARG BASE\nFROM ${{BASE}}\n", "Dockerfile:2", "ARG"),
    "wrong mode": ("FROM {base}\nCOPY --chmod=999 a /\n", "Dockerfile:2", "999"),
    "no such user": ("FROM {base}\nCOPY --chown=nosuch a /\n", "Dockerfile:2", "nosuch"),
    "user of RUN": ("FROM {base}\nUSER nosuch\nRUN true\n", "Dockerfile:3", "nosuch"),
}


@pytest.mark.parametrize("case", _WRONG_DOCKERFILES)
def test_wrong_dockerfile_is_told_with_its_line(build: Build, busybox: str, case: str) -> None:
    text, *words = _WRONG_DOCKERFILES[case]
    files: dict[str, str | bytes] = {
        "a": "a",
        "b": "b",
        "ignored": "i",
        ".dockerignore": "ignored\n",
    }
    done = build(text.format(base=busybox), files=files, check=False)

    said(done, *words)
    assert build.programs.leftovers() == []


def test_what_is_not_of_the_stable_language_is_refused_before_anything_is_fetched(
    build: Build,
) -> None:
    """The base image is on a registry that is not there: nobody gets to find that out."""
    done = build("FROM 127.0.0.1:1/base\nRUN --device=vendor.com/gpu true\n", check=False)

    said(done, "Dockerfile:2", "RUN --device is not supported", "labs channel")


@pytest.mark.parametrize("source", ["../outside", "/../../outside", "link/outside"])
def test_nothing_outside_the_context_is_copied(
    build: Build, busybox: str, tmp_path: Path, source: str
) -> None:
    """Dots and links are taken inside the context, where there is no such file."""
    (tmp_path / "outside").write_text("private")
    build.fill({"sub/": ""})
    (build.context / "link").symlink_to(tmp_path)
    done = build(f"FROM {busybox}\nCOPY {source} /\n", check=False)

    said(done, "Dockerfile:2", "outside")
    assert build.programs.leftovers() == []


def test_unknown_target_is_told_with_the_one_meant(build: Build, busybox: str) -> None:
    done = build(f"FROM {busybox} AS release\n", "--target=relaese", check=False)

    said(done, "relaese", "did you mean release?")


# --- registries that refuse, lie or break off ---------------------------------------------


def test_base_image_is_missing(build: Build, registry: Registry) -> None:
    name = f"{registry.address}/no/such/base:1"
    said(build(f"FROM {name}\n", *_AT_ONCE, check=False), name)

    assert build.programs.leftovers() == []


def test_registry_is_not_there(build: Build) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    said(build(f"FROM {address}/base:1\n", *_AT_ONCE, check=False), address)

    assert build.programs.leftovers() == []


def _manifests(fault: Fault) -> Faults:
    """Let *fault* happen to the manifest."""
    return lambda _, path: fault if "/manifests/" in path else None


def _layers(fault: Fault) -> Faults:
    """Let *fault* happen to the layer, but not to the config."""
    return lambda _, path: fault if layer_of(images.busybox_layout()) in path else None


_FAULTS: dict[str, tuple[Faults, str]] = {
    "401": (_manifests(Refuse(401)), "401"),
    "403": (_manifests(Refuse(403)), "403"),
    "429": (_manifests(Refuse(429, (("Retry-After", "0"),))), "429"),
    "500": (_manifests(Refuse(500)), "500"),
    "half a manifest": (_manifests(BreakOff()), "broke off"),
    "503 for a layer": (_layers(Refuse(503)), "503"),
    "404 for a layer": (_layers(Refuse(404)), "does not have it"),
    "a lie": (_layers(Lie()), "sha256:"),
    "half a layer": (_layers(BreakOff()), "broke off"),
}


@pytest.mark.parametrize("case", _FAULTS)
def test_misbehaving_registry(build: Build, case: str) -> None:
    faults, word = _FAULTS[case]
    with faulty_registry(images.busybox_layout(), faults) as faulty:
        done = build(f"FROM {faulty.address}/base:1\nRUN true\n", *_AT_ONCE, check=False)

        said(done, faulty.address, word)
    assert build.programs.leftovers() == []


@pytest.mark.parametrize("case", ["401", "503 for a layer", "a lie", "half a layer"])
def test_warmer_leaves_nothing_of_an_image_that_it_cannot_have(
    programs: Programs, tmp_path: Path, case: str
) -> None:
    faults, word = _FAULTS[case]
    cache = tmp_path / "cache"
    with faulty_registry(images.busybox_layout(), faults) as faulty:
        done = programs.warmer(
            *("--image", f"{faulty.address}/base:1", "--cache-dir", cache, "--insecure-pull"),
            "--image-download-retry=0",
            check=False,
        )

    assert done.status != 0
    assert "Traceback" not in done.written
    assert word in done.stderr
    # A lock is no entry: whoever removed it could remove it from under another warmer.
    assert [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    assert programs.leftovers() == []


def test_failure_that_passes_is_survived(build: Build) -> None:
    """Every second request fails; with retries the build succeeds all the same."""
    count = 0

    def sometimes(method: str, path: str) -> Fault | None:
        nonlocal count
        count += 1
        return Refuse(503, (("Retry-After", "0"),)) if "/blobs/" in path and count % 2 else None

    with faulty_registry(images.busybox_layout(), sometimes) as faulty:
        build(f"FROM {faulty.address}/base:1\nRUN echo x > /x\n", "--image-download-retry=6")

    assert "x" in readers.layers(build.image)[-1].names


def test_destination_is_tried_before_anything_is_built(
    make_registry: Callable[..., Registry], build: Build, busybox: str
) -> None:
    """A missing password must not be found out after an hour's build."""
    closed = make_registry(passwords=Passwords("user", "secret"))
    image = f"{closed.address}/team/app:1"
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN echo this ran\n"})
    done = build.programs.executor(
        *("--context", build.context, "--destination", image, *_AT_ONCE), check=False
    )

    said(done, closed.address)
    assert "this ran\n" not in done.written.replace("RUN echo this ran\n", "")
    assert build.programs.leftovers() == []


def test_wrong_password(
    make_registry: Callable[..., Registry], build: Build, busybox: str, tmp_path: Path
) -> None:
    closed = make_registry(passwords=Passwords("user", "secret"))
    config = {"auths": {closed.address: {"auth": "dXNlcjpndWVzc2Vk"}}}  # user:guessed
    (tmp_path / "config.json").write_text(json.dumps(config))
    build.fill({"Dockerfile": f"FROM {busybox}\n"})
    done = build.programs.executor(
        *("--context", build.context, "--destination", f"{closed.address}/app:1", *_AT_ONCE),
        check=False,
        env={"DOCKER_CONFIG": str(tmp_path)},
    )

    said(done, closed.address)
    assert "guessed" not in done.written


def test_untrusted_certificate(
    make_registry: Callable[..., Registry], build: Build, busybox: str
) -> None:
    secure = make_registry(tls=True)
    build.fill({"Dockerfile": f"FROM {busybox}\n"})
    process = build.programs.start(
        *("kaniko_executor", "--context", build.context, f"--kaniko-dir={build.programs.work}"),
        *("--destination", f"{secure.address}/app:1", *_AT_ONCE),
        *("--insecure-registry", busybox.split("/", maxsplit=1)[0]),
    )

    said(finished(process, check=False), secure.address, "certificate")
