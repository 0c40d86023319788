from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaniko_core.errors import RegistryError, UsageError
from kaniko_core.oci.reference import Reference
from kaniko_core.registry.proxies import Proxies
from tests.proxy_server import ProxyServer, running_proxy
from tests.registry.conftest import MakeRegistry
from tests.registry_server import RegistryServer, running_registry
from tests.samples import image

trustme = pytest.importorskip("trustme")
APP = Reference.parse("registry.invalid/app:1")
PLAIN = Reference.parse("registry.invalid:5000/app:1")


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProxyServer]:
    """A proxy that the environment names for everything."""
    with running_proxy() as started:
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://{started.address}")
        yield started


@pytest.fixture
def certificate(tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path / "ca.pem")


@pytest.fixture
def secure(certificate: str) -> Iterator[RegistryServer]:
    """A registry that is registry.invalid to those who believe *certificate*."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("registry.invalid").configure_cert(context)
    with running_registry(tls=context) as server:
        server.add_image("app", "1", image())
        yield server


# --- which ---------------------------------------------------------------------------------


def direct(no_proxy: str, url: str) -> bool:
    return Proxies.of({"all": "http://proxy:3128", "no": no_proxy}).proxy(url) is None


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        ("*", "https://a.example.com/"),
        ("a, *", "https://a.example.com/"),
        ("example.com", "https://example.com/"),
        ("example.com", "https://a.example.com/"),
        ("EXAMPLE.com", "https://A.Example.COM./"),
        ("example.com.", "https://example.com/"),
        (".example.com", "https://a.example.com/"),
        ("*.example.com", "https://a.b.example.com/"),
        ("other, example.com", "https://example.com/"),
        ("other example.com", "https://example.com/"),
        ("example.com:443", "https://example.com/"),
        ("example.com:5000", "https://example.com:5000/"),
        ("example.com:80", "http://example.com/"),
        ("10.1.2.3", "https://10.1.2.3:5000/"),
        ("10.1.2.3:5000", "https://10.1.2.3:5000/"),
        ("10.0.0.0/8", "https://10.1.2.3/"),
        ("10.1.2.3/8", "https://10.9.9.9/"),
        ("fd00::2", "https://[fd00::2]:5000/"),
        ("fd00:0::0002", "https://[fd00::2]/"),
        ("[fd00::2]", "https://[fd00::2]:5000/"),
        ("[fd00::2]:5000", "https://[fd00::2]:5000/"),
        ("fd00::/8", "https://[fd12::1]/"),
        ("", "http://localhost:5000/"),
        ("", "http://127.0.0.1:5000/"),
        ("", "http://[::1]/"),
        ("", "http://169.254.169.254/"),
        ("", "http://[fe80::1]/"),
    ],
)
def test_what_is_exempt_is_asked_itself(no_proxy: str, url: str) -> None:
    assert direct(no_proxy, url)


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        ("", "https://example.com/"),
        ("example.com", "https://notexample.com/"),
        ("example.com", "https://example.com.evil.org/"),
        (".example.com", "https://example.com/"),
        ("*.example.com", "https://example.com/"),
        ("example.com:5000", "https://example.com/"),
        ("10.1.2.3", "https://10.1.2.30/"),
        ("10.0.0.0/8", "https://11.0.0.1/"),
        ("10.0.0.0/8", "https://name.example.com/"),
        ("10.1.2.3:5000", "https://10.1.2.3/"),
        ("fd00::2", "https://[fd00::3]/"),
        ("[fd00::2]:5000", "https://[fd00::2]/"),
        ("fd00::/8", "https://10.0.0.1/"),
        ("10.0.0.0/99", "https://10.0.0.1/"),
    ],
)
def test_all_else_goes_through_the_proxy(no_proxy: str, url: str) -> None:
    assert not direct(no_proxy, url)


def test_each_scheme_has_its_proxy() -> None:
    proxies = Proxies.of({"http": "http://a:1", "https": "b:2", "all": "http://[fd00::2]:3"})
    rest = Proxies.of({"all": "http://[fd00::2]:3"})

    for proxies_, url, name in (
        (proxies, "http://r.io/", "a:1"),
        (proxies, "https://r.io/", "b:2"),
        (rest, "https://r.io/", "[fd00::2]:3"),
    ):
        proxy = proxies_.proxy(url)
        assert proxy is not None
        assert proxy.name == name
    assert Proxies.of({}).proxy("https://r.io/") is None
    assert Proxies.of({"https": " "}).proxy("https://r.io/") is None


@pytest.mark.parametrize("text", ["http://", "http://u:hunter2@", "http://h:port", "http://[::1"])
def test_what_names_no_proxy_is_refused_without_a_secret(text: str) -> None:
    with pytest.raises(UsageError, match="HTTPS_PROXY does not name a proxy") as caught:
        Proxies.of({"https": text}).proxy("https://r.io/")
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def test_other_kinds_of_proxies_are_refused() -> None:
    with pytest.raises(UsageError, match="ALL_PROXY names a proxy of the kind 'socks5'"):
        Proxies.of({"all": "socks5://me:hunter2@h:1080"}).proxy("https://r.io/")


def test_password_of_a_proxy_is_not_shown() -> None:
    proxies = Proxies.of({"https": "http://me:hunter2@proxy:3128"})

    assert "hunter2" not in f"{proxies!r} {proxies.proxy('https://r.io/')!r}"


# --- through it ----------------------------------------------------------------------------


def test_tls_goes_through_the_proxy(
    proxy: ProxyServer, secure: RegistryServer, make_registry: MakeRegistry, certificate: str
) -> None:
    proxy.leads["registry.invalid:443"] = secure.address
    registry = make_registry(registry_certificate=(("registry.invalid", certificate),))

    assert registry.head(APP) == image().descriptor
    assert set(proxy.asked) == {"registry.invalid:443"}


def test_certificate_is_verified_behind_the_proxy(
    proxy: ProxyServer, secure: RegistryServer, make_registry: MakeRegistry
) -> None:
    proxy.leads["registry.invalid:443"] = secure.address

    with pytest.raises(RegistryError, match=r"TLS certificate of registry\.invalid"):
        make_registry().head(APP)


@pytest.mark.parametrize("joins", [True, False])
def test_plain_http_goes_through_the_proxy_where_it_is_allowed(
    proxy: ProxyServer, server: RegistryServer, make_registry: MakeRegistry, joins: bool
) -> None:
    """Even if the proxy, as many do, joins nobody to such a port."""
    proxy.joins = joins
    server.add_image("app", "1", image())
    proxy.leads["registry.invalid:5000"] = server.address

    registry = make_registry(insecure_registry=("registry.invalid:5000",))

    assert registry.head(PLAIN) == image().descriptor


def test_password_in_the_variable_is_sent_to_the_proxy(
    proxy: ProxyServer,
    secure: RegistryServer,
    make_registry: MakeRegistry,
    certificate: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy.user = "me:hunter@2"
    proxy.leads["registry.invalid:443"] = secure.address
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:hunter%402@{proxy.address}")
    registry = make_registry(registry_certificate=(("registry.invalid", certificate),))

    assert registry.head(APP) == image().descriptor
    assert all("proxy-authorization" not in seen.headers for seen in secure.requests)


@pytest.mark.parametrize("reference", [APP, PLAIN])
def test_proxy_that_wants_a_password_is_named(
    proxy: ProxyServer,
    make_registry: MakeRegistry,
    monkeypatch: pytest.MonkeyPatch,
    reference: Reference,
) -> None:
    proxy.user = "me:hunter2"
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://me:guessed@{proxy.address}")
    registry = make_registry(retries=0, insecure_registry=("registry.invalid:5000",))

    with pytest.raises(RegistryError, match=f"the proxy {proxy.address} wants a user") as caught:
        registry.head(reference)

    assert "guessed" not in f"{caught.value} {caught.value.hint}"
    assert not caught.value.temporary


def test_proxy_that_refuses_is_named(proxy: ProxyServer, make_registry: MakeRegistry) -> None:
    proxy.refuses = 403

    with pytest.raises(RegistryError) as caught:
        make_registry().head(APP)

    assert str(caught.value) == (
        f"cannot reach registry.invalid: the proxy {proxy.address} refused to connect (403)"
    )
    assert "NO_PROXY" in (caught.value.hint or "")
    assert len(proxy.asked) == 1


def test_proxy_that_cannot_reach_the_registry_is_asked_again(
    proxy: ProxyServer, make_registry: MakeRegistry
) -> None:
    with pytest.raises(RegistryError, match=r"refused to connect \(502\)"):
        make_registry(retries=2).head(APP)
    assert len(proxy.asked) == 3


def test_proxy_that_is_down_is_named(
    proxy: ProxyServer, make_registry: MakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hunter2@127.0.0.1:9")

    with pytest.raises(RegistryError) as caught:
        make_registry(retries=0).head(APP)

    assert str(caught.value) == "cannot reach the proxy 127.0.0.1:9: it refuses connections"


def test_proxy_of_no_such_name_is_named(
    proxy: ProxyServer, make_registry: MakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")

    with pytest.raises(RegistryError, match=r"cannot reach the proxy proxy\.invalid:3128"):
        make_registry(retries=0).head(APP)


def test_what_is_exempt_does_not_pass_the_proxy(
    proxy: ProxyServer,
    server: RegistryServer,
    make_registry: MakeRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_PROXY", "invalid")

    with pytest.raises(RegistryError, match=r"cannot reach registry\.invalid"):
        make_registry(retries=0).head(APP)
    make_registry().head(server.reference("app:1"))
    assert proxy.asked == []
