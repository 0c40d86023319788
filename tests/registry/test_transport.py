from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kaniko_core.errors import RegistryError
from kaniko_core.oci.reference import Reference
from kaniko_core.registry.client import Registry
from kaniko_core.registry.hosts import HostRules
from kaniko_core.registry.transport import Transport
from tests.registry.conftest import MakeRegistry
from tests.registry_server import Answer, RegistryServer, running_registry
from tests.samples import image

trustme = pytest.importorskip("trustme")


@pytest.fixture
def authority() -> object:
    return trustme.CA()


@pytest.fixture
def secure(authority: object) -> Iterator[RegistryServer]:
    """A registry with a certificate of *authority* for 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)  # type: ignore[attr-defined]
    with running_registry(tls=context) as server:
        server.add_image("app", "1", image())
        yield server


@pytest.fixture
def certificate(authority: object, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))  # type: ignore[attr-defined]
    return str(path)


def test_unknown_certificate_is_refused_even_on_loopback(
    secure: RegistryServer, registry: Registry
) -> None:
    with pytest.raises(RegistryError, match="cannot verify the TLS certificate of") as caught:
        registry.head(secure.reference("app:1"))

    hint = caught.value.hint or ""
    assert f"--registry-certificate {secure.address}=FILE" in hint
    assert f"--skip-tls-verify-registry {secure.address}" in hint
    assert not caught.value.temporary


def test_allowing_plain_http_is_no_reason_to_believe_a_certificate(
    secure: RegistryServer, make_registry: MakeRegistry
) -> None:
    registry = make_registry(insecure_pull=True, insecure_registry=(secure.address,))

    with pytest.raises(RegistryError, match="certificate"):
        registry.head(secure.reference("app:1"))


def test_named_authority_is_believed(
    secure: RegistryServer, make_registry: MakeRegistry, certificate: str
) -> None:
    registry = make_registry(registry_certificate=((secure.address, certificate),))

    assert registry.head(secure.reference("app:1")) == image().descriptor


def serving(leaf: object) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)  # type: ignore[attr-defined]
    return context


def test_certificate_for_another_host_is_refused(
    authority: object, make_registry: MakeRegistry, certificate: str
) -> None:
    leaf = authority.issue_cert("127.0.0.9", "other.example.com")  # type: ignore[attr-defined]
    with running_registry(tls=serving(leaf)) as server:
        registry = make_registry(registry_certificate=((server.address, certificate),))
        with pytest.raises(RegistryError, match=r"not valid for '127\.0\.0\.1'") as caught:
            registry.head(server.reference("app:1"))

    hint = caught.value.hint or ""
    assert "a name that it is for" in hint
    # The authority is believed already; naming it would not help.
    assert "--registry-certificate" not in hint
    assert f"--skip-tls-verify-registry {server.address}" in hint


@pytest.mark.parametrize("late", [True, False])
def test_certificate_of_another_time_is_refused(
    authority: object, make_registry: MakeRegistry, certificate: str, late: bool
) -> None:
    day = timedelta(days=1)
    begin = datetime.now(UTC) + (-30 * day if late else 10 * day)
    leaf = authority.issue_cert(  # type: ignore[attr-defined]
        "127.0.0.1", not_before=begin, not_after=begin + 10 * day
    )
    with running_registry(tls=serving(leaf)) as server:
        registry = make_registry(registry_certificate=((server.address, certificate),))
        said = "certificate has expired" if late else "certificate is not yet valid"
        with pytest.raises(RegistryError, match=said) as caught:
            registry.head(server.reference("app:1"))

    assert "renewed, or the clock" in (caught.value.hint or "")


def test_self_signed_certificate_is_refused_unless_it_is_named(
    make_registry: MakeRegistry, tmp_path: Path
) -> None:
    done = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", tmp_path / "key.pem", "-out", tmp_path / "own.pem"),
        ],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem", tmp_path / "key.pem")
    with running_registry(tls=context) as server:
        with pytest.raises(RegistryError, match="self-signed certificate") as caught:
            make_registry().head(server.reference("app:1"))
        assert f"--registry-certificate {server.address}=FILE" in (caught.value.hint or "")

        named = ((server.address, str(tmp_path / "own.pem")),)
        assert make_registry(registry_certificate=named).head(server.reference("app:1")) is None


@pytest.mark.parametrize("option", ["skip_tls_verify", "skip_tls_verify_pull"])
def test_verification_is_skipped_for_pulls_by_either_option(
    secure: RegistryServer, make_registry: MakeRegistry, option: str
) -> None:
    assert make_registry(**{option: True}).head(secure.reference("app:1")) is not None


def test_verification_for_pushes_is_not_skipped_by_the_option_for_pulls(
    secure: RegistryServer, make_registry: MakeRegistry
) -> None:
    registry = make_registry(push=True, skip_tls_verify_pull=True)

    with pytest.raises(RegistryError, match="certificate"):
        registry.check_push(secure.reference("new:1"))


def test_authority_is_believed_for_its_host_only(
    secure: RegistryServer, make_registry: MakeRegistry, certificate: str
) -> None:
    registry = make_registry(registry_certificate=(("other.example", certificate),))

    with pytest.raises(RegistryError, match="certificate"):
        registry.head(secure.reference("app:1"))


@pytest.mark.parametrize("everything", [True, False])
def test_verification_can_be_skipped(
    secure: RegistryServer, make_registry: MakeRegistry, everything: bool
) -> None:
    hosts = () if everything else (secure.address,)
    registry = make_registry(skip_tls_verify=everything, skip_tls_verify_registry=hosts)

    assert registry.head(secure.reference("app:1")) == image().descriptor


def test_from_tls_nobody_is_led_to_plain_http(
    secure: RegistryServer, server: RegistryServer, make_registry: MakeRegistry, certificate: str
) -> None:
    server.add_image("app", "1", image())
    registry = make_registry(registry_certificate=((secure.address, certificate),))
    target = f"http://{server.address}/v2/app/manifests/1"
    secure.misbehave(Answer(307, {"Location": target}), path="/manifests/")

    with pytest.raises(RegistryError, match="points to an address without TLS"):
        registry.head(secure.reference("app:1"))

    assert server.requests == []


def test_address_that_forgets_the_tls_of_its_own_host_is_corrected(
    secure: RegistryServer, make_registry: MakeRegistry, certificate: str
) -> None:
    """A registry behind a proxy that does the TLS takes itself for plain HTTP."""
    registry = make_registry(push=True, registry_certificate=((secure.address, certificate),))
    secure.upload_location = f"http://{secure.address}"

    registry.put(secure.reference("new:1"), image())

    assert "1" in secure.manifests["new"]


def test_plain_http_is_found_once(server: RegistryServer, registry: Registry) -> None:
    reference = server.add_image("app", "1", image())
    for _ in range(3):
        assert registry.head(reference) is not None

    assert [line for line in server.lines() if line.startswith("HEAD")] == [
        "HEAD /v2/app/manifests/1"
    ] * 3


def test_plain_http_where_tls_is_meant_has_a_hint(server: RegistryServer) -> None:
    """As it is for every host that is neither loopback nor declared insecure."""
    transport = Transport(HostRules())

    with pytest.raises(RegistryError, match="does not speak TLS") as caught:
        transport.send("GET", f"https://{server.address}/v2/", {})

    assert f"--insecure-registry {server.address}" in (caught.value.hint or "")
    transport.close()


def test_only_loopback_and_what_is_allowed_may_be_plain() -> None:
    transport = Transport(HostRules())

    assert transport.origin("registry.example.invalid") == "https://registry.example.invalid"


def test_refused_connection_is_a_sentence(registry: Registry) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"

    with pytest.raises(RegistryError, match=f"cannot reach {address}: it refuses connections"):
        registry.head(Reference.parse(f"{address}/app:1"))


def test_unknown_host_is_a_sentence(make_registry: MakeRegistry) -> None:
    with pytest.raises(RegistryError, match=r"cannot reach registry\.invalid") as caught:
        make_registry(retries=0).head(Reference.parse("registry.invalid/app:1"))

    assert "DNS" in (caught.value.hint or "")
    assert caught.value.status is None


def test_server_that_hangs_up_is_a_sentence(make_registry: MakeRegistry) -> None:
    import threading

    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"

        def hang_up() -> None:
            for _ in range(2):
                listening.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(RegistryError, match=f"{address} broke off"):
            make_registry(retries=0).head(Reference.parse(f"{address}/app:1"))
        thread.join()


def test_proxies_of_the_environment_are_used(
    server: RegistryServer, make_registry: MakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{server.address}")
    monkeypatch.setenv("NO_PROXY", "direct.invalid")
    transport = Transport(HostRules())

    transport.send("GET", "http://registry.invalid/v2/", {}).close()
    assert server.requests[-1].path == "http://registry.invalid/v2/"
    with pytest.raises(RegistryError, match=r"direct\.invalid"):
        transport.send("GET", "http://direct.invalid/v2/", {})
    transport.close()


# --- start-up -----------------------------------------------------------------------------


def imported_by(code: str) -> set[str]:
    """Return the modules that a new interpreter has after *code*."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    return set(done.stdout.split())


def test_importing_the_client_imports_nothing_heavy() -> None:
    heavy = {"oras", "requests", "httpx", "jsonschema", "rich", "subprocess", "concurrent.futures"}

    assert not heavy & imported_by("import kaniko_core.registry.client")


def test_reading_manifests_does_without_oras(server: RegistryServer) -> None:
    reference = server.add_image("app", "1", image())
    modules = imported_by(
        "from kaniko_core.registry.client import Registry\n"
        "from kaniko_core.oci.reference import Reference\n"
        f"with Registry() as registry: registry.head(Reference.parse('{reference}'))"
    )

    assert "httpx" in modules
    assert not {"oras", "requests", "jsonschema", "rich"} & modules


def test_pushing_does_without_orass_client(server: RegistryServer) -> None:
    reference = server.add_image("app", "1", image())
    modules = imported_by(
        "from kaniko_core.registry.client import Registry\n"
        "from kaniko_core.oci.platform import Platform\n"
        "from kaniko_core.oci.reference import Reference\n"
        f"source = Reference.parse('{reference}')\n"
        f"target = Reference.parse('{server.reference('copy:1')}')\n"
        "with Registry(push=True) as registry:\n"
        "    registry.check_push(target)\n"
        "    registry.put(target, registry.get(source, Platform.host()))"
    )

    assert server.manifests["copy"]["1"] == server.manifests["app"]["1"]
    assert "oras.container" in modules
    assert not {"oras.provider", "requests", "jsonschema", "rich"} & modules
    # Nobody wanted credentials.
    assert not {f"kaniko_core.registry.{name}" for name in ("auth", "configs", "clouds")} & modules
