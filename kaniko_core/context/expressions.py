r"""Patterns of .dockerignore as regular expressions, as moby makes them of patterns.

moby turns a pattern into a regular expression of Go, character by character and without looking
whether one stands in a class, and leaves some characters alone that mean something there:

    ``^``         begins the path, also in the middle of a pattern, where it can match nothing
    ``{2}``       twice what stands before; ``{a,b}`` is itself
    ``|``         or: another expression, which need not match the whole path
    ``\d`` ``\t`` what they mean in expressions; a backslash before no letter or digit escapes
    ``[[:alpha:]]``, and ``[*]``, which becomes ``[[^/]*]``

None of that has a meaning in a pattern without one of ``* ? [ ] \``, which is compared as it is.

Source: moby/patternmatcher 0.6, checked against ``../shared/conformance/dockerignore*.json``;
Go, package regexp/syntax, for what an expression means.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from kaniko_core.context.automaton import Automaton, Kind, Part
from kaniko_core.lean import dataclass

_WORD = "0-9A-Za-z_"
_CLASSES = {"d": "0-9", "s": r"\t\n\f\r ", "w": _WORD}
_BOUNDARY = f"(?<![{_WORD}])(?=[{_WORD}])|(?<=[{_WORD}])(?![{_WORD}])"
_ASSERTIONS = {"A": r"\A", "z": r"\Z", "b": f"(?:{_BOUNDARY})", "B": f"(?!{_BOUNDARY})"}
_CONTROLS = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_NAMED = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": _WORD,
    "xdigit": "0-9A-Fa-f",
}
_HEXADECIMAL = re.compile(r"x(?:([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]{1,6})\})")
_OCTAL = re.compile(r"0[0-7]{0,2}|[1-7][0-7]{1,2}")
_NAME = re.compile(r"\[:(\^?)([a-z]+):\]")
_REPEAT = re.compile(r"\{(\d+)(,\d*)?\}", re.ASCII)
_MOST_REPEATS = 1000
_ALPHANUMERIC = frozenset(string.ascii_letters + string.digits)
_ESCAPED = frozenset(".+()$")
_ANY_DIRECTORIES = "(.*/)?"
_DIRECTORIES = "(?:.*/)?"
_ALTERNATIVE = "|"
_COUNTED = re.compile(r"\{(\d+)(,)?(\d*)\}", re.ASCII)
# Parts of an expression that may match more or less: with each more, Python's expressions take
# as much longer as a path has characters.
_MOST_VARYING = 2


class ExpressionError(ValueError):
    """A pattern becomes no expression."""


@dataclass(frozen=True, slots=True)
class Expression:
    """What a pattern became.

    Attributes:
        text: Python's expression.
        whole: whether it is for the whole path; else it says itself where a path begins and
            ends, and is to be searched for.
        automaton: stands in for an expression that may take too long.
    """

    text: str
    whole: bool
    automaton: Automaton | None = None


def expression_of(pattern: str) -> Expression:
    """Return the expression of a cleaned *pattern*.

    Raises:
        ExpressionError: there is none.
    """
    plain = _plain(pattern)
    if plain is not None:
        return Expression(plain, True)
    reader = _Reader(_moby_expression(pattern))
    parts = list(reader.parts())
    text = "".join(parts)
    whole = not reader.partial
    text = text if whole else rf"\A{text}\Z"
    try:
        re.compile(text)
    except (re.error, OverflowError) as error:
        raise ExpressionError(str(error)) from None
    return Expression(text, whole, _automaton(parts, whole))


def _automaton(texts: Sequence[str], whole: bool) -> Automaton | None:
    """Return the automaton of an expression in parts, if there is need for one."""
    alternatives: list[list[Part]] = [[]]
    for text in texts:
        parts = alternatives[-1]
        if text == _ALTERNATIVE:
            alternatives.append([])
        elif text == "*":
            parts[-1] = replace(parts[-1], least=0, most=None)
        elif counted := _COUNTED.fullmatch(text):
            least = int(counted[1])
            most = int(counted[3]) if counted[3] else None
            parts[-1] = replace(parts[-1], least=least, most=most if counted[2] else least)
        elif text == _DIRECTORIES:
            parts.append(Part(Kind.DIRECTORIES))
        else:
            kind = Kind.PLACE if text in _ASSERTIONS.values() else Kind.CHARACTER
            parts.append(Part(kind, text))
    varying = sum(part.varies for parts in alternatives for part in parts)
    if varying + (not whole) <= _MOST_VARYING:
        return None
    return Automaton(tuple(tuple(_joined(parts)) for parts in alternatives), whole)


def _joined(parts: Sequence[Part]) -> Iterator[Part]:
    """Yield *parts*; characters that stand for themselves become one text."""
    for plain, run in groupby(parts, key=_is_literal):
        if plain:
            yield Part(Kind.TEXT, "".join(part.text[-1] for part in run))
        else:
            yield from run


def _is_literal(part: Part) -> bool:
    once = part.kind is Kind.CHARACTER and part.least == part.most == 1
    return once and part.text != "." and not part.text.startswith("[")


def _plain(pattern: str) -> str | None:
    """Return the expression of a pattern whose only special characters are ** at one end."""
    rest = pattern
    before = after = ""
    if rest.startswith("**"):
        # Only the end of the path is compared: **foo matches xfoo, **/foo does not.
        before = r"(?:[\s\S]*/)?" if rest.startswith("**/") else r"[\s\S]*"
        rest = rest[3:] if rest.startswith("**/") else rest[2:]
    elif rest.endswith("**"):
        after = r"[\s\S]*"
        rest = rest[:-2]
    if set("*?[]\\").isdisjoint(rest):
        return before + re.escape(rest) + after
    return None


def _moby_expression(pattern: str) -> str:
    """Return the expression of Go that moby makes of *pattern*, without its ends."""
    parts: list[str] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if pattern.startswith("**", position - 1):
            position += 2 if pattern.startswith("/", position + 1) else 1
            parts.append(_ANY_DIRECTORIES if position < len(pattern) else ".*")
        elif character == "*":
            parts.append("[^/]*")
        elif character == "?":
            parts.append("[^/]")
        elif character in _ESCAPED:
            parts.append(f"\\{character}")
        elif character == "\\":
            parts.append(pattern[position - 1 : position + 1])
            position += 1
        else:
            parts.append(character)
    return "".join(parts)


class _Reader:
    """Reads an expression of Go, as far as moby makes them, and spells it in Python's words."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self.partial = False

    def parts(self) -> Iterator[str]:
        while self._position < len(self._text):
            yield self._part()

    def _part(self) -> str:
        if self._taken(_ANY_DIRECTORIES):
            return _DIRECTORIES
        character = self._next()
        match character:
            case "." | "*":
                return character
            case "^":
                return r"\A"
            case "|":
                self.partial = True
                return "|"
            case "[":
                return self._class()
            case "\\":
                return self._escape()
            case "{":
                return self._repeat()
        return re.escape(character)

    def _repeat(self) -> str:
        match = _REPEAT.match(self._text, self._position - 1)
        if match is None:
            return r"\{"
        if max(int(number or 0) for number in re.findall(r"\d+", match[0])) > _MOST_REPEATS:
            raise ExpressionError(f"{match[0]} is too often")
        self._position = match.end()
        return match[0]

    def _escape(self) -> str:
        letter = self._text[self._position : self._position + 1]
        if letter in _ASSERTIONS:
            self._position += 1
            # The end of the path, not of a directory that it is in.
            self.partial = self.partial or letter == "z"
            return _ASSERTIONS[letter]
        found = self._letter_class()
        if found is not None:
            return f"[{found}]"
        return re.escape(self._escaped())

    def _letter_class(self) -> str | None:
        letter = self._text[self._position : self._position + 1]
        if letter.lower() not in _CLASSES or not letter:
            return None
        self._position += 1
        inside = _CLASSES[letter.lower()]
        return inside if letter.islower() else _others(inside)

    def _escaped(self) -> str:
        """Read the one character that an escape stands for."""
        for pattern, base in ((_HEXADECIMAL, 16), (_OCTAL, 8)):
            match = pattern.match(self._text, self._position)
            if match is not None:
                self._position = match.end()
                digits = next(filter(None, match.groups()), match[0])
                return _character(int(digits, base))
        letter = self._next()
        if letter in _CONTROLS:
            return _CONTROLS[letter]
        if not letter.isascii() or not letter or letter in _ALPHANUMERIC:
            raise ExpressionError(f"\\{letter} means nothing")
        return letter

    def _class(self) -> str:
        negated = self._taken("^")
        members: list[str] = []
        while not (members and self._taken("]")):
            members.append(self._member())
        return f"[{'^' if negated else ''}{''.join(members)}]"

    def _member(self) -> str:
        named = _NAME.match(self._text, self._position)
        if named is not None:
            self._position = named.end()
            inside = _NAMED.get(named[2])
            if inside is None:
                raise ExpressionError(f"{named[0]} is no class")
            return _others(inside) if named[1] else inside
        if self._taken("\\"):
            found = self._letter_class()
            if found is not None:
                return found
            low = self._escaped()
        else:
            low = self._next()
        high = low
        following = self._text[self._position + 1 : self._position + 2]
        if following not in ("", "]") and self._taken("-"):
            high = self._escaped() if self._taken("\\") else self._next()
        if not low or high < low:
            raise ExpressionError("a class is open, or one of its ranges runs backwards")
        return f"{re.escape(low)}-{re.escape(high)}"

    def _taken(self, text: str) -> bool:
        there = self._text.startswith(text, self._position)
        self._position += len(text) if there else 0
        return there

    def _next(self) -> str:
        character = self._text[self._position : self._position + 1]
        self._position += 1
        return character


def _character(code: int) -> str:
    if code > 0x10FFFF:
        raise ExpressionError(f"{code:x} is no character")
    return chr(code)


def _others(inside: str) -> str:
    """Return the members of the class of all ASCII and other characters that are not *inside*."""
    expression = re.compile(f"[{inside}]")
    others = [chr(code) for code in range(0x80) if not expression.match(chr(code))]
    return "".join(map(re.escape, others)) + "\x80-\U0010ffff"
