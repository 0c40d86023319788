"""The manifests of examples/kubernetes, run for real: our images, podman as the node.

Nothing of a pod reaches further than loopback; the registry there is the test's own, and so is
its access log.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import signal
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import kaniko_core
from integration import readers
from integration.buckets import amazon_bucket
from integration.kaniko_images import KanikoImages
from integration.pods import (
    BUSYBOX,
    DEBIAN,
    Cluster,
    Document,
    Pod,
    credentials,
    example,
    filled,
    only,
    secret,
)
from integration.programs import Programs
from integration.readers import Podman
from integration.world import Passwords, Registry
from kaniko_core.cache.images import Freshness, ImageCache
from kaniko_core.oci.digest import Digest
from kaniko_core.options import CacheOptions
from tests.repository import new_repository
from tests.web_server import WebServer

_PATIENCE = 60.0  # seconds
# The time that a node gives a pod to end, and what ours may need of it.
_GRACE, _SOON = 30, 5.0


@pytest.fixture
def own(make_registry: Callable[..., Registry]) -> Registry:
    """A registry whose access log only this test writes to, with the two small images."""
    return filled(make_registry())


@pytest.fixture
def make_cluster(podman: Podman, kaniko_images: KanikoImages) -> Iterator[Callable[..., Cluster]]:
    """Start clusters that know our images by the names in the manifests."""
    version = kaniko_core.__version__
    with ExitStack() as stack:

        def make(registry: Registry) -> Cluster:
            directory = Path(tempfile.mkdtemp(prefix="kaniko-pods-", dir="/var/tmp"))
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            names = {
                f"{registry.address}/kaniko-py/executor:{version}": "executor",
                f"{registry.address}/kaniko-py/warmer:{version}": "warmer",
            }
            known = {name: kaniko_images.load(podman, target) for name, target in names.items()}
            started = Cluster(
                podman, directory, known, (f"--insecure-registry={registry.address}",)
            )
            stack.callback(started.close)
            return started

        yield make


@pytest.fixture
def cluster(make_cluster: Callable[..., Cluster], own: Registry) -> Cluster:
    return make_cluster(own)


def blobs(registry: Registry) -> list[str]:
    """The blobs that were fetched since the last look, sorted."""
    time.sleep(0.1)  # the log is written after the answer
    found = sorted(r.path for r in registry.requests() if r.fetches_blob)
    registry.forget()
    return found


def added(registry: Registry, name: str, *flags: str) -> dict[str, bytes]:
    """The files of the topmost layer of an image, from where the registry keeps it."""
    top = readers.manifest(f"{registry.address}/{name}", *flags)["layers"][-1]["digest"]
    number = top.removeprefix("sha256:")
    blob = registry.storage / "docker/registry/v2/blobs/sha256" / number[:2] / number / "data"
    with tarfile.open(blob) as archive:
        files = ((member.name, archive.extractfile(member)) for member in archive)
        return {name: file.read() for name, file in files if file is not None}


def blobs_of(registry: Registry, *names: str) -> list[str]:
    """What somebody fetches who has nothing of these images: configs and layers."""
    paths = []
    for name in names:
        read = readers.manifest(f"{registry.address}/{name}")
        repository = name.partition(":")[0]
        for item in (read["config"], *read["layers"]):
            paths.append(f"/v2/{repository}/blobs/{item['digest']}")
    registry.forget()
    return sorted(paths)


# --- the examples ---------------------------------------------------------------------------


def test_a_pod_builds_what_its_manifest_says(cluster: Cluster, own: Registry) -> None:
    ended = cluster.run(example("build-pod.yaml", own))
    assert ended["executor"].log.startswith("commands run in place, on / of this container: ")
    assert cluster.podman.run(f"{own.address}/team/hello:1.0") == "built in a pod\n"


def test_a_pod_builds_from_what_its_init_container_warmed(cluster: Cluster, own: Registry) -> None:
    """The volume outlives the pod: the second one fetches nothing but the meaning of the tag."""
    wanted = blobs_of(own, BUSYBOX)
    ended = cluster.run(example("warm-and-build-pod.yaml", own, debian=BUSYBOX))
    assert "downloaded" in ended["warmer"].log
    assert blobs(own) == wanted

    ended = cluster.run(example("warm-and-build-pod.yaml", own, debian=BUSYBOX))
    assert "already cached" in ended["warmer"].log
    assert blobs(own) == []
    assert b" UTC " in added(own, "team/warmed:1.0")["built"]


def test_a_job_builds_from_a_volume_and_tells_the_digest(
    make_registry: Callable[..., Registry], make_cluster: Callable[..., Cluster], tmp_path: Path
) -> None:
    """The whole story: a context is copied in, a CronJob warms, and a Job pushes with a secret."""
    passwords = Passwords("builder", "it's a secret")
    registry = filled(make_registry(passwords=passwords))
    cluster = make_cluster(registry)
    cluster.apply([credentials(registry, passwords)])
    context = tmp_path / "context"
    (context / "site").mkdir(parents=True)
    (context / "site" / "index.html").write_text("<h1>hello</h1>\n")
    (context / "Dockerfile").write_text(
        f"FROM {registry.address}/{BUSYBOX}\n"
        "WORKDIR /srv\nCOPY site .\nRUN wc -c index.html > size\nUSER nobody\n"
    )
    credential = f"--creds={passwords.user}:{passwords.password}"
    helper = f"{registry.address}/{BUSYBOX}"
    cluster.podman("pull", "--tls-verify=false", credential, helper)

    with cluster.running(example("context.yaml", registry)):
        cluster.podman("cp", f"{context}/.", "context-shell:/workspace")
    cluster.run(example("warmer-cronjob.yaml", registry))
    registry.forget()
    ended = cluster.run(example("build-job.yaml", registry))["executor"]

    image = f"{registry.address}/team/app:1.0"
    assert ended.message == readers.digest(image, credential)
    assert passwords.password not in ended.log
    assert [path for path in blobs(registry) if "/base/" in path] == []
    assert readers.config(image, credential)["config"]["User"] == "nobody"


def test_jobs_of_several_platforms_are_joined(cluster: Cluster, own: Registry) -> None:
    """Each would be on a node of its own kind; these commands could run on either."""
    cluster.apply([credentials(own, Passwords("nobody", "nothing"))])
    (cluster.claim("build-context") / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    for job in example("platforms-jobs.yaml", own):
        ended = cluster.run([job])["executor"]

    image = f"{own.address}/team/app:1.0"
    assert ended.message == readers.digest(image)
    platforms = [item["platform"] for item in readers.manifest(image)["manifests"]]
    assert [platform["architecture"] for platform in platforms] == ["amd64", "arm64"]


def replaced(documents: list[Document], by: Mapping[str, str]) -> list[Document]:
    """Return *documents* with other addresses."""
    text = json.dumps(documents)
    for old, new in by.items():
        text = text.replace(old, new)
    found: list[Document] = json.loads(text)
    return found


def test_a_pod_builds_from_a_repository_with_a_token(
    cluster: Cluster, own: Registry, web: WebServer, tmp_path: Path
) -> None:
    assert web.repositories is not None
    repository = new_repository(tmp_path / "checkouts", web.repositories, "app")
    dockerfile = f'FROM {own.address}/{BUSYBOX}\nCOPY . /web/\nRUN test -z "$GIT_TOKEN"\n'
    repository.commit({"services/web/Dockerfile": dockerfile, "elsewhere": "not wanted"})
    token = "hunter2-hunter2"
    basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    web.demand(f"Basic {basic}")
    cluster.apply([secret("git-credentials", token=token)])
    address = f"{web.address}/git/app.git"
    documents = example("context-from-git-pod.yaml", own)

    ended = cluster.run(replaced(documents, {"https://git.example.com/team/app.git": address}))

    assert added(own, "team/web:1.0").keys() == {"web/Dockerfile"}
    assert token not in ended["executor"].log


def test_a_job_builds_from_a_bucket(cluster: Cluster, own: Registry) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        text = f"FROM {own.address}/{BUSYBOX}\nCOPY . /app/\n".encode()
        info = tarfile.TarInfo("Dockerfile")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    keys = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "hunter2-hunter2"}
    cluster.apply([secret("bucket-credentials", **keys)])
    with amazon_bucket("contexts", {"app.tar.gz": archive.getvalue()}) as endpoint:
        documents = example("context-from-bucket-job.yaml", own)
        ended = cluster.run(replaced(documents, {"https://s3.example.com": endpoint}))

    assert added(own, "team/app:1.0").keys() == {"app/Dockerfile"}
    assert "hunter2" not in ended["executor"].log


def test_a_failed_build_tells_its_status_and_why(cluster: Cluster, own: Registry) -> None:
    documents = example("build-job.yaml", own)
    cluster.apply([credentials(own, Passwords("nobody", "nothing"))])
    (cluster.claim("build-context") / "Dockerfile").write_text(
        f"FROM {own.address}/{BUSYBOX}\nRUN echo about to fail; exit 42\n"
    )
    with cluster.running(documents) as pod:
        ended = pod.wait()["executor"]
    assert (ended.status, ended.message) == (42, "")
    assert "about to fail" in ended.log
    assert "Traceback" not in ended.log


def test_no_build_starts_where_warming_failed(cluster: Cluster, own: Registry) -> None:
    documents = example("warm-and-build-pod.yaml", own)
    configuration = only(documents, "ConfigMap")
    configuration["data"]["Dockerfile"] = f"FROM {own.address}/base/missing:1\n"
    with cluster.running(documents) as pod:
        ended = pod.wait()
    assert {name: each.status for name, each in ended.items()} == {"warmer": 1}
    assert "1 of 1 images could not be warmed" in ended["warmer"].log


# --- what builds keep on a volume -------------------------------------------------------------


def keeping(own: Registry, command: str) -> list[Document]:
    """The example's pod, which may write to its cache, with *command* in its Dockerfile."""
    documents = example("warm-and-build-pod.yaml", own, debian=BUSYBOX)
    base = f"{own.address}/{BUSYBOX}"
    only(documents, "ConfigMap")["data"]["Dockerfile"] = f"FROM {base}\nRUN {command}\n"
    builder = only(documents, "Pod")["spec"]["containers"][0]
    builder["args"].append("--cache-repo=dir:/cache/layers")
    for mount in builder["volumeMounts"]:
        if mount["name"] == "cache":
            mount["readOnly"] = False
    return documents


def test_caches_of_commands_and_layers_outlive_the_pods_on_a_volume(
    cluster: Cluster, own: Registry
) -> None:
    kept = "--mount=type=cache,target=/kept"
    cluster.run(keeping(own, f"{kept} echo first >> /kept/log; cp /kept/log /log"))
    first = readers.digest(f"{own.address}/team/warmed:1.0")
    again = cluster.run(keeping(own, f"{kept} echo first >> /kept/log; cp /kept/log /log"))
    assert "1/1] cached" in again["executor"].log
    assert readers.digest(f"{own.address}/team/warmed:1.0") == first

    cluster.run(keeping(own, f"{kept} echo second >> /kept/log; cp /kept/log /log"))
    assert added(own, "team/warmed:1.0")["log"] == b"first\nsecond\n"


# --- many on one volume -----------------------------------------------------------------------


def renamed(documents: list[Document], name: str, dockerfile: str = "") -> list[Document]:
    """The same with a pod of another name, and a context of its own."""
    for document in documents:
        if document["kind"] in ("Job", "CronJob"):
            document["metadata"]["name"] = name
            job = document["spec"].get("jobTemplate", document)["spec"]
            pod = job["template"]["spec"]
            for volume in pod["volumes"]:
                if volume["name"] == "context":
                    del volume["persistentVolumeClaim"]
                    volume["configMap"] = {"name": name}
            arguments = pod["containers"][0]["args"]
            arguments[:] = [
                word.replace("/team/app:1.0", f"/team/{name}:1.0") for word in arguments
            ]
    context: Document = {
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"Dockerfile": dockerfile},
    }
    return [context, *documents]


def test_two_warmers_and_three_builders_share_one_volume(cluster: Cluster, own: Registry) -> None:
    wanted = blobs_of(own, DEBIAN, BUSYBOX)
    cluster.apply([credentials(own, Passwords("nobody", "nothing"))])
    cache = cluster.claim("kaniko-cache-shared")
    digests = [readers.digest(f"{own.address}/{name}") for name in (DEBIAN, BUSYBOX)]
    own.forget()
    debian, busybox = (f"{own.address}/{name}" for name in (DEBIAN, BUSYBOX))
    dockerfiles = {
        "build-debian": f"FROM {debian}\nRUN echo debian > /built\n",
        "build-busybox": f"FROM {busybox}\nRUN echo busybox > /built\n",
        "build-both": f"FROM {debian} AS one\nRUN echo both > /built\n"
        f"FROM {busybox}\nCOPY --from=one /built /built\n",
    }
    with ExitStack() as stack, ThreadPoolExecutor(5) as threads:

        def start(name: str, manifest_name: str) -> Pod:
            documents = renamed(example(manifest_name, own), name, dockerfiles.get(name, ""))
            return stack.enter_context(cluster.running(documents))

        pods = list(threads.map(lambda n: start(n, "warmer-cronjob.yaml"), ("warm-1", "warm-2")))
        until((cache / ".locks" / f"{digests[0]}.lock").exists)
        with stopped(own):
            # The larger image is on its way, and goes nowhere until the builders are there too.
            pods += threads.map(lambda n: start(n, "build-job.yaml"), dockerfiles)
            time.sleep(1)
        for ended in threads.map(Pod.succeeded, pods):
            assert all("damaged" not in each.log for each in ended.values())

    assert blobs(own) == wanted
    store = ImageCache(CacheOptions(cache_dir=cache))
    for digest in digests:
        entry = store.look_up(Digest.parse(digest))
        assert entry.freshness is Freshness.FRESH
        assert entry.image is not None
        for layer in entry.image.layers:
            with layer.open() as stream:  # which refuses to end on wrong bytes
                while stream.read(1 << 20):
                    pass
    assert not list(cache.glob(".tmp-*"))
    for name in dockerfiles:
        built = added(own, f"team/{name}:1.0")["built"]
        assert built.decode() == f"{name.removeprefix('build-')}\n"


def until(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def stopped(registry: Registry) -> Iterator[None]:
    """Let the registry answer nothing while the block lasts."""
    registry.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        registry.process.send_signal(signal.SIGCONT)


# --- what a node mounts -------------------------------------------------------------------------


def test_what_is_mounted_is_neither_lost_nor_in_the_image(
    cluster: Cluster, own: Registry, programs: Programs, tmp_path: Path
) -> None:
    """The pod has what nodes mount, a volume where the Dockerfile works, and files of a driver."""
    base = f"{own.address}/base/usual:1"
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "Dockerfile").write_text(
        f"FROM {own.address}/{BUSYBOX}\n"
        "RUN mkdir -p /run /usr/lib /usr/share/doc/app && ln -s /run /var/run\n"
        "RUN echo of the image | tee /etc/issue /usr/bin/driver-smi > /usr/share/doc/app/readme\n"
    )
    programs.executor(f"--context={tmp_path}/base", f"--destination={base}")
    dockerfile = (
        f"FROM {base}\n"
        "WORKDIR /workspace\n"
        "COPY . .\n"
        "COPY source/main.c /usr/lib/driver.so\n"
        "RUN test -f source/main.c && mkdir /var/run/app && echo 1 > /var/run/app/pid\n"
        "RUN rm -rf /usr/share/doc\n"
    )
    context = cluster.claim("build-context")
    (context / "source").mkdir()
    (context / "source" / "main.c").write_text("int main(void) { return 0; }\n")
    (context / "Dockerfile").write_text(dockerfile)
    driver = tmp_path / "driver"
    driver.write_text("of the node\n")
    documents = example("build-job.yaml", own)
    pod_spec = only(documents, "Job")["spec"]["template"]["spec"]
    pod_spec["automountServiceAccountToken"] = True
    pod_spec["volumes"].append({"name": "driver", "hostPath": {"path": str(driver)}})
    (executor,) = pod_spec["containers"]
    for place in ("/usr/bin/driver-smi", "/usr/lib/driver.so", "/etc/issue"):
        executor["volumeMounts"].append({"name": "driver", "mountPath": place, "readOnly": True})
    cluster.apply([credentials(own, Passwords("nobody", "nothing"))])
    before = tree(context)

    with cluster.running(documents) as pod:
        account = tree(pod.directory / "service-account")
        pod.succeeded()
        assert tree(pod.directory / "service-account") == account

    assert (tree(context), driver.read_text()) == (before, "of the node\n")
    image = f"{own.address}/team/app:1.0"
    elsewhere = f"{own.address}/team/elsewhere:1.0"
    programs.executor(f"--context={context}", f"--destination={elsewhere}")
    layers = told(image)
    assert layers == told(elsewhere)
    names = {name for layer in layers[len(told(base)) :] for name in layer}
    assert {"workspace/source/main.c", "usr/lib/driver.so", "run/app/pid"} <= names
    assert not {name for name in names if name.endswith(("issue", "smi", "token"))}


def tree(directory: Path) -> dict[str, bytes]:
    """Every file below *directory*, with its content."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def told(image: str) -> list[dict[str, tuple[object, ...]]]:
    """What each layer says, but for the times, which two builds cannot share."""
    return [
        {
            name: (member.type, member.mode, member.uid, member.gid, member.size, member.linkname)
            for name, member in layer.members.items()
        }
        for layer in readers.layers(image)
    ]


def test_a_builder_with_a_volume_for_its_work_builds_in_a_sandbox(
    cluster: Cluster, own: Registry
) -> None:
    """Podman lets root have user namespaces; then an overlay only needs a place to be."""
    documents = example("build-pod.yaml", own)
    pod_spec = only(documents, "Pod")["spec"]
    pod_spec["volumes"].append({"name": "work", "emptyDir": {}})
    (executor,) = pod_spec["containers"]
    executor["volumeMounts"].append({"name": "work", "mountPath": "/work"})
    executor["args"].append("--kaniko-dir=/work")
    ended = cluster.run(documents)["executor"]
    assert ended.log.startswith("commands run in a sandbox: ")
    assert cluster.podman.run(f"{own.address}/team/hello:1.0") == "built in a pod\n"


# --- a pod that is deleted ----------------------------------------------------------------------


def test_a_deleted_pod_ends_at_once_and_pushes_nothing(cluster: Cluster, own: Registry) -> None:
    documents = slow(
        own,
        "RUN echo one > /one\n"
        # Nothing that a command does can keep the pod from ending.
        'RUN trap "" TERM; setsid sleep 600 & echo busy with it; sleep 600\n',
    )
    with cluster.running(documents) as pod:
        pod.wait_for("executor", "busy with it")
        seconds = pod.stop(_GRACE)
        ended = pod.wait()["executor"]
    assert seconds < _SOON
    assert ended.status == 128 + signal.SIGTERM, ended.log
    assert "interrupted" in ended.log
    assert half_pushed(own) == 0


def test_a_deleted_pod_does_not_wait_for_its_registry(cluster: Cluster, own: Registry) -> None:
    documents = slow(
        own,
        "RUN head -c 30000000 /dev/urandom > /large; echo nearly ready; sleep 1\n"
        "RUN echo one > /one\n",
    )
    with cluster.running(documents) as pod:
        pod.wait_for("executor", "nearly ready")
        with stopped(own):
            pod.wait_for("executor", "RUN echo one")
            time.sleep(2)  # for a push that gets no answer
            seconds = pod.stop(_GRACE)
            ended = pod.wait()["executor"]
    assert seconds < _SOON
    assert ended.status == 128 + signal.SIGTERM, ended.log
    assert manifests_pushed(own) == 0


def slow(registry: Registry, commands: str) -> list[Document]:
    """A pod with a Dockerfile of *commands*."""
    documents = example("warm-and-build-pod.yaml", registry)
    only(documents, "ConfigMap")["data"]["Dockerfile"] = (
        f"FROM {registry.address}/{BUSYBOX}\n{commands}"
    )
    return documents


def manifests_pushed(registry: Registry) -> int:
    """Count manifests of images; what the layer cache keeps meanwhile is whole, and may stay."""
    pushed = [r.path for r in registry.requests() if r.method == "PUT" and "/manifests/" in r.path]
    return sum("/cache/manifests/" not in path for path in pushed)


def half_pushed(registry: Registry) -> int:
    """Count manifests, and uploads that were neither completed nor cancelled."""
    at_uploads = [r for r in registry.requests() if "/blobs/uploads/" in r.path]
    begun = sum(r.method == "POST" and r.status == 202 for r in at_uploads)
    over = sum(r.method in ("PUT", "DELETE") and r.status < 300 for r in at_uploads)
    return begun - over + manifests_pushed(registry)


def test_a_deleted_warmer_leaves_no_half_image(cluster: Cluster, own: Registry) -> None:
    documents = example("warmer-cronjob.yaml", own)
    cache = cluster.claim("kaniko-cache-shared")
    with cluster.running(documents) as pod:
        until(lambda: any(cache.glob(".tmp-*")))
        with stopped(own):
            seconds = pod.stop(_GRACE)
        ended = pod.wait()["warmer"]
    assert seconds < _SOON
    assert ended.status == 128 + signal.SIGTERM, ended.log
    assert not list(cache.glob(".tmp-*"))
