"""Every manifest, index and config that we write, by the OCI image specification's own schemas.

And what other tools say to the same images: skopeo copies them (and checks every digest on the
way), umoci unpacks them, podman pulls them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from integration import images, readers
from integration.programs import Build, Programs, finished
from integration.readers import Podman
from integration.schemas import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    NotByTheSpecification,
    SchemaCheck,
)
from integration.world import Registry

MakeRegistry = Callable[..., Registry]
_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
_PROVENANCE_0_2 = "https://slsa.dev/provenance/v0.2"
_PROVENANCE, _SBOM = "https://slsa.dev/provenance/v1", "https://spdx.dev/Document"
_EVERYTHING = """\
FROM {base} AS tools
RUN echo tool > /tool
FROM {base}
LABEL a=b "c d"="e f"
ENV A=b C="d e"
ARG UNUSED=1
EXPOSE 80 53/udp
VOLUME ["/data", "/more data"]
WORKDIR /work
COPY --from=tools /tool /tool
ADD file /added
USER nobody
STOPSIGNAL SIGINT
SHELL ["/bin/sh", "-ec"]
HEALTHCHECK --interval=1m --timeout=3s CMD true
ONBUILD RUN echo later
MAINTAINER somebody
ENTRYPOINT ["/bin/cat"]
CMD ["/tool"]
"""
_TWO = "FROM {base}\nRUN echo one > /one\nCOPY file /two\n"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of build, and what must be among what it writes.

    Attributes:
        dockerfile: with ``{base}`` for the base image.
        flags: the executor's.
        writes: media types, or types of predicates, of which there must be some.
        docker: whether the base image is in Docker's format.
        runs: whether podman can run what comes out (with ``cat``).
    """

    dockerfile: str
    flags: tuple[str, ...] = ()
    writes: tuple[str, ...] = (OCI_MANIFEST, OCI_CONFIG)
    docker: bool = False
    runs: str = ""


_KINDS: dict[str, Kind] = {
    "scratch": Kind("FROM scratch\nCOPY file /\n"),
    "every instruction": Kind(_EVERYTHING, runs="tool"),
    "docker base": Kind(_TWO, writes=(DOCKER_MANIFEST,), docker=True, runs="one"),
    "reproducible": Kind(_TWO, ("--reproducible",), runs="one"),
    "oci of docker": Kind(_TWO, ("--image-format=oci",), docker=True, runs="one"),
    "docker of oci": Kind(_TWO, ("--image-format=docker",), (DOCKER_MANIFEST,), runs="one"),
    "zstd": Kind(_TWO, ("--compression=zstd",), (OCI_MANIFEST, _ZSTD), runs="one"),
    "zstd of docker": Kind(
        _TWO, ("--compression=zstd", "--compression-level=9"), (_ZSTD,), docker=True, runs="one"
    ),
    "annotations and labels": Kind(
        _TWO,
        ("--annotation=org.opencontainers.image.title=ä title", "--annotation=a=", "--label=l="),
        runs="one",
    ),
    "several platforms": Kind(
        "FROM scratch\nCOPY file /\n",
        ("--platform=linux/amd64,linux/arm64,linux/arm/v7",),
        (OCI_INDEX, OCI_MANIFEST),
    ),
    "annotated index": Kind(
        "FROM scratch\nCOPY file /\n",
        (
            "--platform=linux/amd64,linux/arm64",
            "--annotation=index:a=b",
            "--annotation=manifest-descriptor:c=d",
            "--annotation=manifest:e=f",
        ),
        (OCI_INDEX,),
    ),
    "docker list": Kind(
        "FROM scratch\nCOPY file /\n",
        ("--platform=linux/amd64,linux/arm64", "--image-format=docker"),
        (DOCKER_INDEX, DOCKER_MANIFEST),
    ),
    "provenance": Kind(_TWO, ("--provenance=mode=max",), (OCI_INDEX, _PROVENANCE), runs="one"),
    "sbom": Kind(_TWO, ("--sbom=true",), (OCI_INDEX, _SBOM), runs="one"),
    "provenance of another version": Kind(
        _TWO, ("--provenance=version=v0.2",), (OCI_INDEX, _PROVENANCE_0_2), runs="one"
    ),
    "attestations of a docker base": Kind(
        _TWO,
        ("--provenance=true", "--sbom=true", "--reproducible"),
        (OCI_INDEX, _PROVENANCE, _SBOM),
        docker=True,
        runs="one",
    ),
    "both attestations of several platforms": Kind(
        "FROM scratch\nCOPY file /\n",
        ("--platform=linux/amd64,linux/arm64", "--provenance=true", "--sbom=true"),
        (OCI_INDEX, _PROVENANCE, _SBOM),
    ),
}


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds a kind, in a registry that has nothing else."""

    build: Build
    own: Registry

    def base(self, *, docker: bool) -> str:
        """Return the base image, which other tools have made and pushed."""
        return images.push(images.busybox_layout(), self.own, "base:1", docker=docker)

    @property
    def image(self) -> str:
        """What is pushed."""
        return f"{self.own.address}/app:1"

    def __call__(self, kind: Kind, *flags: str | Path) -> str:
        """Build *kind*, and return the reference of what was pushed."""
        text = kind.dockerfile.format(base=self.base(docker=kind.docker))
        self.build.fill({"Dockerfile": text, "file": "content"})
        self.build.programs.executor(
            f"--context={self.build.context}", f"--destination={self.image}", *kind.flags, *flags
        )
        return self.image


@pytest.fixture
def builder(build: Build, make_registry: MakeRegistry) -> Builder:
    return Builder(build, make_registry())


def subcommand(builder: Builder, *arguments: str | Path) -> None:
    """Run another command of the executor."""
    finished(builder.build.programs.start("kaniko_executor", *arguments))


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> Kind:
    return _KINDS[request.param]


every_kind = pytest.mark.parametrize("kind", _KINDS, indirect=True)


# --- what a build writes -------------------------------------------------------------------


@every_kind
def test_pushed_image(builder: Builder, kind: Kind, tmp_path: Path, podman: Podman) -> None:
    image = builder(kind)

    check = SchemaCheck()
    check.registry(builder.own, "app")
    for media_type in kind.writes:
        assert check.seen[media_type], check.seen
    # skopeo verifies every byte that it copies, and reads every config.
    readers.output_of(
        *("skopeo", "copy", "--quiet", "--all", "--src-tls-verify=false"),
        *(f"docker://{image}", f"dir:{tmp_path}/copy"),
    )
    if kind.runs:
        assert podman.run(image, f"/{kind.runs}", flags=("--entrypoint=/bin/cat",)) == (
            f"{kind.runs}\n"
        )
        if _ZSTD not in kind.writes:  # which the umoci of Debian 12 does not know
            assert kind.runs in readers.tree(image)


@every_kind
def test_layout(builder: Builder, kind: Kind, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    builder(kind, "--no-push", f"--oci-layout-path={layout}")

    check = SchemaCheck()
    check.layout(layout)
    assert check.seen["index.json"] == 1
    readers.output_of("skopeo", "copy", "--quiet", "--all", f"oci:{layout}", f"dir:{tmp_path}/copy")


def test_config_in_a_tarball(builder: Builder, tmp_path: Path) -> None:
    tarball = tmp_path / "image.tar"
    builder(Kind(_EVERYTHING), "--no-push", f"--tar-path={tarball}")

    SchemaCheck().saved(tarball)


@pytest.mark.parametrize(("format", "writes"), [("oci", OCI_INDEX), ("docker", DOCKER_INDEX)])
def test_index_that_is_joined_later(
    builder: Builder, podman: Podman, format: str, writes: str
) -> None:
    names = []
    for platform in ("linux/amd64", "linux/arm64"):
        flags = (f"--image-format={format}", f"--custom-platform={platform}")
        image = builder(Kind("FROM scratch\nCOPY file /\n", flags))
        names.append(f"{image.rpartition(':')[0]}@{readers.digest(image)}")
    index = f"{builder.own.address}/joined:1"
    subcommand(builder, "manifest", *names, f"--destination={index}")

    check = SchemaCheck()
    check.registry(builder.own, "joined")
    assert (check.seen[writes], len(readers.manifest(index)["manifests"])) == (1, 2)
    podman("pull", "--tls-verify=false", "--arch=arm64", index)


@pytest.mark.parametrize("flag", ["--tar-path", "--oci-layout-path"])
def test_image_that_is_pushed_later(builder: Builder, tmp_path: Path, flag: str) -> None:
    file, name = tmp_path / "built", f"{builder.own.address}/later:1"
    builder(Kind(_TWO), "--no-push", f"{flag}={file}")
    subcommand(builder, "push", file, f"--destination={name}")

    check = SchemaCheck()
    check.registry(builder.own, "later")
    assert "one" in readers.tree(name)


def test_images_of_several_targets(builder: Builder) -> None:
    other = f"{builder.own.address}/tools:1"
    builder(Kind(_EVERYTHING, ("--target=1", "--target=tools")), f"--destination=tools={other}")

    check = SchemaCheck()
    check.registry(builder.own)
    assert "tool" in readers.tree(other)
    assert readers.digest(other) != readers.digest(builder.image)


def test_image_without_layers(builder: Builder, podman: Podman) -> None:
    """The schema wants a layer, "for portability"; a Dockerfile may ask for none."""
    image = builder(Kind("FROM scratch\nLABEL a=b\n"))

    SchemaCheck(without_layers=True).registry(builder.own, "app")
    assert readers.manifest(image)["layers"] == []
    podman("pull", "--tls-verify=false", image)


# --- caches --------------------------------------------------------------------------------

# The steps of _EVERYTHING that change files.
_KEPT = 4


def test_steps_in_a_repository(builder: Builder) -> None:
    builder(
        Kind(_EVERYTHING),
        "--cache",
        "--cache-copy-layers",
        f"--cache-repo={builder.own.address}/cache",
    )

    check = SchemaCheck()
    check.registry(builder.own, "cache")
    assert check.seen[OCI_CONFIG] == _KEPT
    assert check.seen["application/vnd.kaniko-py.record.v1"] == 1


def test_steps_in_a_layout(builder: Builder, tmp_path: Path) -> None:
    builder(
        Kind(_EVERYTHING), "--cache", "--cache-copy-layers", f"--cache-repo=oci:{tmp_path}/steps"
    )

    check = SchemaCheck()
    layouts = [path.parent for path in (tmp_path / "steps").rglob("oci-layout")]
    for layout in layouts:
        check.layout(layout)
    assert check.seen[OCI_CONFIG] == _KEPT


def test_image_that_carries_its_cache(builder: Builder) -> None:
    image = builder(Kind(_TWO), "--cache", "--no-push-cache", "--export-cache=type=inline")

    SchemaCheck().registry(builder.own, "app")
    assert "io.github.kaniko-py.cache.v1" in readers.config(image)


@pytest.mark.parametrize("docker", [True, False])
def test_warmed_image(builder: Builder, programs: Programs, tmp_path: Path, docker: bool) -> None:
    """The manifest beside it is the registry's own, byte for byte; the tarball has its config."""
    base, cache = builder.base(docker=docker), tmp_path / "cache"
    programs.warmer(f"--image={base}", f"--cache-dir={cache}")

    (sidecar,) = cache.glob("sha256:*.json")
    assert f"sha256:{hashlib.sha256(sidecar.read_bytes()).hexdigest()}" == sidecar.stem
    SchemaCheck().saved(sidecar.with_suffix(""))


# --- the checks themselves -----------------------------------------------------------------

Change = Callable[[dict[str, Any]], object]


@dataclass(frozen=True, slots=True)
class Sample:
    """A good layout in memory: an index, an image with two layers that hold nothing."""

    files: dict[str, bytes] = field(default_factory=dict)

    def blob(self, media_type: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        self.files[f"blobs/sha256/{digest}"] = content
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def written(self, directory: Path, changes: Mapping[str, Change]) -> Path:
        """Write it, each document after its change."""
        layers = [
            self.blob("application/vnd.oci.image.layer.v1.tar", content) for content in (b"", b"0")
        ]
        config = {
            "architecture": "amd64",
            "os": "linux",
            "created": "2024-05-01T12:00:00Z",
            "config": {"Env": ["A=b"]},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
            "history": [{}, {"empty_layer": True}, {}],
        }
        described = self.document("config", OCI_CONFIG, config, changes)
        manifest = {"mediaType": OCI_MANIFEST, "config": described, "layers": layers}
        image = self.document("manifest", OCI_MANIFEST, manifest, changes)
        image["platform"] = {"os": "linux", "architecture": "amd64"}
        listed = {"mediaType": OCI_INDEX, "manifests": [image]}
        index = self.document("index", OCI_INDEX, listed, changes)
        self.files["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
        top = {"schemaVersion": 2, "manifests": [index]}
        self.files["index.json"] = json.dumps(top).encode()
        for name, content in self.files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return directory

    def document(
        self, name: str, media_type: str, content: dict[str, Any], changes: Mapping[str, Change]
    ) -> dict[str, Any]:
        if name != "config":
            content["schemaVersion"] = 2
        changes.get(name, bool)(content)
        return self.blob(media_type, json.dumps(content).encode())


def test_good_layout_is_found_good(tmp_path: Path) -> None:
    check = SchemaCheck()
    check.layout(Sample().written(tmp_path, {}))

    assert (check.seen[OCI_INDEX], check.seen[OCI_MANIFEST], check.seen[OCI_CONFIG]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("document", "change", "said"),
    [
        ("config", lambda it: it.pop("os"), "'os' is a required property"),
        ("config", lambda it: it.update(created="2024-05-01 12:00:00"), "date-time"),
        ("config", lambda it: it["config"].update(Env=None), "config/Env"),
        ("config", lambda it: it["config"].update(ExposedPorts={"80": 1}), "ExposedPorts"),
        ("config", lambda it: it["rootfs"].update(type="tree"), "rootfs/type"),
        ("config", lambda it: it["rootfs"]["diff_ids"].pop(), "diff IDs"),
        ("config", lambda it: it["rootfs"]["diff_ids"].reverse(), "not the digest of the tar"),
        ("config", lambda it: it["history"].pop(), "history"),
        ("manifest", lambda it: it.update(schemaVersion=1), "schemaVersion"),
        ("manifest", lambda it: it.pop("mediaType"), "another kind"),
        ("manifest", lambda it: it.pop("config"), "'config' is a required property"),
        ("manifest", lambda it: it.update(layers=[]), "layers"),
        ("manifest", lambda it: it.update(annotations={"a": 1}), "annotations"),
        ("manifest", lambda it: it.update(annotations=None), "annotations"),
        ("manifest", lambda it: it["layers"][0].update(size="1"), "size"),
        ("manifest", lambda it: it["layers"][0].update(size=1), "another size"),
        ("manifest", lambda it: it["layers"][0].update(mediaType="text/html"), "text/html"),
        ("manifest", lambda it: it["config"].update(mediaType="a/b"), "config of a/b"),
        ("index", lambda it: it.pop("manifests"), "'manifests' is a required property"),
        ("index", lambda it: it["manifests"][0].pop("platform"), "without its platform"),
        ("index", lambda it: it["manifests"][0]["platform"].pop("os"), "'os' is a required"),
        ("index", lambda it: it["manifests"][0]["platform"].update(architecture="x"), "platform"),
        ("index", lambda it: it["manifests"][0].update(size=0), "another size"),
        ("index", lambda it: it["manifests"][0].update(digest="sha256"), "digest"),
    ],
)
def test_what_is_wrong_is_found(tmp_path: Path, document: str, change: Change, said: str) -> None:
    layout = Sample().written(tmp_path, {document: change})

    with pytest.raises(NotByTheSpecification, match=said):
        SchemaCheck().layout(layout)
