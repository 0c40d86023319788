"""What the files of a tree came from: told apart by what commands really made.

Keys say what was asked for. The same command can make other files each time, so what was cached
on top of its old result must not be put on top of a new one. A lineage is a digest that grows
with each step: of a command by the contents of its layer, of a copy by its key, which has the
contents in it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from kaniko_core.cache.key import Part, key_of
from kaniko_core.errors import KanikoError
from kaniko_core.oci.layer import FileLayer


class Unsound(KanikoError):  # noqa: N818 - names what is wrong
    """What a step has copied is not what its key says: nothing of it can be cached."""


def grown(before: str, made: str) -> str:
    """Return the lineage after a step: *before* it, and what it made."""
    return key_of([Part("on", "", before), Part("made", "", made)])


def copied(key: str, origins: Sequence[str]) -> str:
    """Return what a copy with *key* made of the files of stages, by their lineages."""
    return key_of([Part("key", "", key), *(Part("from", "", origin) for origin in origins)])


class Lineage:
    """A lineage that is known when the layers below are packed; safe between threads.

    Args:
        compute: returns it; this may wait.
        below: the one that *compute* asks first, if any.
    """

    def __init__(self, compute: Callable[[], str], below: Lineage | None = None) -> None:
        self._compute = compute
        self._below = below
        self._known: str | None = None
        self._lock = threading.Lock()

    def digest(self) -> str:
        """Return it; this may wait for a layer to be packed.

        Raises:
            Unsound: nobody can say it.
            KanikoError: the layer could not be packed.
        """
        # From the bottom up: each asks the one below it, and a stage of many cached steps
        # would go deeper than Python does.
        unknown: list[Lineage] = []
        below = self._below
        while below is not None and below._known is None:
            unknown.append(below)
            below = below._below
        while unknown:
            unknown.pop()._digest()
        return self._digest()

    def _digest(self) -> str:
        with self._lock:
            if self._known is None:
                self._known = self._compute()
            return self._known

    def after(self, made: str) -> Lineage:
        """Return the lineage after a step whose result is known."""
        return Lineage(lambda: grown(self.digest(), made), self)

    def after_command(self, layer: Future[FileLayer]) -> Lineage:
        """Return the lineage after a command, whose *layer* is being packed."""
        return Lineage(lambda: grown(self.digest(), str(layer.result().contents)), self)

    def after_copy(
        self, key: str, origins: Sequence[Lineage], sound: Callable[[], bool] = lambda: True
    ) -> Lineage:
        """Return the lineage after a copy from stages, or from elsewhere.

        Where what was copied turns out not to be *sound*, nobody can say it.
        """

        def compute() -> str:
            if not sound():
                raise Unsound("files were changed while they were copied")
            return grown(self.digest(), copied(key, [origin.digest() for origin in origins]))

        return Lineage(compute, self)
