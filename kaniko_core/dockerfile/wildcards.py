"""Wildcards of COPY and ADD sources: Go's ``filepath.Match``.

``*`` and ``?`` stop at a slash; ``[a-z]`` and ``[^a-z]`` are classes; a backslash escapes. What
stands behind a star is looked for where it comes first, and stays there.

Source: Go, package path/filepath, ``Match``; checked against
``../shared/conformance/wildcards.json``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass

# An escaped character does not make a pattern: "a\*" is the name of a file, as in BuildKit.
_WILD = re.compile(r"(?:[^\\]|\\.)*?[*?\[]", re.DOTALL)
# A star or several, and what follows up to the next; a class may hold a star.
_PART = re.compile(rb"(\**)((?:\\.|\[(?:\\.|[^\\\]])*\]?|[^\\*\[])*\\?)", re.DOTALL)
_SLASH = ord("/")
_BACKSLASH = ord("\\")
# What a byte counts as that is no part of a character.
_REPLACEMENT = 0xFFFD


def has_wildcard(pattern: str) -> bool:
    """Whether *pattern* is more than a plain name."""
    return _WILD.match(pattern) is not None


def matches(pattern: str, name: str) -> bool:
    """Whether the whole of *name* matches *pattern*.

    Raises:
        UsageError: *pattern* has an open class or a class that is none, in a part that *name*
            reaches.
    """
    rest: bytes | None = name.encode("utf-8", "surrogateescape")
    parts = _parts(pattern)
    for number, (star, text) in enumerate(parts):
        assert rest is not None  # see below
        last = number == len(parts) - 1
        if star and not text:
            return _SLASH not in rest
        rest = _found(_tokens(text), rest, star, last)
        if rest is None:
            return False
    return not rest


def _found(tokens: tuple[_Token, ...], name: bytes, star: bool, last: bool) -> bytes | None:
    """Return what is left of *name* behind *tokens*, or None where they do not match."""
    start = 0
    while True:
        rest = _after(tokens, name[start:])
        if rest is not None and not (last and rest):
            return rest
        if not star or start == len(name) or name[start] == _SLASH:
            return None
        start += 1


def _after(tokens: tuple[_Token, ...], name: bytes) -> bytes | None:
    for token in tokens:
        if not name:
            return None
        width = token.width(name)
        if not width:
            return None
        name = name[width:]
    return name


@dataclass(frozen=True, slots=True)
class _Token:
    """What one character of a name may be: one of *ranges*, or none of them.

    Plain text is bytes, which need not be whole characters.
    """

    ranges: tuple[tuple[int, int], ...] = ()
    negated: bool = False
    byte: int | None = None

    def width(self, name: bytes) -> int:
        """Return how many bytes of *name* this matches; 0 for none."""
        if self.byte is not None:
            return int(name[0] == self.byte)
        character, width = _character(name)
        found = any(low <= character <= high for low, high in self.ranges)
        return width if found is not self.negated else 0


# Unlike a negated class, a question mark matches no slash.
_ANY = _Token(((_SLASH, _SLASH),), negated=True)


@lru_cache(maxsize=256)
def _parts(pattern: str) -> tuple[tuple[bool, bytes], ...]:
    data = pattern.encode("utf-8", "surrogateescape")
    return tuple(
        (bool(match[1]), match[2]) for match in _PART.finditer(data) if match.end() > match.start()
    )


@lru_cache(maxsize=256)
def _tokens(text: bytes) -> tuple[_Token, ...]:
    return tuple(_Reader(text).tokens())


class _Reader:
    """Reads what stands between two stars."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._position = 0

    def tokens(self) -> Iterator[_Token]:
        while self._position < len(self._text):
            match self._text[self._position : self._position + 1]:
                case b"[":
                    self._position += 1
                    yield self._class()
                case b"?":
                    self._position += 1
                    yield _ANY
                case b"\\":
                    self._position += 1
                    yield self._byte()
                case _:
                    yield self._byte()

    def _byte(self) -> _Token:
        if self._position == len(self._text):
            raise self._bad()
        self._position += 1
        return _Token(byte=self._text[self._position - 1])

    def _class(self) -> _Token:
        negated = self._at(b"^")
        ranges: list[tuple[int, int]] = []
        while not (ranges and self._at(b"]")):
            low = high = self._member()
            if self._at(b"-"):
                high = self._member()
            ranges.append((low, high))
        return _Token(tuple(ranges), negated)

    def _at(self, character: bytes) -> bool:
        there = self._text.startswith(character, self._position)
        self._position += there
        return there

    def _member(self) -> int:
        rest = self._text[self._position :]
        if not rest or rest[:1] in b"-]":
            raise self._bad()
        if rest[0] == _BACKSLASH:
            self._position += 1
            rest = rest[1:]
            if not rest:
                raise self._bad()
        character, width = _character(rest)
        self._position += width
        if (character == _REPLACEMENT and width == 1) or self._position == len(self._text):
            raise self._bad()
        return character

    def _bad(self) -> UsageError:
        text = self._text.decode("utf-8", "surrogateescape")
        return UsageError(
            f"{text!r} is not a pattern",
            hint="a class looks like [a-z]; write \\[ for a bracket itself",
        )


def _character(data: bytes) -> tuple[int, int]:
    """Return the first character of *data*, and how many bytes it takes."""
    if data[0] < 0x80:
        return data[0], 1
    for width in (2, 3, 4):
        try:
            return ord(data[:width].decode()), width
        except UnicodeDecodeError:
            continue
    return _REPLACEMENT, 1
