"""Wildcards of COPY and ADD sources: Go's ``filepath.Match``.

``*`` and ``?`` stop at a slash; ``[a-z]`` and ``[^a-z]`` are classes; a backslash escapes.
"""

from __future__ import annotations

import re
from functools import lru_cache

from kaniko_core.errors import UsageError

# An escaped character does not make a pattern: "a\*" is the name of a file, as in BuildKit.
_WILD = re.compile(r"(?:[^\\]|\\.)*?[*?\[]", re.DOTALL)


def has_wildcard(pattern: str) -> bool:
    """Whether *pattern* is more than a plain name."""
    return _WILD.match(pattern) is not None


def matches(pattern: str, name: str) -> bool:
    """Whether the whole of *name* matches *pattern*.

    Raises:
        UsageError: *pattern* has an open class or a class that is none.
    """
    try:
        return _compiled(pattern).fullmatch(name) is not None
    except UsageError:
        # Go looks at a pattern star by star, and at what follows a star only if the name
        # matches what stands before it.
        before = _before_last_star(pattern)
        if before and not _compiled(before).match(name):
            return False
        raise


def _before_last_star(pattern: str) -> str:
    for position in range(len(pattern) - 1, 0, -1):
        if pattern[position] == "*":
            try:
                _compiled(pattern[:position])
            except UsageError:
                continue
            return pattern[:position]
    return ""


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts: list[str] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*":
            parts.append("[^/]*")
        elif character == "?":
            parts.append("[^/]")
        elif character == "[":
            expression, position = _class(pattern, position)
            parts.append(expression)
        else:
            if character == "\\":
                character, position = _literal(pattern, position - 1)
            parts.append(re.escape(character))
    return re.compile("".join(parts), re.DOTALL)


def _class(pattern: str, position: int) -> tuple[str, int]:
    negated = pattern[position : position + 1] == "^"
    position += negated
    ranges: list[str] = []
    while not (ranges and pattern[position : position + 1] == "]"):
        low, position = _member(pattern, position)
        high = low
        if pattern[position : position + 1] == "-":
            high, position = _member(pattern, position + 1)
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            # A range that runs backwards matches nothing, but the class is not empty.
            ranges.append("")
    inside = "".join(ranges)
    if not inside:
        return ("[^/]" if negated else "(?!)"), position + 1
    # Unlike in a regular expression, a negated class does match a slash in Go.
    return f"[{'^' if negated else ''}{inside}]", position + 1


def _member(pattern: str, position: int) -> tuple[str, int]:
    character = pattern[position : position + 1]
    if not character or character in "-]":
        raise _bad(pattern)
    if character == "\\":
        character, position = _literal(pattern, position)
    else:
        position += 1
    if position >= len(pattern):
        raise _bad(pattern)
    return character, position


def _literal(pattern: str, position: int) -> tuple[str, int]:
    if position + 1 >= len(pattern):
        raise _bad(pattern)
    return pattern[position + 1], position + 2


def _bad(pattern: str) -> UsageError:
    return UsageError(
        f"{pattern!r} is not a pattern",
        hint="a class looks like [a-z]; write \\[ for a bracket itself",
    )
