"""What is done once, whoever asks for it, and however many ask at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from typing import TypeVar, cast

T = TypeVar("T")


class Once:
    """Results of actions by their keys; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Hashable, Future[object]] = {}

    def __call__(self, key: Hashable, action: Callable[[], T]) -> T:
        """Do *action*, or wait for whoever does it already; return what came of it.

        Raises:
            BaseException: what the action raised, to all who ask.
        """
        with self._lock:
            known = self._known.get(key)
            mine: Future[object] = Future()
            if known is None:
                self._known[key] = mine
        if known is not None:
            return cast("T", known.result())
        try:
            result = action()
        except BaseException as error:
            mine.set_exception(error)
            raise
        mine.set_result(result)
        return result

    def done(self) -> Iterator[tuple[Hashable, object]]:
        """Yield each key whose action has succeeded by now, and its result."""
        with self._lock:
            known = list(self._known.items())
        for key, future in known:
            if future.done() and future.exception() is None:
                yield key, future.result()
