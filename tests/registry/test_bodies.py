from __future__ import annotations

import random
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from kaniko_core.registry.bodies import pieces

BODY = random.Random(3).randbytes(3_000_000)

# What a server does with a connection, once the request's head has been read.
Serve = Callable[[socket.socket], None]


@contextmanager
def serving(serve: Serve, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[int]]]:
    """Give every connection to *serve*, again and again; yield the address and their numbers."""
    accepted: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                accepted.append(len(accepted))
                with (
                    connection
                    if tls is None
                    else tls.wrap_socket(connection, server_side=True) as spoken
                ):
                    while read_head(spoken):
                        serve(spoken)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        scheme = "http" if tls is None else "https"
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/", accepted
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def read_head(connection: socket.socket) -> bool:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        try:
            more = connection.recv(1)
        except OSError:
            return False
        if not more:
            return False
        head += more
    return True


def answer(connection: socket.socket, headers: bytes, body: bytes = BODY) -> None:
    try:
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\n" + body)
    except OSError:
        return  # it was closed at the other end, which is what some tests are about


def with_length(connection: socket.socket) -> None:
    answer(connection, b"Content-Length: %d" % len(BODY))


@contextmanager
def asked(serve: Serve, method: str = "GET") -> Iterator[httpx.Response]:
    with (
        serving(serve) as (address, _),
        httpx.Client(trust_env=False, timeout=httpx.Timeout(5.0, read=0.5)) as client,
        client.stream(method, address) as response,
    ):
        yield response


def test_a_large_body_is_the_same_past_the_library_and_its_connection_is_not_used_again() -> None:
    with serving(with_length) as (address, connections), httpx.Client(trust_env=False) as client:
        for _ in range(2):
            with client.stream("GET", address) as response:
                assert b"".join(pieces(response, large=1000)) == BODY
        assert len(connections) == 2


def test_a_body_that_is_not_large_leaves_its_connection_to_the_next() -> None:
    with serving(with_length) as (address, connections), httpx.Client(trust_env=False) as client:
        for _ in range(2):
            with client.stream("GET", address) as response:
                assert b"".join(pieces(response, large=len(BODY) + 1)) == BODY
        assert len(connections) == 1


def test_a_large_body_is_the_same_over_tls() -> None:
    authority = pytest.importorskip("trustme").CA()
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    with (
        serving(with_length, theirs) as (address, _),
        httpx.Client(verify=ours, trust_env=False) as client,
        client.stream("GET", address) as response,
    ):
        assert b"".join(pieces(response, large=1000)) == BODY


def test_what_follows_the_body_is_not_part_of_it() -> None:
    def talkative(connection: socket.socket) -> None:
        answer(connection, b"Content-Length: %d" % len(BODY), BODY + b"HTTP/1.1 200 OK\r\n")

    with asked(talkative) as response:
        assert b"".join(pieces(response, large=1000)) == BODY


def test_a_body_in_chunks_is_read_by_the_library() -> None:
    def chunked(connection: socket.socket) -> None:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
        answer(connection, b"Transfer-Encoding: chunked", body)

    with asked(chunked) as response:
        assert b"".join(pieces(response, large=1)) == BODY


def test_the_length_of_a_body_that_is_not_sent_is_not_waited_for() -> None:
    def head_only(connection: socket.socket) -> None:
        answer(connection, b"Content-Length: %d" % len(BODY), b"")

    with asked(head_only, "HEAD") as response:
        assert list(pieces(response, large=1)) == []


@pytest.mark.parametrize("sent", [0, 1, 100_000, len(BODY) - 1])
def test_a_body_that_ends_too_early_is_an_error_of_the_transport(sent: int) -> None:
    def broken_off(connection: socket.socket) -> None:
        answer(connection, b"Content-Length: %d" % len(BODY), BODY[:sent])
        connection.shutdown(socket.SHUT_RDWR)

    with asked(broken_off) as response, pytest.raises(httpx.TransportError):
        list(pieces(response, large=1))


def test_a_silent_connection_is_given_up_after_the_clients_own_time() -> None:
    ended = threading.Event()

    def silent(connection: socket.socket) -> None:
        answer(connection, b"Content-Length: %d" % len(BODY), BODY[:100_000])
        ended.wait()

    with asked(silent) as response:
        with pytest.raises(httpx.ReadTimeout):
            list(pieces(response, large=1))
        ended.set()
