"""Small Dockerfiles, a corpus of them, built by us and by buildah: the images have to be equal.

What may differ is listed in the cases, and told in docs/BUILDAH.md.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from integration import corpus, images
from integration.compare import (
    Image,
    Node,
    differences,
    image_of_buildah,
    image_of_layout,
    tree_lines,
)
from integration.container import EXECUTOR, Container
from integration.corpus import Case, File, page
from integration.programs import Programs, said
from integration.readers import Buildah, output_of
from integration.world import REPOSITORY, Registry

_CASES = corpus.cases()
# The corpus lists what this buildah, that of Debian 12, makes otherwise.
_JUDGE = "1.28."
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Base images beside busybox: its files, and these configs.
_BASES: Mapping[str, Mapping[str, object]] = {
    "rich": {
        "Env": [_PATH, "BASE=base", "EMPTY="],
        "Entrypoint": ["/bin/echo", "entry"],
        "Cmd": ["cmd"],
        "User": "web",
        "Labels": {"from": "base", "kept": "yes"},
        "Volumes": {"/data": {}},
        "ExposedPorts": {"80/tcp": {}},
        "StopSignal": "SIGINT",
        "Shell": ["/bin/sh", "-e", "-c"],
        "Healthcheck": {"Test": ["CMD", "/bin/true"], "Interval": 1_000_000_000, "Retries": 2},
    },
    "triggers": {
        "Env": [_PATH],
        "Cmd": ["sh"],
        "OnBuild": ["ENV TRIGGERED=yes", "COPY a.txt /onbuild/", "RUN echo $TRIGGERED > /ran"],
    },
    "homed": {"Env": [_PATH], "WorkingDir": "/srv/home", "User": "web"},
    "bare": {},
}

# What the web server has.
_SERVED: Mapping[str, File] = {
    "hello.txt": File(text="hello\n"),
    "packed.tar.gz": File(tar="gz", members={"in/side": File(text="inside", mode=0o640)}),
}


@dataclass(frozen=True, slots=True)
class World:
    """What all cases of a run share."""

    names: Mapping[str, str]
    cache: Path
    buildah: Buildah
    version: str
    base: Mapping[str, Node]

    def translated(self, text: str) -> str:
        """Put the addresses of this run for the names that the corpus uses."""
        for name, address in self.names.items():
            text = text.replace(name, address)
        return text


@pytest.fixture(scope="session")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A web server on loopback: its address."""
    directory = tmp_path_factory.mktemp("web")
    corpus.fill(directory, _SERVED)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(directory))) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture(scope="session")
def world(
    registry: Registry, buildah: Buildah, web: str, tmp_path_factory: pytest.TempPathFactory
) -> World:
    """Put the corpus's base images into the registry."""
    scratch = tmp_path_factory.mktemp("corpus")
    base = images.busybox_layout()
    names = {"registry.test": f"{registry.address}/corpus", "http.test": web}
    images.push(base, registry, "corpus/busybox:latest")
    for name, config in _BASES.items():
        layout = scratch / name
        images.write_layout(layout, io.BytesIO(_only_layer(base)), config)
        # In Docker's media types: buildah takes no HEALTHCHECK and no ONBUILD from OCI's.
        images.push(layout, registry, f"corpus/{name}:latest", docker=True)
    version = output_of("buildah", "--version").split()[2]
    return World(names, scratch / "cache", buildah, version, image_of_layout(base).tree)


def _only_layer(layout: Path) -> bytes:
    blobs = layout / "blobs" / "sha256"
    listed = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
    manifest = json.loads((blobs / listed.removeprefix("sha256:")).read_text())
    digest = manifest["layers"][0]["digest"].removeprefix("sha256:")
    return gzip.decompress((blobs / digest).read_bytes())


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """The directory of the build context."""
    directory = tmp_path / "context"
    directory.mkdir()
    return directory


@pytest.mark.parametrize("case", _CASES, ids=str)
def test_image_is_as_it_should_be(
    case: Case,
    world: World,
    programs: Programs,
    container: Container,
    context: Path,
    tmp_path: Path,
) -> None:
    dockerfile = File(text=world.translated(case.dockerfile))
    corpus.fill(context, {**case.files, case.path: dockerfile})
    layout = tmp_path / "layout"
    flags = _our_flags(case, world, context)
    done = programs.executor(*flags, f"--oci-layout-path={layout}", env=case.env, check=False)
    placed = container.run(
        *(EXECUTOR, "--isolation=in-place", "--insecure", "--insecure-pull"),
        *(*flags, f"--oci-layout-path={tmp_path / 'placed'}"),
        env=case.env,
        check=False,
    )

    if case.fails is not None:
        said(done, case.fails)
        if "succeeds" in case.in_place:
            assert placed.status == 0, placed.written
        else:
            said(placed, case.fails)
        if _is_judged(case, world):
            with pytest.raises(AssertionError, match="buildah ended with"):
                _built_by_buildah(case, world, context)
        return
    if done.status != 0:
        pytest.fail(done.written, pytrace=False)
    ours = image_of_layout(layout)
    if "fails" in case.in_place:
        said(placed, case.in_place["fails"])
    elif placed.status != 0:
        pytest.fail(placed.written, pytrace=False)
    else:
        unlike = differences(ours, image_of_layout(tmp_path / "placed"))
        assert unlike.keys() == case.in_place.keys(), f"in place it is another image: {unlike}"
    unexpected = _unexpected(case, ours, world.base)
    assert not unexpected, "\n".join(unexpected)
    if _is_judged(case, world):
        unlisted = _unlisted(case, differences(ours, _built_by_buildah(case, world, context)))
        assert not unlisted, "\n".join(unlisted)


def _is_judged(case: Case, world: World) -> bool:
    """Whether buildah is asked; the test is skipped where it is another one than it should be."""
    if case.buildah is None and not world.version.startswith(_JUDGE):
        pytest.skip(f"buildah is {world.version}; the corpus speaks of {_JUDGE}x")
    return case.buildah is None


def _our_flags(case: Case, world: World, context: Path) -> list[str]:
    return [
        *(f"--context={context}", f"--dockerfile={context / case.path}"),
        *("--no-push", "--destination=localhost/case:latest"),
        # Each mode runs its own commands.
        *("--cache", f"--cache-dir={world.cache}", "--cache-run-layers=false"),
        *(world.translated(flag) for flag in (*case.arguments(context), *case.our_flags)),
    ]


def _built_by_buildah(case: Case, world: World, context: Path) -> Image:
    name = f"localhost/{case.topic}-{case.name}".lower()
    command = world.buildah.command(
        *("bud", "--isolation=chroot", "--tls-verify=false", "--format=docker"),
        *("-f", context / case.path, "-t", name),
        *map(world.translated, case.arguments(context)),
        context,
    )
    output_of(*command, env=case.env)
    return image_of_buildah(world.buildah, name)


def _unexpected(case: Case, ours: Image, base: Mapping[str, Node]) -> list[str]:
    """List what the image has otherwise than the case says."""
    below = base if "/bin/busybox" in ours.tree else {}
    wrong = []
    if case.tree is not None:
        expected, found = tree_lines(case.tree), ours.changes(below)
        wrong += [f"expected in the tree: {line}" for line in expected if line not in found]
        wrong += [f"unexpected in the tree: {line}" for line in found if line not in expected]
    for key, value in case.config.items():
        if (got := ours.config.get(key)) != (value or None):
            wrong.append(f"config.{key}: expected {json.dumps(value)}, not {json.dumps(got)}")
    return wrong


def _unlisted(case: Case, found: Mapping[str, str]) -> list[str]:
    """List differences that the case does not, and those that it lists in vain."""

    def matches(key: str, listed: str) -> bool:
        return key == listed or fnmatchcase(key, listed)

    return [
        *(
            f"differs from buildah: {key}: {told}"
            for key, told in found.items()
            if not any(matches(key, listed) for listed in case.differs)
        ),
        *(
            f"listed, but does not differ from buildah: {listed}"
            for listed in case.differs
            if not any(matches(key, listed) for key in found)
        ),
    ]


def test_every_reason_is_told_and_needed() -> None:
    told = corpus.reasons().keys()
    needed = {reason for case in _CASES for reason in case.reasons}

    assert needed == told


def test_page_of_differences_is_up_to_date() -> None:
    """Run `python -m integration.corpus` where it is not."""
    assert (REPOSITORY / "docs" / "BUILDAH.md").read_text() == page()
