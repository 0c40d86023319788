"""Provenance: what an image was made of, by whom and how, in SLSA's words as BuildKit uses them.

Fields mean what BuildKit's definitions say, and are where they say; two that only we have begin
with ``kaniko_``. BuildKit's own graph of low-level steps, ``llbDefinition``, has no counterpart.

Sources: SLSA v1.1, provenance; BuildKit, docs/attestations/slsa-definitions.md.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime
from typing import Any

from kaniko_core.addresses.url import is_http_address
from kaniko_core.attestations.materials import Dependency, published
from kaniko_core.attestations.statement import Statement, state
from kaniko_core.attestations.wanted import Mode, Provenance, SlsaVersion
from kaniko_core.lean import dataclass
from kaniko_core.oci.image import Image
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference

_PREDICATE_TYPES = {
    SlsaVersion.V0_2: "https://slsa.dev/provenance/v0.2",
    SlsaVersion.V1: "https://slsa.dev/provenance/v1",
}
# What the parameters mean, and where they are, is as that page says.
_BUILD_TYPE = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
_BUILD_TYPE_V0_2 = "https://mobyproject.org/buildkit@v1"
_FRONTEND = "dockerfile.v0"
# The addresses of proxies, which may have a password in them.
_PROXIES = frozenset({"http_proxy", "https_proxy", "ftp_proxy", "all_proxy"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for.

    Attributes:
        dockerfile: its path in the context, or the address that it was fetched from.
        text: the Dockerfile itself.
        context: the address that it was fetched from; empty for a directory of this machine.
        context_digest: what was fetched from there, such as ``{"sha1": <commit>}``.
        build_args: with their values, of which mode MIN tells none.
        secrets: their names; nobody tells their values.
        ssh: names of agents.
    """

    dockerfile: str
    text: bytes = field(default=b"", repr=False)
    context: str = ""
    context_digest: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict, repr=False)
    labels: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    ssh: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of this program; what is left out is not told, so that two runs can be equal.

    Attributes:
        version: of this program.
        invocation: what tells this run from all others.
        started: with its time zone, as *finished*.
    """

    version: str
    invocation: str = ""
    started: datetime | None = None
    finished: datetime | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """An image, and what it was made of.

    Attributes:
        dependencies: base images, and everything else that was fetched for it.
        networked: whether a command could reach the network.
        annotations: of the image's entry in the index.
        platform: of that entry; the image's own where it is None.
    """

    image: Image
    dependencies: Sequence[Dependency] = ()
    networked: bool = True
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None


def state_provenance(
    built: Built,
    *,
    names: Sequence[Reference],
    wanted: Provenance,
    request: Request,
    run: Run,
) -> Statement:
    """Return how *built* was made, as a statement about its image."""
    predicate = _predicate(built, wanted, request, run)
    if wanted.version is SlsaVersion.V0_2:
        predicate = _as_v0_2(predicate)
    return state(_PREDICATE_TYPES[wanted.version], predicate, built.image, names)


def _predicate(built: Built, wanted: Provenance, request: Request, run: Run) -> dict[str, Any]:
    return {
        "buildDefinition": {
            "buildType": _BUILD_TYPE,
            "externalParameters": {
                "configSource": _config_source(request),
                "request": _request(built, wanted.mode, request),
            },
            "internalParameters": {"builderPlatform": str(Platform.host())},
            "resolvedDependencies": [item.to_json() for item in built.dependencies],
        },
        "runDetails": {
            "builder": {"id": wanted.builder_id, "version": {"kaniko-py": run.version}},
            "metadata": _metadata(built, wanted, request, run),
        },
    }


def _config_source(request: Request) -> dict[str, Any]:
    source: dict[str, Any] = {}
    if request.context:
        source["uri"] = published(request.context)
    if request.context_digest:
        source["digest"] = dict(request.context_digest)
    return source | {"path": _file_name(request)}


def _file_name(request: Request) -> str:
    # An address may have a password in it; a path is only a path.
    named = request.dockerfile
    return published(named) if is_http_address(named) else named


def _request(built: Built, mode: Mode, request: Request) -> dict[str, Any]:
    arguments = {"platform": str(built.image.config.platform)}
    if request.target:
        arguments["target"] = request.target
    said: dict[str, Any] = {"frontend": _FRONTEND, "args": arguments}
    match mode:
        case Mode.MIN:
            if request.build_args:
                said["kaniko_build_args"] = sorted(request.build_args)
        case Mode.MAX:
            for name, value in sorted(request.build_args.items()):
                shown = published(value) if name.lower() in _PROXIES else value
                arguments[f"build-arg:{name}"] = shown
            for name, value in sorted(request.labels.items()):
                arguments[f"label:{name}"] = value
            for kind, ids in (("secrets", request.secrets), ("ssh", request.ssh)):
                if ids:
                    said[kind] = [{"id": name} for name in ids]
    if not request.context:
        said["locals"] = [{"name": "context"}, {"name": "dockerfile"}]
    return said


def _metadata(built: Built, wanted: Provenance, request: Request, run: Run) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    if run.invocation:
        metadata["invocationId"] = run.invocation
    for key, time in (("startedOn", run.started), ("finishedOn", run.finished)):
        if time is not None:
            metadata[key] = _time(time)
    # A directory of this machine has no digest that somebody could look for.
    traced = bool(request.context)
    if traced and not built.networked:
        metadata["buildkit_hermetic"] = True
    kept = (request.build_args, request.labels, request.secrets, request.ssh)
    metadata["buildkit_completeness"] = {
        "request": wanted.mode is Mode.MAX or not any(kept),
        "resolvedDependencies": traced,
    }
    metadata["buildkit_reproducible"] = wanted.reproducible
    metadata["buildkit_metadata"] = {}
    if wanted.mode is Mode.MAX:
        metadata["buildkit_metadata"] = {"source": _source(request)}
        metadata["kaniko_layers"] = _layers(built.image)
    return metadata


def _source(request: Request) -> dict[str, Any]:
    info = {
        "filename": _file_name(request),
        "language": "Dockerfile",
        "data": base64.b64encode(request.text).decode(),
    }
    return {"infos": [info]}


def _layers(image: Image) -> list[dict[str, Any]]:
    """Return the descriptor of each layer, and where the image's history tells, what made it."""
    made_by = [item.created_by for item in image.config.history if not item.empty_layer]
    layers = [layer.to_json() for layer in image.manifest.layers]
    if len(made_by) == len(layers):
        for layer, text in zip(layers, made_by, strict=True):
            layer["createdBy"] = text
    return layers


def _as_v0_2(predicate: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same in the words of SLSA v0.2, as BuildKit translates it."""
    definition, details = predicate["buildDefinition"], predicate["runDetails"]
    external, metadata = definition["externalParameters"], details["metadata"]
    source = dict(external["configSource"])
    source["entryPoint"] = source.pop("path")
    complete = metadata["buildkit_completeness"]
    said: dict[str, Any] = {}
    for new, old in (
        ("invocationId", "buildInvocationID"),
        ("startedOn", "buildStartedOn"),
        ("finishedOn", "buildFinishedOn"),
        ("buildkit_hermetic", f"{_BUILD_TYPE_V0_2}#hermetic"),
        ("buildkit_reproducible", "reproducible"),
        ("buildkit_metadata", f"{_BUILD_TYPE_V0_2}#metadata"),
        ("kaniko_layers", "kaniko_layers"),
    ):
        if new in metadata:
            said[old] = metadata[new]
    said["completeness"] = {
        "parameters": complete["request"],
        "environment": True,
        "materials": complete["resolvedDependencies"],
    }
    platform = definition["internalParameters"]["builderPlatform"]
    return {
        "builder": {"id": details["builder"]["id"]},
        "buildType": _BUILD_TYPE_V0_2,
        "materials": definition["resolvedDependencies"],
        "invocation": {
            "configSource": source,
            "parameters": external["request"],
            "environment": {"platform": platform},
        },
        "metadata": said,
    }


def _time(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
