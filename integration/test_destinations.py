"""One build, many destinations: registries side by side, targets, and files that tell of it all."""

from __future__ import annotations

import base64
import json
import os
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from integration import readers
from integration.programs import Build, Finished, finished, said
from integration.readers import Podman
from integration.registry_world import TokenService, token_registry
from integration.transport_world import Authority
from integration.world import Passwords, Registry
from tests.registry_server import Answer, RegistryServer, running_registry
from tests.serving import Handler, Server, served

_SIGNATURE = "X-Amz-Signature=5ecre7"


def _sent(registry: Registry, digest: str) -> int:
    """Count how often the bytes of a blob came."""
    word = digest.removeprefix("sha256:")
    return len(
        [r for r in registry.requests() if r.method == "PUT" and r.uploads and word in r.path]
    )


def _mounted(registry: Registry, digest: str) -> int:
    word = digest.removeprefix("sha256:")
    made = [r for r in registry.requests() if "mount=" in r.path and word in r.path]
    return len([r for r in made if r.status == 201])


@pytest.fixture
def odd() -> Iterator[RegistryServer]:
    """A registry that does wrong what it is told to."""
    with running_registry() as started:
        yield started


# --- registries ---------------------------------------------------------------------------


def test_layer_is_sent_to_each_registry_once_and_mounted_in_the_rest(
    build: Build,
    busybox: str,
    registry: Registry,
    registry_names: list[str],
    make_registry: Callable[..., Registry],
    podman: Podman,
) -> None:
    other = make_registry()
    far = [f"{other.address}/far/{name}:1" for name in ("one", "two")]
    registry.forget()
    flags = [f"--destination={name}" for name in (*registry_names, *far)]
    build(f"FROM {busybox}\nRUN head -c 3000000 /dev/urandom > /noise; echo x > /word\n", *flags)

    everywhere = (build.image, *registry_names, *far)
    assert len({readers.digest(name) for name in everywhere}) == 1
    layers = [layer["digest"] for layer in readers.manifest(build.image)["layers"]]
    assert [_sent(registry, layer) for layer in layers] == [0, 1]
    assert [_mounted(registry, layer) for layer in layers] == [4, 3]
    assert [_sent(other, layer) for layer in layers] == [1, 1]
    assert [_mounted(other, layer) for layer in layers] == [1, 1]
    for name in (registry_names[-1], far[-1]):
        assert podman.run(name, "cat", "/word") == "x\n"


def test_one_that_fails_is_named_and_the_others_have_the_image(
    build: Build, busybox: str, odd: RegistryServer, registry_names: list[str], tmp_path: Path
) -> None:
    fault = Answer(400, code="MANIFEST_INVALID", message="not today")
    odd.misbehave(fault, method="PUT", path="/manifests/", times=None)
    bad = f"{odd.address}/team/app:1"
    flags = [f"--destination={name}" for name in (bad, *registry_names)]
    digest = tmp_path / "digest"
    done = build(f"FROM {busybox}\nRUN true > /x\n", *flags, f"--digest-file={digest}", check=False)

    said(done, f"cannot push to {odd.address}/team/app", "not today", f"while pushing {bad}")
    assert len({readers.digest(name) for name in (build.image, *registry_names)}) == 1
    assert not digest.exists()


def test_destination_without_rights_ends_the_build_before_it_begins(
    build: Build, busybox: str, make_registry: Callable[..., Registry]
) -> None:
    closed = make_registry(passwords=Passwords("somebody", "else"))
    done = build(
        f"FROM {busybox}\nRUN echo begun\n", f"--destination={closed.address}/app", check=False
    )

    said(done, f"cannot push to {closed.address}/app", "401")
    assert "RUN" not in done.stderr


def test_rights_are_not_asked_for_before_the_build_where_that_is_skipped(
    build: Build, busybox: str, make_registry: Callable[..., Registry]
) -> None:
    """As for registries that forbid the question, or make the repository with the first push."""
    closed = make_registry(passwords=Passwords("somebody", "else"))
    flags = (f"--destination={closed.address}/app", "--skip-push-permission-check")
    done = build(f"FROM {busybox}\nRUN true > /x\n", *flags, check=False)

    said(done, f"cannot push to {closed.address}/app", "401", "while pushing")
    assert "RUN true" in done.stderr
    assert readers.manifest(build.image)["layers"]


def test_immutable_tag_is_left_alone_and_the_image_is_there_by_digest(
    build: Build, busybox: str, odd: RegistryServer
) -> None:
    fault = Answer(400, code="DENIED", message="The repository has enabled tag immutability")
    odd.misbehave(fault, method="PUT", path="/manifests/1", times=None)
    flags = (f"--destination={odd.address}/app:1", "--push-ignore-immutable-tag-errors")
    done = build(f"FROM {busybox}\nRUN true > /x\n", *flags)

    digest = readers.digest(build.image)
    assert f"the tag of {odd.address}/app:1 is immutable, and was left as it is" in done.stderr
    assert odd.manifests["app"].keys() == {digest}


def test_pushes_say_what_started_us(build: Build, busybox: str, odd: RegistryServer) -> None:
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN true > /x\n"})
    flags = (*build.arguments, f"--destination={odd.address}/app")
    build.programs.executor(*flags, env={"UPSTREAM_CLIENT_TYPE": "skaffold-v2"})

    agents = {seen.headers["user-agent"] for seen in odd.requests if seen.method == "PUT"}
    assert agents == {"kaniko-py/0.1,skaffold-v2"}


def test_client_type_that_no_header_can_have_is_refused(build: Build) -> None:
    build.fill({"Dockerfile": "FROM scratch\n"})
    environment = {"UPSTREAM_CLIENT_TYPE": "a\nAuthorization: b"}
    done = build.programs.executor(*build.arguments, check=False, env=environment)

    said(done, "UPSTREAM_CLIENT_TYPE: it cannot be part of a header")


def test_mounts_ask_for_the_right_to_read_where_the_layer_is(
    build: Build, busybox: str, tmp_path: Path
) -> None:
    """A token for one repository does not show what is in another."""
    service = TokenService("builder", "correct horse")
    with token_registry(tmp_path / "tokens", service) as address:
        names = [f"{address}/team/{name}:1" for name in ("one", "two")]
        (tmp_path / "docker").mkdir()
        pair = base64.b64encode(b"builder:correct horse").decode()
        config = {"auths": {address: {"auth": pair}}}
        (tmp_path / "docker" / "config.json").write_text(json.dumps(config))
        build.fill({"Dockerfile": f"FROM {busybox}\nRUN echo x > /x\n"})
        build.programs.executor(
            *(f"--context={build.context}", *(f"--destination={name}" for name in names)),
            env={"DOCKER_CONFIG": str(tmp_path / "docker")},
        )
        digests = {readers.digest(name) for name in names}

    assert len(digests) == 1
    one, two = ("repository:team/one:pull", "repository:team/two:pull")
    both = {(f"{one},push", two), (f"{two},push", one)}
    assert both & {tuple(scopes) for scopes in service.granted}


def test_index_goes_to_all_registries_with_all_its_images(
    build: Build,
    busybox: str,
    registry: Registry,
    registry_names: list[str],
    make_registry: Callable[..., Registry],
    podman: Podman,
    tmp_path: Path,
) -> None:
    far = f"{make_registry().address}/far:latest"
    layout = tmp_path / "layout"
    registry.forget()
    flags = [f"--destination={name}" for name in (*registry_names, far)]
    build(
        "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /word\n",
        *("--custom-platform=linux/amd64", "--custom-platform=linux/arm64", *flags),
        *(f"--oci-layout-path={layout}", f"--metadata-file={tmp_path}/metadata"),
        files={"amd64": "amd", "arm64": "arm"},
    )

    everywhere = (build.image, *registry_names, far, f"oci:{layout}")
    assert len({readers.digest(name) for name in everywhere}) == 1
    listed = readers.manifest(far)["manifests"]
    assert [item["platform"]["architecture"] for item in listed] == ["amd64", "arm64"]
    repository = registry_names[-1].removesuffix(":latest")
    for item in listed:
        (layer,) = readers.manifest(f"{repository}@{item['digest']}")["layers"]
        assert (_sent(registry, layer["digest"]), _mounted(registry, layer["digest"])) == (1, 3)
    podman("pull", "--quiet", "--tls-verify=false", "--arch=arm64", far)
    assert json.loads(podman("image", "inspect", far))[0]["Architecture"] == "arm64"
    metadata = json.loads((tmp_path / "metadata").read_text())
    assert metadata["containerimage.descriptor"]["digest"] == readers.digest(far)


# --- targets ------------------------------------------------------------------------------

_STAGES = """\
FROM {base} AS common
RUN echo common > /common
FROM common AS app
RUN echo app > /word
FROM common AS tool
RUN echo tool > /word
"""


def test_each_target_goes_where_it_is_wanted(
    build: Build,
    busybox: str,
    registry: Registry,
    registry_names: list[str],
    podman: Podman,
    tmp_path: Path,
) -> None:
    app, tool, again = registry_names
    build.fill({"Dockerfile": _STAGES.format(base=busybox)})
    registry.forget()
    files = {name: tmp_path / name for name in ("digests", "names", "metadata")}
    build.programs.executor(
        *(f"--context={build.context}", "--target=app", "--target=tool"),
        *("-d", app, "-d", f"tool={tool}", "-d", f"app={again}"),
        *(f"--digest-file={files['digests']}", f"--metadata-file={files['metadata']}"),
        f"--image-name-with-digest-file={files['names']}",
    )

    assert podman.run(app, "cat", "/word") == "app\n"
    assert podman.run(tool, "cat", "/word") == "tool\n"
    assert readers.digest(app) == readers.digest(again)
    common = readers.manifest(app)["layers"][1]["digest"]
    assert _sent(registry, common) == 1
    digests = [readers.digest(app), readers.digest(tool)]
    assert files["digests"].read_text().splitlines() == digests
    assert files["names"].read_text().splitlines() == [
        f"{name.removesuffix(':latest')}@{readers.digest(name)}" for name in (app, again, tool)
    ]
    metadata = json.loads(files["metadata"].read_text())
    assert metadata["app"]["image.name"] == f"{app},{again}"
    assert metadata["tool"]["containerimage.digest"] == digests[1]


def test_destination_of_what_is_no_target_is_refused_before_the_build(
    build: Build, busybox: str
) -> None:
    build.fill({"Dockerfile": _STAGES.format(base=busybox)})
    wanted = build.image.replace("latest", "1")
    flags = (*build.arguments, "--target=app", f"--destination=tool={wanted}")
    for more in ((), ("--dryrun",)):
        done = build.programs.executor(*flags, *more, check=False)
        said(done, f"--destination tool={wanted}: tool is no target of this build", "are app")
        assert "RUN" not in done.written


def test_plan_says_which_stage_goes_where(build: Build, busybox: str) -> None:
    build.fill({"Dockerfile": _STAGES.format(base=busybox)})
    flags = (*build.arguments, "--target=app", "--target=tool", "--destination=tool=x.example/y")
    done = build.programs.executor(*flags, "--dryrun", "--digest-file=/tmp/digest")

    assert done.stdout.splitlines()[-3:] == [
        f"push to {build.image}",
        "push stage tool to x.example/y:latest",
        "write the digest to /tmp/digest",
    ]


def test_destination_without_a_stage_before_the_equals_sign(build: Build) -> None:
    done = build("FROM scratch\n", "--destination==app:1", check=False)
    said(done, "--destination: '=app:1' names no stage", "STAGE=IMAGE")


def test_layout_has_all_targets_by_name(build: Build, busybox: str, tmp_path: Path) -> None:
    build.fill({"Dockerfile": _STAGES.format(base=busybox)})
    layout = tmp_path / "layout"
    flags = ("--target=app", "--target=tool", "--no-push", f"--oci-layout-path={layout}")
    build.programs.executor(f"--context={build.context}", *flags)

    for stage in ("app", "tool"):
        history = readers.config(f"oci:{layout}:{stage}")["history"]
        assert f"echo {stage} > /word" in history[-1]["created_by"]


# --- files that tell of it ----------------------------------------------------------------


def test_metadata_is_as_skopeo_sees_the_image(build: Build, busybox: str, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "metadata.json"
    build(f"FROM {busybox}\nRUN true > /x\n", f"--metadata-file={file}")

    written = json.loads(file.read_text())
    manifest = readers.manifest(build.image)
    assert written["containerimage.digest"] == readers.digest(build.image)
    assert written["containerimage.config.digest"] == manifest["config"]["digest"]
    assert written["containerimage.descriptor"]["mediaType"] == manifest["mediaType"]
    assert written["image.name"] == build.image
    timing = written["kaniko.build.timing"]
    assert timing["startedOn"] <= timing["finishedOn"]


def test_builder_output_lists_what_was_pushed(
    build: Build, busybox: str, registry_names: list[str], tmp_path: Path
) -> None:
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN true > /x\n"})
    flags = [f"--destination={name}" for name in registry_names]
    environment = {"BUILDER_OUTPUT": str(tmp_path / "output")}
    build.programs.executor(*build.arguments, *flags, env=environment)

    lines = (tmp_path / "output" / "images").read_text().splitlines()
    digest = readers.digest(build.image)
    assert [json.loads(line) for line in lines] == [
        {"name": name, "digest": digest} for name in (build.image, *registry_names)
    ]


def test_files_and_stdout_may_be_what_a_pod_has(build: Build, busybox: str, tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    log.touch()
    done = build(
        f"FROM {busybox}\nRUN true > /x\n",
        *(f"--image-name-tag-with-digest-file={log}", "--image-name-with-digest-file=/dev/stdout"),
    )

    digest = readers.digest(build.image)
    assert log.read_text() == f"{build.image}@{digest}\n"
    assert done.stdout == f"{build.image.removesuffix(':latest')}@{digest}\n"


def test_names_without_destinations_are_refused(build: Build, tmp_path: Path) -> None:
    build.fill({"Dockerfile": "FROM scratch\n"})
    flags = ("--no-push", f"--image-name-with-digest-file={tmp_path}/names")
    done = build.programs.executor(f"--context={build.context}", *flags, check=False)

    said(done, "--image-name-with-digest-file is for the names of destinations", "--digest-file")


# --- addresses ----------------------------------------------------------------------------


@dataclass
class _Bucket:
    """Takes what is PUT, as object stores do at a signed address."""

    address: str
    status: int = 200
    bodies: dict[str, bytes] = field(default_factory=dict)


class _BucketHandler(Handler):
    server: Server[_Bucket]

    def do_PUT(self) -> None:  # noqa: N802 - http.server's name
        body = self.rfile.read(int(self.headers["content-length"]))
        bucket = self.server.state
        if bucket.status == 200:
            bucket.bodies[self.path] = body
        self.send_response(bucket.status)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.made(tmp_path / "authority")


@pytest.fixture
def bucket(authority: Authority) -> Iterator[_Bucket]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("127.0.0.1"))
    with served(_BucketHandler, _Bucket, tls=context) as started:
        yield started


def _put(build: Build, bucket: _Bucket, authority: Authority, *, check: bool = True) -> Finished:
    url = f"https://{bucket.address}"
    return build(
        "FROM scratch\nCOPY Dockerfile /\n",
        *(f"--digest-file={url}/digest?{_SIGNATURE}", f"--image-name-with-digest-file={url}/name"),
        *(f"--registry-certificate={bucket.address}={authority.file}", "--verbosity=trace"),
        check=check,
    )


def test_digest_is_put_to_an_address(build: Build, bucket: _Bucket, authority: Authority) -> None:
    done = _put(build, bucket, authority)

    digest = readers.digest(build.image)
    assert bucket.bodies == {
        f"/digest?{_SIGNATURE}": digest.encode(),
        "/name": f"{build.image.removesuffix(':latest')}@{digest}\n".encode(),
    }
    assert _SIGNATURE not in done.written


def test_address_that_refuses_is_an_error_without_its_signature(
    build: Build, bucket: _Bucket, authority: Authority
) -> None:
    bucket.status = 403
    done = _put(build, bucket, authority, check=False)

    said(done, "cannot write to 127.0.0.1: it answered 403", "may have expired")
    assert _SIGNATURE not in done.written


def test_address_without_trust_gets_nothing(build: Build, bucket: _Bucket, tmp_path: Path) -> None:
    url = f"https://{bucket.address}/digest?{_SIGNATURE}"
    build.fill({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
    done = build.programs.executor(*build.arguments, f"--digest-file={url}", check=False)

    said(done, "certificate", bucket.address)
    assert (bucket.bodies, _SIGNATURE in done.written) == ({}, False)


@pytest.mark.parametrize("flag", ["digest-file", "image-name-tag-with-digest-file"])
def test_address_without_tls_is_refused(build: Build, flag: str) -> None:
    done = build("FROM scratch\n", f"--{flag}=http://example.com/x?{_SIGNATURE}", check=False)
    said(done, f"--{flag}: what is written is sent to https:// addresses only")
    assert _SIGNATURE not in done.written


def test_ended_push_leaves_no_process_waiting(
    build: Build, busybox: str, odd: RegistryServer
) -> None:
    """Ctrl-C while several destinations are served ends all of them."""
    odd.misbehave(Answer(503, {"Retry-After": "50"}), method="PUT", path="/manifests/", times=None)
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN true > /x\n"})
    flags = (f"--destination={odd.address}/one", f"--destination={odd.address}/two")
    process = build.programs.start_executor(*build.arguments, *flags)
    assert process.stderr is not None
    while not any("/manifests/" in line for line in odd.lines("PUT")):
        assert process.poll() is None
    os.kill(process.pid, 2)
    done = finished(process, check=False)

    assert done.status == 130
    assert "Traceback" not in done.stderr
    assert build.programs.leftovers() == []
