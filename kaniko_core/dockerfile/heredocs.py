"""Here-documents: ``<<NAME`` in RUN, COPY and ADD, and the lines that they take.

Source: the Dockerfile reference, "Here-Documents"; what is quoted and how, POSIX.1-2017,
2.7.4.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kaniko_core.dockerfile.flags import split_flags
from kaniko_core.dockerfile.forms import json_words, split_keyword
from kaniko_core.dockerfile.words import Lexer, WordError
from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass

_OPENING = re.compile(r"(\d*)<<(-?)[\t\n\f\r ]*([^<]*)", re.ASCII)
_QUOTE = re.compile("['\"]")
# A name may stand apart from <<-, too; for BuildKit it may not.
_DASH = re.compile(r"\d*<<-", re.ASCII)
_HIGHEST_DESCRIPTOR = 2**64 - 1
_MOST_DIGITS = 20
_INSTRUCTIONS = frozenset({"ADD", "COPY", "RUN"})
# The escape directive has no say here: these words are the shell's.
_ESCAPE = "\\"


@dataclass(frozen=True, slots=True)
class Opening:
    """``<<NAME`` on an instruction's line; its body is yet to be read."""

    name: str
    expand: bool
    chomp: bool
    file_descriptor: int

    def ended_by(self, line: str) -> bool:
        """Whether *line* (without its end) is the last, which holds the name alone."""
        return (line.lstrip("\t") if self.chomp else line) == self.name


def opening(word: str) -> Opening | None:
    """Read one word of an instruction; None where it opens no here-document."""
    match = _OPENING.fullmatch(word)
    if match is None or not match[3]:
        return None
    try:
        names = Lexer(_ESCAPE, skip_unset=True).expand_words(match[3], {})
        quoted = Lexer(_ESCAPE, skip_unset=True, raw_quotes=True).expand(match[3], {})
    except WordError:
        return None
    if len(names) != 1:
        return None
    # Any quote that is gone was there to say: take the body as it is.
    expand = _quotes(quoted) == _quotes(names[0])
    descriptor = match[1].lstrip("0")[: _MOST_DIGITS + 1]
    return Opening(names[0], expand, bool(match[2]), min(int(descriptor or 0), _HIGHEST_DESCRIPTOR))


def openings(line: str) -> Iterator[Opening]:
    """Yield the here-documents that the logical *line* of an instruction opens, in order."""
    if "<<" not in line:
        return
    keyword, rest = split_keyword(line)
    if keyword.upper() == "ONBUILD":
        keyword, rest = split_keyword(rest)
    if keyword.upper() not in _INSTRUCTIONS:
        return
    lexer = Lexer(_ESCAPE, raw_quotes=True, raw_escapes=True, skip_unset=True)
    try:
        if json_words(split_flags(rest)[1]) is not None:
            return
        words = lexer.expand_words(_without_shifts(rest), {})
    except (UsageError, WordError):
        return  # what is wrong will be said when the instruction itself is read
    before = ""
    for word in words:
        found = opening(before + word) or opening(word)
        before = word if _DASH.fullmatch(word) else ""
        if found is not None:
            yield found


def _without_shifts(text: str) -> str:
    """Return *text* with something else for the ``<<`` of ``$((1 << n))``, which opens nothing.

    BuildKit takes it for a here-document that does not end.
    """
    parts: list[str] = []
    done, start = 0, text.find("$((")
    while start >= 0 and (end := text.find("))", start + 3)) >= 0:
        quote = _QUOTE.search(text, start + 3, end)
        if quote is not None:
            # What begins before a quote would have to end before it, too.
            start = text.find("$((", quote.end())
            continue
        parts += (text[done:start], text[start:end].replace("<<", "--"))
        done, start = end, text.find("$((", end + 2)
    return "".join((*parts, text[done:]))


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')
