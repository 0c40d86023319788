"""Manifests as a cluster runs them: podman's ``kube play`` stands for a node.

What podman 4.3 does not know is made up here, the way a kubelet does it:

    Job, CronJob              one pod of their template
    Secret, ConfigMap         directories of links to ``..data``, mounted read-only
    variables from a Secret   their values
    service account           the same, in every pod that does not say that it wants none
    emptyDir                  a directory of the pod's own
    PersistentVolumeClaim     a volume that stays until the cluster is closed
    termination message       a file, mounted at ``terminationMessagePath``
"""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from integration import images
from integration.readers import Podman
from integration.world import REPOSITORY, Passwords, Registry

EXAMPLES = REPOSITORY / "examples" / "kubernetes"
BUSYBOX = "base/busybox:1.35"
DEBIAN = "base/debian:bookworm"
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"

_SECONDS = 300.0
_PAUSE = 0.05  # seconds between two looks at a process, or at a log
# Otherwise podman removes init containers, with their logs, as soon as they have ended.
_KEEP_INIT_CONTAINERS = {"io.podman.annotations.init.container.type": "always"}
_TOKEN = {"token": b"not for builds", "namespace": b"default", "ca.crt": b"no certificate"}

Document = dict[str, Any]


def filled(registry: Registry) -> Registry:
    """Push the two small base images to *registry*, and forget that in its log."""
    images.push(images.busybox_layout(), registry, BUSYBOX)
    images.push(images.debian_layout(), registry, DEBIAN)
    registry.forget()
    return registry


def example(name: str, registry: Registry, *, debian: str = DEBIAN) -> list[Document]:
    """Read an example as its readers make it their own, with base images that are at hand."""
    text = (EXAMPLES / name).read_text()
    for word, replacement in (
        ("registry.example.com", registry.address),
        ("docker.io/library/busybox:stable", f"{registry.address}/{BUSYBOX}"),
        ("docker.io/library/debian:bookworm-slim", f"{registry.address}/{debian}"),
    ):
        text = text.replace(word, replacement)
    return list(yaml.safe_load_all(text))


def only(documents: Iterable[Document], kind: str) -> Document:
    """Return the one document of a kind."""
    (found,) = (item for item in documents if item["kind"] == kind)
    return found


def secret(name: str, **values: str) -> Document:
    """Return what ``kubectl create secret generic NAME --from-literal=…`` makes."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "Opaque",
        "data": data,
    }


def credentials(registry: Registry, passwords: Passwords) -> Document:
    """Return what ``kubectl create secret docker-registry registry-credentials`` makes."""
    both = base64.b64encode(f"{passwords.user}:{passwords.password}".encode()).decode()
    content = json.dumps({"auths": {registry.address: {"auth": both}}}).encode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "registry-credentials"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(content).decode()},
    }


@dataclass(frozen=True, slots=True)
class Ended:
    """How a container ended: its exit status, all that it wrote, its termination message."""

    status: int
    log: str
    message: str


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that was started; its containers are known by their names in the manifest."""

    podman: Podman
    name: str
    directory: Path
    init_containers: tuple[str, ...]
    containers: tuple[str, ...]

    def wait(self) -> dict[str, Ended]:
        """Wait until every container has ended; none is started behind one that failed."""
        ended: dict[str, Ended] = {}
        for container in (*self.init_containers, *self.containers):
            ended[container] = self._ended(container)
            if container in self.init_containers and ended[container].status != 0:
                break
        return ended

    def succeeded(self) -> dict[str, Ended]:
        """Wait likewise, and fail with the logs unless every status is 0."""
        ended = self.wait()
        assert all(each.status == 0 for each in ended.values()), "\n".join(
            f"{name} ended with {each.status}:\n{each.log}" for name, each in ended.items()
        )
        return ended

    def stop(self, grace: int) -> float:
        """Delete the pod as a cluster does: SIGTERM, and SIGKILL after *grace* seconds.

        Returns:
            the seconds that it took.
        """
        start = time.monotonic()
        self.podman("stop", f"--time={grace}", *map(self._full, self.containers))
        return time.monotonic() - start

    def log(self, container: str) -> str:
        """Return what *container* has written so far, to both streams."""
        return _written(self._inspect(container))

    def wait_for(self, container: str, text: str) -> None:
        """Wait until *container* has written *text*."""
        deadline = time.monotonic() + _SECONDS
        found = self._inspect(container)
        runs = True
        while text not in _written(found):
            assert runs, f"{container} has ended:\n{_written(found)}"
            assert time.monotonic() < deadline, _written(found)
            time.sleep(_PAUSE)
            runs = _runs(found)

    def remove(self) -> None:
        """Remove the pod, and all that is its own."""
        self.podman("pod", "rm", "--force", "--time=0", self.name)
        shutil.rmtree(self.directory)

    def _ended(self, container: str) -> Ended:
        deadline = time.monotonic() + _SECONDS
        while (found := self._inspect(container))["State"]["Status"] not in ("exited", "stopped"):
            # To ask podman all the time would take a good part of a processor.
            time.sleep(_PAUSE)
            while _runs(found):
                assert time.monotonic() < deadline, f"{container} runs on:\n{_written(found)}"
                time.sleep(_PAUSE)
            assert time.monotonic() < deadline, f"{container} does not end"
        message = _message_file(self.directory, container).read_text()
        return Ended(found["State"]["ExitCode"], _written(found), message)

    def _inspect(self, container: str) -> Document:
        found = json.loads(self.podman("container", "inspect", self._full(container)))[0]
        assert isinstance(found, dict)
        return found

    def _full(self, container: str) -> str:
        return f"{self.name}-{container}"


def _runs(container: Document) -> bool:
    pid = container["State"]["Pid"]
    return pid != 0 and Path(f"/proc/{pid}").exists()


def _written(container: Document) -> str:
    """Return what a container has written, from its log as a node keeps it."""
    path = Path(container["HostConfig"]["LogConfig"]["Path"])
    text = ""
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        # Time, stream, F for a full line or P for a part of one.
        _, _, kind, written = line.split(" ", 3)
        text += written if kind == "P" else f"{written}\n"
    return text


@dataclass(frozen=True, slots=True)
class Cluster:
    """One node, and what was applied to it.

    Args:
        podman: what runs the pods.
        directory: for files of pods, secrets and configurations; podman must be able to mount it.
        images: what stands in podman's storage for names in manifests; others stand for themselves.
        arguments: given to each of our programs, after its own.
    """

    podman: Podman
    directory: Path
    images: Mapping[str, str]
    arguments: tuple[str, ...] = ()
    _files: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)

    def apply(self, documents: Iterable[Document]) -> list[Pod]:
        """Make what *documents* describe, and start their pods."""
        pods = []
        for document in documents:
            name = document["metadata"]["name"]
            match document["kind"]:
                case "PersistentVolumeClaim":
                    self.claim(name)
                case "Secret" | "ConfigMap" as kind:
                    self._files[kind, name] = _content(document)
                case "Pod":
                    pods.append(self._start(name, document["spec"]))
                case "Job":
                    pods.append(self._start(name, document["spec"]["template"]["spec"]))
                case "CronJob":
                    template = document["spec"]["jobTemplate"]["spec"]["template"]
                    pods.append(self._start(name, template["spec"]))
                case kind:
                    raise AssertionError(f"this cluster knows no {kind}")
        return pods

    @contextmanager
    def running(self, documents: Iterable[Document]) -> Iterator[Pod]:
        """Apply *documents*, one of which makes a pod, and remove the pod with the block."""
        (pod,) = self.apply(documents)
        try:
            yield pod
        finally:
            pod.remove()

    def run(self, documents: Iterable[Document]) -> dict[str, Ended]:
        """Apply *documents*, wait until the pod's containers have succeeded, and remove it."""
        with self.running(documents) as pod:
            return pod.succeeded()

    def claim(self, name: str) -> Path:
        """Return the directory of a claim's volume; the claim is made if it is new."""
        if name not in self.podman("volume", "ls", "--quiet").split():
            self.podman("volume", "create", name)
        return Path(self.podman("volume", "inspect", "--format={{.Mountpoint}}", name).strip())

    def _start(self, name: str, spec: Document) -> Pod:
        directory = self.directory / name
        directory.mkdir()
        rendered = self._rendered(spec, directory)
        document = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "annotations": _KEEP_INIT_CONTAINERS},
            "spec": rendered,
        }
        (directory / "pod.yaml").write_text(yaml.safe_dump(document))
        pod = Pod(
            self.podman,
            name,
            directory,
            tuple(container["name"] for container in rendered.get("initContainers", ())),
            tuple(container["name"] for container in rendered["containers"]),
        )
        play = ("kube", "play", "--network=host", "--log-driver=k8s-file")
        try:
            self.podman(*play, directory / "pod.yaml")
        except AssertionError:
            # Init containers run before it returns: one that fails is for the caller to see.
            if not any(each.status for each in pod.wait().values()):
                raise
        return pod

    def _rendered(self, spec: Document, directory: Path) -> Document:
        """Return *spec* in what podman knows."""
        spec = json.loads(json.dumps(spec))
        volumes = [self._volume(volume, directory) for volume in spec.get("volumes", ())]
        everywhere = []
        if spec.pop("automountServiceAccountToken", True):
            place = _mounted_files(directory / "service-account", _TOKEN)
            volumes.append({"name": "service-account", "hostPath": {"path": str(place)}})
            everywhere.append(
                {"name": "service-account", "mountPath": SERVICE_ACCOUNT, "readOnly": True}
            )
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            name = container["name"]
            if "/kaniko-py/" in container["image"]:
                container["args"] = [*container.get("args", ()), *self.arguments]
            container["image"] = self.images.get(container["image"], container["image"])
            container["imagePullPolicy"] = "Never"
            container["env"] = [
                entry for given in container.get("env", ()) for entry in self._variable(given)
            ]
            message = _message_file(directory, name)
            message.touch()
            volumes.append({"name": f"message-{name}", "hostPath": {"path": str(message)}})
            mounted = {
                "name": f"message-{name}",
                "mountPath": container.pop("terminationMessagePath", "/dev/termination-log"),
            }
            container.setdefault("volumeMounts", []).extend([mounted, *everywhere])
        return {**spec, "volumes": volumes}

    def _variable(self, variable: Document) -> Iterator[Document]:
        """Yield *variable* with its value; nothing where that is optional and not there."""
        match variable:
            case {"valueFrom": {"secretKeyRef": source}}:
                chosen = self._chosen("Secret", source["name"], source)
                if source["key"] in chosen or not source.get("optional"):
                    yield {"name": variable["name"], "value": chosen[source["key"]].decode()}
            case _:
                yield variable

    def _volume(self, volume: Document, directory: Path) -> Document:
        """Return *volume* as something that this machine has."""
        path = directory / f"volume-{volume['name']}"
        match volume:
            case {"persistentVolumeClaim": _} | {"hostPath": _}:
                return volume
            case {"emptyDir": _}:
                path.mkdir()
                path.chmod(0o777)
            case {"secret": source}:
                _mounted_files(path, self._chosen("Secret", source["secretName"], source))
            case {"configMap": source}:
                _mounted_files(path, self._chosen("ConfigMap", source["name"], source))
            case _:
                raise AssertionError(f"this cluster knows no such volume: {volume}")
        return {"name": volume["name"], "hostPath": {"path": str(path)}}

    def _chosen(self, kind: str, name: str, source: Document) -> dict[str, bytes]:
        """Return the files of a secret or configuration as *source* wants them named."""
        if source.get("optional") and (kind, name) not in self._files:
            return {}
        files = self._files[kind, name]
        if "items" not in source:
            return files
        return {item["path"]: files[item["key"]] for item in source["items"]}

    def close(self) -> None:
        """Remove every pod and every claim; images stay."""
        self.podman("pod", "rm", "--all", "--force", "--time=0")
        self.podman("volume", "rm", "--all", "--force")


def _content(document: Document) -> dict[str, bytes]:
    plain = {**document.get("stringData", {})}
    encoded = document.get("data", {})
    if document["kind"] == "ConfigMap":
        plain, encoded = encoded, {}
    return {
        **{name: base64.b64decode(text) for name, text in encoded.items()},
        **{name: text.encode() for name, text in plain.items()},
    }


def _mounted_files(directory: Path, files: Mapping[str, bytes]) -> Path:
    """Write *files* as a kubelet does, which can replace all of them at once."""
    data = directory / "..2024_01_01_00_00_00.000000001"
    data.mkdir(parents=True)
    (directory / "..data").symlink_to(data.name)
    for name, content in files.items():
        (data / name).write_bytes(content)
        (directory / name).symlink_to(f"..data/{name}")
    return directory


def _message_file(directory: Path, container: str) -> Path:
    return directory / f"message-{container}"
