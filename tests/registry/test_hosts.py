from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from kaniko_core.errors import UsageError
from kaniko_core.options import RegistryOptions
from kaniko_core.registry.hosts import (
    UNVERIFIED,
    HostRules,
    Trust,
    canonical,
    is_loopback,
    tls_context,
)

PULL = {"push": False}
PUSH = {"push": True}


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:5000",
        "127.0.0.1",
        "127.1.2.3:80",
        "[::1]:5000",
        "::1",
        "a.localhost",
    ],
)
def test_loopback_is_recognised(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["localhost.example.com", "128.0.0.1", "[::2]:5000", "10.0.0.1:1"])
def test_others_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("docker.io", "registry-1.docker.io"),
        ("https://index.docker.io/v1/", "registry-1.docker.io"),
        ("http://Registry.Example.com:5000/", "registry.example.com:5000"),
        ("registry.example.com:443", "registry.example.com"),
    ],
)
def test_options_name_hosts_as_people_write_them(text: str, host: str) -> None:
    assert canonical(text) == host


def test_tls_is_the_rule() -> None:
    rules = HostRules.of(RegistryOptions(), push=False)

    assert not rules.allows_plain("registry.example.com:5000")
    assert rules.trust("registry.example.com") == Trust()
    assert rules.allows_plain("localhost:5000")


def test_each_direction_has_its_own_plain_http() -> None:
    push = RegistryOptions(insecure=True)
    pull = RegistryOptions(insecure_pull=True)

    assert [HostRules.of(push, push=way).allows_plain("r.io") for way in (True, False)] == [
        True,
        False,
    ]
    assert [HostRules.of(pull, push=way).allows_plain("r.io") for way in (True, False)] == [
        False,
        True,
    ]


def test_skipping_verification_holds_as_far_as_it_says() -> None:
    both = RegistryOptions(skip_tls_verify=True)
    pull = RegistryOptions(skip_tls_verify_pull=True)
    one = RegistryOptions(skip_tls_verify_registry=("r.io:5000",))

    assert {HostRules.of(both, push=way).trust("r.io") for way in (True, False)} == {UNVERIFIED}
    assert HostRules.of(pull, push=False).trust("r.io") == UNVERIFIED
    assert HostRules.of(pull, push=True).trust("r.io") == Trust()
    assert HostRules.of(one, push=True).trust("r.io:5000") == UNVERIFIED
    assert HostRules.of(one, push=True).trust("r.io") == Trust()


def test_named_hosts_hold_for_both_directions() -> None:
    options = RegistryOptions(
        insecure_registry=("http://r.io",),
        registry_certificate=(("r.io", "/a.pem"), ("other.io", "/b.pem"), ("r.io", "/c.pem")),
    )
    for push in (True, False):
        rules = HostRules.of(options, push=push)
        assert rules.allows_plain("r.io")
        assert not rules.allows_plain("other.io")
        assert rules.trust("r.io") == Trust(certificates=("/a.pem", "/c.pem"))


def test_unusable_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("no certificate")

    for name in ("missing.pem", "empty.pem"):
        with pytest.raises(UsageError, match=f"registry certificate .*{name}"):
            tls_context(Trust(certificates=(str(tmp_path / name),)))


def test_directory_of_certificates_needs_no_hashed_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Go's SSL_CERT_DIR, which people mount for kaniko."""
    trustme = pytest.importorskip("trustme")
    trustme.CA(organization_name="Ours").cert_pem.write_to_path(str(tmp_path / "ours.crt"))
    (tmp_path / "readme.txt").write_text("not a certificate")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))

    believed = tls_context.__wrapped__(Trust()).get_ca_certs()

    assert "Ours" in str(believed)
    assert len(believed) == 1


def test_without_a_system_store_there_are_still_authorities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "missing"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))

    assert len(tls_context.__wrapped__(Trust()).get_ca_certs()) > 10


def test_tls_settings_are_made_once_and_verify() -> None:
    context = tls_context(Trust())

    assert context is tls_context(Trust())
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
