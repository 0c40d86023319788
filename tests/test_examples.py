"""The manifests of examples/kubernetes: valid for the API, harmless for a cluster, true of us."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import kaniko_core
import kaniko_executor.cli
import kaniko_warmer.cli
from kaniko_core.cli import run
from kaniko_core.context.location import parse_location
from kaniko_core.options import (
    BuildOptions,
    CacheOptions,
    LayerCacheOptions,
    OutputOptions,
    RegistryOptions,
)

EXAMPLES = Path(__file__).parents[1] / "examples" / "kubernetes"
MANIFESTS = sorted(EXAMPLES.glob("*.yaml"))
OURS = "registry.example.com/kaniko-py/"
# The oldest that clouds still offer, and the newest that the validator knows.
VERSIONS = ("1.30", kubernetes_validate.latest_version())

Document = dict[str, Any]


def documents(path: Path) -> list[Document]:
    return list(yaml.safe_load_all(path.read_text()))


def every(kind: str) -> list[Document]:
    return [item for path in MANIFESTS for item in documents(path) if item["kind"] == kind]


def pod_spec(document: Document) -> Document | None:
    """The pod that *document* is, or makes."""
    found: Document | None = None
    match document["kind"]:
        case "Pod":
            found = document["spec"]
        case "Job":
            found = document["spec"]["template"]["spec"]
        case "CronJob":
            found = document["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


def pods(path: Path) -> Iterator[Document]:
    yield from filter(None, map(pod_spec, documents(path)))


def containers(pod: Document) -> list[Document]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def ours(program: str) -> list[Any]:
    """Our containers of all manifests, each as a parameter, with the file that it stands in."""
    return [
        pytest.param(path, container, id=f"{path.name}-{container['name']}")
        for path in MANIFESTS
        for pod in pods(path)
        for container in containers(pod)
        if container["image"].startswith(f"{OURS}{program}:")
    ]


def named(path: Path) -> str:
    return path.name


def test_there_are_examples_of_both_programs() -> None:
    assert {path.stem for path in MANIFESTS} >= {
        "build-pod",
        "warm-and-build-pod",
        "warmer-cronjob",
        "build-job",
    }
    assert ours("executor")
    assert ours("warmer")


# --- for a cluster ------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS, ids=named)
def test_manifest_is_what_the_api_wants(path: Path, version: str) -> None:
    for document in documents(path):
        checked = kubernetes_validate.validate(document, version, strict=True)
        assert version.startswith(checked)


def test_a_misspelt_field_would_be_seen() -> None:
    (pod,) = (item for item in documents(EXAMPLES / "build-pod.yaml") if item["kind"] == "Pod")
    pod["spec"]["containers"][0]["securityContext"]["allowPriviledgeEscalation"] = False
    with pytest.raises(kubernetes_validate.ValidationError, match="allowPriviledgeEscalation"):
        kubernetes_validate.validate(pod, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("path", MANIFESTS, ids=named)
def test_pods_ask_for_no_rights(path: Path) -> None:
    """What the Pod Security Standard "baseline" forbids, and more."""
    for pod in pods(path):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC", "hostUsers"}
        assert all(not volume.keys() & {"hostPath"} for volume in pod["volumes"])
        for container in containers(pod):
            rights = container["securityContext"]
            assert rights["allowPrivilegeEscalation"] is False
            assert not rights.get("capabilities", {}).keys() - {"drop"}
            assert not rights.keys() & {"privileged", "procMount"}


@pytest.mark.parametrize("path", MANIFESTS, ids=named)
def test_pods_say_what_they_need(path: Path) -> None:
    for pod in pods(path):
        for container in containers(pod):
            resources = container["resources"]
            assert resources["requests"].keys() >= {"cpu", "memory"}
            assert "memory" in resources["limits"]
            if container["image"].startswith(f"{OURS}executor:"):
                assert "ephemeral-storage" in resources["requests"]
                assert "ephemeral-storage" in resources["limits"]


@pytest.mark.parametrize("path", MANIFESTS, ids=named)
def test_what_is_mounted_exists(path: Path) -> None:
    claims = {claim["metadata"]["name"] for claim in every("PersistentVolumeClaim")}
    config_maps = {item["metadata"]["name"] for item in documents(path)}
    for pod in pods(path):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounted = {
            mount["name"] for container in containers(pod) for mount in container["volumeMounts"]
        }
        assert mounted == volumes.keys()
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
            if "configMap" in volume:
                assert volume["configMap"]["name"] in config_maps


def test_names_are_told_apart() -> None:
    """All manifests can be applied to one namespace."""
    names = [(item["kind"], item["metadata"]["name"]) for p in MANIFESTS for item in documents(p)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", MANIFESTS, ids=named)
def test_manifest_tells_how_to_apply_it(path: Path) -> None:
    comment = path.read_text().partition("\napiVersion:")[0]
    assert all(line.startswith("#") for line in comment.splitlines())
    assert f"kubectl apply -f {path.name}" in comment
    for document in documents(path):
        if document["kind"] in ("Pod", "CronJob"):
            assert f"{document['kind'].lower()}/{document['metadata']['name']}" in comment


# --- for our programs -----------------------------------------------------------------------


def executed(argv: Sequence[str]) -> tuple[BuildOptions, OutputOptions, CacheOptions]:
    """Return the options that kaniko-executor would build with."""
    seen: list[tuple[BuildOptions, OutputOptions, CacheOptions]] = []

    def record(
        building: BuildOptions,
        output: OutputOptions,
        cache: CacheOptions,
        registry: RegistryOptions,
        layers: LayerCacheOptions,
        **_: object,
    ) -> None:
        seen.append((building, output, cache))

    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        status = run(kaniko_executor.cli.application(record), argv, name="kaniko-executor")
    assert status == 0, stderr.getvalue()
    return seen[0]


def mounted_at(container: Document, place: str) -> Document | None:
    found = [mount for mount in container["volumeMounts"] if mount["mountPath"] == place]
    return found[0] if found else None


def builds(container: Document) -> bool:
    """Whether a container of the executor builds, and does nothing else."""
    return str(container["args"][0]).startswith("--")


def building() -> list[Any]:
    return [item for item in ours("executor") if builds(item.values[1])]


def test_images_of_several_platforms_are_joined_from_what_is_built() -> None:
    (joining,) = [item.values[1] for item in ours("executor") if not builds(item.values[1])]
    _, *images, _, _, _ = joining["args"]
    jobs = [item.values for item in building() if item.values[0].name == "platforms-jobs.yaml"]
    assert images == [str(executed(job["args"])[1].destination[0]) for _, job in jobs]
    nowhere = [word.replace("registry.example.com", "127.0.0.1:1") for word in joining["args"]]
    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        status = run(kaniko_executor.cli.app, [*nowhere, "--push-retry=0"], name="kaniko-executor")
    # The flags are understood: it finds no registry.
    assert (status, "127.0.0.1:1" in stderr.getvalue()) == (1, True)


@pytest.mark.parametrize(("path", "container"), building())
def test_executor_understands_its_flags(path: Path, container: Document) -> None:
    building, output, cache = executed(container["args"])
    fetched = not isinstance(parse_location(building.context), Path)
    assert fetched != bool(mounted_at(container, building.context))
    assert all(str(to.reference).startswith("registry.example.com/") for to in output.destination)
    # Where base images come from a volume, no build can change what others start from.
    cached = mounted_at(container, str(cache.cache_dir))
    assert building.cache == (cached is not None)
    assert cached is None or cached["readOnly"] is True


@pytest.mark.parametrize(("path", "container"), ours("warmer"))
def test_warmer_understands_its_flags(
    path: Path, container: Document, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It starts, and finds no registry where its images would be: wrong usage is status 2."""
    for item in documents(path):
        for name, text in item.get("data", {}).items():
            (tmp_path / name).write_text(text.replace("docker.io", "127.0.0.1:1"))
    places = {"/workspace": str(tmp_path), "/cache": str(tmp_path), "docker.io": "127.0.0.1:1"}
    argv = list(container["args"])
    for place, here in places.items():
        argv = [word.replace(place, here) for word in argv]
    status = run(kaniko_warmer.cli.app, [*argv, "--image-download-retry=0"], name="kaniko-warmer")
    assert (status, "127.0.0.1:1" in capsys.readouterr().out) == (1, True)


@pytest.mark.parametrize("program", ["executor", "warmer"])
def test_images_have_our_version(program: str) -> None:
    for parameter in ours(program):
        _, container = parameter.values
        assert container["image"] == f"{OURS}{program}:{kaniko_core.__version__}"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(text, id=f"{item['metadata']['name']}-{name}")
        for item in every("ConfigMap")
        for name, text in item["data"].items()
    ],
)
def test_dockerfiles_pass_our_own_checks(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "Dockerfile").write_text(text)
    argv = ["--check", f"--context={tmp_path}"]
    assert run(kaniko_executor.cli.app, argv, name="kaniko-executor") == 0, capsys.readouterr()


@pytest.mark.parametrize("path", MANIFESTS, ids=named)
def test_credentials_are_where_the_programs_look(path: Path) -> None:
    """DOCKER_CONFIG of our images is /kaniko/.docker."""
    for pod in pods(path):
        for container in containers(pod):
            if not container["image"].startswith(OURS):
                continue
            mount = mounted_at(container, "/kaniko/.docker")
            assert mount is not None
            (volume,) = (item for item in pod["volumes"] if item["name"] == mount["name"])
            (file,) = volume["secret"]["items"]
            assert file == {"key": ".dockerconfigjson", "path": "config.json"}
