"""HTTP servers in this process: one way to start them, and to end them."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Generic, TypeVar

State = TypeVar("State")


class Server(ThreadingHTTPServer, Generic[State]):
    """A server whose handlers share a state."""

    daemon_threads = True
    state: State

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet: clients that leave early are what is tested."""


class Handler(BaseHTTPRequestHandler):
    """What the handlers of all such servers have in common."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@contextmanager
def served(
    handler: type[Handler],
    state_at: Callable[[str], State],
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
) -> Iterator[State]:
    """Serve until the block ends; *state_at* makes the state from ``host:port``."""
    server: Server[State]
    with Server((host, 0), handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        server.state = state_at(f"{host}:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server.state
        finally:
            server.shutdown()
            thread.join()
