"""How often a request is tried again, and after which pauses."""

from __future__ import annotations

import random
from dataclasses import dataclass

from kaniko_core.errors import RegistryError
from kaniko_core.registry.failures import Busy

_LONGEST_PAUSE = 20.0  # seconds, of our own choice
_LONGEST_WAIT = 60.0  # seconds, however long a registry asks us to wait


@dataclass(frozen=True, slots=True)
class Pacing:
    """Pauses that double from *first* seconds on, made uneven by chance.

    Chance spreads clients that failed together.
    """

    retries: int = 4
    first: float = 0.5

    def gives_up(self, failures: int) -> bool:
        """Whether no further try is due after so many, not counting the first."""
        return failures >= self.retries

    def pause(self, error: RegistryError, failures: int) -> float:
        """Return how long to wait, in seconds; what a registry asks for is a lower bound."""
        longest = min(self.first * 2.0**failures, _LONGEST_PAUSE)
        pause = random.uniform(longest / 2, longest)
        asked = error.retry_after if isinstance(error, Busy) else None
        match asked:
            case None:
                return pause
            case 0:
                return 0.0
            case _:
                return min(max(asked, pause), _LONGEST_WAIT)
