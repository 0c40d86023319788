"""Parser directives: ``# syntax=``, ``# escape=``, ``# check=`` before anything else.

Source: the Dockerfile reference, "Parser directives".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kaniko_core.errors import UsageError

_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*")
_KNOWN = frozenset({"syntax", "escape", "check"})
_ESCAPES = ("\\", "`")


@dataclass(frozen=True, slots=True)
class Directives:
    """The directives of a file by lower-case name, and how many lines they take."""

    values: Mapping[str, str]
    lines: int

    @property
    def escape(self) -> str:
        """The escape character in force."""
        return self.values.get("escape", "\\")


class DirectiveError(UsageError):
    """A directive is wrong; *line* counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def read_directives(lines: Sequence[str]) -> Directives:
    """Read the directives at the head of *lines*.

    Raises:
        DirectiveError: one is given twice, or the escape character is none.
    """
    values: dict[str, str] = {}
    count = 0
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None or match[1].lower() not in _KNOWN:
            break
        name = match[1].lower()
        if name in values:
            raise DirectiveError(f"only one {name} parser directive can be used", number)
        if name == "escape" and match[2] not in _ESCAPES:
            raise DirectiveError(
                f"the escape character must be a backslash or a backquote, not {match[2]!r}",
                number,
            )
        values[name] = match[2]
        count = number
    return Directives(values, count)
