"""Flags of instructions: ``--name=value`` before the arguments."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from kaniko_core.dockerfile.places import PlacedError

# Which flags an instruction knows; True where the flag is a switch.
KNOWN: Mapping[str, Mapping[str, bool]] = {
    "FROM": {"platform": False},
    "RUN": {"mount": False, "network": False, "security": False, "device": False},
    "COPY": {
        "from": False,
        "chown": False,
        "chmod": False,
        "link": True,
        "parents": True,
        "exclude": False,
    },
    "ADD": {
        "chown": False,
        "chmod": False,
        "link": True,
        "exclude": False,
        "checksum": False,
        "keep-git-dir": True,
        "unpack": True,
    },
    "HEALTHCHECK": {
        "interval": False,
        "timeout": False,
        "start-period": False,
        "start-interval": False,
        "retries": False,
    },
}
_REPEATABLE = frozenset({"mount", "device", "exclude"})


class Flags:
    """The flags given to one instruction."""

    def __init__(self, values: Mapping[str, tuple[str, ...]]) -> None:
        self._values = values

    def text(self, name: str) -> str | None:
        """Return the value of a flag, or None."""
        return self._values[name][-1] if name in self._values else None

    def choice(self, name: str, choices: Sequence[str]) -> str | None:
        """Return the value of a flag that must be one of *choices*, or None."""
        value = self.text(name)
        if value and value not in choices:
            close = difflib.get_close_matches(value, choices, 1) or choices
            raise PlacedError(
                f"--{name} cannot be {value!r}",
                hint=f"did you mean {' or '.join(close)}?",
                at=(f"--{name}",),
            )
        return value or None

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the values of a flag that may be repeated."""
        return self._values.get(name, ())

    def switch(self, name: str) -> bool | None:
        """Return the state of a switch, or None where it is not given."""
        return None if name not in self._values else self._values[name][-1] == "true"


def split_flags(rest: str) -> tuple[list[str], str]:
    """Split *rest* into the words that begin with ``--`` and what follows them.

    Quotes group, and a backslash takes the next character as it is; ``--`` alone ends the flags.
    """
    words: list[str] = []
    position = 0
    while True:
        while position < len(rest) and rest[position].isspace():
            position += 1
        if not rest.startswith("--", position):
            return words, rest[position:]
        word, position = _word(rest, position)
        if word == "--":
            return words, rest[position:].lstrip()
        words.append(word)


def _word(rest: str, position: int) -> tuple[str, int]:
    word = ""
    quote = ""
    while position < len(rest):
        character = rest[position]
        if not quote and character.isspace():
            break
        if quote and character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        else:
            if character == "\\":
                position += 1
                character = rest[position : position + 1]
            word += character
        position += 1
    return word, position


def read_flags(instruction: str, words: list[str]) -> Flags:
    """Check the flag *words* of *instruction*.

    Raises:
        UsageError: one is not known, is given twice, or lacks its value.
    """
    known = KNOWN.get(instruction, {})
    values: dict[str, tuple[str, ...]] = {}
    for word in words:
        name, equals, value = word[2:].partition("=")
        if name not in known:
            raise _unknown(instruction, name, known)
        place = (f"--{name}",)
        if known[name]:
            value = value.lower() if equals else "true"
            if value not in ("true", "false"):
                raise PlacedError(
                    f"{instruction} --{name} is true or false, not {value!r}",
                    hint=f"write --{name}",
                    at=place,
                )
        elif not equals:
            raise PlacedError(
                f"{instruction} --{name} has no value",
                hint=f"write it as --{name}=VALUE",
                at=place,
            )
        if name in values and name not in _REPEATABLE:
            raise PlacedError(f"{instruction} --{name} is given twice", at=place)
        values[name] = (*values.get(name, ()), value)
    return Flags(values)


def _unknown(instruction: str, name: str, known: Mapping[str, bool]) -> PlacedError:
    close = difflib.get_close_matches(name, known, 1)
    if close:
        hint = f"did you mean --{close[0]}?"
    elif known:
        hint = f"it has {', '.join(f'--{flag}' for flag in known)}"
    else:
        hint = "it has no flags; what follows -- is none"
    return PlacedError(f"{instruction} has no flag --{name}", hint=hint, at=(f"--{name}",))
