"""Expressions that are followed through all of their readings at once.

For a pattern such as ``**/a*/**/a*/**/b`` Python's expressions try one reading after the other,
and their number grows with each star. Here the time is that of the pattern's length times the
path's, whatever they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum, auto

from kaniko_core import positions
from kaniko_core.lean import dataclass

_SLASH = "/"


class Kind(Enum):
    """What a part of an expression matches."""

    TEXT = auto()
    CHARACTER = auto()
    PLACE = auto()
    DIRECTORIES = auto()


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an expression.

    Attributes:
        text: itself, or the expression of one character, or of a place between two.
        least, most: how often it stands there; None for any number.
    """

    kind: Kind
    text: str = ""
    least: int = 1
    most: int | None = 1

    @property
    def varies(self) -> bool:
        """Whether there is more than one reading."""
        return self.kind is Kind.DIRECTORIES or self.least != self.most


@dataclass(frozen=True, slots=True)
class Automaton:
    """Alternatives, each a sequence of parts.

    Attributes:
        whole: whether one must match the whole path, or a directory that it is in. Else the
            first matches at the start of either, the last at the end, the others anywhere.
    """

    alternatives: tuple[tuple[Part, ...], ...]
    whole: bool

    def matches(self, path: str) -> bool:
        """Whether *path*, or a directory that it is in, is matched."""
        if self.whole:
            found = _followed(self.alternatives[0], path, positions.START)
            slashes = positions.where(path, _SLASH.__eq__)
            return bool(found & (positions.end(path) | slashes))
        ends = (*(match.start() for match in re.finditer(_SLASH, path)), len(path))
        return any(self._found_in(path[:end]) for end in ends)

    def _found_in(self, path: str) -> bool:
        last = len(self.alternatives) - 1
        for number, parts in enumerate(self.alternatives):
            start = positions.START if number == 0 else positions.everywhere(path)
            found = _followed(parts, path, start)
            if found if number < last else found & positions.end(path):
                return True
        return False


def _followed(parts: Sequence[Part], path: str, found: int) -> int:
    """Return where *parts* end in *path* that start at one of *found*."""
    known: dict[str, int] = {}

    def characters(expression: str) -> int:
        if expression not in known:
            known[expression] = _characters(expression, path)
        return known[expression]

    for part in parts:
        if not found:
            break
        match part.kind:
            case Kind.TEXT:
                found = (found & _occurrences(part.text, path)) << len(part.text)
            case Kind.PLACE:
                found &= _places(part.text, path) if part.least else found
            case Kind.DIRECTORIES:
                inside = positions.many(found, characters("."))
                found |= positions.one(inside, characters(_SLASH))
            case Kind.CHARACTER:
                found = _repeated(part, found, characters(part.text))
    return found


def _repeated(part: Part, found: int, characters: int) -> int:
    for _ in range(part.least):
        found = positions.one(found, characters)
    if part.most is None:
        return positions.many(found, characters)
    step = found
    for _ in range(part.most - part.least):
        step = positions.one(step, characters)
        found |= step
    return found


def _occurrences(text: str, path: str) -> int:
    found, start = 0, path.find(text)
    while start >= 0:
        found |= 1 << start
        start = path.find(text, start + 1)
    return found


def _characters(expression: str, path: str) -> int:
    compiled = re.compile(expression)
    return positions.where(path, lambda character: compiled.fullmatch(character) is not None)


def _places(expression: str, path: str) -> int:
    compiled = re.compile(expression)
    found = (index for index in range(len(path) + 1) if compiled.match(path, index))
    return sum(1 << index for index in found)
