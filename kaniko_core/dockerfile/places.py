"""Where in an instruction something is wrong, and what may have been meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from kaniko_core.errors import UsageError


class PlacedError(UsageError):
    """A part of an instruction is wrong; who knows the instruction finds line and column.

    Attributes:
        at: the part, in the spellings to look for, the best first.
    """

    def __init__(self, message: str, *, hint: str | None = None, at: tuple[str, ...]) -> None:
        super().__init__(message, hint=hint)
        self.at = at


def did_you_mean(name: str, known: Sequence[str]) -> str | None:
    """Return a hint with the one of *known* that *name* is most like, or None."""
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]}?" if close else None
