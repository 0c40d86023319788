"""Parser directives: ``# syntax=``, ``# escape=``, ``# check=`` before anything else.

Source: the Dockerfile reference, "Parser directives".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kaniko_core.errors import UsageError

_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*", re.ASCII)
_KNOWN = frozenset({"syntax", "escape", "check"})
_ESCAPES = ("\\", "`")


@dataclass(frozen=True, slots=True)
class Directives:
    """The directives of a file, by lower-case name."""

    values: Mapping[str, str]

    @property
    def escape(self) -> str:
        """The escape character in force."""
        return self.values.get("escape", "\\")


class DirectiveError(UsageError):
    """A directive is wrong; *line* counts from 1."""

    def __init__(self, message: str, line: int, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.line = line


def read_directives(lines: Sequence[str]) -> Directives:
    """Read the directives at the head of *lines*; a ``#!`` line may stand before them.

    Raises:
        DirectiveError: one is given twice, or the escape character is none.
    """
    values: dict[str, str] = {}
    start = 1 if lines and lines[0].startswith("#!") else 0
    for number, line in enumerate(lines[start:], start + 1):
        match = _DIRECTIVE.fullmatch(line.rstrip("\r"))
        if match is None or match[1].lower() not in _KNOWN:
            break
        name = match[1].lower()
        if name in values:
            raise DirectiveError(
                f"the directive {name} is given twice", number, "remove one of them"
            )
        if name == "escape" and match[2] not in _ESCAPES:
            raise DirectiveError(
                f"{match[2]!r} cannot be the escape character",
                number,
                "it is a backslash or a backquote",
            )
        values[name] = match[2]
    return Directives(values)
