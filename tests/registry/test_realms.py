from __future__ import annotations

import pytest

from kaniko_core.errors import Unauthorized
from kaniko_core.registry.realms import check_realm

TRUSTED = [
    ("https://auth.docker.io/token", "https://registry-1.docker.io"),
    ("https://ghcr.io/token", "https://ghcr.io"),
    ("https://gitlab.com/jwt/auth", "https://registry.gitlab.com"),
    ("https://gitlab.example.com/jwt/auth", "https://registry.example.com:5050"),
    ("https://harbor.example.com:8443/service/token", "https://harbor.example.com"),
    ("https://auth.registry.co.uk/token", "https://registry.co.uk"),
    ("https://api.scaleway.com/registry", "https://rg.fr-par.scw.cloud"),
    ("https://auth.team.svc.cluster.local/token", "https://registry.team.svc.cluster.local"),
    ("https://10.0.0.5:8443/token", "https://10.0.0.5:5000"),
    ("https://registry/token", "https://registry:5000"),
    ("http://127.0.0.1:5001/token", "http://localhost:5000"),
    ("http://10.0.0.5/token", "http://10.0.0.5:5000"),
]
FOREIGN = [
    ("https://evil.example.org/token", "https://registry.example.com"),
    ("https://example.com.evil.org/token", "https://registry.example.com"),
    ("https://evilexample.com/token", "https://registry.example.com"),
    ("https://evil.co.uk/token", "https://registry.co.uk"),
    ("https://evil.azurecr.io/token", "https://mine.azurecr.io"),
    ("https://auth.evil.svc.cluster.local/t", "https://registry.team.svc.cluster.local"),
    ("https://10.0.0.6/token", "https://10.0.0.5:5000"),
    ("https://auth/token", "https://registry:5000"),
    ("https://127.0.0.1/token", "https://registry.example.com"),
    ("https://registry.example.com@evil.org/token", "https://registry.example.com"),
]
UNUSABLE = [
    ("http://registry.example.com/token", "https://registry.example.com"),
    ("ftp://registry.example.com/token", "https://registry.example.com"),
    ("Registry Realm", "https://registry.example.com"),
    ("", "https://registry.example.com"),
    ("https://[", "https://registry.example.com"),
]


@pytest.mark.parametrize(("realm", "origin"), TRUSTED)
def test_credentials_go_to_the_registrys_own_token_service(realm: str, origin: str) -> None:
    check_realm(realm, origin, registry="r", credentials=True)


@pytest.mark.parametrize(("realm", "origin"), FOREIGN + UNUSABLE)
def test_credentials_go_nowhere_else(realm: str, origin: str) -> None:
    with pytest.raises(Unauthorized, match="credentials for r were not sent"):
        check_realm(realm, origin, registry="r", credentials=True)


def test_anonymous_tokens_come_from_anywhere_with_tls() -> None:
    check_realm(
        "https://sso.example.org/t", "https://registry.example.com", registry="r", credentials=False
    )


@pytest.mark.parametrize(
    "realm", ["https://169.254.169.254/latest", "https://localhost/x", "https://[::1]/x"]
)
def test_registry_cannot_make_us_ask_machines_of_ours(realm: str) -> None:
    with pytest.raises(Unauthorized):
        check_realm(realm, "https://registry.example.com", registry="r", credentials=False)


def test_refusal_does_not_show_the_realms_path() -> None:
    with pytest.raises(Unauthorized) as caught:
        check_realm(
            "https://evil.example.org/x?secret=1",
            "https://registry.example.com",
            registry="r",
            credentials=True,
        )

    assert "secret" not in str(caught.value)
    assert "evil.example.org" in str(caught.value)
