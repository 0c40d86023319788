"""Sets of positions in a text, as whole numbers: patterns in a time that no text can stretch.

A pattern is followed through all of its readings at once: bit *i* of a number says that one of
them has come to position *i*. A regular expression of Python tries one reading after the other,
which for ``*a*a*a*b`` and a name of many ``a`` takes longer than anybody waits, deaf to Ctrl-C.

Source: bit-parallel simulation of automata, as in Navarro and Raffinot, "Flexible Pattern
Matching in Strings", chapter 4.
"""

from __future__ import annotations

from collections.abc import Callable

START = 1


def where(text: str, holds: Callable[[str], bool]) -> int:
    """Return the positions of the characters of *text* for which *holds* is true."""
    digits = {character: "1" if holds(character) else "0" for character in set(text)}
    return int("".join([digits[character] for character in reversed(text)]) or "0", 2)


def everywhere(text: str) -> int:
    """Return all positions of *text*, its end included."""
    return (1 << (len(text) + 1)) - 1


def end(text: str) -> int:
    """Return the position behind the last character of *text*."""
    return 1 << len(text)


def one(positions: int, characters: int) -> int:
    """Return where *positions* lead over one of *characters*."""
    return (positions & characters) << 1


def many(positions: int, characters: int) -> int:
    """Return where *positions* lead over any number of *characters*, none included."""
    # The sum carries through each run of characters from the first position in it to its end.
    return (((positions & characters) + characters) ^ characters) | positions


def first(positions: int) -> int:
    """Return the index of the first of *positions*, which are not none."""
    return (positions & -positions).bit_length() - 1


def last(positions: int) -> int:
    """Return the index of the last of *positions*, which are not none."""
    return positions.bit_length() - 1
