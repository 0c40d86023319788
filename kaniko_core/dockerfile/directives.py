"""Parser directives: ``# syntax=``, ``# escape=``, ``# check=`` before anything else.

BuildKit reads them twice, and not in the same way: its parser takes ``escape`` from lines that
may be indented, but from none behind a ``#!`` line; ``syntax`` and ``check`` may stand behind
one, but not be indented. What the parser took for a directive is no comment of an instruction.

Source: the Dockerfile reference, "Parser directives"; checked against
``../shared/conformance/directives.json``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass

_DIRECTIVE = re.compile(r"\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+)", re.ASCII)
_SPACE = " \t\f\r"
_KNOWN = frozenset({"syntax", "escape", "check"})
_ESCAPES = ("\\", "`")
_SHEBANG = "#!"


@dataclass(frozen=True, slots=True)
class Directives:
    """The directives of a file, by lower-case name.

    Attributes:
        escape: the escape character in force.
        count: how many lines at the head of the file the parser takes for directives.
    """

    values: Mapping[str, str]
    escape: str = "\\"
    count: int = 0


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
    escape = "\\"
    seen: set[str] = set()
    for number, (name, value) in enumerate(_leading([line.lstrip() for line in lines], "#"), 1):
        if name in seen:
            raise DirectiveError(
                f"the directive {name} is given twice", number, "remove one of them"
            )
        seen.add(name)
        if name == "escape":
            if value not in _ESCAPES:
                raise DirectiveError(
                    f"{value!r} cannot be the escape character",
                    number,
                    "it is a backslash or a backquote",
                )
            escape = value
    return Directives(_values(lines, "#"), escape, len(seen))


def other_syntax(text: str) -> str | None:
    """Return the frontend that *text* names in a way that only files of other languages have.

    Such a file says ``// syntax=…``, or is a JSON object with a member ``syntax``. BuildKit hands
    it to that frontend; it is no Dockerfile. None for any other text.
    """
    found = _values(text.split("\n"), "//").get("syntax")
    if found is None and text.lstrip().startswith("{"):
        try:
            member = json.loads(text).get("syntax")
        except (ValueError, RecursionError):
            return None
        return member if isinstance(member, str) else None
    return found


def _values(lines: Sequence[str], comment: str) -> dict[str, str]:
    start = 1 if lines and lines[0].startswith(_SHEBANG) else 0
    values: dict[str, str] = {}
    for name, value in _leading(lines[start:], comment):
        if name in values:
            break
        values[name] = value
    return values


def _leading(lines: Sequence[str], comment: str) -> Iterator[tuple[str, str]]:
    """Yield the directives at the head of *lines*, each on a line of its own."""
    for line in lines:
        if not line.startswith(comment):
            return
        match = _DIRECTIVE.fullmatch(line.rstrip("\r").removeprefix(comment))
        if match is None or match[1].lower() not in _KNOWN:
            return
        yield match[1].lower(), match[2].rstrip(_SPACE) or match[2]
