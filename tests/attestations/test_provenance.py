from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from kaniko_core.attestations.materials import Dependency
from kaniko_core.attestations.provenance import Built, Request, Run, state_provenance
from kaniko_core.attestations.wanted import Mode, Provenance, SlsaVersion
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image, compose
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference
from kaniko_core.oci.spec import History, ImageConfig
from tests.samples import layer

ARM = Platform("linux", "arm64")
NAME = Reference.parse("registry.example/team/app:1")
BASE = Dependency.image(Reference.parse("alpine:3"), Digest.of(b"alpine"), ARM)
SECRET = "hunter2"
TEXT = b"FROM alpine:3\nARG TOKEN\nRUN make\n"
REQUEST = Request(
    dockerfile="docker/Dockerfile",
    text=TEXT,
    target="release",
    build_args={"VERSION": "7", "http_proxy": f"http://me:{SECRET}@proxy:3128"},
    labels={"team": "a"},
    secrets=("npmrc",),
    ssh=("default",),
)
STARTED = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone(timedelta(hours=2)))
RUN = Run(version="9", invocation="run-1", started=STARTED, finished=STARTED + timedelta(minutes=1))


def sample() -> Image:
    history = (
        History(created_by="ADD base"),
        History(created_by="ENV A=1", empty_layer=True),
        History(created_by="RUN make"),
    )
    layers = (layer({"a": b"1"}), layer({"b": b"2"}))
    return compose(ImageConfig(ARM, history=history), layers, docker=False)


def stated(
    wanted: Provenance,
    request: Request = REQUEST,
    run: Run = RUN,
    names: tuple[Reference, ...] = (NAME,),
    *,
    networked: bool = True,
) -> Any:
    built = Built(sample(), (BASE,), networked=networked)
    statement = state_provenance(built, names=names, wanted=wanted, request=request, run=run)
    read = json.loads(statement.raw)
    assert read["predicateType"] == statement.kind
    return read


def test_statement_is_about_each_name_of_the_image() -> None:
    other = Reference.parse("mirror.example/app:1")
    said = stated(Provenance(), names=(NAME, other, NAME))
    digest = {"sha256": sample().digest.hex}
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["predicateType"] == "https://slsa.dev/provenance/v1"
    assert said["subject"] == [
        {"name": f"pkg:docker/{name}?platform=linux%2Farm64", "digest": digest}
        for name in ("registry.example/team/app@1", "mirror.example/app@1")
    ]


def test_image_without_a_name_is_known_by_its_digest() -> None:
    assert stated(Provenance(), names=())["subject"] == [
        {"name": "_", "digest": {"sha256": sample().digest.hex}}
    ]


def test_least_provenance_tells_no_values() -> None:
    said = stated(Provenance(Mode.MIN))
    definition = said["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {
        "configSource": {"path": "docker/Dockerfile"},
        "request": {
            "frontend": "dockerfile.v0",
            "args": {"platform": "linux/arm64", "target": "release"},
            "kaniko_build_args": ["VERSION", "http_proxy"],
            "locals": [{"name": "context"}, {"name": "dockerfile"}],
        },
    }
    assert definition["resolvedDependencies"] == [BASE.to_json()]
    assert definition["internalParameters"] == {"builderPlatform": str(Platform.host())}
    metadata = said["predicate"]["runDetails"]["metadata"]
    assert metadata["buildkit_completeness"] == {"request": False, "resolvedDependencies": False}
    assert metadata["buildkit_metadata"] == {}
    assert "kaniko_layers" not in metadata


def test_most_provenance_tells_values_the_dockerfile_and_layers() -> None:
    said = stated(Provenance(Mode.MAX))["predicate"]
    request = said["buildDefinition"]["externalParameters"]["request"]
    assert request["args"] == {
        "platform": "linux/arm64",
        "target": "release",
        "build-arg:VERSION": "7",
        "build-arg:http_proxy": "http://proxy:3128",
        "label:team": "a",
    }
    assert (request["secrets"], request["ssh"]) == ([{"id": "npmrc"}], [{"id": "default"}])
    metadata = said["runDetails"]["metadata"]
    [source] = metadata["buildkit_metadata"]["source"]["infos"]
    assert base64.b64decode(source["data"]) == TEXT
    assert source["filename"] == "docker/Dockerfile"
    assert [(item["digest"], item["createdBy"]) for item in metadata["kaniko_layers"]] == [
        (str(one.digest), text)
        for one, text in zip(sample().manifest.layers, ("ADD base", "RUN make"), strict=True)
    ]
    assert metadata["buildkit_completeness"]["request"] is True


def test_times_are_in_utc() -> None:
    metadata = stated(Provenance())["predicate"]["runDetails"]["metadata"]
    assert metadata["startedOn"] == "2026-01-02T01:04:05.678000Z"
    assert metadata["finishedOn"] == "2026-01-02T01:05:05.678000Z"
    assert metadata["invocationId"] == "run-1"
    assert datetime.fromisoformat(metadata["startedOn"]).astimezone(UTC) == STARTED


def test_what_nobody_gave_is_left_out_so_that_two_runs_are_equal() -> None:
    quiet = Run(version="9")
    assert stated(Provenance(), run=quiet) == stated(Provenance(), run=quiet)
    metadata = stated(Provenance(), run=quiet)["predicate"]["runDetails"]["metadata"]
    assert metadata.keys().isdisjoint({"invocationId", "startedOn", "finishedOn"})


def test_builder_and_promise_are_the_users() -> None:
    details = stated(Provenance(builder_id="https://ci.example/7", reproducible=True))["predicate"][
        "runDetails"
    ]
    assert details["builder"] == {"id": "https://ci.example/7", "version": {"kaniko-py": "9"}}
    assert details["metadata"]["buildkit_reproducible"] is True


FETCHED = replace(
    REQUEST,
    context=f"https://me:{SECRET}@git.example/r.git#main",
    context_digest={"sha1": "1" * 40},
)


def test_context_that_was_fetched_is_named_without_its_password() -> None:
    external = stated(Provenance(), FETCHED)["predicate"]["buildDefinition"]["externalParameters"]
    assert external["configSource"] == {
        "uri": "https://git.example/r.git#main",
        "digest": {"sha1": "1" * 40},
        "path": "docker/Dockerfile",
    }
    assert "locals" not in external["request"]


@pytest.mark.parametrize("networked", [True, False])
def test_hermetic_is_what_is_traced_and_had_no_network(*, networked: bool) -> None:
    def metadata(request: Request) -> Any:
        said = stated(Provenance(), request, networked=networked)
        return said["predicate"]["runDetails"]["metadata"]

    assert metadata(FETCHED)["buildkit_completeness"]["resolvedDependencies"] is True
    assert metadata(FETCHED).get("buildkit_hermetic", False) is not networked
    assert "buildkit_hermetic" not in metadata(REQUEST)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("version", SlsaVersion)
def test_no_password_is_told(mode: Mode, version: SlsaVersion) -> None:
    at_an_address = replace(FETCHED, dockerfile=f"https://me:{SECRET}@h/Dockerfile?key={SECRET}")
    assert SECRET not in json.dumps(stated(Provenance(mode, version=version), at_an_address))


def test_arguments_that_are_no_text_are_no_obstacle() -> None:
    odd = replace(REQUEST, build_args={"A": "\udcff"}, dockerfile="D\udcff")
    arguments = stated(Provenance(), odd)["predicate"]["buildDefinition"]["externalParameters"]
    assert arguments["request"]["args"]["build-arg:A"] == "\udcff"


def test_request_without_anything_to_hide_is_complete() -> None:
    metadata = stated(Provenance(Mode.MIN), Request(dockerfile="Dockerfile"))["predicate"][
        "runDetails"
    ]["metadata"]
    assert metadata["buildkit_completeness"]["request"] is True


def test_older_version_says_the_same_in_its_own_words() -> None:
    said = stated(Provenance(Mode.MAX, "https://ci/1", SlsaVersion.V0_2), FETCHED, networked=False)
    assert said["predicateType"] == "https://slsa.dev/provenance/v0.2"
    predicate = said["predicate"]
    assert predicate["buildType"] == "https://mobyproject.org/buildkit@v1"
    assert predicate["builder"] == {"id": "https://ci/1"}
    assert predicate["materials"] == [BASE.to_json()]
    assert predicate["invocation"]["configSource"] == {
        "uri": "https://git.example/r.git#main",
        "digest": {"sha1": "1" * 40},
        "entryPoint": "docker/Dockerfile",
    }
    assert predicate["invocation"]["parameters"]["args"]["build-arg:VERSION"] == "7"
    assert predicate["invocation"]["environment"] == {"platform": str(Platform.host())}
    metadata = predicate["metadata"]
    assert metadata["buildInvocationID"] == "run-1"
    assert metadata["buildFinishedOn"] == "2026-01-02T01:05:05.678000Z"
    assert metadata["completeness"] == {
        "parameters": True,
        "environment": True,
        "materials": True,
    }
    assert metadata["https://mobyproject.org/buildkit@v1#hermetic"] is True
    assert metadata["https://mobyproject.org/buildkit@v1#metadata"]["source"]["infos"]
