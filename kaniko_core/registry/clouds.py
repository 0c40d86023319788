"""What the clouds' own ways to credentials have in common: they cost requests, and they expire.

So a cloud is asked only for its own registries, once for each, and again before what it gave runs
out; a refusal is remembered for a minute.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from kaniko_core.lean import dataclass
from kaniko_core.oci.reference import Repository
from kaniko_core.registry.credentials import Credentials, Finding
from kaniko_core.registry.errands import NoAnswer

# Seconds. What expires is fetched anew earlier by a fifth of its life, at most by the first.
_LONGEST_MARGIN, _REFUSED = 300.0, 60.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """Credentials from a cloud, how long they live (in seconds), and which way led to them."""

    credentials: Credentials
    life: float
    way: str


class Cloud:
    """The source of one cloud; safe to use from several threads.

    Args:
        name: how to name it in errors.
        serves: whether a registry (with port) is one of the cloud's.
        fetch: gets credentials for such a registry; raises NoAnswer.
        now: the time, in seconds.
    """

    def __init__(
        self,
        name: str,
        serves: Callable[[str], bool],
        fetch: Callable[[str], Fetched],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._serves = serves
        self._fetch = fetch
        self._now = now
        self._known: dict[str, tuple[float, Finding]] = {}
        self._lock = threading.Lock()

    def __call__(self, repository: Repository) -> Iterator[Finding]:
        """Yield what the cloud says of the repository's registry; nothing for other registries."""
        registry = repository.registry.lower()
        if not self._serves(registry):
            return
        with self._lock:
            until, finding = self._known.get(registry, (0.0, None))
            if finding is None or until <= self._now():
                until, finding = self._asked(registry)
                self._known[registry] = until, finding
        yield finding

    def _asked(self, registry: str) -> tuple[float, Finding]:
        started = self._now()
        try:
            fetched = self._fetch(registry)
        except NoAnswer as error:
            return self._now() + _REFUSED, Finding(self._name, str(error))
        expires = started + fetched.life - min(fetched.life / 5, _LONGEST_MARGIN)
        credentials = replace(fetched.credentials, expires=expires)
        return expires, Finding(self._name, fetched.way, credentials)
