"""Patterns of .dockerignore and of COPY, stated a second time.

Ignore patterns are run as machines that are in several states at once, character by character;
wildcards as an expression of bytes, in which what stands behind a star stays where it is found
first. Nothing here is shared with the modules that are tested.

Source: the Dockerfile reference, ".dockerignore file", and moby's patternmatcher; Go's
documentation of filepath.Match and filepath.Clean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

_SPECIAL = frozenset("*?[]\\")


class PatternError(Exception):
    """There is no such pattern."""


def ignored(patterns: Iterable[str], path: str) -> bool:
    """Whether the last pattern that matches *path*, or a directory that it is in, leaves it out."""
    rules = [_rule(pattern.strip()) for pattern in patterns if pattern.strip()]
    names = path.split("/")
    prefixes = ["/".join(names[:count]) for count in range(1, len(names) + 1)]
    out = False
    for takes_back, accepts in rules:
        if any(map(accepts, prefixes)):
            out = not takes_back
    return out


def cleaned(path: str) -> str:
    """Tidy a path by Go's four rules, applied one at a time until none changes anything."""
    before = None
    while path != before:
        before = path
        path = re.sub("/+", "/", path)
        path = re.sub(r"(?:^|(?<=/))\./", "", path)
        path = re.sub(r"(?:^|(?<=/))(?!\.\./)[^/]+/\.\.(?:/|$)", "", path, count=1)
        path = re.sub(r"^/(?:\.\.(?:/|$))+", "/", path)
        if path.endswith("/.") or (path.endswith("/") and path != "/"):
            path = path[:-1]
    return path or "."


def _rule(pattern: str) -> tuple[bool, Callable[[str], bool]]:
    pattern = cleaned(pattern)
    takes_back = pattern.startswith("!")
    pattern = pattern.removeprefix("!") if takes_back else pattern
    if not pattern:
        raise PatternError
    end = pattern.removeprefix("**")
    if end != pattern and _SPECIAL.isdisjoint(end):
        # Only the end of a path is compared.
        return takes_back, lambda path: path.endswith(end) or f"/{path}" == end
    if pattern.endswith("**") and _SPECIAL.isdisjoint(pattern[:-2]):
        return takes_back, lambda path: path.startswith(pattern[:-2])
    states = list(_states(pattern))
    return takes_back, lambda path: _accepts(states, path)


class _State:
    """Reads a character that it knows, and stays or goes on; may go on without, or leap ahead."""

    def __init__(
        self,
        reads: Callable[[str], bool],
        *,
        stays: bool = False,
        skips: bool = False,
        leap: int = 0,
    ) -> None:
        self.reads = reads
        self.stays = stays
        self.skips = skips
        self.leap = leap


def _states(pattern: str) -> Iterator[_State]:
    while pattern:
        first, pattern = pattern[0], pattern[1:]
        if first == "*" and pattern.startswith("*"):
            pattern = pattern[1:].removeprefix("/")
            # Any characters, then a slash; or nothing of both. At the end, any characters.
            if pattern:
                yield _State(_nothing, skips=True, leap=3)
            yield _State(_in_line, stays=True, skips=True)
            if pattern:
                yield _State("/".__eq__)
        elif first == "*":
            yield _State("/".__ne__, stays=True, skips=True)
        elif first == "?":
            yield _State("/".__ne__)
        elif first == "[":
            members, pattern = _class(pattern)
            yield _State(members)
        else:
            if first == "\\":
                if not pattern:
                    raise PatternError
                first, pattern = pattern[0], pattern[1:]
            yield _State(first.__eq__)


def _nothing(_: str) -> bool:
    return False


def _in_line(character: str) -> bool:
    return character != "\n"


def _class(text: str) -> tuple[Callable[[str], bool], str]:
    negated = text.startswith("^")
    text = text.removeprefix("^") if negated else text
    ranges: list[tuple[str, str]] = []
    while not (ranges and text.startswith("]")):
        low, text = _member(text)
        high = low
        if text.startswith("-"):
            high, text = _member(text[1:])
        if high < low:
            raise PatternError
        ranges.append((low, high))
    inside = tuple(ranges)
    return lambda c: any(low <= c <= high for low, high in inside) is not negated, text[1:]


def _member(text: str) -> tuple[str, str]:
    if not text or text[0] in "-]" or text == "\\":
        raise PatternError
    return (text[1], text[2:]) if text[0] == "\\" else (text[0], text[1:])


def _accepts(states: list[_State], path: str) -> bool:
    now = _opened(states, {0})
    for character in path:
        reached = set()
        for position in now:
            if position < len(states) and states[position].reads(character):
                reached.add(position if states[position].stays else position + 1)
        now = _opened(states, reached)
    return len(states) in now


def _opened(states: list[_State], reached: set[int]) -> set[int]:
    """Add the states that are reached without reading a character."""
    waiting = list(reached)
    while waiting:
        position = waiting.pop()
        if position == len(states) or not states[position].skips:
            continue
        leap = states[position].leap
        further = {position + 1, position + leap} if leap else {position + 1}
        waiting += further - reached
        reached |= further
    return reached


# --- Go's filepath.Match -------------------------------------------------------------------------

# One character, in bytes: of several where they are one in UTF-8, else a byte.
_CHARACTER = (
    r"(?:[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xef][\x80-\xbf]{2}"
    r"|[\xf0-\xf4][\x80-\xbf]{3}|[\s\S])"
)


def matches(pattern: str, name: str) -> bool:
    """Whether *name* matches, as Go says; classes hold nothing but ASCII here."""
    rest: str | None = name.encode().decode("latin-1")
    pieces = re.findall(
        r"(\**)((?:\\.|\[(?:\\.|[^\\\]])*(?:\]|\\?\Z)|[^\\*\[]|\\\Z)*)", _bytes(pattern)
    )
    pieces = [piece for piece in pieces if piece != ("", "")]
    for star, text in pieces[:-1]:
        match = re.match(_first(star, text), rest)
        if match is None:
            return False
        rest = rest[match.end() :]
    if not pieces:
        return not rest
    return re.fullmatch(_first(*pieces[-1]), rest) is not None


def _bytes(text: str) -> str:
    return text.encode().decode("latin-1")


def _first(star: str, text: str) -> str:
    return ("[^/]*?" if star else "") + "".join(_spelled(text))


def _spelled(text: str) -> Iterator[str]:
    while text:
        first, text = text[0], text[1:]
        if first == "?":
            yield f"(?!/)(?>{_CHARACTER})"
        elif first == "[":
            expression, text = _spelled_class(text)
            yield expression
        elif first == "\\":
            if not text:
                raise PatternError
            yield re.escape(text[0])
            text = text[1:]
        else:
            yield re.escape(first)


def _spelled_class(text: str) -> tuple[str, str]:
    negated = text.startswith("^")
    text = text.removeprefix("^") if negated else text
    inside = ""
    while not (inside and text.startswith("]")):
        low, text = _member(text)
        high = low
        if not text:
            raise PatternError
        if text.startswith("-"):
            high, text = _member(text[1:])
            if not text:
                raise PatternError
        # What runs backwards holds nothing: a character is never another.
        inside += f"|[{re.escape(low)}-{re.escape(high)}]" if low <= high else r"|(?!)"
    members = f"(?:{inside[1:]})"
    character = f"(?>{_CHARACTER})"
    return (f"(?!{members}){character}" if negated else members), text[1:]
