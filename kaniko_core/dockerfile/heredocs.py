"""Here-documents: ``<<NAME`` in RUN, COPY and ADD, and the lines that they take.

Source: the Dockerfile reference, "Here-Documents"; what is quoted and how, POSIX.1-2017,
2.7.4.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kaniko_core.dockerfile.flags import split_flags
from kaniko_core.dockerfile.forms import json_words, split_keyword
from kaniko_core.dockerfile.words import Lexer, WordError
from kaniko_core.errors import UsageError

_OPENING = re.compile(r"(\d*)<<(-?)\s*([^<]*)", re.ASCII)
# The << of $((1 << n)) opens nothing.
_ARITHMETIC = re.compile(r"\$\(\(.*?\)\)")
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
    return Opening(names[0], expand, bool(match[2]), int(match[1] or 0))


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
        words = lexer.expand_words(_ARITHMETIC.sub("", rest), {})
    except (UsageError, WordError):
        return  # what is wrong will be said when the instruction itself is read
    for word in words:
        found = opening(word)
        if found is not None:
            yield found


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')
