"""HTTP/1.1 is spoken: what Go kaniko's users ask for with FF_KANIKO_DISABLE_HTTP2."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from tests.registry.conftest import MakeRegistry
from tests.registry_server import running_registry
from tests.samples import image

trustme = pytest.importorskip("trustme")


def test_nothing_newer_is_spoken_though_the_registry_would(
    make_registry: MakeRegistry, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    # The registry of these tests knows no HTTP/2: whoever agrees to it gets no answer.
    context.set_alpn_protocols(["h2", "http/1.1"])
    with running_registry(tls=context) as server:
        server.add_image("app", "1", image())
        certificate = ((server.address, str(tmp_path / "ca.pem")),)
        registry = make_registry(registry_certificate=certificate)
        assert registry.head(server.reference("app:1")) == image().descriptor

        other = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        other.set_alpn_protocols(["h2", "http/1.1"])
        host, _, port = server.address.rpartition(":")
        with (
            socket.create_connection((host, int(port))) as plain,
            other.wrap_socket(plain, server_hostname=host) as talking,
        ):
            assert talking.selected_alpn_protocol() == "h2"
