"""Our registry client against docker-registry, and skopeo's opinion of what it pushed."""

from __future__ import annotations

import base64
import json
import resource
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from integration.registry_world import TokenService, token_registry
from integration.world import Passwords, Registry
from kaniko_core.errors import RegistryError, Unauthorized
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image, compose
from kaniko_core.oci.layer import FileLayer
from kaniko_core.oci.reference import Reference
from kaniko_core.oci.spec import Descriptor, ImageConfig, MediaType
from kaniko_core.options import RegistryOptions
from kaniko_core.registry import client
from kaniko_core.registry.auth import DockerKeychain
from tests.samples import AMD64, image

MakeRegistry = Callable[..., Registry]
USER = Passwords("me", "hunter2")


def skopeo(*arguments: str) -> str:
    done = subprocess.run(["skopeo", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def docker_config(directory: Path, host: str, user: str, password: str) -> DockerKeychain:
    """Log in as `docker login` does."""
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    (directory / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return DockerKeychain({"DOCKER_CONFIG": str(directory)})


def lines(registry: Registry, *kinds: str) -> list[tuple[str, str, int]]:
    """What the registry was asked: method, first words of the path, status."""
    time.sleep(0.1)  # the log is written after the answer
    return [
        (request.method, request.path, request.status)
        for request in registry.requests()
        if any(kind in request.path for kind in kinds)
    ]


@pytest.mark.parametrize("docker", [True, False])
def test_pushed_image_is_what_skopeo_reads(
    registry: Registry, destination: str, tmp_path: Path, docker: bool
) -> None:
    original = image(docker=docker)
    with client.Registry(push=True) as push:
        push.put(Reference.parse(destination), original)

    flags = ("--tls-verify=false", f"docker://{destination}")
    assert skopeo("inspect", "--raw", *flags).encode() == original.raw_manifest
    assert skopeo("inspect", "--config", "--raw", *flags).encode() == original.raw_config
    skopeo("copy", "--src-tls-verify=false", flags[1], f"dir:{tmp_path}/copy")
    for layer in original.layers:
        copied = (tmp_path / "copy" / layer.descriptor.digest.hex).read_bytes()
        assert Digest.of(copied) == layer.descriptor.digest


def test_pushed_image_comes_back(registry: Registry, destination: str) -> None:
    original, reference = image(), Reference.parse(destination)
    with client.Registry(push=True) as push:
        push.check_push(reference)
        push.put(reference, original)
    with client.Registry() as pull:
        assert pull.head(reference) == original.descriptor
        got = pull.get(reference, AMD64)
        assert got is not None
        assert got.digest == original.digest
        for ours, theirs in zip(original.layers, got.layers, strict=True):
            with ours.open() as expected, theirs.open() as stream:
                assert stream.read() == expected.read()


def test_what_is_there_is_not_sent_again(make_registry: MakeRegistry) -> None:
    own = make_registry()
    reference = Reference.parse(f"{own.address}/team/app:1")
    with client.Registry(push=True) as push:
        push.put(reference, image())
    own.forget()
    with client.Registry(push=True) as push:
        push.put(Reference.parse(f"{own.address}/team/app:2"), image())

    assert {method for method, _, _ in lines(own, "/blobs/")} == {"HEAD"}
    assert lines(own, "/manifests/") == [("PUT", "/v2/team/app/manifests/2", 201)]


def test_blobs_of_another_repository_are_mounted(make_registry: MakeRegistry) -> None:
    own = make_registry()
    base, app = (Reference.parse(f"{own.address}/team/{name}:1") for name in ("base", "app"))
    with client.Registry(push=True) as push:
        push.put(base, image())
    own.forget()
    with client.Registry(push=True) as push:
        push.put(app, image(), mount_from=(base.repository,))

    assert [(method, status) for method, _, status in lines(own, "/uploads/")] == [
        ("POST", 201)
    ] * 3


def test_image_that_was_pulled_is_pushed_without_its_bytes(make_registry: MakeRegistry) -> None:
    own = make_registry()
    base, app = (Reference.parse(f"{own.address}/{name}:1") for name in ("base", "app"))
    with client.Registry(push=True) as push, client.Registry() as pull:
        push.put(base, image())
        pulled = pull.get(base, AMD64)
        assert pulled is not None
        own.forget()
        push.put(app, pulled)
        assert pull.head(app) == pulled.descriptor

    assert not [line for line in lines(own, "/blobs/") if line[0] in ("GET", "PUT", "PATCH")]


def test_oras_lists_and_deletes(make_registry: MakeRegistry) -> None:
    own = make_registry()
    reference = Reference.parse(f"{own.address}/app:1")
    with client.Registry(push=True) as push:
        push.put(reference, image())
        talk = push.conversation(reference.repository, push=True)
        assert talk.get_tags(reference) == ["1"]
        assert talk.delete_tag(reference, "1")
        assert push.head(reference) is None


# --- TLS ----------------------------------------------------------------------------------


def test_registry_with_a_certificate_of_its_own(make_registry: MakeRegistry) -> None:
    secure = make_registry(tls=True)
    reference = Reference.parse(f"{secure.address}/app:1")
    options = RegistryOptions(registry_certificate=((secure.address, str(secure.certificate)),))
    with client.Registry(options, push=True) as push:
        push.put(reference, image())
    with client.Registry(options) as pull:
        assert pull.get(reference, AMD64) is not None

    skopeo("inspect", "--tls-verify=false", f"docker://{reference}")
    with client.Registry() as stranger, pytest.raises(RegistryError, match="certificate"):
        stranger.head(reference)


# --- credentials --------------------------------------------------------------------------


def test_password_of_dockers_config(make_registry: MakeRegistry, tmp_path: Path) -> None:
    closed = make_registry(passwords=USER)
    reference = Reference.parse(f"{closed.address}/app:1")
    keychain = docker_config(tmp_path, closed.address, USER.user, USER.password)
    with client.Registry(push=True, keychain=keychain) as push:
        push.check_push(reference)
        push.put(reference, image())

    credentials = f"{USER.user}:{USER.password}"
    skopeo("inspect", "--tls-verify=false", "--creds", credentials, f"docker://{reference}")


def test_wrong_password_is_said_before_anything_is_sent(
    make_registry: MakeRegistry, tmp_path: Path
) -> None:
    closed = make_registry(passwords=USER)
    reference = Reference.parse(f"{closed.address}/app:1")
    keychain = docker_config(tmp_path, closed.address, USER.user, "guessed")
    with (
        client.Registry(push=True, keychain=keychain) as push,
        pytest.raises(Unauthorized, match=f"cannot push to {closed.address}/app") as caught,
    ):
        push.check_push(reference)

    assert f"{tmp_path}/config.json (entry {closed.address})" in (caught.value.hint or "")
    assert "guessed" not in f"{caught.value} {caught.value.hint}"


def test_tokens_for_pushing_mounting_and_pulling(tmp_path: Path) -> None:
    service = TokenService("me", "hunter2")
    with token_registry(tmp_path / "registry", service) as address:
        keychain = docker_config(tmp_path, address, "me", "hunter2")
        base, app = (Reference.parse(f"{address}/{name}:1") for name in ("base", "app"))
        with client.Registry(push=True, keychain=keychain) as push:
            push.put(base, image())
            push.put(app, image(), mount_from=(base.repository,))
        with client.Registry(keychain=DockerKeychain({})) as anybody:
            assert anybody.get(app, AMD64) is not None
        stranger = client.Registry(push=True, keychain=DockerKeychain({}))
        with stranger, pytest.raises(Unauthorized):
            stranger.check_push(app)

    push_base, push_app = "repository:base:pull,push", "repository:app:pull,push"
    assert service.granted[:3] == [
        (push_base,),
        (push_app,),
        (push_app, "repository:base:pull"),
    ]


def test_tokens_that_expire_during_the_work_are_renewed(tmp_path: Path) -> None:
    service = TokenService("me", "hunter2", seconds=1)
    with token_registry(tmp_path / "registry", service) as address:
        keychain = docker_config(tmp_path, address, "me", "hunter2")
        reference = Reference.parse(f"{address}/app:1")
        with client.Registry(push=True, keychain=keychain) as push:
            push.check_push(reference)
            time.sleep(1.2)
            push.put(reference, image())
            time.sleep(1.2)
            assert push.head(reference) is not None


# --- size ---------------------------------------------------------------------------------

_LARGE = 300 << 20


@pytest.fixture
def large(tmp_path: Path) -> Image:
    """An image with one layer of 300 MiB."""
    path = tmp_path / "layer"
    pattern = bytes(range(256)) * 4096
    with path.open("wb") as stream:
        for number in range(_LARGE // len(pattern)):
            stream.write(number.to_bytes(8, "big") + pattern[8:])
    with path.open("rb") as stream:
        digest = Digest("sha256", _sha256(stream.fileno()))
    layer = FileLayer(path, Descriptor(MediaType.OCI_LAYER, digest, _LARGE), digest)
    return compose(ImageConfig(AMD64), (layer,), docker=False)


def _sha256(descriptor: int) -> str:
    import hashlib

    with open(descriptor, "rb", closefd=False) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def test_large_layer_passes_through_little_memory(
    make_registry: MakeRegistry, large: Image, record_property: Callable[[str, object], None]
) -> None:
    own = make_registry()
    reference = Reference.parse(f"{own.address}/large:1")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    with client.Registry(push=True) as push:
        push.put(reference, large)
    sent = time.monotonic()
    with client.Registry() as pull:
        got = pull.get(reference, AMD64)
        assert got is not None
        with closing(got.layers[0].open()) as stream:
            while stream.read(1 << 20):
                pass
    received = time.monotonic()

    megabytes = _LARGE / 1e6
    rates = {"push": megabytes / (sent - started), "pull": megabytes / (received - sent)}
    print("\n" + ", ".join(f"{name} {rate:.0f} MB/s" for name, rate in rates.items()))
    record_property("rates", rates)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 << 10  # KiB
