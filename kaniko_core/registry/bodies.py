"""The body of an answer; a large one past the HTTP library, once that has nothing left to do.

    head ─▶ httpx ─▶ what arrived together with the head
            socket ─▶ the rest, of which it is known how long it is

For the library every piece of a body is an event, for which three layers of generators take turns:
a third of the time that bytes from this machine take, and time in which no other thread can run.
A body of known length that nothing encodes is just the next so many bytes of the connection. What
its reader had of them is in the first piece; httpx documents the stream that the others are read
from (the response extension ``network_stream``). The connection cannot be used again after that,
so only bodies are read so for which another handshake does not count.

Source: RFC 9112, section 6.3, "Message Body Length".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kaniko_core.registry.light import httpx

# Bytes: of a body that is worth a connection, and of one that is asked of the socket at once.
_LARGE = 64 << 20
_PIECE = 256 << 10


def pieces(response: httpx.Response, large: int = _LARGE) -> Iterator[bytes]:
    """Yield the body of *response* as it is on the wire; the caller closes the response.

    Args:
        response: of which nothing was read yet.
        large: how many bytes are worth a connection.

    Raises:
        httpx.TransportError: the connection broke, or is silent.
    """
    through_httpx = response.iter_raw()
    left = _length(response)
    if left < large:
        yield from through_httpx
        return
    for first in through_httpx:
        left -= len(first)
        yield first
        break
    else:
        return
    yield from _from_socket(response, left)


def _length(response: httpx.Response) -> int:
    """Return how long the body is, in bytes; 0 where the end is told in another way."""
    headers = response.headers
    known = response.request.method == "GET" and "transfer-encoding" not in headers
    length = headers.get("content-length", "")
    return int(length) if known and length.isascii() and length.isdigit() else 0


def _from_socket(response: httpx.Response, left: int) -> Iterator[bytes]:
    """Yield the next *left* bytes of the connection that *response* comes from."""
    from kaniko_core.registry.light import httpcore, httpx

    stream = response.extensions["network_stream"]
    seconds = response.request.extensions.get("timeout", {}).get("read")
    while left:
        try:
            piece = stream.read(min(left, _PIECE), timeout=seconds)
        except httpcore.TimeoutException as error:
            raise httpx.ReadTimeout(str(error)) from error
        except httpcore.NetworkError as error:
            raise httpx.ReadError(str(error)) from error
        if not piece:
            raise httpx.RemoteProtocolError(f"the connection was closed {left} bytes too early")
        left -= len(piece)
        yield piece
