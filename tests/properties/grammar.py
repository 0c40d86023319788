"""Word expansion, stated a second time: a grammar makes a tree, the tree is evaluated.

    word        = { text | quoted | escape | variable | angles }
    variable    = "$" name | "${" name "}" | "${" name operator word "}"
                | "${" name "/" [ "/" ] word "/" word "}"

Nothing here is shared with :mod:`kaniko_core.dockerfile.words`; patterns are matched by sets of
positions, and words are cut out of a row of cells at the end.

Source: the Dockerfile reference, "Environment replacement"; BuildKit for what it does not say.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass


class GrammarError(Exception):
    """The word is wrong."""


@dataclass(frozen=True)
class Text:
    """Characters; soft ones are cut at white space."""

    characters: str
    soft: bool


@dataclass(frozen=True)
class Variable:
    name: str
    written: str


@dataclass(frozen=True)
class Operation:
    name: str
    operator: str
    operand: Tree


@dataclass(frozen=True)
class Replacement:
    name: str
    everywhere: bool
    pattern: Tree
    replacement: Tree


@dataclass(frozen=True)
class Quoted:
    content: Tree
    mark: str


Node = Text | Variable | Operation | Replacement | Quoted
Tree = tuple[Node, ...]


@dataclass(frozen=True)
class Dialect:
    escape: str = "\\"
    raw_quotes: bool = False
    raw_escapes: bool = False
    skip_quotes: bool = False
    skip_unset: bool = False


@dataclass(frozen=True)
class Meaning:
    text: str
    words: tuple[str, ...]
    matched: frozenset[str]
    unmatched: frozenset[str]


def meaning(word: str, env: Mapping[str, str], dialect: Dialect) -> Meaning:
    tree, rest = _Grammar(dialect).word(word, None, dialect.raw_escapes)
    assert not rest
    evaluation = _Evaluation(env, dialect.skip_unset)
    cells = evaluation.cells(tree)
    return Meaning(
        "".join(cell for cell, _ in cells if cell is not None),
        tuple(_cut(cells)),
        frozenset(evaluation.matched),
        frozenset(evaluation.unmatched),
    )


class _Grammar:
    """Each method takes text and returns what it read and what is left."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect

    def word(self, text: str, end: str | None, raw: bool) -> tuple[Tree, str]:
        nodes: list[Node] = []
        while text and text[0] != end:
            node, text = self.node(text, raw)
            nodes.append(node)
        if end is None:
            return tuple(nodes), ""
        if not text:
            raise GrammarError("something is open")
        return tuple(nodes), text[1:]

    def node(self, text: str, raw: bool) -> tuple[Node, str]:
        first, rest = text[0], text[1:]
        if first == "$":
            return self.variable(rest)
        if first in "'\"" and not self.dialect.skip_quotes:
            return self.single(rest) if first == "'" else self.double(rest, raw)
        if first == "<" and rest.startswith("<"):
            after = rest[1:].lstrip("\t\r ")
            return Text(text[: len(text) - len(after)], soft=False), after
        if first == self.dialect.escape:
            return Text((first if raw else "") + rest[:1], soft=False), rest[1:]
        return Text(first, soft=True), rest

    def single(self, text: str) -> tuple[Node, str]:
        body, closed, rest = text.partition("'")
        if not closed:
            raise GrammarError("a quote is open")
        mark = "'" if self.dialect.raw_quotes else ""
        return Text(f"{mark}{body}{mark}", soft=False), rest

    def double(self, text: str, raw: bool) -> tuple[Node, str]:
        nodes: list[Node] = []
        while not text.startswith('"'):
            if not text:
                raise GrammarError("a quote is open")
            if text[0] == "$":
                node, text = self.variable(text[1:])
                nodes.append(node)
            elif text[0] == self.dialect.escape:
                kept = text[0] if raw else ""
                if text[1:2] in ('"', "$", self.dialect.escape):
                    nodes.append(Text(kept + text[1], soft=False))
                    text = text[2:]
                else:
                    nodes.append(Text(kept + text[0], soft=False))
                    text = text[1:]
            else:
                nodes.append(Text(text[0], soft=False))
                text = text[1:]
        return Quoted(tuple(nodes), '"' if self.dialect.raw_quotes else ""), text[1:]

    def variable(self, text: str) -> tuple[Node, str]:
        if text.startswith("{"):
            return self.braces(text[1:])
        name, rest = self.name(text)
        return (Variable(name, f"${name}") if name else Text("$", soft=True)), rest

    def braces(self, text: str) -> tuple[Node, str]:
        if not text or text[0] in "{}:":
            raise GrammarError("no substitution")
        name, text = self.name(text)
        if text.startswith("}"):
            return Variable(name, f"${{{name}}}"), text[1:]
        if text.startswith("/"):
            everywhere = text.startswith("//")
            pattern, text = self.word(text[2 if everywhere else 1 :], "/", True)
            replacement, text = self.word(text, "}", True)
            return Replacement(name, everywhere, pattern, replacement), text
        operator = text[:2] if text.startswith(":") else text[:1]
        raw = operator in ("#", "%")
        if operator in (":#", ":%") or not (raw or operator[:1] == ":" or operator in ("+-?")):
            raise GrammarError("no such operator")
        operand, text = self.word(text[len(operator) :], "}", raw)
        return Operation(name, operator, operand), text

    def name(self, text: str) -> tuple[str, str]:
        if text and text[0] in "@*#?-$!":
            return text[0], text[1:]
        end = 0
        only_digits = bool(text) and _is_digit(text[0])
        while end < len(text) and (
            _is_digit(text[end]) or (not only_digits and _is_letter(text[end]))
        ):
            end += 1
        return text[:end], text[end:]


# A character and whether white space in it cuts; None is where a substitution with an operand
# stood, which makes BuildKit forget the word begun before it.
Cell = tuple[str | None, bool]


class _Evaluation:
    def __init__(self, env: Mapping[str, str], skip_unset: bool) -> None:
        self.env = env
        self.skip_unset = skip_unset
        self.matched: set[str] = set()
        self.unmatched: set[str] = set()

    def cells(self, tree: Tree) -> list[Cell]:
        cells: list[Cell] = []
        for node in tree:
            forgets = _has_operand(node)
            soft = isinstance(node, Variable | Operation | Replacement) or (
                isinstance(node, Text) and node.soft
            )
            if forgets:
                cells.append((None, False))
            cells += [(character, soft) for character in self.node(node)]
        return cells

    def text(self, tree: Tree) -> str:
        return "".join(map(self.node, tree))

    def node(self, node: Node) -> str:
        match node:
            case Text(characters, _):
                return characters
            case Quoted(content, mark):
                return f"{mark}{self.text(content)}{mark}"
            case Variable(name, written):
                value = self.value(name)
                if value is None:
                    return written if self.skip_unset else ""
                return value
            case Operation(name, operator, operand):
                return self.operation(name, operator, self.text(operand))
            case Replacement(name, everywhere, pattern, replacement):
                return self.replaced(name, everywhere, self.text(pattern), self.text(replacement))

    def value(self, name: str) -> str | None:
        (self.matched if name in self.env else self.unmatched).add(name)
        return self.env.get(name)

    def operation(self, name: str, operator: str, operand: str) -> str:
        value = self.value(name)
        if value is None and self.skip_unset:
            return f"${{{name}{operator}{operand}}}"
        present = value if value or (value == "" and operator[0] != ":") else None
        match operator[-1] if operator != ":" else "":
            case "-":
                return operand if present is None else present
            case "+":
                return "" if present is None else operand
            case "?" if present is not None:
                return present
            case "#" | "%":
                return _trimmed(value or "", operator, operand)
        raise GrammarError(f"{name}: {operand}")

    def replaced(self, name: str, everywhere: bool, pattern: str, replacement: str) -> str:
        value = self.value(name)
        if value is None and self.skip_unset:
            return f"${{{name}/{pattern}/{replacement}}}"
        glob = _glob(pattern)
        value = value or ""
        result = ""
        at = 0
        ended = -1  # where the match before ended
        while at <= len(value):
            ends = _ends(glob, value[at:])
            if not ends or (at == ended and max(ends) == 0):
                result += value[at : at + 1]
                at += 1
                continue
            end = at + max(ends)
            if not everywhere:
                return result + replacement + value[end:]
            result += _filled(replacement, value[at:end])
            if end == at:
                result += value[at : at + 1]
                at += 1
            else:
                at = ended = end
        return result


def _has_operand(node: Node) -> bool:
    if isinstance(node, Quoted):
        return any(map(_has_operand, node.content))
    return isinstance(node, Operation | Replacement)


def _cut(cells: list[Cell]) -> list[str]:
    words = [""]
    for character, soft in cells:
        if character is None:
            words[-1] = ""
        elif soft and _is_space(character):
            words.append("")
        else:
            words[-1] += character
    return [word for word in words if word]


# --- shell patterns: a list of "*", "?" and single characters marked as such -------------------

Glob = list[tuple[str, bool]]


def _glob(pattern: str) -> Glob:
    glob: Glob = []
    while pattern:
        first, pattern = pattern[0], pattern[1:]
        if first != "\\":
            glob.append((first, first in "*?"))
        elif pattern[:1] in ("*", "?", "\\", "}", "/"):
            glob.append((pattern[0], False))
            pattern = pattern[1:]
        else:
            raise GrammarError("no such escape")
    return glob


def _ends(glob: Glob, text: str) -> set[int]:
    """Return where matches that begin at the start of *text* end."""
    positions = {0}
    for character, special in glob:
        reached: set[int] = set()
        for position in positions:
            if special and character == "*":
                line = text[position:].partition("\n")[0]
                reached |= set(range(position, position + len(line) + 1))
            else:
                here = text[position : position + 1]
                if here and (here != "\n" if special else here == character):
                    reached.add(position + 1)
        positions = reached
    return positions


def _trimmed(value: str, operator: str, operand: str) -> str:
    longest = operand.startswith(operator)
    pattern = operand[1:] if longest else operand
    suffix = operator == "%"
    glob = _glob(_mirrored(pattern) if suffix else pattern)
    ends = _ends(glob, value[::-1] if suffix else value)
    if not ends:
        return value
    end = max(ends) if longest else min(ends)
    return value[: len(value) - end] if suffix else value[end:]


def _mirrored(pattern: str) -> str:
    """Turn a pattern around; a backslash at its end then escapes what was before it."""
    length = 2 if pattern.startswith("\\") else 1
    return _mirrored(pattern[length:]) + pattern[:length] if pattern else ""


def _filled(template: str, matched: str) -> str:
    """Fill what Go reads in a replacement: $0 is the match, other names are nothing."""
    before, dollar, after = template.partition("$")
    if not dollar:
        return before
    if after.startswith("$"):
        return f"{before}${_filled(after[1:], matched)}"
    braced = after.startswith("{")
    body = after[1:] if braced else after
    end = 0
    while end < len(body) and (_is_letter(body[end]) or _is_digit(body[end])):
        end += 1
    if not end or (braced and body[end : end + 1] != "}"):
        return f"{before}${_filled(after, matched)}"
    value = matched if body[:end] == "0" else ""
    return before + value + _filled(body[end + braced :], matched)


def _is_letter(character: str) -> bool:
    return character == "_" or unicodedata.category(character).startswith("L")


def _is_digit(character: str) -> bool:
    return unicodedata.category(character) == "Nd"


def _is_space(character: str) -> bool:
    return character in "\t\n\v\f\r\x85" or unicodedata.category(character).startswith("Z")
