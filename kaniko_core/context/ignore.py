"""Which files a pattern list leaves out: .dockerignore, and COPY ``--exclude``.

The rules are moby's: ``*`` and ``?`` stop at a slash, ``**`` does not, ``!`` takes files back
in, the last pattern that matches counts, and whatever is below a matching directory matches
with it. All patterns of one kind that follow each other become one regular expression, so a
path costs one match in most files, however many patterns there are; those that could take too
long so are followed on their own.

Source: the Dockerfile reference, ".dockerignore file"; checked against
``../shared/conformance/dockerignore*.json``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass

if TYPE_CHECKING:
    from kaniko_core.context.automaton import Automaton
    from kaniko_core.context.expressions import Expression

_SLASH = "/"
# A component that may match several components, or that is not worth knowing better.
_UNKNOWN = ("**", "[", "\\", "^", "{", "|")
# A class, an escape, or any other character.
_MEMBER = r"(?:\\[\s\S]|[^\\\]-])"
_PIECE = re.compile(rf"\[\^?(?:{_MEMBER}(?:-{_MEMBER})?)+\]|\\[\s\S]|[^\\\[]")


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
            _run(takes_back, list(run)) for takes_back, run in groupby(parsed, key=_takes_back)
        )
        self._included = tuple(
            tuple(pattern.text.split(_SLASH)) for pattern in parsed if pattern.takes_back
        )
        self.has_exclusions = bool(self._included)

    def ignored(self, path: str) -> bool:
        """Whether *path*, or a directory that it is in, is left out.

        *path* is relative, with slashes and without ``.`` and ``..``.
        """
        ignored = False
        for run in self._runs:
            if run.takes_back is ignored and run.matches(path):
                ignored = not run.takes_back
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


@dataclass(frozen=True, slots=True)
class _Pattern:
    text: str
    takes_back: bool
    expression: Expression


@dataclass(frozen=True, slots=True)
class _Run:
    """Patterns of one kind that follow each other.

    ``expression`` is for the whole path, with what is below a match; the ``others`` are searched
    for in the path and in each directory that it is in.
    """

    takes_back: bool
    expression: re.Pattern[str]
    others: tuple[re.Pattern[str], ...]
    automata: tuple[Automaton, ...]

    def matches(self, path: str) -> bool:
        if self.expression.fullmatch(path) is not None:
            return True
        if any(automaton.matches(path) for automaton in self.automata):
            return True
        return any(
            other.search(path[:end]) is not None
            for other in self.others
            for end in (*(match.start() for match in re.finditer(_SLASH, path)), len(path))
        )


def _takes_back(pattern: _Pattern) -> bool:
    return pattern.takes_back


def _run(takes_back: bool, patterns: list[_Pattern]) -> _Run:
    expressions = [pattern.expression for pattern in patterns]
    quick = [item for item in expressions if item.automaton is None]
    whole = "|".join(item.text for item in quick if item.whole)
    return _Run(
        takes_back,
        # Whatever is below a match is matched; where nothing is looked for, nothing is found.
        re.compile(rf"(?:{whole})(?:/[\s\S]*)?" if whole else "(?!)"),
        tuple(re.compile(item.text) for item in quick if not item.whole),
        tuple(item.automaton for item in expressions if item.automaton is not None),
    )


def _parsed(text: str) -> _Pattern:
    pattern = _clean(text)
    takes_back = pattern.startswith("!")
    if takes_back:
        pattern = pattern[1:]
        if not pattern:
            raise UsageError(
                "'!' alone is no pattern",
                hint="write what to take back in behind it, such as !src/*.py",
            )
    _check_classes(pattern)
    # Imported here, because most lists of patterns are empty.
    from kaniko_core.context.expressions import ExpressionError, expression_of

    try:
        return _Pattern(pattern, takes_back, expression_of(pattern))
    except ExpressionError:
        raise _bad(pattern) from None


def _may_match_below(pattern: tuple[str, ...], names: list[str]) -> bool:
    for part, name in zip(pattern, names, strict=False):
        if any(mark in part for mark in _UNKNOWN):
            return True
        # Names have no slash: what matches the whole of it, or a directory, matches the name.
        if not _component(part).matches(name):
            return False
    return True


@lru_cache(maxsize=1024)
def _component(text: str) -> _Run:
    """Return what matches one component of a path."""
    from kaniko_core.context.expressions import expression_of

    return _run(True, [_Pattern(text, True, expression_of(text))])


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


def _check_classes(pattern: str) -> None:
    """Refuse classes that Go's ``filepath.Match`` does not know; moby asks it about each pattern.

    It does not look at all of a pattern, but nobody means a class that is none.
    """
    position = 0
    while position < len(pattern):
        match = _PIECE.match(pattern, position)
        if match is None:
            raise _bad(pattern)
        position = match.end()


def _bad(pattern: str) -> UsageError:
    return UsageError(
        f"{pattern!r} is no pattern",
        hint="a class looks like [a-z]; write \\[ or \\\\ for the character itself",
    )
