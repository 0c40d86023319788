"""The sockets behind httpx, so that what waits for a silent server can be ended.

httpx knows timeouts only, and those have to be long: a registry may think for minutes.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from weakref import WeakSet

# What httpcore calls the moments at which a connection changes; httpx shows it nowhere else.
# Before each name stands a word for whom it is to: the host itself, or a proxy.
_CONNECTED, _SECURED = "connect_tcp.complete", "start_tls.complete"
_SECURING, _INSECURE = "start_tls.started", "start_tls.failed"
_EVENTS = (_CONNECTED, _SECURED, _SECURING, _INSECURE)

Trace = Callable[[str, Mapping[str, Any]], None]


class Connections:
    """The connections of one transport; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: WeakSet[socket.socket] = WeakSet()
        # During a handshake the socket that we know has handed its descriptor on.
        self._handshakes: set[int] = set()
        self.aborted = False

    def trace(self) -> Trace:
        """Return what is to be told of one request, as its extension ``trace``."""
        late = self.aborted
        descriptor = -1

        def told(event: str, details: Mapping[str, Any]) -> None:
            nonlocal descriptor
            if event in (_CONNECTED, _SECURED):
                connected = details["return_value"].get_extra_info("socket")
                descriptor = connected.fileno()
                self._handshakes.discard(descriptor)
                self._sockets.add(connected)
            elif event == _SECURING:
                self._handshakes.add(descriptor)
            else:
                self._handshakes.discard(descriptor)
            if self.aborted and not late:
                _shut(descriptor)

        def trace(event: str, details: Mapping[str, Any]) -> None:
            _, _, name = event.partition(".")
            if name in _EVENTS:
                with self._lock:
                    told(name, details)

        return trace

    def abort(self) -> None:
        """End what is going on on every connection; requests that begin now may make new ones."""
        with self._lock:
            self.aborted = True
            descriptors = {connected.fileno() for connected in self._sockets}
            for descriptor in descriptors | self._handshakes:
                _shut(descriptor)


def _shut(descriptor: int) -> None:
    """Let whoever waits for *descriptor* find its end."""
    # A copy: closing it leaves the connection to its owner. And no TLS socket, whose own method
    # would take its state from under the thread that reads from it.
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as connected:
        connected.shutdown(socket.SHUT_RDWR)
