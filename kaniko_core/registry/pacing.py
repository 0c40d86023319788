"""How often a request is tried again, and after which pauses."""

from __future__ import annotations

import random
from dataclasses import replace

from kaniko_core.errors import RegistryError
from kaniko_core.lean import dataclass
from kaniko_core.registry.failures import Busy

_LONGEST_PAUSE = 20.0  # seconds, of our own choice
_BRIEF_WAIT = 5.0  # seconds, where there is somebody else to ask


@dataclass(frozen=True, slots=True)
class Pacing:
    """Pauses that double from *first* seconds on, made uneven by chance.

    Chance spreads clients that failed together.

    Attributes:
        retries: how often something is tried again.
        first: the first pause.
        longest: the longest pause, in seconds, however long a registry asks us to wait.
    """

    retries: int = 4
    first: float = 0.5
    longest: float = 60.0

    @property
    def brief(self) -> Pacing:
        """The same, with one more try at most, and that soon."""
        return replace(self, retries=min(self.retries, 1), longest=_BRIEF_WAIT)

    def gives_up(self, failures: int, error: RegistryError | None = None) -> bool:
        """Whether no further try is due after so many, not counting the first, and after *error*.

        To try is no use where a registry asks to be left alone for longer than all of them take.
        """
        left = self.retries - failures
        return left <= 0 or (_asked(error) or 0.0) > self.longest * left

    def pause(self, error: RegistryError, failures: int) -> float:
        """Return how long to wait, in seconds; what a registry asks for is a lower bound."""
        longest = min(self.first * 2.0**failures, _LONGEST_PAUSE)
        pause = random.uniform(longest / 2, longest)
        match asked := _asked(error):
            case None:
                return pause
            case 0:
                return 0.0
            case _:
                return min(max(asked, pause), self.longest)


def _asked(error: RegistryError | None) -> float | None:
    return error.retry_after if isinstance(error, Busy) else None
