"""Requests that can be given up while the other side is silent.

obstore waits in its own threads, where nothing reaches it. So its requests are awaited in a loop
that runs beside us, and whoever waits for one looks at events meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar

from kaniko_core.errors import ContextError

T = TypeVar("T")

_GLANCE = 0.2  # seconds between two looks at whether everything was given up


class Requests:
    """A loop of requests; close it.

    Args:
        stopped: set by whoever gives everything up.
    """

    def __init__(self, stopped: threading.Event) -> None:
        import asyncio

        self._stopped = stopped
        self._closed = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="store", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answer(self, request: Callable[[], Awaitable[T]]) -> T:
        """Make a request and wait for its answer; called from any thread but the loop's.

        Raises:
            ContextError: everything was given up.
            Exception: what the request raises.
        """
        import asyncio

        async def made() -> T:
            return await request()

        self._go_on()
        future = asyncio.run_coroutine_threadsafe(made(), self._loop)
        while True:
            try:
                return future.result(_GLANCE)
            except TimeoutError:
                if future.done():
                    raise
            try:
                self._go_on()
            except ContextError:
                future.cancel()
                raise

    def rest(self, seconds: float) -> None:
        """Wait; raise a ContextError at once where everything is given up."""
        self._stopped.wait(seconds)
        self._go_on()

    def give_up(self) -> None:
        """Let no more requests be made, and whoever waits for one wait no longer."""
        self._closed.set()

    def close(self) -> None:
        """End the loop, and with it what is under way; a second call changes nothing."""
        self.give_up()
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join()
        self._loop.close()

    def _end(self) -> None:
        import asyncio

        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        ended: asyncio.Future[Any] = asyncio.gather(*tasks, return_exceptions=True)
        ended.add_done_callback(lambda _: self._loop.stop())

    def _go_on(self) -> None:
        if self._stopped.is_set() or self._closed.is_set():
            raise ContextError("the transfer was cancelled")
