"""Which files a pattern list leaves out: .dockerignore, and COPY ``--exclude``.

The rules are moby's: ``*`` and ``?`` stop at a slash, ``**`` does not, ``!`` takes files back
in, the last pattern that matches counts, and whatever is below a matching directory matches
with it. All patterns of one kind that follow each other become one regular expression, so a
path costs one match in most files, however many patterns there are.

Source: the Dockerfile reference, ".dockerignore file"; checked against
``../shared/conformance/dockerignore*.json``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

from kaniko_core.errors import UsageError

_SLASH = "/"
# A component that may match several components, or that is not worth knowing better.
_UNKNOWN = ("**", "[", "\\")


class IgnorePatterns:
    """A list of patterns, compiled once.

    Args:
        patterns: in their order; surrounding white space and empty ones do not count.

    Raises:
        UsageError: one of them is no pattern.
    """

    __slots__ = ("_included", "_runs", "has_exclusions")

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        parsed = [_parsed(text) for pattern in patterns if (text := pattern.strip())]
        self._runs = tuple(
            (takes_back, _any_of(expression for _, _, expression in run))
            for takes_back, run in groupby(parsed, key=lambda item: item[0])
        )
        self._included = tuple(
            tuple(pattern.split(_SLASH)) for takes_back, pattern, _ in parsed if takes_back
        )
        self.has_exclusions = bool(self._included)

    def ignored(self, path: str) -> bool:
        """Whether *path*, or a directory that it is in, is left out.

        *path* is relative, with slashes and without ``.`` and ``..``.
        """
        ignored = False
        for takes_back, expression in self._runs:
            if takes_back is ignored and expression.fullmatch(path) is not None:
                ignored = not takes_back
        return ignored

    def may_include_below(self, directory: str) -> bool:
        """Whether an ignored *directory* has to be looked into all the same.

        False is certain: no pattern with ``!`` can match anything below it.
        """
        names = directory.split(_SLASH)
        return any(_may_match_below(pattern, names) for pattern in self._included)


def read_ignore_file(text: str) -> tuple[str, ...]:
    """Return the patterns of a .dockerignore: no comments, no blank lines, paths tidied."""
    patterns: list[str] = []
    for line in text.removeprefix("\ufeff").split("\n"):
        pattern = "" if line.startswith("#") else line.strip()
        if not pattern:
            continue
        mark = "!" if pattern.startswith("!") else ""
        pattern = pattern[len(mark) :].strip()
        if pattern:
            pattern = _clean(pattern)
            if len(pattern) > 1:
                pattern = pattern.removeprefix(_SLASH)
        patterns.append(mark + pattern)
    return tuple(patterns)


def _parsed(text: str) -> tuple[bool, str, str]:
    """Return whether *text* takes files back in, its pattern, and the regular expression."""
    pattern = _clean(text)
    takes_back = pattern.startswith("!")
    if takes_back:
        pattern = pattern[1:]
        if not pattern:
            raise UsageError(
                "'!' alone is no pattern",
                hint="write what to take back in behind it, such as !src/*.py",
            )
    return takes_back, pattern, _Translator(pattern).expression()


def _any_of(expressions: Iterable[str]) -> re.Pattern[str]:
    # Whatever is below a match is matched.
    return re.compile(f"(?:{'|'.join(expressions)})(?:/.*)?", re.DOTALL)


def _may_match_below(pattern: tuple[str, ...], names: list[str]) -> bool:
    for part, name in zip(pattern, names, strict=False):
        if any(mark in part for mark in _UNKNOWN):
            return True
        if re.fullmatch(_Translator(part).expression(), name, re.DOTALL) is None:
            return False
    return True


def _clean(path: str) -> str:
    """Tidy a path as Go's ``filepath.Clean`` does; unlike normpath it keeps no double slash."""
    rooted = path.startswith(_SLASH)
    kept: list[str] = []
    for part in path.split(_SLASH):
        if part == ".." and kept and kept[-1] != "..":
            kept.pop()
        elif part not in ("", ".") and not (part == ".." and rooted):
            kept.append(part)
    return (_SLASH if rooted else "") + _SLASH.join(kept) or "."


class _Translator:
    """Turns one pattern into a regular expression."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._position = 0

    def expression(self) -> str:
        return "".join(self._parts())

    def _parts(self) -> Iterator[str]:
        while character := self._next():
            match character:
                case "*" if self._peek() == "*":
                    yield self._any_directories()
                case "*":
                    yield "[^/]*"
                case "?":
                    yield "[^/]"
                case "[":
                    yield self._class()
                case "\\":
                    yield re.escape(self._escaped())
                case _:
                    yield re.escape(character)

    def _any_directories(self) -> str:
        first = self._position == 1
        self._position += 1
        slash = self._peek() == _SLASH
        if slash:
            self._position += 1
        if not self._peek():
            return ".*"
        if first and self._is_plain():
            # moby compares the end of the path only: **foo matches xfoo, **/foo does not.
            return "(?:.*/)?" if slash else ".*"
        return "(?:.*/)?"

    def _is_plain(self) -> bool:
        """Whether the rest of the pattern has no characters with a meaning."""
        return set("*?[]\\").isdisjoint(self._pattern[self._position :])

    def _class(self) -> str:
        negated = self._peek() == "^"
        self._position += negated
        members: list[str] = []
        while not (members and self._peek() == "]"):
            low = high = self._member()
            if self._peek() == "-":
                self._position += 1
                high = self._member()
            if high < low:
                raise self._bad()
            members.append(f"{re.escape(low)}-{re.escape(high)}")
        self._position += 1
        return f"[{'^' if negated else ''}{''.join(members)}]"

    def _member(self) -> str:
        character = self._next()
        if not character or character in "-]":
            raise self._bad()
        return self._escaped() if character == "\\" else character

    def _escaped(self) -> str:
        character = self._next()
        if not character:
            raise self._bad()
        return character

    def _peek(self) -> str:
        return self._pattern[self._position : self._position + 1]

    def _next(self) -> str:
        character = self._peek()
        self._position += 1
        return character

    def _bad(self) -> UsageError:
        return UsageError(
            f"{self._pattern!r} is no pattern",
            hint="a class looks like [a-z]; write \\[ or \\\\ for the character itself",
        )
