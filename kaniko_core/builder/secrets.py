"""Secrets: read when the build starts, shown to commands, and to nobody else.

What a command writes passes a :class:`Mask` before anybody sees it. A secret is written to no
disk: it lies in the builder's memory, and in the sandbox's while a command runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path

from kaniko_core.errors import UsageError, reason_of
from kaniko_core.lean import dataclass
from kaniko_core.values import Secret

# As in BuildKit; secrets are keys and passwords, not data.
_LARGEST = 500 << 10  # bytes
# Shorter values would be found in every other word.
_SHORTEST = 4  # bytes
_STARS = b"***"


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets of a build, by id."""

    values: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def mask(self) -> Mask:
        """Return a new mask, for one stream of output."""
        return Mask(self.values.values())


def read_secrets(given: Iterable[Secret]) -> Secrets:
    """Read every secret now; of two with one id, the later one counts.

    Raises:
        UsageError: one cannot be read, has no value, or is larger than 500 KiB.
    """
    found = {}
    for secret in given:
        value = _value(secret)
        if len(value) > _LARGEST:
            raise UsageError(
                f"the secret {secret.id} is larger than 500 KiB",
                hint="large files are for the build context, or for a named one",
            )
        found[secret.id] = value
    return Secrets(found)


def _value(secret: Secret) -> bytes:
    if secret.value is not None:
        return secret.value
    if secret.variable is not None:
        raise UsageError(
            f"the secret {secret.id} is to come from the variable {secret.variable}, "
            "which is not set",
            hint=f"set it, or name a file with id={secret.id},src=FILE",
        )
    path = secret.path or Path(secret.id)
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the secret {secret.id} cannot be read from {path}: {reason_of(error)}",
            hint=f"name its file with id={secret.id},src=FILE, or a variable with env=NAME",
        ) from error


class Mask:
    """Puts stars in the place of secrets in one stream, wherever the pieces of it are cut.

    What is masked are whole values, and their lines, of at least 4 bytes.
    """

    def __init__(self, values: Iterable[bytes]) -> None:
        patterns = {pattern for value in values for pattern in _patterns(value)}
        # By their first bytes: what does not begin like a secret is passed on untouched.
        self._known: dict[bytes, list[bytes]] = {}
        for pattern in sorted(patterns, key=len, reverse=True):
            self._known.setdefault(pattern[:_SHORTEST], []).append(pattern)
        self._heads = _like(self._known)
        self._held = b""

    def __call__(self, data: bytes) -> bytes:
        """Return what can be shown of *data* and of what was held back before it."""
        if self._heads is None:
            return data
        data = self._held + data
        shown, rest = self._passed(data, self._heads)
        self._held = data[rest:]
        return shown

    def finish(self) -> bytes:
        """Return what was held back, at the end of the stream: it began like a secret only."""
        data, self._held = self._held, b""
        return self._replaced(data)

    def text(self, text: str) -> str:
        """Return the whole *text* with stars in it."""
        data = text.encode("utf-8", "surrogateescape")
        return self._replaced(data).decode("utf-8", "surrogateescape")

    def _replaced(self, data: bytes) -> bytes:
        masked = []
        while data and self._heads is not None:
            shown, rest = self._passed(data, self._heads)
            # What looks like a beginning has no end here: its first byte is just a byte.
            masked.append(shown)
            data = data[rest:]
            whole = self._whole(data, 0)
            masked.append(_STARS if whole else data[:1])
            data = data[whole or 1 :]
        return b"".join((*masked, data))

    def _passed(self, data: bytes, heads: re.Pattern[bytes]) -> tuple[bytes, int]:
        """Return *data*, masked, up to where a secret may begin that has not ended; and where."""
        shown: list[bytes] = []
        done = position = 0
        while (match := heads.search(data, position)) is not None:
            start = match.start()
            if self._may_go_on(data, start):
                return b"".join((*shown, data[done:start])), start
            length = self._whole(data, start)
            position = start + (length or 1)
            if length:
                shown += (data[done:start], _STARS)
                done = position
        for start in range(max(done, len(data) - _SHORTEST + 1), len(data)):
            if any(head.startswith(data[start:]) for head in self._known):
                return b"".join((*shown, data[done:start])), start
        return b"".join((*shown, data[done:])), len(data)

    def _may_go_on(self, data: bytes, start: int) -> bool:
        """Whether a secret that is longer than the rest of *data* begins at *start*."""
        rest = len(data) - start
        return any(
            len(pattern) > rest and pattern.startswith(data[start:])
            for pattern in self._known.get(data[start : start + _SHORTEST], ())
        )

    def _whole(self, data: bytes, start: int) -> int:
        """Return the length of the longest secret that stands at *start*; 0 for none."""
        known = self._known.get(data[start : start + _SHORTEST], ())
        return next((len(item) for item in known if data.startswith(item, start)), 0)


def _like(heads: Iterable[bytes]) -> re.Pattern[bytes] | None:
    """Return an expression that finds each of *heads*, and others like them, quickly."""
    # Alternatives would be tried one after the other; a file has thousands of lines.
    columns = [re.escape(bytes(sorted(set(column)))) for column in zip(*heads, strict=True)]
    return re.compile(b"".join(b"[" + column + b"]" for column in columns)) if columns else None


def _patterns(value: bytes) -> Iterable[bytes]:
    # Without the white space around them: a file ends with the end of a line, and what shows
    # the secret ends lines of its own.
    found = (item.strip() for item in (value, *value.splitlines()))
    return (item for item in found if len(item) >= _SHORTEST)
