"""Names that differ by a slip of the pen, for what checks suggest.

Source: BuildKit, which suggests the first name that is nearest, and none three letters away.
"""

from __future__ import annotations

from collections.abc import Iterable

_TOO_FAR = 3


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the one of *known* that *name* was probably meant to be, or None."""
    found = None
    least = _TOO_FAR
    for candidate in known:
        distance = _distance(name, candidate) if abs(len(name) - len(candidate)) < least else least
        if distance < least:
            found, least = candidate, distance
    return found


def _distance(one: str, other: str) -> int:
    """Return how many letters have to be added, dropped or replaced (Levenshtein)."""
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, 1):
        above, row[0] = row[0], number
        for place, another in enumerate(other, 1):
            best = min(row[place] + 1, row[place - 1] + 1, above + (letter != another))
            above, row[place] = row[place], best
    return row[len(other)]
