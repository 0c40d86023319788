"""Patterns of ``${v#p}``, ``${v%p}`` and ``${v/p/r}``, and what replaces a match.

``*`` is any number of characters and ``?`` one, neither of them the end of a line; a backslash
makes either a character like any other.

Source: the Dockerfile reference, "Environment replacement"; BuildKit turns a pattern into a
regular expression of Go, which finds the leftmost match and there the longest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kaniko_core import positions
from kaniko_core.lean import dataclass

# No token of one character has such a name.
_STAR, _ANY = "any number", "any one"
_WILD = {"*": _STAR, "?": _ANY}
_ESCAPED = frozenset("*?\\}/")
# What stands for a match in a replacement: $0, ${0}; another name is nothing, $$ a dollar.
_TEMPLATE = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})")


@dataclass(frozen=True, slots=True)
class ShellPattern:
    """A pattern in parts: characters, and what stands for others."""

    tokens: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> ShellPattern:
        """Read *text*.

        Raises:
            ValueError: a backslash stands before a character that needs none, which it names.
        """
        tokens: list[str] = []
        characters = iter(text)
        for character in characters:
            if character == "\\":
                character = next(characters, "")  # noqa: PLW2901 - it stands for the pair
                if character not in _ESCAPED:
                    raise ValueError(character)
                tokens.append(character)
            # Stars in a row are one, and would otherwise each be followed.
            elif character != "*" or tokens[-1:] != [_STAR]:
                tokens.append(_WILD.get(character, character))
        return cls(tuple(tokens))

    @property
    def backwards(self) -> ShellPattern:
        """The pattern that matches the same texts written backwards."""
        return ShellPattern(self.tokens[::-1])

    def end(self, value: str, *, greedy: bool) -> int | None:
        """Return where the shortest or longest match at the start of *value* ends, if any."""
        found = self._followed(value, positions.START)
        if not found:
            return None
        return positions.last(found) if greedy else positions.first(found)

    def spans(self, value: str) -> Iterator[tuple[int, int]]:
        """Yield start and end of each match: leftmost, longest, and none inside another.

        An empty one is none where the one before it ends.
        """
        # From the right, all matches of the pattern backwards end where matches start.
        starts = self.backwards._followed(value[::-1], positions.everywhere(value))
        # In these digits the first is for the start of the value.
        digits = f"{starts:b}".zfill(len(value) + 1)
        start, before = digits.find("1"), -1
        while start >= 0:
            end = self._longest(value, start)
            if (start, end) != (before, before):
                yield start, end
            before = end
            start = digits.find("1", max(end, start + (start == end)))

    def _longest(self, value: str, start: int) -> int:
        """Return where the longest match that starts at *start* ends: there is one."""
        if _STAR not in self.tokens:
            return start + len(self.tokens)
        # A match ends in the line in which its last star is, so there is no need to look further.
        limit = start - 1
        for _ in range(self.tokens.count("\n") + 1):
            limit = value.find("\n", limit + 1)
            if limit < 0:
                limit = len(value)
                break
        end = self.end(value[start:limit], greedy=True)
        assert end is not None
        return start + end

    def _followed(self, value: str, found: int) -> int:
        """Return where in *value* matches end that start at one of *found*."""
        masks: dict[str, int] = {}
        inline = positions.where(value, lambda character: character != "\n")
        for token in self.tokens:
            if not found:
                break
            if token == _STAR:
                found = positions.many(found, inline)
                continue
            if token not in masks:
                masks[token] = inline if token == _ANY else _places(value, token)
            found = positions.one(found, masks[token])
        return found


def _places(value: str, character: str) -> int:
    return positions.where(value, lambda other: other == character) if character in value else 0


@dataclass(frozen=True, slots=True)
class Replacement:
    """What comes in the place of each match: texts, with the match between them."""

    texts: tuple[str, ...]

    @classmethod
    def of(cls, template: str) -> Replacement:
        """Read *template*, in which ``$0`` is the match."""
        texts = [""]
        done = 0
        for reference in _TEMPLATE.finditer(template):
            texts[-1] += template[done : reference.start()] + ("$" if reference[1] else "")
            done = reference.end()
            if "0" in (reference[2], reference[3]):
                texts.append("")
        texts[-1] += template[done:]
        return cls(tuple(texts))

    def size(self, matched: int) -> int:
        """Return how many characters come in the place of *matched* ones."""
        return sum(map(len, self.texts)) + matched * (len(self.texts) - 1)

    def filled(self, matched: str) -> str:
        """Return what comes in the place of *matched*."""
        return matched.join(self.texts)
