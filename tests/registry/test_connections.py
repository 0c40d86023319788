"""What waits for a silent server ends when everything is given up."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from kaniko_core.errors import RegistryError
from kaniko_core.registry.hosts import HostRules
from kaniko_core.registry.transport import Transport

_SECONDS = 5.0  # less than any timeout of the transport


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        yield opened


@pytest.fixture
def transport() -> Iterator[Transport]:
    opened = Transport(HostRules())
    yield opened
    opened.close()


def test_an_answer_that_does_not_come_is_given_up(
    listener: socket.socket, transport: Transport
) -> None:
    assert ended(listener, transport, "http", b"GET / HTTP/1.1")


def test_a_handshake_that_does_not_end_is_given_up(
    listener: socket.socket, transport: Transport
) -> None:
    assert ended(listener, transport, "https", b"\x16")  # what begins a TLS handshake


def test_a_body_that_does_not_end_is_given_up(
    listener: socket.socket, transport: Transport
) -> None:
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(transport.send, "GET", url(listener, "http"), {})
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
            reply = asking.result(timeout=_SECONDS)
            reading = pool.submit(lambda: b"".join(reply.chunks()))
            transport.abort()
            with pytest.raises(RegistryError):
                reading.result(timeout=_SECONDS)
        reply.close()


def test_what_begins_later_may_still_be_sent(listener: socket.socket, transport: Transport) -> None:
    """An upload that was given up is deleted after that."""
    transport.abort()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(transport.send, "DELETE", url(listener, "http"), {})
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            with_reply = asking.result(timeout=_SECONDS)
            assert with_reply.status == 204
            with_reply.close()


def url(listener: socket.socket, scheme: str) -> str:
    return f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/"


def ended(listener: socket.socket, transport: Transport, scheme: str, first: bytes) -> bool:
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(transport.send, "GET", url(listener, scheme), {})
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(65536).startswith(first)
            transport.abort()
            with pytest.raises(RegistryError):
                asking.result(timeout=_SECONDS)
    return True
