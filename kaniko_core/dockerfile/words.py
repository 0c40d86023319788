"""Quoting and ``$VARIABLE`` expansion, by BuildKit's rules.

Source: the Dockerfile reference, "Environment replacement"; checked against the tables of
``../shared/conformance/words*.json``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from kaniko_core.errors import KanikoError

_SPECIAL = frozenset("@*#?-$!0")
_END = ""
# Substitutions inside each other; a word of 64 KiB could hold more than Python's stack does.
_DEEPEST = 100
# White space between this and the name of the here-document does not end the word.
_HEREDOC = re.compile(r"\d*<<-?", re.ASCII)


class WordError(KanikoError):
    """A word with an open quote, or a substitution that cannot be done.

    It knows no place; who knows the instruction adds file and line.
    """


@dataclass(frozen=True, slots=True)
class Expansion:
    """A word, expanded.

    Attributes:
        text: the whole as one string.
        words: the same, split at white space outside quotes, also where it came from a variable.
        matched, unmatched: names of variables that were used and had, or had no, value.
    """

    text: str
    words: tuple[str, ...]
    matched: frozenset[str]
    unmatched: frozenset[str]


@dataclass(frozen=True, slots=True)
class Lexer:
    """Expands words.

    Args:
        escape: a backslash, or a backquote by directive.
        raw_quotes: leave quotes where they are.
        raw_escapes: leave escape characters where they are.
        skip_quotes: quotes are characters like any other (bodies of here-documents).
        skip_unset: leave a variable without value as it is written.
    """

    escape: str = "\\"
    raw_quotes: bool = False
    raw_escapes: bool = False
    skip_quotes: bool = False
    skip_unset: bool = False

    def process(self, word: str, env: Mapping[str, str]) -> Expansion:
        """Expand *word* with the variables of *env*; raise :class:`WordError` if it is wrong."""
        scan = _Scan(self, word, env)
        text, words = scan.until(_END, self.raw_escapes)
        return Expansion(text, tuple(words), frozenset(scan.matched), frozenset(scan.unmatched))

    def expand(self, word: str, env: Mapping[str, str]) -> str:
        """Return *word* expanded, as one string."""
        return self.process(word, env).text

    def expand_words(self, word: str, env: Mapping[str, str]) -> list[str]:
        """Return *word* expanded and split into words."""
        return list(self.process(word, env).words)


class _Words:
    """Collects characters into words; an empty one, such as ``''``, is none."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._current = ""

    def split(self, text: str) -> None:
        """Add characters that end a word where they are white space."""
        for character in text:
            if not character.isspace():
                self._current += character
            elif not _HEREDOC.fullmatch(self._current):
                self.end()

    def keep(self, text: str) -> None:
        """Add characters that are part of a word whatever they are."""
        self._current += text

    def forget(self) -> None:
        """Drop the word that is not complete yet."""
        self._current = ""

    def end(self) -> None:
        """Complete the present word."""
        if self._current:
            self.found.append(self._current)
            self._current = ""


@dataclass(slots=True)
class _Scan:
    lexer: Lexer
    word: str
    env: Mapping[str, str]
    position: int = 0
    matched: set[str] = field(default_factory=set)
    unmatched: set[str] = field(default_factory=set)
    raw_escapes: bool = False
    nested: int = 0
    depth: int = 0

    def peek(self) -> str:
        return self.word[self.position : self.position + 1]

    def next(self) -> str:
        character = self.peek()
        self.position += 1
        return character

    def fail(self, message: str) -> WordError:
        return WordError(f'failed to process "{self.word}": {message}')

    def until(self, stop: str, raw_escapes: bool) -> tuple[str, list[str]]:
        """Read up to *stop*, which is consumed."""
        before, self.raw_escapes = self.raw_escapes, raw_escapes
        try:
            return self._until(stop)
        finally:
            self.raw_escapes = before

    def _until(self, stop: str) -> tuple[str, list[str]]:
        text: list[str] = []
        words = _Words()
        quotes = "" if self.lexer.skip_quotes else "'\""
        while character := self.peek():
            if character == stop:
                self.next()
                words.end()
                return "".join(text), words.found
            if character in quotes:
                part = self._single() if character == "'" else self._double()
                words.keep(part)
            elif character == "$":
                nested = self.nested
                part = self._dollar()
                if self.nested != nested:
                    # BuildKit forgets a word begun before a substitution with an operand; only
                    # EXPOSE asks for words, and means the same here.
                    words.forget()
                words.split(part)
            else:
                part = self.next()
                if part == self.lexer.escape:
                    part = self._escaped()
                    if part:
                        words.keep(part)
                else:
                    words.split(part)
            text.append(part)
        if stop:
            raise self.fail(f"unexpected end of statement while looking for matching {stop}")
        words.end()
        return "".join(text), words.found

    def _escaped(self) -> str:
        following = self.next()
        return (self.lexer.escape if self.raw_escapes else "") + following

    def _single(self) -> str:
        opening = self.next()
        end = self.word.find("'", self.position)
        if end < 0:
            raise self.fail("unexpected end of statement while looking for matching single-quote")
        body = self.word[self.position : end]
        self.position = end + 1
        return f"{opening}{body}'" if self.lexer.raw_quotes else body

    def _double(self) -> str:
        quote = self.next() if self.lexer.raw_quotes else self.next() and ""
        text = [quote]
        while True:
            character = self.peek()
            if not character:
                raise self.fail(
                    "unexpected end of statement while looking for matching double-quote"
                )
            if character == '"':
                self.next()
                return "".join((*text, quote))
            if character == "$":
                text.append(self._dollar())
                continue
            self.next()
            if character == self.lexer.escape:
                if self.raw_escapes:
                    text.append(character)
                following = self.peek()
                if not following:
                    continue
                if following in ('"', "$", self.lexer.escape) or self.raw_escapes:
                    character = self.next()
            text.append(character)

    def _dollar(self) -> str:
        self.next()
        if self.peek() != "{":
            name = self._name()
            if not name:
                return "$"
            value = self._value(name)
            return (f"${name}" if self.lexer.skip_unset else "") if value is None else value
        self.next()
        following = self.peek()
        if not following:
            raise self.fail("syntax error: missing '}'")
        if following in "{}:":
            raise self.fail("syntax error: bad substitution")
        return self._braces(self._name())

    def _name(self) -> str:
        first = self.peek()
        if first.isdigit():
            match = re.compile(r"\d+").match(self.word, self.position)
        elif first and first in _SPECIAL:
            self.position += 1
            return first
        else:
            match = re.compile(r"[^\W\d]\w*").match(self.word, self.position)
        if match is None:
            return ""
        self.position = match.end()
        return match[0]

    def _value(self, name: str) -> str | None:
        value = self.env.get(name)
        (self.unmatched if value is None else self.matched).add(name)
        return value

    def _braces(self, name: str) -> str:
        operator = self.next()
        if operator == "}":
            value = self._value(name)
            return (f"${{{name}}}" if self.lexer.skip_unset else "") if value is None else value
        if operator == "/":
            return self._replaced(name)
        null_is_unset = operator == ":"
        if null_is_unset:
            operator = self.next()
        if not operator or operator not in "+-?#%" or (null_is_unset and operator in "#%"):
            colon = ":" if null_is_unset else ""
            raise self.fail(f"unsupported modifier ({colon}{operator}) in substitution")
        word = self._operand("}", raw_escapes=operator in "#%")
        value = self._value(name)
        if value is None and self.lexer.skip_unset:
            return f"${{{name}{':' if null_is_unset else ''}{operator}{word}}}"
        return self._modified(name, value, operator, word, null_is_unset)

    def _operand(self, stop: str, *, raw_escapes: bool) -> str:
        self.nested += 1
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self.fail("substitutions are nested too deeply")
        try:
            return self.until(stop, raw_escapes)[0]
        except WordError:
            if self.position >= len(self.word):
                missing = "'}'" if stop == "}" else "'/' in ${"
                raise self.fail(f"syntax error: missing {missing}") from None
            raise
        finally:
            self.depth -= 1

    def _modified(
        self, name: str, value: str | None, operator: str, word: str, null_is_unset: bool
    ) -> str:
        absent = value is None or (null_is_unset and not value)
        match operator:
            case "-":
                return word if absent else value or ""
            case "+":
                return "" if absent else word
            case "?":
                if absent:
                    state = "unset" if value is None else "empty"
                    raise self.fail(f"{name}: {word or f'is not allowed to be {state}'}")
                return value or ""
            case _:
                greedy = word.startswith(operator)
                pattern = word[1:] if greedy else word
                return self._trimmed(value or "", pattern, operator == "%", greedy)

    def _trimmed(self, value: str, pattern: str, suffix: bool, greedy: bool) -> str:
        expression = self._expression(pattern)
        positions = range(len(value) + 1)
        # The longest match of a suffix begins first, the shortest last; a prefix the reverse.
        for cut in positions if suffix == greedy else reversed(positions):
            part = value[cut:] if suffix else value[:cut]
            if expression.fullmatch(part):
                return value[:cut] if suffix else value[cut:]
        return value

    def _replaced(self, name: str) -> str:
        everywhere = self.peek() == "/"
        if everywhere:
            self.next()
        pattern = self._operand("/", raw_escapes=True)
        replacement = self._operand("}", raw_escapes=True)
        value = self._value(name)
        if value is None and self.lexer.skip_unset:
            slashes = "//" if everywhere else "/"
            return f"${{{name}{slashes}{pattern}/{replacement}}}"
        expression = self._expression(pattern)
        if not everywhere:
            return expression.sub(lambda _: replacement, value or "", 1)
        return _replace_all(expression, replacement, value or "")

    def _expression(self, pattern: str) -> re.Pattern[str]:
        """Turn a shell pattern into a regular expression; only ``*``, ``?`` and escapes count."""
        parts: list[str] = []
        characters = iter(pattern)
        for character in characters:
            if character == "*":
                parts.append(".*")
            elif character == "?":
                parts.append(".")
            elif character == "\\":
                escaped = next(characters, _END)
                if not escaped or escaped not in "*?\\}/":
                    raise self.fail(f"invalid escape '\\{escaped}' in pattern")
                parts.append(re.escape(escaped))
            else:
                parts.append(re.escape(character))
        return re.compile("".join(parts), re.DOTALL)


def _replace_all(expression: re.Pattern[str], replacement: str, value: str) -> str:
    """Replace every match but an empty one at the end of the one before, as Go does."""
    parts: list[str] = []
    end = 0
    last_end = -1
    for match in expression.finditer(value):
        if match.start() == match.end() == last_end:
            continue
        parts += (value[end : match.start()], replacement)
        end = last_end = match.end()
    return "".join((*parts, value[end:]))
