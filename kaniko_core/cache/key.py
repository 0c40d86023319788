"""The key of what an instruction made: a hash of all that it follows from.

What a step follows from is a list of :class:`Part`; two lists give the same key only if they are
the same. The parts are kept apart from the key, so that people can be told which of them changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from kaniko_core.lean import dataclass

# Part of every key: to be changed with anything that gives the same parts another meaning.
_VERSION = b"kaniko-py layer cache 1\n"
_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that a step follows from.

    Attributes:
        kind: what sort of thing it is, such as ``file`` or ``variable``.
        name: which of them.
        value: what would have to be the same again. It may be a secret: it is hashed, never shown.
    """

    kind: str
    name: str
    value: str | bytes


def key_of(parts: Iterable[Part]) -> str:
    """Return the key of what follows from *parts*, in this order: 64 hexadecimal digits."""
    state = hashlib.sha256(_VERSION)
    for part in parts:
        for field in (part.kind, part.name, part.value):
            # A Dockerfile may have lone surrogates, and bytes that are no UTF-8 are such too.
            data = field.encode("utf-8", "surrogatepass") if isinstance(field, str) else field
            # Its length comes before each field: a plain join would give ("ab", "c") and
            # ("a", "bc") one key, and serve the wrong layer.
            state.update(len(data).to_bytes(_LENGTH_BYTES, "big"))
            state.update(data)
    return state.hexdigest()
