"""What a registry is shown that asks who we are."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaniko_core.errors import RegistryError, UsageError
from kaniko_core.options import RegistryOptions
from kaniko_core.options.mirrors import ClientCertificate, client_certificate
from kaniko_core.registry.hosts import UNVERIFIED, HostRules, Trust, tls_context
from tests.registry.conftest import MakeRegistry
from tests.registry_server import Answer, RegistryServer, running_registry
from tests.samples import image

trustme = pytest.importorskip("trustme")


@pytest.fixture
def authority() -> object:
    return trustme.CA()


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    chosen: ssl.TLSVersion = request.param
    return chosen


@pytest.fixture
def asking(authority: object, version: ssl.TLSVersion) -> Iterator[RegistryServer]:
    """A registry that only talks to those whose certificate is of *authority*."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert("127.0.0.1").configure_cert(context)  # type: ignore[attr-defined]
    authority.configure_trust(context)  # type: ignore[attr-defined]
    with running_registry(tls=context) as server:
        server.add_image("app", "1", image())
        yield server


def issued(authority: object, directory: Path, name: str = "client") -> tuple[str, str]:
    """Write a certificate of *authority*, and its key."""
    leaf = authority.issue_cert("somebody@example.com")  # type: ignore[attr-defined]
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    leaf.private_key_pem.write_to_path(str(key))
    certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    return str(certificate), str(key)


def shown(server: RegistryServer, files: tuple[str, str]) -> dict[str, object]:
    return {
        "registry_client_cert": (ClientCertificate(server.address, *files),),
        "skip_tls_verify_registry": (server.address,),
    }


def test_certificate_is_shown_to_the_registry_that_asks(
    asking: RegistryServer, make_registry: MakeRegistry, authority: object, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))  # type: ignore[attr-defined]
    files = issued(authority, tmp_path)
    registry = make_registry(
        registry_client_cert=(ClientCertificate(asking.address, *files),),
        registry_certificate=((asking.address, str(ca)),),
    )

    assert registry.head(asking.reference("app:1")) == image().descriptor


def test_certificate_is_shown_though_the_registrys_own_is_not_verified(
    asking: RegistryServer, make_registry: MakeRegistry, authority: object, tmp_path: Path
) -> None:
    registry = make_registry(**shown(asking, issued(authority, tmp_path)))

    assert registry.head(asking.reference("app:1")) == image().descriptor


def test_registry_that_asks_in_vain_is_named(
    asking: RegistryServer, make_registry: MakeRegistry
) -> None:
    registry = make_registry(retries=0, skip_tls_verify=True)

    with pytest.raises(RegistryError, match=asking.address) as caught:
        registry.head(asking.reference("app:1"))

    assert f"--registry-client-cert {asking.address}=CERT,KEY" in (caught.value.hint or "")
    assert not caught.value.temporary


def test_certificate_of_a_stranger_is_refused(
    asking: RegistryServer, make_registry: MakeRegistry, tmp_path: Path
) -> None:
    registry = make_registry(retries=0, **shown(asking, issued(trustme.CA(), tmp_path)))

    with pytest.raises(RegistryError, match=r"refuses to talk TLS with us.*unknown ca") as caught:
        registry.head(asking.reference("app:1"))

    assert "or another one" in (caught.value.hint or "")


def test_certificate_is_not_shown_along_a_redirect(
    asking: RegistryServer,
    make_registry: MakeRegistry,
    authority: object,
    tmp_path: Path,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert("127.0.0.2").configure_cert(context)  # type: ignore[attr-defined]
    authority.configure_trust(context)  # type: ignore[attr-defined]
    options = {**shown(asking, issued(authority, tmp_path)), "skip_tls_verify": True}
    registry = make_registry(retries=0, **options)
    with running_registry("127.0.0.2", context) as other:
        target = f"https://{other.address}/v2/app/manifests/1"
        asking.misbehave(Answer(307, {"Location": target}), path="/manifests/", times=None)

        with pytest.raises(RegistryError, match=f"{other.address}"):
            registry.head(asking.reference("app:1"))
        assert other.requests == []


def test_each_host_has_its_own() -> None:
    options = RegistryOptions(
        registry_client_cert=(
            ClientCertificate("https://r.io", "old", "old.key"),
            ClientCertificate("r.io", "a", "a.key"),
            ClientCertificate("docker.io", "b", "b.key"),
        ),
        skip_tls_verify_registry=("docker.io",),
    )
    rules = HostRules.of(options, push=False)

    assert rules.trust("r.io") == Trust(own=("a", "a.key"))
    assert rules.trust("registry-1.docker.io") == Trust(verified=False, own=("b", "b.key"))
    assert rules.trust("other.io") == Trust()
    assert UNVERIFIED.own is None


def test_files_that_are_no_pair_are_named(authority: object, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    certificate, key = issued(authority, tmp_path)
    other_key = issued(authority, tmp_path, "other")[1]
    (tmp_path / "empty").touch()
    loaded = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    (tmp_path / "locked.key").write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"hunter2"),
        )
    )
    missing, empty, locked = (str(tmp_path / name) for name in ("missing", "empty", "locked.key"))

    for files, said in (
        ((missing, key), f"cannot read {missing}: No such file"),
        ((certificate, missing), f"cannot read {missing}: No such file"),
        ((certificate, other_key), "the key is not the certificate's"),
        ((empty, key), "not a certificate and a key"),
        ((certificate, locked), "without passphrase"),
    ):
        with pytest.raises(UsageError) as caught:
            tls_context(Trust(own=files))
        assert said in str(caught.value)
        assert "HOST=CERT,KEY" in (caught.value.hint or "")


def test_flag_names_two_files() -> None:
    assert client_certificate("r.io:5000=/a.pem,/a.key") == ClientCertificate(
        "r.io:5000", "/a.pem", "/a.key"
    )
    for text in ("r.io=/a.pem", "r.io=/a.pem,", "r.io=,/a.key", "r.io=a,b,c"):
        with pytest.raises(UsageError, match="does not name a certificate and a key"):
            client_certificate(text)
    with pytest.raises(UsageError, match="no key and value"):
        client_certificate("/a.pem,/a.key")
