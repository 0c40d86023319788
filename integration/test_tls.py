"""Registries behind TLS, proxies and odd addresses; and those that say no.

Whatever is wrong is one sentence, with no secret in any output at the most verbose level.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration import images
from integration.programs import Build, Finished, Programs, finished, said
from integration.transport_world import Authority, Reachable, reachable_registry
from integration.world import Registry
from tests.proxy_server import ProxyServer, running_proxy
from tests.registry_server import Answer, RegistryServer, running_registry
from tests.samples import image

_SECRET = "hunter2"
_AUTH = base64.b64encode(f"me:{_SECRET}".encode()).decode()
_AT_ONCE = ("--image-download-retry=0", "--push-retry=0")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.made(tmp_path / "authority")


@pytest.fixture
def secure(authority: Authority, tmp_path: Path) -> Iterator[Reachable]:
    """A registry with a certificate of *authority*, which has a base image."""
    tls = authority.issue("127.0.0.1")
    with reachable_registry(tmp_path / "secure", tls=tls) as started:
        fill(started)
        yield started


@pytest.fixture
def asking(authority: Authority, tmp_path: Path) -> Iterator[Reachable]:
    """One that talks to clients with a certificate of *authority* only; it has a base image."""
    tls = authority.issue("127.0.0.1")
    registry = reachable_registry(tmp_path / "asking", tls=tls, clients=authority.file)
    with registry as started:
        certificate, key = authority.issue("skopeo@example.com")
        directory = tmp_path / "certs"
        directory.mkdir()
        (directory / "client.cert").write_bytes(certificate.read_bytes())
        (directory / "client.key").write_bytes(key.read_bytes())
        fill(started, f"--dest-cert-dir={directory}")
        yield started


@pytest.fixture
def proxy() -> Iterator[ProxyServer]:
    with running_proxy() as started:
        yield started


def fill(registry: Reachable, *flags: str) -> None:
    """Put the base image into *registry*, with skopeo."""
    subprocess.run(
        [
            *("skopeo", "copy", "--quiet", "--dest-tls-verify=false", *flags),
            f"oci:{images.busybox_layout()}:latest",
            f"docker://{registry.address}/base:1",
        ],
        check=True,
    )


def execute(
    build: Build, base: str, destination: str, *flags: str, env: dict[str, str] | None = None
) -> Finished:
    """Build on *base* and push, with every word of the log, and no --insecure as others have."""
    build.fill({"Dockerfile": f"FROM {base}\nLABEL a=b\n"})
    programs: Programs = build.programs
    programs.work.mkdir(parents=True, exist_ok=True)
    process = programs.start(
        "kaniko_executor",
        *(f"--context={build.context}", f"--kaniko-dir={programs.work}", "--verbosity=trace"),
        *(f"--destination={destination}", *_AT_ONCE, *flags),
        env=env,
    )
    done = finished(process, check=False)
    assert "Traceback" not in done.written
    assert _SECRET not in done.written
    assert _AUTH not in done.written
    assert programs.leftovers() == []
    return done


def on(registry: Reachable, build: Build, *flags: str) -> Finished:
    """Build on the base image of *registry*, and push there."""
    return execute(build, f"{registry.address}/base:1", f"{registry.address}/app:1", *flags)


# --- certificates --------------------------------------------------------------------------


def test_named_authority(build: Build, secure: Reachable, authority: Authority) -> None:
    done = on(secure, build, f"--registry-certificate={secure.address}={authority.file}")

    assert done.status == 0, done.written


@pytest.mark.parametrize("flag", ["--skip-tls-verify", "--skip-tls-verify-registry={}"])
def test_nothing_is_verified(build: Build, secure: Reachable, flag: str) -> None:
    done = on(secure, build, flag.format(secure.address))

    assert done.status == 0, done.written


def test_only_pulls_are_not_verified(
    build: Build, secure: Reachable, authority: Authority, destination: str
) -> None:
    done = execute(build, f"{secure.address}/base:1", destination, "--skip-tls-verify-pull")
    assert done.status == 0, done.written

    said(on(secure, build, "--skip-tls-verify-pull"), "cannot verify the TLS certificate of")


@pytest.mark.parametrize("flags", [(), ("--insecure", "--insecure-pull")])
def test_unknown_authority(build: Build, secure: Reachable, flags: tuple[str, ...]) -> None:
    """TLS where plain HTTP was expected is still TLS: it is no reason to believe anybody."""
    done = on(secure, build, *flags)

    said(done, secure.address, "certificate", f"--registry-certificate {secure.address}=FILE")


def test_certificate_for_another_host(build: Build, authority: Authority, tmp_path: Path) -> None:
    tls = authority.issue("127.0.0.9")
    with reachable_registry(tmp_path / "other", tls=tls) as other:
        done = on(other, build, f"--registry-certificate={other.address}={authority.file}")

    said(done, "not valid for '127.0.0.1'", "a name that it is for")


def test_certificate_file_that_is_none(build: Build, secure: Reachable, tmp_path: Path) -> None:
    done = on(secure, build, f"--registry-certificate={secure.address}={tmp_path}/none.pem")

    said(done, f"{tmp_path}/none.pem", "--registry-certificate takes HOST=FILE")


# --- client certificates -------------------------------------------------------------------


def test_client_certificate(
    build: Build, asking: Reachable, authority: Authority, programs: Programs, tmp_path: Path
) -> None:
    files = ",".join(map(str, authority.issue("kaniko@example.com")))
    flags = (
        f"--registry-certificate={asking.address}={authority.file}",
        f"--registry-client-cert={asking.address}={files}",
    )
    done = on(asking, build, *flags)
    assert done.status == 0, done.written

    warmed = programs.warmer(
        f"--image={asking.address}/app:1", f"--cache-dir={tmp_path}/cache", *flags
    )
    assert "downloaded" in warmed.stdout


def test_client_certificate_is_missing(build: Build, asking: Reachable) -> None:
    done = on(asking, build, "--skip-tls-verify")

    said(done, asking.address, f"--registry-client-cert {asking.address}=CERT,KEY")


def test_client_certificate_of_a_stranger(build: Build, asking: Reachable, tmp_path: Path) -> None:
    stranger = Authority.made(tmp_path / "stranger").issue("kaniko@example.com")
    files = ",".join(map(str, stranger))
    done = on(
        asking, build, "--skip-tls-verify", f"--registry-client-cert={asking.address}={files}"
    )

    said(done, asking.address, f"--registry-client-cert {asking.address}=CERT,KEY")


# --- addresses -----------------------------------------------------------------------------


def test_address_of_ipv6(build: Build, authority: Authority, tmp_path: Path) -> None:
    tls = authority.issue("::1")
    with reachable_registry(tmp_path / "six", address="[::1]", tls=tls) as six:
        flag = f"--registry-certificate={six.address}={authority.file}"
        # Not by skopeo, which knows no such addresses.
        done = execute(build, "scratch", f"{six.address}/base:1", flag)
        assert done.status == 0, done.written
        done = on(six, build, flag)
        assert done.status == 0, done.written

        assert any("/v2/base/blobs/" in path for path in six.pulls())


def test_address_of_ipv6_over_plain_http(build: Build, tmp_path: Path) -> None:
    with reachable_registry(tmp_path / "six", address="[::1]") as six:
        done = execute(build, "scratch", f"{six.address}/base:1")
        assert done.status == 0, done.written
        done = on(six, build)
        assert done.status == 0, done.written


# --- proxies -------------------------------------------------------------------------------


def environment(proxy: ProxyServer, user: str = "", **more: str) -> dict[str, str]:
    url = f"http://{user}{proxy.address}"
    return {"HTTP_PROXY": url, "https_proxy": url, **more}


def test_everything_goes_through_the_proxy(
    build: Build, proxy: ProxyServer, authority: Authority, tmp_path: Path
) -> None:
    proxy.user = f"me:{_SECRET}"
    tls = authority.issue("registry.invalid")
    with reachable_registry(tmp_path / "far", tls=tls) as far:
        fill(far)
        proxy.leads["registry.invalid:443"] = far.address
        done = execute(
            build,
            "registry.invalid/base:1",
            "registry.invalid/app:1",
            f"--registry-certificate=registry.invalid={authority.file}",
            env=environment(proxy, f"me:{_SECRET}@"),
        )

    assert done.status == 0, done.written
    assert set(proxy.asked) == {"registry.invalid:443"}


def test_what_no_proxy_names_does_not(build: Build, proxy: ProxyServer) -> None:
    done = execute(
        build,
        "registry.invalid/base:1",
        "registry.invalid/app:1",
        env=environment(proxy, NO_PROXY="10.0.0.0/8,.invalid"),
    )

    said(done, "cannot reach registry.invalid")
    assert proxy.asked == []


def test_proxy_that_does_not_let_us_pass(build: Build, proxy: ProxyServer) -> None:
    proxy.user = "me:another"
    done = execute(
        build,
        "registry.invalid/base:1",
        "registry.invalid/app:1",
        env=environment(proxy, f"me:{_SECRET}@"),
    )

    said(done, f"the proxy {proxy.address} wants a user", "407")


def test_plain_http_where_tls_is_expected(
    build: Build, proxy: ProxyServer, registry: Registry, busybox: str
) -> None:
    """On loopback plain HTTP is allowed; so this registry has another name, behind a proxy."""
    proxy.leads["registry.invalid:443"] = registry.address
    base = f"registry.invalid/{busybox.partition('/')[2]}"

    done = execute(build, base, "registry.invalid/app:1", env=environment(proxy))

    said(done, "registry.invalid does not speak TLS", "--insecure-registry registry.invalid")


@pytest.mark.parametrize(
    "flags", [("--insecure", "--insecure-pull"), ("--insecure-registry=registry.invalid:5000",)]
)
@pytest.mark.parametrize("joins", [True, False])
def test_plain_http_where_it_is_allowed(
    build: Build,
    proxy: ProxyServer,
    registry: Registry,
    busybox: str,
    flags: tuple[str, ...],
    joins: bool,
) -> None:
    proxy.joins = joins
    proxy.leads["registry.invalid:5000"] = registry.address
    name = f"registry.invalid:5000/built/{build.image.partition('/built/')[2]}"
    base = f"registry.invalid:5000/{busybox.partition('/')[2]}"

    done = execute(build, base, name, *flags, env=environment(proxy))

    assert done.status == 0, done.written


@pytest.mark.parametrize("flag", ["--insecure", "--insecure-pull"])
def test_plain_http_in_the_other_direction_is_not_allowed(
    build: Build, proxy: ProxyServer, registry: Registry, busybox: str, flag: str
) -> None:
    proxy.leads["registry.invalid:5000"] = registry.address
    name = f"registry.invalid:5000/built/{build.image.partition('/built/')[2]}"
    base = f"registry.invalid:5000/{busybox.partition('/')[2]}"

    done = execute(build, base, name, flag, env=environment(proxy))

    said(done, "registry.invalid:5000 does not speak TLS")


# --- registries that say no, or something else ---------------------------------------------


@pytest.fixture
def odd() -> Iterator[RegistryServer]:
    """A registry in this process, with a base image; it wants a password."""
    with running_registry() as started:
        started.add_image("base", "1", image())
        started.challenge = 'Basic realm="tests"'
        started.authorized = {f"Basic {_AUTH}"}
        yield started


def logged_in(build: Build, odd: RegistryServer, *flags: str) -> Finished:
    """Build on its base image with the right password, and push there."""
    directory = build.programs.directory / "docker"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({"auths": {odd.address: {"auth": _AUTH}}}))
    return execute(
        build,
        f"{odd.address}/base:1",
        f"{odd.address}/app:1",
        *flags,
        env={"DOCKER_CONFIG": str(directory)},
    )


def test_blobs_on_another_host(build: Build, odd: RegistryServer) -> None:
    """Where the registry keeps its blobs is told nothing of the password."""
    with running_registry("127.0.0.2") as store:
        store.add_image("base", "1", image())
        for digest in list(odd.blobs["base"]):
            target = f"http://{store.address}/v2/base/blobs/{digest}?signature={_SECRET}"
            odd.misbehave(Answer(307, {"Location": target}), method="GET", path=digest, times=None)
        done = logged_in(build, odd)

        assert done.status == 0, done.written
        assert store.requests
        assert all(seen.authorization is None for seen in store.requests)


def test_redirect_to_nowhere(build: Build, odd: RegistryServer) -> None:
    target = f"https://store.invalid/{_SECRET}?signature={_SECRET}"
    odd.misbehave(Answer(307, {"Location": target}), method="GET", path="/blobs/", times=None)

    said(logged_in(build, odd), "cannot reach store.invalid")


def test_realm_on_another_host(build: Build, odd: RegistryServer) -> None:
    with running_registry("127.0.0.2") as elsewhere:
        odd.challenge = 'Bearer realm="https://tokens.example.invalid/token"'
        done = logged_in(build, odd)
        assert elsewhere.requests == []

    said(done, "were not sent", "tokens.example.invalid, which is another site")


@pytest.mark.parametrize(
    ("media_type", "content", "word"),
    [
        ("text/html", b"{}", "not an image but text/html"),
        ("application/vnd.example.thing+json", b"{}", "not an image but application/vnd.example"),
        ("application/vnd.docker.distribution.manifest.v1+json", b"{}", "schema 1"),
        ("application/json", b"<html>", "not JSON"),
        ("application/json", b'{"schemaVersion": 2}', "no config and no layers"),
    ],
)
def test_manifest_of_another_kind(
    build: Build, odd: RegistryServer, media_type: str, content: bytes, word: str
) -> None:
    odd.add_manifest("base", "1", media_type, content)

    said(logged_in(build, odd), f"{odd.address}/base:1", word)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(403, code="DENIED", message="no"), ("answered 403 (DENIED: no)", "push to app")),
        (Answer(405, code="UNSUPPORTED"), ("answered 405", "read-only")),
        (Answer(400, code="NAME_INVALID", message="odd"), ("answered 400 (NAME_INVALID: odd)",)),
        (Answer(413), ("answered 413", "limits the size")),
    ],
)
def test_destination_that_takes_nothing(
    build: Build, odd: RegistryServer, answer: Answer, words: tuple[str, ...]
) -> None:
    odd.misbehave(answer, method="POST", path="/v2/app/", times=None)

    said(logged_in(build, odd), f"cannot push to {odd.address}/app", *words)


def test_tag_that_cannot_be_changed(build: Build, odd: RegistryServer) -> None:
    immutable = Answer(400, code="TAG_INVALID", message="The image tag '1' is immutable")
    odd.misbehave(immutable, method="PUT", path="/v2/app/manifests/", times=None)

    said(logged_in(build, odd), f"cannot push to {odd.address}/app", "TAG_INVALID", "immutable")


@pytest.mark.parametrize("name", ["Team/App", "team//app", "team/app:", "-app", "team/app:1:2"])
def test_repository_that_cannot_be(build: Build, name: str) -> None:
    done = execute(build, "scratch", f"registry.example.invalid/{name}")

    said(done, "is not an image name")
    assert done.status == 2


def test_limit_on_pulls(build: Build, odd: RegistryServer) -> None:
    limit = Answer(
        429,
        {"Retry-After": "21600"},
        code="TOOMANYREQUESTS",
        message="You have reached your pull rate limit.",
    )
    odd.misbehave(limit, path="/manifests/", times=None)
    before = len(odd.requests)

    done = logged_in(build, odd, "--image-download-retry=4")

    said(done, "429 (TOOMANYREQUESTS: You have reached your pull rate limit.)")
    for word in ("log in", "mirror", "kaniko-warmer", "come back in 21600 s"):
        assert word in done.stderr
    asked = [line for line in odd.lines()[before:] if "/manifests/" in line]
    assert len(asked) == 1
