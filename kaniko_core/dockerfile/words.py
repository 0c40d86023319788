"""Quoting and ``$VARIABLE`` expansion, by BuildKit's rules.

Source: the Dockerfile reference, "Environment replacement"; checked against the tables of
``../shared/conformance/words*.json``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field

from kaniko_core.dockerfile.forms import SPACE
from kaniko_core.dockerfile.substitution import Replacement, ShellPattern
from kaniko_core.errors import KanikoError
from kaniko_core.lean import dataclass

_SPECIAL = frozenset("@*#?-$!0")
_END = ""
# Substitutions inside each other; a word of 64 KiB could hold more than Python's stack does.
_DEEPEST = 100
# White space between << and the name of a here-document does not end the word.
_ANGLES = re.compile(r"<(?:<[\t\r ]*)?")
# Characters that mean nothing but themselves, whatever the word is and where it ends.
_PLAIN = re.compile(r"[^$<'\"\\`/}]+")
_PLAIN_IN_QUOTES = re.compile(r"[^$\"\\`]+")
_GAPS = re.compile(f"[{SPACE}]+")
# Characters that substitutions may add to one word. Variables that name each other grow tenfold
# with each line; what is larger than a registry's manifest has no use.
_LARGEST = 4 << 20
_SHOWN = 200  # characters of a word in a message
# Go's scanner does not see it where a text begins.
_BYTE_ORDER_MARK = "\ufeff"


class WordError(KanikoError):
    """A word with an open quote, or a substitution that cannot be done.

    It knows no place; who knows the instruction adds file and line, and finds *word* there.
    """

    def __init__(self, message: str, *, word: str = "") -> None:
        super().__init__(message)
        self.word = word


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
        scan = _Scan(self, word.removeprefix(_BYTE_ORDER_MARK), env)
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
        self._current: list[str] = []

    def split(self, text: str) -> None:
        """Add characters that end a word where they are white space."""
        first, *others = _GAPS.split(text)
        self.keep(first)
        for other in others:
            self.end()
            self.keep(other)

    def keep(self, text: str) -> None:
        """Add characters that are part of a word whatever they are."""
        if text:
            self._current.append(text)

    def forget(self) -> None:
        """Drop the word that is not complete yet."""
        self._current.clear()

    def end(self) -> None:
        """Complete the present word."""
        if self._current:
            self.found.append("".join(self._current))
            self._current.clear()


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
    added: int = 0

    def peek(self) -> str:
        return self.word[self.position : self.position + 1]

    def next(self) -> str:
        character = self.peek()
        self.position += 1
        return character

    def fail(self, message: str) -> WordError:
        shown = self.word if len(self.word) <= _SHOWN else f"{self.word[:_SHOWN]}…"
        return WordError(f'failed to process "{shown}": {message}', word=self.word)

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
        while character := self.peek():
            if run := _PLAIN.match(self.word, self.position):
                self.position = run.end()
                words.split(run[0])
                text.append(run[0])
                continue
            if character == stop:
                self.next()
                words.end()
                return "".join(text), words.found
            nested = self.nested
            part = self._special(character)
            if self.nested != nested:
                # BuildKit forgets a word begun before a substitution with an operand; only
                # EXPOSE asks for words, and means the same here.
                words.forget()
            if part is None:
                part = self._plain(words)
            elif character == "$":
                words.split(part)
            else:
                words.keep(part)
            text.append(part)
        if stop:
            raise self.fail(f"unexpected end of statement while looking for matching {stop}")
        words.end()
        return "".join(text), words.found

    def _special(self, character: str) -> str | None:
        """Read what *character* begins, or None where it has no meaning of its own."""
        if character == "$":
            return self._substituted()
        if character == "<":
            return self._angles()
        if self.lexer.skip_quotes or character not in "'\"":
            return None
        return self._single() if character == "'" else self._double()

    def _plain(self, words: _Words) -> str:
        character = self.next()
        if character != self.lexer.escape:
            words.split(character)
            return character
        character = (character if self.raw_escapes else "") + self.next()
        words.keep(character)
        return character

    def _angles(self) -> str:
        match = _ANGLES.match(self.word, self.position)
        assert match is not None  # the caller has seen the first
        self.position = match.end()
        return match[0]

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
                text.append(self._substituted())
                continue
            if run := _PLAIN_IN_QUOTES.match(self.word, self.position):
                self.position = run.end()
                text.append(run[0])
                continue
            self.next()
            if character == self.lexer.escape:
                if self.raw_escapes:
                    # Kept, and doubled before a character that needs none, as in BuildKit.
                    text.append(character)
                following = self.peek()
                if not following:
                    continue
                if following in ('"', "$", self.lexer.escape):
                    character = self.next()
            text.append(character)

    def _substituted(self) -> str:
        value = self._dollar()
        self._grow(len(value))
        return value

    def _grow(self, size: int) -> None:
        """Count *size* characters that come from variables."""
        self.added += size
        if self.added > _LARGEST:
            raise self.fail("it grows beyond all bounds: its variables have more than 4 MiB")

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
        start = self.position
        if self.peek().isdecimal():
            while self.peek().isdecimal():
                self.position += 1
        elif self.peek() in _SPECIAL:
            self.position += 1
        else:
            while (character := self.peek()).isalpha() or character.isdecimal() or character == "_":
                self.position += 1
        return self.word[start : self.position]

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
        trims = operator in ("#", "%")
        known = operator in ("+", "-", "?") or (trims and not null_is_unset)
        modifier = f"{':' if null_is_unset else ''}{operator}"
        if (trims and null_is_unset) or not (known or null_is_unset):
            raise self.fail(f"unsupported modifier ({modifier}) in substitution")
        word = self._operand("}", raw_escapes=trims)
        value = self._value(name)
        if value is None and self.lexer.skip_unset:
            # Whatever the modifier is: ${A:0:1} of a RUN is for the shell to read.
            return f"${{{name}{modifier}{word}}}"
        if not known:
            raise self.fail(f"unsupported modifier ({modifier}) in substitution")
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
        # The shortest suffix is the shortest prefix of all written backwards.
        step = -1 if suffix else 1
        pattern = _backwards(pattern) if suffix else pattern
        end = self._pattern(pattern).end(value[::step], greedy=greedy)
        return value if end is None else value[::step][end:][::step]

    def _replaced(self, name: str) -> str:
        everywhere = self.peek() == "/"
        if everywhere:
            self.next()
        text = self._operand("/", raw_escapes=True)
        replacement = self._operand("}", raw_escapes=True)
        value = self._value(name)
        if value is None and self.lexer.skip_unset:
            # With one slash whatever was written, as in BuildKit.
            return f"${{{name}/{text}/{replacement}}}"
        pattern, value = self._pattern(text), value or ""
        if everywhere:
            return self._replaced_all(pattern, Replacement.of(replacement), value)
        for start, end in pattern.spans(value):
            return f"{value[:start]}{replacement}{value[end:]}"
        return value

    def _replaced_all(self, pattern: ShellPattern, replacement: Replacement, value: str) -> str:
        parts: list[str] = []
        done = 0
        for start, end in pattern.spans(value):
            self._grow(replacement.size(end - start))
            parts += (value[done:start], replacement.filled(value[start:end]))
            done = end
        return "".join((*parts, value[done:]))

    def _pattern(self, text: str) -> ShellPattern:
        try:
            return ShellPattern.of(text.removeprefix(_BYTE_ORDER_MARK))
        except ValueError as error:
            raise self.fail(f"invalid escape '\\{error}' in pattern") from None


def _backwards(pattern: str) -> str:
    """Reverse a shell pattern; an escape stays before what it escapes."""
    return "".join(reversed(re.findall(r"\\.|.", pattern, re.DOTALL)))
