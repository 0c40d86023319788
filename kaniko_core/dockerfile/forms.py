"""The forms that arguments have: words, quoted words, JSON lists."""

from __future__ import annotations

import json
import re
from typing import NoReturn

from kaniko_core.dockerfile.places import PlacedError

# White space, as Go knows it: what Python knows without its four separators of files.
SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
# What separates words; other white space, such as a no-break space, is part of them.
_SPACE = re.compile(r"[\t\v\f\r ]+")
# Halves of surrogate pairs, which a JSON string may name but no text can hold.
_SURROGATE = re.compile("[\ud800-\udfff]")


def split_keyword(line: str) -> tuple[str, str]:
    """Split a logical line after its first word; neither part has space around it."""
    keyword, *rest = _SPACE.split(line.strip(SPACE), maxsplit=1)
    return keyword, rest[0].strip(SPACE) if rest else ""


def split_space(text: str) -> tuple[str, ...]:
    """Split *text* at white space, whatever it is quoted with."""
    return tuple(_SPACE.split(text)) if text else ()


def json_words(text: str) -> tuple[str, ...] | None:
    """Read the exec form: a JSON list of strings. None where *text* is no JSON list.

    Raises:
        UsageError: it is a list, but not of strings alone.
    """
    if not text.lstrip(SPACE).startswith("["):
        return None
    try:
        found = json.loads(text.lstrip(SPACE), parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(item, str) for item in found):
        raise PlacedError(
            f"{text} is a JSON list, but not all that is in it are strings",
            hint='write each as a string in double quotes, such as ["sleep", "10"]',
            at=(text, text[:1]),
        )
    return tuple(_SURROGATE.sub("\ufffd", item) for item in found)


def split_words(text: str, escape: str) -> list[str]:
    """Split *text* at white space outside quotes, which stay; an escape protects one character."""
    words: list[str] = []
    word = ""
    quote = ""
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if not quote and character in SPACE:
            if word:
                words.append(word)
            word = ""
            continue
        if character == escape and quote != "'":
            # Alone at the end it protects nothing, and is dropped.
            if position < len(text):
                word += character + text[position]
                position += 1
            continue
        word += character
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
    return [*words, word] if word else words


def _no_number(name: str) -> NoReturn:
    # Python reads NaN and Infinity, which JSON does not have.
    raise ValueError(name)
