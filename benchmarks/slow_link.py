"""A link that limits each connection: ``python -m benchmarks.slow_link HOST:PORT``.

    client ─▶ bucket ─▶ delay ─▶ server        each direction of each connection by itself
    client ◀─ delay ◀─ bucket ◀─ server

The kernel's own means (tc with netem for the delay, fq with maxrate for the rate) are not in every
kernel, so this is a program: one thread, in a process of its own. A piece of *n* bytes occupies
the link for n/rate seconds after the piece before it, and arrives *delay* seconds later; what the
client sends first waits for one round trip more, which is what a TCP handshake takes. Not
imitated is TCP's slow start, which would cost each new connection some more round trips.

The first line of output is the port on 127.0.0.1.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
from dataclasses import dataclass

RATE = 200e6 / 8  # bytes per second
DELAY = 0.05  # seconds

_PIECE = 64 << 10  # bytes
_BUFFER = 1 << 20  # bytes that the kernel may hold for either end of a connection
# Seconds of traffic that wait before the link, as in a router's queue.
_QUEUE = 0.01


@dataclass(frozen=True, slots=True)
class Limits:
    """What each connection has.

    Attributes:
        rate: bytes per second in each direction.
        delay: seconds from one end to the other; a round trip takes twice as long.
    """

    rate: float = RATE
    delay: float = DELAY


class _Way:
    """One direction of one connection."""

    def __init__(self, limits: Limits, source: socket.socket, target: socket.socket) -> None:
        self._limits = limits
        self._source = source
        self._target = target
        # Twice what is under way at full rate; a receiver that does not read stops the sender.
        under_way = max(8, round(2 * limits.rate * limits.delay / _PIECE))
        self._pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(under_way)

    async def carry(self, *, opens: float) -> None:
        """Carry everything; nothing departs before *opens*, by the loop's clock."""
        await asyncio.gather(self._depart(opens), self._arrive())

    async def _depart(self, opens: float) -> None:
        loop, free = asyncio.get_running_loop(), opens
        while True:
            try:
                piece = await loop.sock_recv(self._source, _PIECE)
            except OSError:
                piece = b""
            free = max(free, loop.time()) + len(piece) / self._limits.rate
            await self._pieces.put((free + self._limits.delay, piece))
            if not piece:
                return
            await asyncio.sleep(free - loop.time() - _QUEUE)

    async def _arrive(self) -> None:
        loop, alive = asyncio.get_running_loop(), True
        while True:
            due, piece = await self._pieces.get()
            await asyncio.sleep(due - loop.time())
            try:
                if not piece:
                    self._target.shutdown(socket.SHUT_WR)
                elif alive:
                    await loop.sock_sendall(self._target, piece)
            except OSError:
                alive = False
                # The sender learns that nobody listens any more.
                _shut(self._source)
            if not piece:
                return


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it was closed already


async def _connected(limits: Limits, client: socket.socket, server: tuple[str, int]) -> None:
    loop = asyncio.get_running_loop()
    opens = loop.time() + 2 * limits.delay
    with client, socket.socket() as upstream:
        for end in (client, upstream):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        await loop.sock_connect(upstream, server)
        there, back = _Way(limits, client, upstream), _Way(limits, upstream, client)
        await asyncio.gather(there.carry(opens=opens), back.carry(opens=opens))


async def _serve(limits: Limits, server: tuple[str, int]) -> None:
    loop = asyncio.get_running_loop()
    connections: set[asyncio.Task[None]] = set()
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        listener.setblocking(False)
        print(listener.getsockname()[1], flush=True)
        while True:
            client, _ = await loop.sock_accept(listener)
            connection = loop.create_task(_connected(limits, client, server))
            connections.add(connection)
            connection.add_done_callback(connections.discard)


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slow_link", description=__doc__)
    parser.add_argument("server", help="host:port of what is behind the link")
    parser.add_argument("--rate", type=float, default=RATE, help="bytes per second")
    parser.add_argument("--delay", type=float, default=DELAY, help="seconds, each way")
    given = parser.parse_args()
    host, _, port = given.server.rpartition(":")
    asyncio.run(_serve(Limits(given.rate, given.delay), (host, int(port))))


if __name__ == "__main__":
    _main()
